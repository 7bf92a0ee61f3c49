import copy
import pickle
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks.build.network import build_network, build_plain, check_fit, side_outputs
from attnsearch.blocks.build.sites import backbone_sites, match
from attnsearch.blocks.errors import AttnsearchError, BlockError, SiteError
from attnsearch.blocks.hosts.backbones import BACKBONES, BASIC, BOTTLENECK, Backbone
from attnsearch.blocks.hosts.resnet import ResNet
from attnsearch.blocks.mechanisms.axial import Axial
from attnsearch.blocks.mechanisms.table import BLOCKS

ADDITIONS = ("stem", "layer*", "layer*.*", "layer*.*.residual", "layer*.*.after_conv*")
FEW: dict[str, Any] = {
    "psa": {"groups": [1, 1, 2, 2]},
    "axial": {"heads": 2},
    "gc": {"ratio": 0.25},
}


@pytest.fixture(autouse=True)
def backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, block in (("short", BOTTLENECK), ("basic", BASIC)):
        short = Backbone(name, block, (1, 2), (32, 64), ("small",))
        monkeypatch.setitem(BACKBONES, name, short)


def config(backbone: str, *insert: tuple[str, str], **network: object) -> dict[str, Any]:
    return {
        "network": {"backbone": backbone, **network},
        "insert": [
            {"at": at, "block": block, "params": {block: FEW.get(block, {})}}
            for at, block in insert
        ],
    }


