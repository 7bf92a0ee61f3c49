"""Every tensor's initial numbers depend on the seed and its name, and on nothing else."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks.build.initialise import isolated_rng, seeded, tensor_seed
from attnsearch.blocks.build.network import build_network
from attnsearch.blocks.mechanisms.table import BLOCKS


def states(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Mixed(nn.Module):
    """Initialises in every way that published code does."""

    def __init__(self, channels: int, extra: bool = False) -> None:
        super().__init__()
        if extra:
            self.before = nn.Linear(3, channels)
            torch.randn(7)
        self.conv = nn.Conv2d(channels, channels, 3)
        self.zeroed = nn.Linear(channels, channels)
        nn.init.zeros_(self.zeroed.weight)
        nn.init.constant_(self.zeroed.bias, 0.5)
        self.attention = nn.MultiheadAttention(channels, 2)
        self.plain = nn.Parameter(torch.randn(channels, 2))
        self.scaled = nn.Parameter(0.02 * torch.randn(channels, 2))
        self.joined = nn.Parameter(torch.cat([torch.rand(2, 3), torch.rand(2, 3)]))
        self.truncated = nn.Parameter(torch.empty(40))
        nn.init.trunc_normal_(self.truncated, std=0.1, a=-0.2, b=0.2)
        self.orthogonal = nn.Parameter(torch.empty(4, 4))
        nn.init.orthogonal_(self.orthogonal)
        self.data = nn.Parameter(torch.zeros(6))
        self.data.data.uniform_(2, 3)
        with torch.no_grad():
            self.data[:2].zero_()
        self.register_buffer("noise", torch.rand(5))
        self.copied = nn.Linear(channels, channels, bias=False)
        self.copied.load_state_dict({"weight": self.zeroed.weight + self.conv.weight[:, :, 0, 0]})
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(channels, 3))


def test_names_and_seed_decide_and_nothing_else() -> None:
    alone = states(seeded(lambda: Mixed(4), 5, "inserted.layer4.0."))
    more = states(seeded(lambda: Mixed(4, extra=True), 5, "inserted.layer4.0."))
    assert same(alone, {name: more[name] for name in alone})
    again = states(seeded(lambda: Mixed(4), 5, "inserted.layer4.0."))
    assert same(alone, again)
    constant = {"zeroed.weight", "zeroed.bias", "attention.in_proj_bias"}
    constant |= {"attention.out_proj.bias"}
    for other in (seeded(lambda: Mixed(4), 6, "inserted.layer4.0."), seeded(lambda: Mixed(4), 5)):
        changed = {n for n, tensor in states(other).items() if not torch.equal(alone[n], tensor)}
        assert changed == set(alone) - constant


def test_what_the_constructor_does_is_kept() -> None:
    mixed = seeded(lambda: Mixed(4), 0)
    assert torch.all(mixed.zeroed.weight == 0)
    assert torch.all(mixed.zeroed.bias == 0.5)
    assert torch.all(mixed.attention.in_proj_bias == 0)
    assert mixed.scaled.abs().max() < 0.1
    assert mixed.truncated.abs().max() <= 0.2
    identity = mixed.orthogonal @ mixed.orthogonal.T
    torch.testing.assert_close(identity, torch.eye(4))
    assert torch.all(mixed.data[:2] == 0)
    assert torch.all(mixed.data[2:] >= 2)
    assert not torch.equal(mixed.joined[:2], mixed.joined[2:])
    assert torch.equal(mixed.copied.weight, mixed.conv.weight[:, :, 0, 0])
    magnitude = mixed.normed.parametrizations.weight.original0
    direction = mixed.normed.parametrizations.weight.original1
    torch.testing.assert_close(magnitude[:, 0], direction.norm(dim=1))


def test_a_tensor_drawn_twice_is_as_if_drawn_once() -> None:
    class Redrawn(nn.Module):
        def __init__(self, times: int) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)
            for _ in range(times):
                self.linear.reset_parameters()

    assert same(states(seeded(lambda: Redrawn(0), 1)), states(seeded(lambda: Redrawn(3), 1)))


def test_equal_shapes_get_different_numbers() -> None:
    pair = states(seeded(lambda: nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), 0))
    assert not torch.equal(pair["0.weight"], pair["1.weight"])


def test_a_draw_is_that_of_a_generator_seeded_by_the_name() -> None:
    weight = seeded(lambda: nn.Linear(5, 2), 3, "layer1.0.conv2.").weight
    with isolated_rng(tensor_seed(3, "layer1.0.conv2.weight")):
        wanted = nn.init.kaiming_uniform_(torch.empty(2, 5), a=5**0.5)
    assert torch.equal(weight, wanted)
    assert tensor_seed(3, "fc.weight") == 315286231499265640  # a change would void stored runs


def draw_all() -> list[object]:
    return [torch.rand(3).tolist(), float(np.random.rand()), random.random()]


@pytest.mark.parametrize(
    "build",
    [
        lambda: build_network(
            {
                "network": {"backbone": "resnet20", "width": 0.5},
                "insert": [
                    {"at": "layer3", "block": "ecrm", "params": {}},
                    {"at": "layer1.0.conv2", "block": "greedy", "params": {}},
                ],
            }
        ),
        lambda: seeded(lambda: Mixed(4), 0),
    ],
)
def test_global_generators_are_left_alone(
    build: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Greedy(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.number = random.random() + np.random.rand()
            torch.rand(3)

        def forward(self, x: Tensor) -> Tensor:
            return x * random.random() * torch.rand(1)

    monkeypatch.setitem(BLOCKS, "greedy", Greedy)

    def reset() -> None:
        torch.manual_seed(3)
        np.random.seed(3)
        random.seed(3)

    reset()
    wanted = draw_all()
    reset()
    one = build()
    assert draw_all() == wanted
    other = build()  # from other global states the same network
    assert same(one.state_dict(), other.state_dict())


def test_python_and_numpy_draws_are_seeded_too() -> None:
    class Drawn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.numbers = (random.random(), np.random.rand())

    assert seeded(Drawn, 0).numbers == seeded(Drawn, 0).numbers
    assert seeded(Drawn, 0).numbers != seeded(Drawn, 1).numbers


def test_draws_that_end_in_no_tensor_depend_on_the_prefix_alone() -> None:
    class Chosen(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.linear = nn.Linear(width, width)
            self.rate = float(torch.rand(1))

    one, other = seeded(lambda: Chosen(2), 0, "a."), seeded(lambda: Chosen(9), 0, "a.")
    assert one.rate == other.rate
    assert seeded(lambda: Chosen(2), 0, "b.").rate != one.rate


def test_isolated_rng_restores_after_an_error() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    with pytest.raises(ValueError, match="stop"), isolated_rng(1):
        torch.rand(5)
        raise ValueError("stop")
    assert torch.equal(torch.rand(2), wanted)


def test_a_host_traced_on_meta_names_every_draw() -> None:
    """Two networks that differ in depth and width share what agrees, the first layers included."""
    one = build_network({"network": {"backbone": "resnet18", "width": 0.25}}, seed=4).state_dict()
    other = build_network({"network": {"backbone": "resnet34", "width": 0.25}}, seed=4)
    longer = other.state_dict()
    assert set(one) < set(longer)
    for name, tensor in one.items():
        assert torch.equal(tensor, longer[name]), name
    third = build_network({"network": {"backbone": "resnet18", "width": 0.25}}, seed=5)
    for name, tensor in third.state_dict().items():
        drawn = (name.endswith("weight") and tensor.dim() > 1) or name == "fc.bias"
        assert torch.equal(tensor, one[name]) != drawn, name


def test_a_constructor_that_varies_still_builds() -> None:
    calls: list[int] = []

    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            calls.append(1)
            self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in calls)

    assert len(seeded(Moody, 0).layers) == 2
