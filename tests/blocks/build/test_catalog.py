"""Finding blocks by name, and reading their constructors and docstrings."""

import hashlib
import importlib.metadata
import inspect
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from torch import nn

from attnsearch.blocks.build import catalog
from attnsearch.blocks.build.catalog import (
    block_names,
    can_replace,
    find_block,
    hyperparameters,
    parameter_docs,
    summary,
    takes_size,
)
from attnsearch.blocks.build.sources import source_hash
from attnsearch.blocks.errors import BlockError
from attnsearch.blocks.mechanisms.se import SE
from attnsearch.blocks.mechanisms.table import BLOCKS

MODULE = '''
"""A user's module."""

from torch import nn


class Gate(nn.Module):
    """Scales the map.

    It does so twice.

    Args:
        inplanes: Channels.
        factor (float): By how much; a long
            description.
        *rest: Ignored.

    Attributes:
        later: Not an argument.
    """

    def __init__(self, inplanes, factor=2.0, *rest, size=None, stride=1, **more):
        super().__init__()
        self.factor = factor


def function(channels):
    return nn.Identity()


class Silent(nn.Module):
    def __init__(self, *, channels=3):
        super().__init__()
'''


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "user_blocks.py").write_text(MODULE)
    (tmp_path / "broken_blocks.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "user_blocks", raising=False)
    return "user_blocks"


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch, user_module: str) -> None:
    points = [
        EntryPoint("gate", f"{user_module}:Gate", "attnsearch.blocks"),
        EntryPoint("se", f"{user_module}:Gate", "attnsearch.blocks"),
        EntryPoint("gone", "broken_blocks:Gate", "attnsearch.blocks"),
    ]
    original = importlib.metadata.entry_points

    def entry_points(**keys):
        return points if keys == {"group": "attnsearch.blocks"} else original(**keys)

    monkeypatch.setattr(catalog, "entry_points", entry_points)


@pytest.mark.parametrize("name", BLOCKS)
def test_finds_the_blocks_of_the_table(name: str) -> None:
    assert find_block(name) is BLOCKS[name]


@pytest.mark.parametrize(
    ("name", "near"),
    [("sconv", "scconv"), ("cbm", "cbam"), ("ECRM", "ecrm"), ("coord", "coordinate")],
)
def test_an_unknown_name_suggests_near_ones_and_lists_all(name: str, near: str) -> None:
    with pytest.raises(BlockError, match=f"'{name}'.*did you mean.*{near}.*conv1x1.*module"):
        find_block(name)


def test_finds_a_class_by_its_module(user_module: str) -> None:
    assert find_block(f"{user_module}:Gate").__name__ == "Gate"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("user_blocks:Gat", "did you mean user_blocks:Gate"),
        ("user_blocks:function", "derived from nn.Module"),
        ("broken_blocks:Gate", "ModuleNotFoundError.*no_such_package"),
        ("no_such_module:Gate", "ModuleNotFoundError.*no_such_module"),
        ("user_blocks:", "user_blocks:"),
        (":Gate", ":Gate"),
        ("../evil:Gate", "../evil:Gate"),
    ],
)
def test_what_cannot_be_imported_is_an_error_with_the_cause(
    user_module: str, name: str, message: str
) -> None:
    with pytest.raises(BlockError, match=message):
        find_block(name)


@pytest.mark.parametrize("module", ["profile", "colorsys", "safetensors"])
def test_an_installed_module_wins_and_the_hidden_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    file = tmp_path / f"{module}.py"
    file.write_text("class Gate: pass")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with pytest.raises(BlockError, match=f"has the name of {file}.*rename yours"):
        find_block(f"{module}:Gate")


def test_entry_points_add_names_and_take_none_over(plugin: None) -> None:
    assert find_block("gate").__name__ == "Gate"
    assert find_block("se") is SE
    assert block_names() == [*BLOCKS, "gate", "gone"]
    with pytest.raises(BlockError, match="'gone' cannot be imported"):
        find_block("gone")
    with pytest.raises(BlockError, match="did you mean gate"):
        find_block("gatee")


def test_hyperparameters_are_what_the_builder_does_not_supply(user_module: str) -> None:
    found = {name: list(hyperparameters(cls)) for name, cls in BLOCKS.items()}
    assert found == {
        "ecrm": ["bank_size", "hidden", "key", "prototypes", "compat"],
        "axial": ["heads", "gated", "position", "gate_position", "learn_gates"],
        "psa": ["kernels", "groups"],
        "gc": ["ratio", "pooling", "fusion"],
        "scconv": ["padding", "dilation", "groups", "pooling_ratio", "mode", "ceil_mode"],
        "se": ["reduction"],
        "eca": ["kernel"],
        "cbam": ["reduction", "kernel"],
        "coordinate": ["reduction"],
        "simam": ["e_lambda"],
        "nonlocal": ["mode", "reduction"],
        "identity": [],
        "conv1x1": [],
        "bottleneck1x1": ["hidden"],
    }
    defaults = hyperparameters(BLOCKS["gc"])
    assert (defaults["ratio"].default, defaults["fusion"].default) == (1 / 16, ("add",))
    assert list(hyperparameters(find_block(f"{user_module}:Gate"))) == ["factor"]
    with pytest.raises(BlockError, match=r"first one.*number of input channels"):
        hyperparameters(find_block(f"{user_module}:Silent"))


def test_which_blocks_can_replace_a_convolution(user_module: str) -> None:
    assert {name for name, cls in BLOCKS.items() if can_replace(cls)} == {
        *("axial", "psa", "scconv", "conv1x1")
    }
    assert [name for name, cls in BLOCKS.items() if takes_size(cls)] == ["axial"]
    assert not can_replace(find_block(f"{user_module}:Gate"))
    assert takes_size(find_block(f"{user_module}:Gate"))


@pytest.mark.parametrize("name", BLOCKS)
def test_every_hyperparameter_is_described(name: str) -> None:
    cls = BLOCKS[name]
    docs = parameter_docs(cls)
    assert list(docs) == list(inspect.signature(cls).parameters)
    assert all(text.endswith(".") for text in docs.values())
    assert summary(cls).endswith(".")


def test_reads_a_users_docstring(user_module: str) -> None:
    gate = find_block(f"{user_module}:Gate")
    assert summary(gate) == "Scales the map."
    assert parameter_docs(gate) == {
        "inplanes": "Channels.",
        "factor": "By how much; a long description.",
        "rest": "Ignored.",
    }
    silent = find_block(f"{user_module}:Silent")
    assert (summary(silent), parameter_docs(silent)) == ("", {})


def test_the_source_hash_follows_the_file(user_module: str, tmp_path: Path) -> None:
    gate = find_block(f"{user_module}:Gate")
    assert source_hash(gate) == hashlib.sha256(MODULE.encode()).hexdigest()
    (tmp_path / "user_blocks.py").write_text(MODULE + "\n")
    assert source_hash(gate) == hashlib.sha256((MODULE + "\n").encode()).hexdigest()
    homeless = type("Homeless", (nn.Module,), {"__module__": "nowhere"})
    with pytest.raises(BlockError, match="nowhere:Homeless has no source file"):
        source_hash(homeless)