def step(network: ResNet, size: int = 8) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits in training mode, and the gradients of all parameters that have one."""
    generator = torch.Generator().manual_seed(0)
    logits = network.train()(torch.randn(4, 3, size, size, generator=generator))
    torch.autograd.backward(F.cross_entropy(logits, torch.arange(4)))
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return logits, gradients


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "resnet20"])
@pytest.mark.parametrize("block", ["none", "identity"])
def test_none_and_identity_are_the_plain_network_bit_for_bit(backbone: str, block: str) -> None:
    settings = {"width": 0.125}
    plain = build_plain(config(backbone, ("layer1", "se"), **settings), seed=3)
    insert = [(at, block) for at in ADDITIONS]
    if block == "none":
        insert.append(("layer*.*.conv*", "none"))
    network = build_network(config(backbone, *insert, **settings), seed=3)
    assert not any(name.startswith("inserted") for name in plain.state_dict())
    assert len(network.inserted) == (0 if block == "none" else _count(backbone))
    assert_equal(plain.state_dict(), network.state_dict())
    for _ in range(2):
        logits, gradients = step(plain)
        same_logits, same_gradients = step(network)
        assert torch.equal(logits, same_logits)
        assert_equal(gradients, same_gradients)
    assert_equal(plain.state_dict(), network.state_dict())


def _count(backbone: str) -> int:
    return sum(not site.replaces for site in backbone_sites(backbone))


@pytest.mark.parametrize("block", list(BLOCKS))
@pytest.mark.parametrize("backbone", ["basic", "short"])
def test_a_block_stands_wherever_check_fit_lets_it(backbone: str, block: str) -> None:
    places = backbone_sites(backbone, image_size=8)
    params = FEW.get(block, {})
    plain = build_plain(config(backbone), image_size=8).state_dict()
    stood = 0
    for at in ("stem", "layer1", "layer2.0", "layer2.1.residual", "layer2.0.after_conv1",
               "layer2.0.conv1", "layer2.1.conv2"):  # fmt: skip
        settings = config(backbone, (at, block))
        (site,) = match(at, places)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                check_fit(settings, at, block, params, image_size=8)
            except (SiteError, BlockError) as error:
                assert site.replaces, error
                assert f"block {block} cannot stand at {site}:" in str(error)
                with pytest.raises(type(error)) as caught:
                    build_network(settings, image_size=8)
                assert str(caught.value) == str(error)
                continue
            network = build_network(settings, image_size=8)
        stood += 1
        state = network.state_dict()
        prefix = f"{at}." if site.replaces else f"inserted.{at.replace('.', '_')}.0."
        auxiliary = f"auxiliary.{at.replace('.', '_')}.0."
        own = {name for name in state if name.startswith((prefix, auxiliary))}
        lost = {f"{at}.weight"} if site.replaces else set()
        assert set(plain) - lost == set(state) - (own - set(plain))
        for name in set(plain) - lost:
            assert torch.equal(plain[name], state[name]), name
        logits, gradients = step(network)
        assert logits.shape == (4, 10)
        assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
        assert network.eval()(torch.zeros(1, 3, 8, 8)).shape == (1, 10)
    assert stood >= 5, "all additions"


def test_two_architectures_share_what_agrees() -> None:
    one = build_network(
        config("resnet18", ("layer4", "ecrm"), ("layer2.*.conv2", "psa"), width=0.5), seed=1
    ).state_dict()
    other = build_network(
        config(
            "resnet18", ("layer4", "ecrm"), ("layer2.1.conv2", "psa"), ("stem", "se"), width=0.5
        ),
        seed=1,
    ).state_dict()
    both = [name for name in one if name in other and one[name].shape == other[name].shape]
    assert any(name.startswith("inserted.layer4.0.") for name in both)
    assert any(name.startswith("auxiliary.layer4.0.") for name in both)
    assert any(name.startswith("layer2.1.conv2.") for name in both)
    assert "layer2.0.conv2.weight" not in both
    for name in both:
        assert torch.equal(one[name], other[name]), name
    another = build_network(config("resnet18", ("layer4", "ecrm"), width=0.5), seed=2).state_dict()
    assert not torch.equal(one["conv1.weight"], another["conv1.weight"])
    assert not torch.equal(
        one["inserted.layer4.0.L.weight"], another["inserted.layer4.0.L.weight"]
    )


def test_the_builder_supplies_what_the_site_says(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[dict[str, Any]] = []

    class Probe(nn.Module):
        def __init__(
            self,
            channels: int,
            word: str = "a",
            numbers: tuple[int, ...] = (1, 2),
            *,
            out_channels: int,
            stride: int = 7,
            size: tuple[int, int] | None = None,
        ) -> None:
            super().__init__()
            built.append(dict(locals()))
            self.conv = nn.Conv2d(channels, out_channels, 1, stride)

        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[2:] == built[-1]["size"]
            y: Tensor = self.conv(x)
            return y

    monkeypatch.setitem(BLOCKS, "probe", Probe)
    settings = config("basic", ("layer2.0.conv1", "probe"), ("layer1", "probe"))
    settings["insert"][0]["params"] = {"probe": {"numbers": [4, [5]]}, "psa": {"kernels": [3]}}
    network = build_network(settings, 1, 10, (10, 6))
    added, replaced = built[0], built[-1]
    keys = ("channels", "out_channels", "stride", "size", "word", "numbers")
    assert [added[key] for key in keys] == [32, 32, 1, (10, 6), "a", (1, 2)]
    assert [replaced[key] for key in keys] == [32, 64, 2, (10, 6), "a", (4, (5,))]
    assert list(network.layer2[0].conv1.state_dict()) == ["conv.weight", "conv.bias"]  # type: ignore[index,union-attr]


USER = """
    import torch
    from torch import nn

    class Numbers(nn.Module):
        '''Needs numbers to run, and its own tables on the CPU.'''
        def __init__(self, channels):
            super().__init__()
            self.table = torch.ones(channels, 1, 1, device="cpu")
            self.scale = nn.Parameter(torch.randn(1))
        def forward(self, x):
            return x * self.table if float(x.detach().sum()) >= 0 else -x * self.table

    class Grows(nn.Module):
        def __init__(self, channels):
            super().__init__()
        def forward(self, x):
            return x.repeat(1, 2, 1, 1)

    class Pair(Grows):
        def forward(self, x):
            return x, x

    class Fails(Grows):
        def forward(self, x):
            return x[99]

    class Breaks(nn.Module):
        def __init__(self, channels):
            raise KeyError("colour")

    class Lazy(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv = nn.LazyConv2d(channels, 1)
        def forward(self, x):
            return self.conv(x)

    class Silent(nn.Module):
        side_loss = "mine"
        def __init__(self, channels):
            super().__init__()
        def forward(self, x):
            return x

    class Patches(nn.Module):
        '''Rules of its own about the map.'''
        def __init__(self, channels, patch=4):
            super().__init__()
            self.patch = patch
        def forward(self, x):
            if x.shape[2] % self.patch:
                raise ValueError(f"the height {x.shape[2]} is no multiple of patch={self.patch}")
            return x
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "user_blocks.py").write_text(textwrap.dedent(USER))
    monkeypatch.syspath_prepend(tmp_path)
    return "user_blocks"


def test_a_users_block_may_need_numbers(user: str) -> None:
    network = build_network(config("basic", ("layer1", f"{user}:Numbers")), image_size=8)
    assert list(network.inserted.state_dict()) == ["layer1.0.scale"]
    assert network(torch.ones(2, 3, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "at", "rule"),
    [
        ("Grows", "layer2.0", r"shape \(2, 64, 4, 4\), not \(2, 128, 4, 4\)"),
        ("Pair", "layer2.0", r"shape \(2, 64, 4, 4\), not tuple"),
        ("Fails", "layer1", "IndexError"),
        ("Breaks", "layer1", "KeyError: 'colour'"),
        ("Lazy", "layer1", "lazy layers"),
        ("Silent", "layer1", r"side\['prototype'\]"),
        ("Grows", "layer2.0.conv1", "it takes no out_channels and stride.*layer2.0.after_conv1"),
    ],
)
def test_a_block_that_cannot_stand_is_explained(user: str, name: str, at: str, rule: str) -> None:
    block = f"{user}:{name}"
    settings = config("basic", (at, block))
    for attempt in (
        lambda: check_fit(settings, at, block, image_size=8),
        lambda: build_network(settings, image_size=8),
    ):
        with pytest.raises((SiteError, BlockError), match=rule) as caught:
            attempt()
        assert f"block {block} cannot stand at {at} (" in str(caught.value)


