import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks import SiteError, build_network
from attnsearch.runs.exports.export import save_export
from attnsearch.runs.exports.models import Features, create_model, model_name
from attnsearch.runs.exports.weights import ExportError, Interface
from attnsearch.spaces import load_space

ROOT = Path(__file__).parents[3]
SPACE = """
name: tiny
task: classification
data: {source: null, image_size: 16, channels: 1, classes: 3}
network: {backbone: resnet20, width: 0.5}
insert: [{at: layer2, block: gc, params: {gc: {ratio: 0.25}}}, {at: layer3, block: se}]
"""


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "space.yaml").write_text(SPACE)
    config = load_space(folder / "space.yaml").resolve({})
    net = build_network(config, 1, 3, 16, seed=2)
    interface = Interface(("a", "b", "c"), (16, 16), 1, (0.5,), (0.5,))
    return save_export(folder / "best", config, net.state_dict(), interface, {"metrics": {}})


def test_features_are_the_maps_after_the_stages_with_their_blocks(export: Path) -> None:
    net: Any = create_model("resnet20_gc_layer2_se_layer3", export)
    seen: dict[str, Tensor] = {}
    for stage in ("layer2", "layer3"):
        net.inserted[stage].register_forward_hook(
            lambda module, given, output, stage=stage: seen.update({stage: output})
        )
    body = create_model(
        "resnet20_gc_layer2_se_layer3", export, features_only=True, out_indices=(1, 2)
    )
    images = torch.randn(2, 1, 16, 24)
    with torch.no_grad():
        net(images)
        maps = body(images)
    assert torch.equal(maps[0], seen["layer2"]) and torch.equal(maps[1], seen["layer3"])
    assert isinstance(body, Features)
    for info, level in zip(body.feature_info, maps, strict=True):
        sides = [side // info["reduction"] for side in (16, 24)]
        assert level.shape == (2, info["num_chs"], *sides)
    assert [info["module"] for info in body.feature_info] == ["layer2", "layer3"]


@pytest.mark.parametrize(
    ("name", "strides", "channels"),
    [("resnet18", [4, 8, 16, 32], [64, 128, 256, 512]), ("resnet20", [1, 2, 4], [16, 32, 64])],
)
def test_features_of_a_new_network_say_their_strides(
    name: str, strides: list[int], channels: list[int]
) -> None:
    body: Any = create_model(name, image_size=64, features_only=True)
    assert [info["reduction"] for info in body.feature_info] == strides
    assert [info["num_chs"] for info in body.feature_info] == channels


def test_a_decoder_is_not_run_for_features() -> None:
    net: Any = create_model("resnet20_ecrm_layer3", decoder="unet", num_classes=2, image_size=16)
    net.eval().decoder = None
    assert [tuple(level.shape[2:]) for level in Features(net)(torch.randn(2, 3, 16, 16))] == [
        (16, 16),
        (8, 8),
        (4, 4),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "resnet20",
        "resnet20_gc_layer2.*.residual",
        "resnet20_se_layer2.0.after_conv1_eca_layer3",
        "resnet20_scconv_layer[2-3].*.conv2",
        "wide_resnet50_2_se_layer4",
    ],
)
def test_a_name_says_backbone_blocks_and_sites(name: str) -> None:
    net: Any = create_model(name, num_classes=4, in_chans=1, image_size=32, width=0.5)
    assert model_name(net.config) == name
    assert net.eval()(torch.randn(1, 1, 32, 32)).shape == (1, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet2o", "'resnet2o' begins with no backbone; did you mean 'resnet"),
        ("resnet20_gcc_layer2", "'gcc' is no block; did you mean 'gc'"),
        ("resnet20_gc", "does not say where gc stands"),
    ],
)
def test_names_that_cannot_be_read_are_told(name: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        create_model(name)


def test_an_export_of_another_network_is_refused(export: Path) -> None:
    own = re.escape("is resnet20_gc_layer2_se_layer3 with num_classes=3 and in_chans=1, not ")
    with pytest.raises(ExportError, match=f"{own}resnet20_gc_layer2 with 3 and 1"):
        create_model("resnet20_gc_layer2", export)
    with pytest.raises(ExportError, match=f"{own}resnet20_gc_layer2_se_layer3 with 10 and 1"):
        create_model("resnet20_gc_layer2_se_layer3", export, num_classes=10)
    with pytest.raises(SiteError, match="layer9"):
        create_model("resnet20_gc_layer9")


def test_networks_without_stages_and_stages_that_are_none_are_told(export: Path) -> None:
    with pytest.raises(ExportError, match=r"out_indices=\[3\]: the network has 3 stages"):
        Features(create_model("resnet20_gc_layer2_se_layer3", export), [3])
    with pytest.raises(ExportError, match="the network has no stages that give maps"):
        Features(nn.Flatten())


class Registry:
    """The part of mmengine's `Registry` that a backbone meets."""

    def __init__(self) -> None:
        self.classes: dict[str, type] = {}

    def register_module(self) -> Callable[[type], type]:
        def keep(cls: type) -> type:
            self.classes[cls.__name__] = cls
            return cls

        return keep

    def build(self, cfg: dict[str, Any]) -> Any:
        return self.classes[cfg["type"]](**{k: v for k, v in cfg.items() if k != "type"})


def test_the_recipe_for_a_registry_of_backbones(export: Path) -> None:
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    codes = re.findall(r"```python\n(.*?)```", page, re.S)
    (recipe,) = (code for code in codes if "MODELS" in code)
    models = Registry()
    exec(recipe, {"MODELS": models})
    cfg = {"type": "AttnsearchBackbone", "export": str(export), "out_indices": (1, 2)}
    backbone = models.build(cfg)
    # What a detector's neck does with it: lateral convolutions of the channels told.
    maps = backbone(torch.randn(2, 1, 32, 32))
    laterals = [nn.Conv2d(channels, 8, 1) for channels in backbone.channels]
    shapes = [lateral(level).shape for lateral, level in zip(laterals, maps, strict=True)]
    assert isinstance(maps, tuple) and shapes == [(2, 8, 16, 16), (2, 8, 8, 8)]
    sum(level.sum() for level in maps).backward()
    assert backbone.body.network.conv1.weight.grad is not None
