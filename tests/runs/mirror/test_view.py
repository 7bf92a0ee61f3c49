"""What MLflow shows of a trial, named as its decisions are."""

import sys
from pathlib import Path

import pytest

from attnsearch.runs.mirror.view import flat_params
from attnsearch.spaces import load_space

SPACE = """
name: slopes
task: classification
data: {source: null, image_size: 32, channels: 3, classes: 4}
network: {backbone: resnet20}
insert:
  - {at: layer3, block: {choice: [none, slopes_view_blocks:Gate]}}
  - {at: "layer[1-2].0", name: early, block: slopes_view_blocks:Gate}
blocks:
  slopes_view_blocks:Gate: {slope: {float: [0.5, 2.0], prior: 1.5}}
"""
BLOCK = '''
from torch import nn


class Gate(nn.Module):
    """A gate.

    Args:
        channels: Channels of the map.
        slope: Of the gate.
        bias: Of the gate.
    """

    def __init__(self, channels: int, slope: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.slope, self.bias = slope, bias

    def forward(self, x):
        return x * (self.slope * x + self.bias).sigmoid()
'''


def test_a_users_block_has_its_decisions_names_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "slopes_view_blocks.py").write_text(BLOCK)
    (tmp_path / "space.yaml").write_text(SPACE)
    space = load_space(tmp_path / "space.yaml")
    values = {**space.defaults(), "layer3.block": "slopes_view_blocks:Gate"}
    values["layer3.Gate.slope"] = 1.5

    params = flat_params(space.resolve(values), values)

    assert {name for name in params if name.endswith(".slope")} == {
        decision.name for decision in space.decisions if decision.name.endswith(".slope")
    }
    inserted = {name: text for name, text in params.items() if name.startswith(("layer", "early"))}
    assert inserted == {
        "layer3.block": "slopes_view_blocks:Gate",
        "layer3.Gate.slope": "1.5",
        "layer3.Gate.bias": "0.0",
        "early.block": "slopes_view_blocks:Gate",
        "early.Gate.slope": "1.5",
        "early.Gate.bias": "0.0",
    }