def test_check_fit_follows_the_size_and_the_pattern(user: str) -> None:
    block = f"{user}:Patches"
    check_fit(config("basic"), "layer1", block, image_size=12)
    with pytest.raises(BlockError, match="height 6 is no multiple of patch=4"):
        check_fit(config("basic"), "layer*", block, image_size=12)
    check_fit(config("basic"), "layer*", block, {"patch": 3}, image_size=12)
    with pytest.raises(BlockError, match=r"no hyperparameter 'patches' \(nearest: patch\)"):
        check_fit(config("basic"), "layer1", block, {"patches": 3})
    with pytest.raises(SiteError, match="layer3"):
        check_fit(config("basic"), "layer3", block)


def test_check_fit_computes_nothing() -> None:
    check_fit(config("basic"), "*", "gc", image_size=100_000)  # 2.6 TB, were it allocated


def test_check_fit_warns_every_time() -> None:
    for _ in range(2):
        with pytest.warns(UserWarning, match="gc"):
            check_fit(config("basic"), "layer1", "gc", {"ratio": 1 / 32})


def test_side_outputs_and_their_heads() -> None:
    settings = config("basic", ("layer1", "se"), ("layer1", "ecrm"), ("layer2.1.residual", "ecrm"))
    network = build_network(settings, classes=7, image_size=8).train()
    found = side_outputs(network)
    assert [(site, index) for site, index, _ in found] == [("layer1", 1), ("layer2.1.residual", 0)]
    assert found[0][2] is network.inserted["layer1"][1]  # type: ignore[index]
    heads = {name: tuple(p.shape) for name, p in network.auxiliary.named_parameters()}
    assert heads == {
        "layer1.1.weight": (7, 32),
        "layer1.1.bias": (7,),
        "layer2_1_residual.0.weight": (7, 64),
        "layer2_1_residual.0.bias": (7,),
    }
    assert side_outputs(build_plain(settings, image_size=8)) == []


def test_a_trained_network_can_be_copied_and_pickled() -> None:
    network = build_network(config("basic", ("layer2", "ecrm"), ("layer1", "gc")), image_size=8)
    step(network)
    x = torch.randn(2, 3, 8, 8)
    wanted = network.eval()(x)
    again = build_network(network.config, image_size=8, seed=9).eval()
    again.load_state_dict(network.state_dict())
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), again):
        assert torch.equal(twin.eval()(x), wanted)
        assert [item[:2] for item in side_outputs(twin)] == [("layer2", 0)]


def test_the_network_keeps_a_config_of_its_own() -> None:
    settings = config("basic", ("layer1", "se"))
    given = copy.deepcopy(settings)
    network = build_network(settings, 1, 3, (12, 8), seed=1)
    assert settings == given
    settings["insert"][0]["block"] = "gc"
    assert network.config == given
    assert network.input_shape == (1, 12, 8)


def test_other_tasks_are_refused() -> None:
    with pytest.raises(AttnsearchError, match="segmentation"):
        build_network({**config("basic"), "task": "segmentation"})


def test_blocks_exports_what_the_documentation_names() -> None:
    import attnsearch.blocks as package

    for name in package.__all__:
        assert getattr(package, name) is not None
    assert package.BLOCKS is BLOCKS
    assert package.build_network is build_network
    assert set(package.__all__) >= {type_.__name__ for type_ in BLOCKS.values()}
    with pytest.raises(AttributeError, match="nonsense"):
        package.nonsense  # noqa: B018


@pytest.mark.parametrize("block", list(BLOCKS))
def test_every_block_takes_maps_that_are_no_squares(block: str) -> None:
    settings = config("basic", ("layer1", block), ("layer2", block))
    network = build_network(settings, classes=5, image_size=(12, 20)).train()
    seen = []
    for module in network.inserted.values():
        module.register_forward_hook(lambda _, x, y: seen.append((x[0].shape[2:], y.shape[2:])))
    logits = network(torch.randn(2, 3, 12, 20))
    assert logits.shape == (2, 5)
    logits.sum().backward()
    assert seen == [((12, 20), (12, 20)), ((6, 10), (6, 10))]


def test_the_tables_of_axial_follow_each_side() -> None:
    network = build_network(config("basic", ("layer1", "axial")), image_size=(12, 20))
    (axial,) = (module for module in network.modules() if isinstance(module, Axial))
    assert (axial.hight_block.span, axial.width_block.span) == (12, 20)
