"""The hosts, against a forward pass written down by hand from the papers."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks.build.network import build_network
from attnsearch.blocks.build.sites import backbone_sites
from attnsearch.blocks.hosts.backbones import BACKBONES, BOTTLENECK, Backbone
from attnsearch.blocks.hosts.resnet import HostConv2d, PaddedShortcut, ResNet
from attnsearch.blocks.mechanisms.table import BLOCKS

IMAGENET = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
}
# He et al. 2016, table 6, give 0.27M, 0.46M, 0.66M, 0.85M and 1.7M.
CIFAR = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
}
# Bottlenecks of every kind, quick to trace.
SHORT = Backbone("short", BOTTLENECK, (2, 2), (64, 128), ("small",))


class Affine(nn.Module):
    """Something at a site that cannot be overlooked."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return 1.5 * x + 0.25


class Strided(nn.Module):
    """A replacement with weights of its own."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.own = nn.Conv2d(channels, out_channels, 5, stride, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.own(x)
        return y


@pytest.fixture(autouse=True)
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BLOCKS, "affine", Affine)
    monkeypatch.setitem(BLOCKS, "strided", Strided)
    monkeypatch.setitem(BACKBONES, "short", SHORT)


def config(backbone: str, *insert: tuple[str, str], **network: object) -> dict[str, object]:
    return {
        "network": {"backbone": backbone, **network},
        "insert": [{"at": at, "block": block, "params": {}} for at, block in insert],
    }


def on_meta(backbone: str) -> ResNet:
    with torch.device("meta"):
        return ResNet(BACKBONES[backbone], classes=1000 if backbone in IMAGENET else 10)


def torchvision_names(depths: list[int], bottleneck: bool) -> list[str]:
    """State-dict names by torchvision's rule: a bottleneck has three convolutions, and the first
    block of a stage has a downsample where channels or stride change."""

    def norm(name: str) -> list[str]:
        entries = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        return [f"{name}.{entry}" for entry in entries]

    names = ["conv1.weight", *norm("bn1")]
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            prefix = f"layer{stage}.{block}"
            for number in range(1, 4 if bottleneck else 3):
                names += [f"{prefix}.conv{number}.weight", *norm(f"{prefix}.bn{number}")]
            if block == 0 and (stage > 1 or bottleneck):
                names += [f"{prefix}.downsample.0.weight", *norm(f"{prefix}.downsample.1")]
    return [*names, "fc.weight", "fc.bias"]


def by_hand(
    state: dict[str, Tensor],
    backbone: str,
    x: Tensor,
    at: Callable[[str, Tensor], Tensor] = lambda site, x: x,
    convolve: Callable[[str, Tensor, Tensor, int], Tensor] | None = None,
) -> Tensor:
    """Evaluation mode of a network with the small stem, from its state dict."""
    bottleneck = BACKBONES[backbone].block.name == "bottleneck"

    def conv(name: str, x: Tensor, stride: int) -> Tensor:
        weight = state.get(f"{name}.weight", torch.empty(0))
        if convolve is not None and f"{name}.own.weight" in state:
            return convolve(name, weight, x, stride)
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(name: str, x: Tensor) -> Tensor:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"])

    x = at("stem", F.relu(norm("bn1", conv("conv1", x, 1))))
    for stage, depth in enumerate(BACKBONES[backbone].depths, start=1):
        for block in range(depth):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            strides = [1, stride, 1] if bottleneck else [stride, 1]
            y = x
            for number, step in enumerate(strides, start=1):
                y = norm(f"{name}.bn{number}", conv(f"{name}.conv{number}", y, step))
                y = F.relu(y) if number < len(strides) else y
                y = at(f"{name}.after_conv{number}", y)
            y = at(f"{name}.residual", y)
            if f"{name}.downsample.0.weight" in state:
                x = conv(f"{name}.downsample.0", x, stride)
                x = norm(f"{name}.downsample.1", x)
            elif stride == 2:
                extra = y.shape[1] - x.shape[1]
                x = x[:, :, ::2, ::2]
                zeros = torch.zeros(x.shape[0], extra // 2, *x.shape[2:])
                x = torch.cat([zeros, x, zeros], dim=1)
            x = at(name, F.relu(y + x))
        x = at(f"layer{stage}", x)
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


def shaken(network: ResNet) -> ResNet:
    """With statistics and affine terms that are not one and zero, in evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if "running_var" in name or ("bn" in name and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif "running_mean" in name or ("bn" in name and name.endswith("bias")):
            tensor.normal_(0, 0.3, generator=generator)
    return network.eval()


@pytest.mark.parametrize(("backbone", "count"), [*IMAGENET.items(), *CIFAR.items()])
def test_parameter_counts_are_the_published_ones(backbone: str, count: int) -> None:
    assert sum(p.numel() for p in on_meta(backbone).parameters()) == count


@pytest.mark.parametrize(
    ("backbone", "depths", "bottleneck"),
    [
        ("resnet18", [2, 2, 2, 2], False),
        ("resnet34", [3, 4, 6, 3], False),
        ("resnet50", [3, 4, 6, 3], True),
        ("resnet101", [3, 4, 23, 3], True),
        ("resnet152", [3, 8, 36, 3], True),
    ],
)
def test_names_are_torchvisions(backbone: str, depths: list[int], bottleneck: bool) -> None:
    state = on_meta(backbone).state_dict()
    assert list(state) == torchvision_names(depths, bottleneck)
    assert state["conv1.weight"].shape == (64, 3, 7, 7)
    if bottleneck:
        assert state["layer4.0.conv2.weight"].shape == (512, 512, 3, 3)
        assert state["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
        assert state["fc.weight"].shape == (1000, 2048)


def test_cifar_names() -> None:
    names = {name.split(".")[0] for name in on_meta("resnet20").state_dict()}
    assert names == {"conv1", "bn1", "layer1", "layer2", "layer3", "fc"}
    assert not any("downsample" in name for name in on_meta("resnet20").state_dict())


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "resnet20"])
def test_forward_is_the_papers(backbone: str) -> None:
    network = shaken(build_network(config(backbone, stem="small", width=0.25)))
    x = torch.randn(2, 3, 17, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(x), by_hand(network.state_dict(), backbone, x))


