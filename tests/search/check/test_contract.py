"""A user's own block is tried by `check` and by `blocks`, and held to what ours keep."""

import sys
from pathlib import Path

import pytest

from attnsearch.search.cli import call
from attnsearch.search.exit import DONE, FAILED, WRONG_INPUT

MODULE = '''\
from torch import nn


class Sound(nn.Module):
    """Scales the map."""

    def __init__(self, channels, slope=2):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        self.slope = slope

    def forward(self, x):
        return x + self.slope * self.conv(x)


class Writes(Sound):
    """Changes its input."""

    def forward(self, x):
        return super().forward(x.mul_(2))


class Cuts(Sound):
    """Cuts maps that are wider than those of its place in the file."""

    def forward(self, x):
        return super().forward(x)[..., :4]


class Needs(Sound):
    """Has a hyperparameter without a default."""

    def __init__(self, channels, slope):
        super().__init__(channels, slope)


class Narrow(Sound):
    """Takes few channels."""

    def __init__(self, channels, slope=2):
        super().__init__(channels, slope)
        if channels > 32:
            raise ValueError(f"{channels} channels are more than 32")
'''
SPACE = """\
name: own
task: classification
data: {{source: null, image_size: 16, channels: 1, classes: 3}}
network: {{backbone: resnet20, stem: small, width: 0.5}}
insert:
  - at: layer3
    block: {{choice: [none, {block}, se]}}
"""


@pytest.fixture
def own_blocks(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A module of blocks in the current folder; its name is not used twice."""
    module = f"own_blocks_{abs(hash(request.node.name))}"
    (tmp_path / f"{module}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return module


def check(block: str, *words: str) -> int:
    Path("x.yaml").write_text(SPACE.format(block=block), encoding="utf-8")
    return call(["check", "x.yaml", *words])


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ("Writes", "input kept: in training mode, the input was changed in place"),
        ("Cuts", "shapes: training mode, input (2, 64, 9, 7): the output is (2, 64, 9, 4)"),
    ],
)
def test_a_block_that_breaks_a_rule_is_an_error_of_the_file_and_told_by_blocks(
    block: str, fault: str, own_blocks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(f"{own_blocks}:{block}") == WRONG_INPUT
    place, count = capsys.readouterr().err.splitlines()
    assert place.startswith(f"x.yaml:7:28: insert.0.block.choice.1: block {own_blocks}:{block} ")
    assert fault in place
    assert count == "attnsearch: 1 problem; nothing was started"
    assert check("gc", "--set", f"insert.0.block={own_blocks}:{block}") == WRONG_INPUT
    assert f"--set insert.0.block={own_blocks}:{block}: " in capsys.readouterr().err
    assert call(["blocks", f"{own_blocks}:{block}"]) == FAILED
    told = " ".join(capsys.readouterr().out.split())
    assert f"* {fault}" in told


def test_a_sound_block_is_said_to_be(own_blocks: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(f"{own_blocks}:Sound") == DONE
    assert "Warnings" not in capsys.readouterr().out
    assert call(["blocks", f"{own_blocks}:Sound"]) == DONE
    assert "It keeps the rules of every block" in capsys.readouterr().out


def test_a_block_is_tried_with_the_values_of_the_file(
    own_blocks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without them it cannot be: `blocks` has none."""
    assert call(["blocks", f"{own_blocks}:Needs"]) == DONE
    assert "It was not tried: slope has no default" in capsys.readouterr().out
    slope = f'blocks={{"{own_blocks}:Needs": {{slope: {{choice: [1, 2]}}}}}}'
    assert check(f"{own_blocks}:Needs", "--set", slope) == DONE


def test_a_block_that_takes_few_channels_is_named_and_no_error(
    own_blocks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(f"{own_blocks}:Narrow") == DONE
    told = " ".join(capsys.readouterr().out.split())
    assert f"Warnings: * block {own_blocks}:Narrow was not tried by itself, on 64 channels" in told
    assert "64 channels are more than 32" in told


def test_our_own_blocks_are_not_tried_again(
    own_blocks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "attnsearch.search.check.contract.check_block", lambda *_, **__: pytest.fail("tried")
    )
    assert check("gc") == DONE
