import copy
import gc

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks.build.network import build_network, side_outputs
from attnsearch.blocks.measure import cost
from attnsearch.blocks.mechanisms.table import BLOCKS


def config(backbone: str, *insert: tuple[str, str], **network: object) -> dict[str, object]:
    return {
        "network": {"backbone": backbone, **network},
        "insert": [{"at": at, "block": block, "params": {}} for at, block in insert],
    }


class Attention(nn.Module):
    """8 x 8 positions attend to each other, through one of torch's ways."""

    def __init__(self, channels: int, way: str = "sdpa") -> None:
        super().__init__()
        self.way = way
        self.layer = nn.MultiheadAttention(channels, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        t = x.flatten(2).transpose(1, 2)
        if "numbers" in self.way:  # cannot run without them
            t = t * (1 if t.detach().sum().item() >= 0 else 2)
        if "sdpa" in self.way:
            t = F.scaled_dot_product_attention(t[:, None], t[:, None], t[:, None])[:, 0]
        elif "einsum" in self.way:
            weights = torch.einsum("bic,bjc->bij", t, t).softmax(-1)
            t = torch.einsum("bij,bjc->bic", weights, t)
        else:
            t = self.layer(t, t, t, need_weights=False)[0]
        return t.transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize("block", ["", *BLOCKS])
def test_counts_are_the_same_with_numbers_and_without(
    block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inserted = [("layer2", block)] if block else []
    network = build_network(config("resnet18", *inserted, width=0.5), 3, 10, 32)
    with_numbers = cost.count_macs(network, (3, 32, 32))
    assert cost.count_macs(copy.deepcopy(network).to("meta"), (3, 32, 32)) == with_numbers
    monkeypatch.setattr(cost, "_SMALL_PIXELS", 0)
    assert cost.count_macs(network, (3, 32, 32)) == with_numbers > 0


@pytest.mark.parametrize("way", ["sdpa", "einsum", "layer", "sdpa numbers", "layer numbers"])
def test_attention_products_are_counted(way: str) -> None:
    counted = cost.count_macs(nn.Sequential(Attention(16, way)), (16, 8, 8))
    projections = 4 * 64 * 16 * 16 if "layer" in way else 0
    assert counted == 2 * 64 * 64 * 16 + projections


@pytest.mark.parametrize("way", ["sdpa", "einsum", "layer", "sdpa numbers", "layer numbers"])
def test_nothing_of_what_was_measured_stays_in_memory(way: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Sigmoid(), Attention(16, way))

    def tensors_after_measuring() -> int:
        cost.costs(network, (3, 6, 6), batch_size=2)
        cost.latency(network, (3, 6, 6), seconds=0)
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    assert len({tensors_after_measuring() for _ in range(3)}) == 1


def test_macs_by_hand() -> None:
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, groups=1),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 5, 1, 2, groups=4),
        nn.Flatten(),
        nn.Linear(8 * 5 * 5, 7),
    )
    by_hand = 25 * 8 * 3 * 9 + 25 * 8 * 2 * 25 + 200 * 7
    assert cost.count_macs(layers, (3, 9, 10)) == by_hand


@pytest.mark.parametrize(
    ("backbone", "published"),
    # He et al. 2016, table 1: 1.8, 3.8 (with the stride on the 1x1, as torchvision 4.1) GMAC.
    [("resnet18", 1_814_073_344), ("resnet50", 4_087_136_256 + 2_048_000)],
)
def test_macs_of_the_hosts(backbone: str, published: int) -> None:
    network = build_network(config(backbone), classes=1000, image_size=224)
    assert cost.count_macs(network, (3, 224, 224)) == published


def test_macs_of_a_rectangle_follow_both_sides() -> None:
    def macs(*size: int) -> int:
        network = build_network(config("resnet20"), classes=10, image_size=size)
        return cost.count_macs(network, (3, *size))

    last = 64 * 10  # whose cost no side changes
    assert macs(16, 32) == macs(32, 16)
    assert 2 * (macs(16, 32) - last) == macs(32, 32) - last


def test_auxiliary_heads_cost_nothing_at_inference() -> None:
    network = build_network(config("resnet20", ("layer3", "ecrm")), classes=10)
    heads = sum(p.numel() for p in network.auxiliary.parameters())
    assert heads == 64 * 10 + 10
    assert cost.count_params(network) == sum(p.numel() for p in network.parameters()) - heads
    inserted = sum(p.numel() for p in network.inserted.parameters())
    assert cost.count_params(network) == 269_722 + inserted
    assert cost.count_macs(network, (3, 32, 32)) > cost.count_macs(
        build_network(config("resnet20")), (3, 32, 32)
    )


class Sided(nn.Module):
    """Keeps tensors of its last step's graph, as any block with side outputs may."""

    side_loss = "mine"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.side: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.side = {"prototype": x.mean((2, 3))} if self.training else {}
        return x