@pytest.mark.parametrize("backbone", ["resnet18", "short"])
def test_an_added_block_acts_at_its_site_and_nowhere_else(backbone: str) -> None:
    settings = {"stem": "small", "width": 0.125}
    plain = shaken(build_network(config(backbone, **settings)))
    x = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    places = backbone_sites(backbone, "small", 0.125, (9, 8))
    chosen = [s for s in places if not s.replaces and (s.stage in (None, 2) or s.block is None)]
    assert {site.kind for site in chosen} == {"stem", "stage", "block", "residual", "after_conv"}
    with torch.no_grad():
        untouched = plain(x)
        for site in chosen:
            network = build_network(config(backbone, (site.name, "affine"), **settings))
            network.load_state_dict(plain.state_dict())
            wanted = by_hand(
                plain.state_dict(),
                backbone,
                x,
                lambda name, y, here=site.name: 1.5 * y + 0.25 if name == here else y,  # type: ignore[misc]
            )
            torch.testing.assert_close(network.eval()(x), wanted)
            assert not torch.allclose(wanted, untouched, atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "site"),
    [
        ("resnet18", "layer2.0.conv1"),
        ("resnet18", "layer3.1.conv2"),
        ("resnet50", "layer2.0.conv1"),
        ("resnet50", "layer2.0.conv2"),
        ("resnet50", "layer4.2.conv3"),
    ],
)
def test_a_replacement_acts_in_place_of_its_convolution(backbone: str, site: str) -> None:
    settings = {"stem": "small", "width": 0.125}
    network = shaken(build_network(config(backbone, (site, "strided"), **settings)))
    state = network.state_dict()
    assert f"{site}.own.weight" in state
    assert f"{site}.weight" not in state
    plain = build_network(config(backbone, **settings)).state_dict()
    assert set(plain) - set(state) == {f"{site}.weight"}
    x = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))

    def own(name: str, _: Tensor, y: Tensor, stride: int) -> Tensor:
        weight, bias = state[f"{name}.own.weight"], state[f"{name}.own.bias"]
        return F.conv2d(y, weight, bias, stride, 2)

    with torch.no_grad():
        torch.testing.assert_close(network(x), by_hand(state, backbone, x, convolve=own))


