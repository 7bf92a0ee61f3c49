import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks.build.network import build_network
from attnsearch.blocks.build.sites import Site, backbone_sites, match
from attnsearch.blocks.errors import SiteError
from attnsearch.blocks.hosts.backbones import BACKBONES
from attnsearch.blocks.hosts.construct import host_constructor
from attnsearch.blocks.hosts.host import Inserted
from attnsearch.blocks.mechanisms.table import BLOCKS


def names(pattern: str, backbone: str = "resnet18") -> list[str]:
    return [site.name for site in match(pattern, backbone_sites(backbone))]


def note(
    name: str, order: list[str], shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
    """A hook that records when the module runs and on what shapes."""

    def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        order.append(name)
        shapes[name] = tuple(inputs[0].shape), tuple(output.shape)

    return hook


PLAIN = [name for name, found in BACKBONES.items() if found.network.endswith(":ResNet")]


def stems(backbone: str) -> tuple[str, ...]:
    return BACKBONES[backbone].stems


@pytest.mark.parametrize(
    ("backbone", "stem", "width", "size"),
    [
        *((name, "imagenet", 0.25, (224, 97)) for name in PLAIN if "imagenet" in stems(name)),
        ("resnet18", "small", 1.0, (33, 7)),
        ("resnet50", "small", 0.3, (9, 8)),
        ("resnet50", "imagenet", 0.25, (1, 5)),
        *((name, "small", 0.7, (31, 10)) for name in PLAIN if "imagenet" not in stems(name)),
        ("scnet50", "imagenet", 0.25, (97, 128)),
        ("scnet50", "small", 0.3, (31, 25)),
        ("scnet101_v1d", "deep", 0.25, (99, 100)),
        ("axial_resnet26", "imagenet", "m", (47, 70)),
        ("axial_resnet50", "small", 0.25, (9, 12)),
        ("axial_unet", "medt", 1.0, (32, 64)),
        ("medt", "medt", 2.0, (128, 256)),
    ],
)
def test_every_site_is_what_the_network_has_there(
    backbone: str, stem: str, width: float | str, size: tuple[int, int]
) -> None:
    found = backbone_sites(backbone, stem, width, size)
    with torch.device("meta"):
        settings = {"backbone": backbone, "stem": stem, "width": width}
        network = host_constructor(settings, 3, 10, size)().eval()
        for site in found:
            if not site.replaces:
                network.inserted[site.name.replace(".", "_")] = nn.Identity()
        order: list[str] = []
        shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        for site in found:
            path = site.name if site.replaces else f"inserted.{site.name.replace('.', '_')}"
            module = network.get_submodule(path)
            module.register_forward_hook(note(site.name, order, shapes))
            if site.replaces:
                assert isinstance(module, nn.Conv2d)
                assert module.stride == (site.stride, site.stride)
                assert module.kernel_size == (site.kernel, site.kernel)
        network(torch.zeros(2, 3, *size))
    assert order == [site.name for site in found], "network order"
    for site in found:
        assert shapes[site.name] == (
            (2, site.channels, *site.size),
            (2, site.out_channels, *site.out_size),
        )
        if not site.replaces:
            assert (site.out_channels, site.out_size) == (site.channels, site.size)
            assert (site.stride, site.kernel) == (1, None)


def test_all_sites_of_a_small_network() -> None:
    found = {site.name: site for site in backbone_sites("resnet18")}
    assert len(found) == 1 + 4 + 8 * 6
    block = ["conv1", "after_conv1", "conv2", "after_conv2", "residual"]
    assert list(found)[:7] == ["stem", *(f"layer1.0.{part}" for part in block), "layer1.0"]
    assert found["layer2.0.conv1"] == Site(
        "layer2.0.conv1", "conv", 64, (56, 56), 128, (28, 28), 2, 3, 2, 0
    )
    assert found["layer4"] == Site("layer4", "stage", 512, (7, 7), 512, (7, 7), stage=4)
    assert found["stem"].size == (56, 56)
    assert "layer1.0.conv3" in [site.name for site in backbone_sites("resnet50")]


def test_blocks_per_stage() -> None:
    assert BACKBONES["resnet101"].depths == (3, 4, 23, 3)
    assert BACKBONES["resnet56"].depths == (9, 9, 9)


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("stem", ["stem"]),
        ("layer4", ["layer4"]),
        ("layer[2-3]", ["layer2", "layer3"]),
        ("layer[1,3-4]", ["layer1", "layer3", "layer4"]),
        ("layer*", ["layer1", "layer2", "layer3", "layer4"]),
        ("*", ["stem", "layer1", "layer2", "layer3", "layer4"]),
        ("layer2.*", ["layer2.0", "layer2.1"]),
        ("layer2.first", ["layer2.0"]),
        ("layer[3-4].last.residual", ["layer3.1.residual", "layer4.1.residual"]),
        (
            "layer[2-3].*.conv2",
            ["layer2.0.conv2", "layer2.1.conv2", "layer3.0.conv2", "layer3.1.conv2"],
        ),
        ("layer1.0.conv[1,2]", ["layer1.0.conv1", "layer1.0.conv2"]),
        ("layer1.[0-1].after_conv2", ["layer1.0.after_conv2", "layer1.1.after_conv2"]),
        (
            "layer1.0.*",
            [f"layer1.0.{p}" for p in ("conv1", "after_conv1", "conv2", "after_conv2")],
        ),
    ],
)
def test_patterns(pattern: str, wanted: list[str]) -> None:
    if pattern == "layer1.0.*":
        wanted = [*wanted, "layer1.0.residual"]
    assert names(pattern) == wanted