def test_measuring_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BLOCKS, "sided", Sided)
    insert = (("layer3", "ecrm"), ("stem", "eca"), ("layer2", "sided"))
    network = build_network(config("resnet20", *insert), image_size=16)
    network.train()
    network.layer2[0].eval()  # type: ignore[index,union-attr]
    images = torch.randn(4, 3, 16, 16)
    # A training step has run, so that blocks hold side outputs and gradients exist.
    loss = network(images).sum()
    sides = [
        network.get_submodule(f"auxiliary.{site}.{index}")(
            block.side["prototype"].flatten(1)
        ).sum()  # type: ignore[index,operator,union-attr]
        for site, index, block in side_outputs(network)
    ]
    torch.autograd.backward([loss, *sides])
    state = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    side = network.inserted["layer3"][0].side  # type: ignore[index]
    gradients = [parameter.grad.clone() for parameter in network.parameters()]  # type: ignore[union-attr]
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    found = cost.costs(network, (3, 16, 16), batch_size=8)
    assert torch.equal(torch.rand(3), wanted)
    assert list(found) == ["params", "macs", "memory_mb"]
    assert all(value > 0 for value in found.values())
    assert modes == [module.training for module in network.modules()]
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name]), name
        assert tensor.device.type == "cpu"
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)
    assert network.inserted["layer3"][0].side is side  # type: ignore[index]
    assert set(side) == {"logits", "prototype"}


def test_memory_by_hand() -> None:
    layers = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))
    parameters = 4 * (10 * 20 + 20 + 20 * 5 + 5)
    batch = 6
    # Saved: the input, the rectified map (by ReLU and by the second layer, once).
    saved = 4 * batch * (10 + 20)
    for optimizer, copies in (("sgd", 3), ("adamw", 4)):
        wanted = (copies * parameters + saved) / 1e6
        found = cost.memory_mb(layers, (10,), batch, optimizer=optimizer)
        assert found == pytest.approx(wanted, rel=1e-12)


def test_memory_grows_with_the_batch_and_needs_no_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = build_network(config("resnet18", stem="small", width=0.25))
    small = cost.memory_mb(network, (3, 32, 32), 8)
    large = cost.memory_mb(network, (3, 32, 32), 64)
    assert large > 4 * small
    monkeypatch.setitem(BLOCKS, "attention", Attention)
    for way in ("sdpa", "sdpa numbers"):
        settings = config("resnet20")
        settings["insert"] = [
            {"at": "layer3", "block": "attention", "params": {"attention": {"way": way}}}
        ]
        assert cost.memory_mb(build_network(settings), (3, 32, 32), 8) > 0


def test_memory_is_near_what_a_step_allocates() -> None:
    network = build_network(config("resnet20", ("layer[2-3].*.residual", "gc")))
    batch = 32
    parameters = list(network.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.0, momentum=0.9)
    standing = 3 * sum(4 * parameter.numel() for parameter in parameters)

    def step() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(torch.zeros(batch, 3, 32, 32)), torch.zeros(batch).long())
        torch.autograd.backward(loss)

    step()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step()
    now = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    found = cost.memory_mb(network, (3, 32, 32), batch)
    assert found == pytest.approx((standing + peak) / 1e6, rel=0.1)


def test_latency_is_that_of_evaluation() -> None:
    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shapes: set[tuple[int, ...]] = set()

        def __deepcopy__(self, memo: dict[int, object]) -> "Slow":
            return self

        def forward(self, x: Tensor) -> Tensor:
            assert not self.training
            assert torch.is_inference_mode_enabled()
            self.shapes.add(tuple(x.shape))
            torch.randn(2_000_000).sum()
            return x

    slow = Slow()
    quick = cost.latency(nn.Identity(), (3, 8, 8), seconds=0.01)
    times = cost.latency(nn.Sequential(slow), (3, 8, 8), batch_size=2, seconds=0.01)
    assert times["latency_ms"] > 10 * quick["latency_ms"]
    assert times["latency_low_ms"] <= times["latency_ms"] <= times["latency_high_ms"]
    assert slow.shapes == {(2, 3, 8, 8)}


def test_a_quick_network_is_timed_fifty_times_and_no_longer() -> None:
    """All trainings of the machine wait meanwhile."""
    passes: list[int] = []

    class Counted(nn.Module):
        def __deepcopy__(self, memo: dict[int, object]) -> "Counted":
            return self

        def forward(self, x: Tensor) -> Tensor:
            passes.append(len(x))
            return x

    cost.latency(nn.Sequential(Counted()), (3, 8, 8), seconds=60)
    assert len(passes) == 3 + 50


def test_a_step_that_no_card_holds_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(cost, "_measured_memory", full)
    network = nn.Linear(10, 10)
    assert cost.memory_mb(network, (10,), 4, "cuda") == cost.memory_mb(network, (10,), 4)


@pytest.mark.gpu
def test_memory_on_cuda_is_near_the_computed_one() -> None:
    network = build_network(config("resnet18", stem="small"))
    computed = cost.memory_mb(network, (3, 32, 32), 64)
    assert cost.memory_mb(network, (3, 32, 32), 64, "cuda") == pytest.approx(computed, rel=0.3)
    assert cost.latency(network, (3, 32, 32), "cuda")["latency_ms"] > 0