def test_initial_weights_follow_torchvisions_laws() -> None:
    network = build_network(config("resnet18"), classes=1000, image_size=64)
    for name, module in network.named_modules():
        if isinstance(module, HostConv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            wanted = (2 / fan_out) ** 0.5
            # The spread of a sample's standard deviation is 1 / sqrt(2 n).
            n = module.weight.numel()
            assert abs(module.weight.std().item() / wanted - 1) < 5 / (2 * n) ** 0.5, name
            assert abs(module.weight.mean().item()) < 5 * wanted / n**0.5, name
        elif isinstance(module, nn.BatchNorm2d):
            assert torch.all(module.weight == 1)
            assert torch.all(module.bias == 0)
            assert torch.all(module.running_mean == 0)  # type: ignore[arg-type]
            assert torch.all(module.running_var == 1)  # type: ignore[arg-type]
            assert module.num_batches_tracked == 0
    bound = 512**-0.5
    assert 0.99 * bound < network.fc.weight.abs().max().item() <= bound
    assert 0.9 * bound < network.fc.bias.abs().max().item() <= bound


def test_width_scales_every_stage() -> None:
    network = ResNet(BACKBONES["resnet18"], width=0.7)
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    assert shapes["conv1.weight"][0] == 45  # 44.8, rounded
    assert shapes["layer4.1.conv2.weight"][:2] == (358, 358)
    assert shapes["fc.weight"][1] == 358
    wide = ResNet(BACKBONES["resnet50"], width=0.01)
    assert wide.conv1.out_channels == 1


def test_padded_shortcut_keeps_every_second_pixel() -> None:
    x = torch.arange(2 * 2 * 3 * 5.0).view(2, 2, 3, 5)
    y = PaddedShortcut(2, 5, 2)(x)
    assert y.shape == (2, 5, 2, 3)
    assert torch.equal(y[:, 1:3], x[:, :, ::2, ::2])
    assert y[:, [0, 3, 4]].abs().sum() == 0


def test_grey_images_and_small_maps() -> None:
    network = build_network(config("resnet50", width=0.125), 1, 7, 16)
    assert network(torch.zeros(2, 1, 16, 16)).shape == (2, 7)
    assert network.input_shape == (1, 16, 16)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "resnet20"])
def test_channels_last_is_kept_to_the_end(backbone: str) -> None:
    network = build_network(config(backbone, ("layer2", "affine"), stem="small", width=0.25))
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    kept: list[bool] = []

    def see(module: nn.Module, inputs: object, output: Tensor) -> None:
        kept.append(output.is_contiguous(memory_format=torch.channels_last))

    for name, module in network.named_modules():
        if name.count(".") == 1 and name.startswith("layer"):
            module.register_forward_hook(see)
    network(torch.randn(2, 3, 16, 16).to(memory_format=torch.channels_last))
    assert len(kept) == sum(BACKBONES[backbone].depths)
    assert all(kept)


EVERYWHERE = (
    ("stem", "identity"),
    ("stem", "eca"),
    ("layer2.first.residual", "se"),
    ("layer2", "affine"),
    ("layer2.last.conv1", "strided"),
)


def test_compiles_without_graph_breaks() -> None:
    torch._dynamo.reset()
    network = build_network(config("short", *EVERYWHERE, width=0.25), image_size=16).eval()
    x = torch.randn(2, 3, 16, 16)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(x), network(x))


def test_exports_for_any_batch() -> None:
    network = build_network(config("resnet20", *EVERYWHERE), image_size=16).eval()
    x = torch.randn(3, 3, 16, 16)
    batch = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        exported = torch.export.export(network, (x,), dynamic_shapes=({0: batch},)).module()
        torch.testing.assert_close(exported(x), network(x))
        torch.testing.assert_close(exported(x[:1]), network(x[:1]))


def test_a_block_may_end_in_an_activation_that_saves_its_output() -> None:
    class Squash(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()

        def forward(self, x: Tensor) -> Tensor:
            return x.tanh()

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BLOCKS, "squash", Squash)
        every = ["stem", "layer*", "layer*.*", "layer*.*.residual", "layer*.*.after_conv*"]
        network = build_network(
            config("resnet20", *((at, "squash") for at in every), width=0.25), image_size=8
        )
        torch.autograd.backward(network(torch.randn(2, 3, 8, 8)).sum())
    assert all(parameter.grad is not None for parameter in network.parameters())