def test_first_and_last_follow_the_stage() -> None:
    assert names("layer*.last", "resnet101") == ["layer1.2", "layer2.3", "layer3.22", "layer4.2"]
    assert names("layer3.[20-30]", "resnet101") == ["layer3.20", "layer3.21", "layer3.22"]


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("layer5", "layer4"),
        ("layer2.*.con2", "layer2.*.conv2"),
        ("layer2.0.conv3", "layer2.0.conv2"),
        ("layer2.2.residual", "layer2.0.residual"),
        ("Layer2", "layer2"),
        ("layer[0-0]", "no site fits"),
        ("layer[2-3.*", "not closed"),
        ("layer2].0", "not closed"),
        ("layer[3-2]", "rising ranges"),
        ("layer[a]", "numbers"),
        ("layer[]", "numbers"),
        ("", "layer2.*.conv2"),
        ("layer2.(0|1)", "no site fits"),
    ],
)
def test_a_pattern_that_names_nothing_is_explained(pattern: str, hint: str) -> None:
    with pytest.raises(SiteError) as caught:
        names(pattern)
    assert hint in str(caught.value)
    assert not pattern or repr(pattern) in str(caught.value)


def test_unknown_hosts_are_explained() -> None:
    with pytest.raises(SiteError, match=r"resnet17.*nearest: resnet1.*resnet152"):
        backbone_sites("resnet17")
    with pytest.raises(SiteError, match=r"no stem 'smal'.*nearest: small"):
        backbone_sites("resnet18", "smal")
    with pytest.raises(SiteError, match=r"resnet20 has no stem 'imagenet'.*stems are: small"):
        backbone_sites("resnet20", "imagenet")
    for width in (0, -1, float("nan"), float("inf")):
        with pytest.raises(SiteError, match="width"):
            backbone_sites("resnet18", width=width)
    for size in (0, (3, 0), (1, 2, 3), 1.5):
        with pytest.raises(SiteError, match="image_size"):
            backbone_sites("resnet18", image_size=size)  # type: ignore[arg-type]


def test_a_site_prints_its_shapes() -> None:
    found = {site.name: str(site) for site in backbone_sites("resnet18", "small", 0.5, (16, 8))}
    assert found["layer1"] == "layer1 (32 channels, 16x8)"
    assert found["layer2.0.conv1"] == ("layer2.0.conv1 (32 channels, 16x8 -> 64 channels, 8x4)")


def test_sites_need_no_torch() -> None:
    code = (
        "import sys; from attnsearch.blocks.build.sites import backbone_sites;"
        " backbone_sites('resnet152')"
    )
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_insertions_at_one_site_run_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shift(nn.Module):
        def __init__(self, channels: int, factor: float = 1.0, shift: float = 0.0) -> None:
            super().__init__()
            self.factor, self.shift = factor, shift

        def forward(self, x: Tensor) -> Tensor:
            return self.factor * x + self.shift

    monkeypatch.setitem(BLOCKS, "shift", Shift)
    entries = [
        {"at": "layer*", "block": "shift", "params": {"shift": {"shift": 1.0}}},
        {"at": "layer1", "block": "none", "params": {}},
        {"at": "layer1", "block": "shift", "params": {"shift": {"factor": 3.0}}},
    ]
    config = {"network": {"backbone": "resnet20", "width": 0.25}, "insert": entries}
    inserted = build_network(config, image_size=8).inserted
    assert isinstance(inserted, Inserted)
    x = torch.ones(1, 4, 2, 2)
    assert torch.equal(inserted.at("layer1", x), 6 * x)
    assert torch.equal(inserted.at("layer2", x), 2 * x)
    assert inserted.at("stem", x) is x
    assert list(inserted.get_submodule("layer1")._modules) == ["0", "1"]
