"""What a newcomer costs: a block, or a backbone of a new family, is a new file and one line."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks import BLOCKS, build_network, check_block
from attnsearch.blocks.hosts.backbones import BACKBONES, Backbone, Convolution, Residual
from attnsearch.blocks.hosts.host import Host
from attnsearch.blocks.measure.cost import count_macs, count_params
from attnsearch.search.check import check_space
from attnsearch.search.terminal import block_text, sites_text
from attnsearch.spaces import load_space, schema


class Scale(nn.Module):
    """Scales every channel by a number of its own.

    Args:
        channels: Channels of the map.
        start: What the numbers are at first.
    """

    def __init__(self, channels: int, start: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), float(start)))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) to (B, C, H, W)."""
        return x * self.scale


class Ladder(Host):
    """Three stages of strided 5x5 convolutions, each with its input added.

    Args:
        backbone: Depths and widths.
        in_channels: Channels of the images.
        classes: Outputs.
        width: Multiplier of all widths.
    """

    def __init__(
        self, backbone: Backbone, in_channels: int = 3, classes: int = 10, width: float = 1.0
    ) -> None:
        super().__init__()
        channels = backbone.stem_width(width)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        for stage, planes in enumerate(backbone.widths(width), start=1):
            rungs = nn.ModuleList()
            for index in range(backbone.depths[stage - 1]):
                rung = nn.Module()
                stride = 2 if stage > 1 and index == 0 else 1
                rung.conv1 = nn.Conv2d(channels, planes, 5, stride, 2)
                rungs.append(rung)
                channels = planes
            self.add_module(f"layer{stage}", rungs)
        self.depths = backbone.depths
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return images (B, in_channels, H, W) to logits (B, classes)."""
        x = self.inserted.at("stem", self.conv1(x))
        for stage, depth in enumerate(self.depths, start=1):
            for index in range(depth):
                name = f"layer{stage}_{index}"
                x = self.get_submodule(f"layer{stage}.{index}.conv1")(x).relu()
                for site in (f"{name}_after_conv1", f"{name}_residual", name):
                    x = self.inserted.at(site, x)
            x = self.inserted.at(f"layer{stage}", x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


SPACE = """
name: newcomers
task: classification
data: {source: null, image_size: 32, channels: 3, classes: 4}
network: {backbone: BACKBONE}
insert:
  - {at: layer2, block: {choice: [none, BLOCK]}}
"""


def test_a_block_is_a_class_and_one_line_in_the_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(BLOCKS, "scale", Scale)  # the line

    assert check_block(BLOCKS["scale"]) == []
    listed, _ = block_text("scale")
    assert "start" in listed and "Scales every channel" in listed
    assert schema()["properties"]["blocks"]["properties"]["scale"]["properties"] == {
        "start": {"description": "What the numbers are at first.", "default": 1.0}
    }
    file = tmp_path / "space.yaml"
    text = SPACE.replace("BACKBONE", "resnet20").replace("BLOCK", "scale")
    file.write_text(text + "blocks: {scale: {start: {choice: [1.0, 0.5]}}}\n")
    assert "layer2.scale.start" in check_space(str(file), [])
    space = load_space(file)
    config = space.resolve({"layer2.block": "scale", "layer2.scale.start": 0.5})
    network = build_network(config, classes=4)
    assert network.inserted.layer2[0].scale.detach().flatten().tolist() == [0.5] * 32


def test_a_backbone_of_a_new_family_is_a_class_and_one_line_in_the_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rung = Residual("rung", (Convolution(1, 1, strided=True, kernel=5),))
    line = Backbone("ladder", rung, (1, 2), (8, 16), ("small",), network=f"{__name__}:Ladder")
    monkeypatch.setitem(BACKBONES, "ladder", line)  # the line

    assert "layer2.1.conv1" in sites_text("ladder", stem=None, width=1.0, image_size=None)
    file = tmp_path / "space.yaml"
    text = SPACE.replace("BACKBONE", "ladder").replace("BLOCK", "se")
    file.write_text(text + "  - {at: layer2.first.conv1, block: {choice: [none, conv1x1]}}\n")
    assert "is sound: study newcomers" in check_space(str(file), [])
    space = load_space(file)
    plain = build_network(space.resolve(space.baseline()), classes=4)
    assert isinstance(plain, Ladder)
    counted = (3 * 9 + 1) * 8 + (8 * 25 + 1) * 8 + (8 * 25 + 1) * 16 + (16 * 25 + 1) * 16
    assert count_params(plain) == counted + 17 * 4
    assert count_macs(plain, (3, 32, 32)) == (
        32 * 32 * (27 * 8 + 200 * 8) + 16 * 16 * (200 * 16 + 400 * 16) + 16 * 4
    )
    values = {"layer2.block": "se", "layer2.first.conv1.block": "conv1x1"}
    built = build_network(space.resolve(values), classes=4)
    assert built(torch.rand(2, *built.input_shape)).shape == (2, 4)
    assert type(built.inserted.layer2[0]) is BLOCKS["se"]
    assert type(built.get_submodule("layer2.0.conv1")) is BLOCKS["conv1x1"]
