"""A block's source is all that it imports from beside it, and nothing of what is installed."""

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attnsearch.blocks.build.sources import source_files, source_hash

BLOCK = """
import json
import torch
{imports}

class Gate(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        {late}
        return x
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Writes files and imports ``Gate`` of a module of them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def make(module: str, files: dict[str, str], imports: str = "", late: str = "pass") -> Any:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.format(imports=imports, late=late))
        importlib.invalidate_caches()
        return importlib.import_module(module).Gate

    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("module", "files", "imports", "late"),
    [
        ("gate_a", {"gate_a.py": BLOCK, "scale_a.py": ""}, "import scale_a", "pass"),
        ("gate_b", {"gate_b.py": BLOCK, "scale_b.py": ""}, "from scale_b import *", "pass"),
        ("gate_c", {"gate_c.py": BLOCK, "scale_c.py": ""}, "", "import scale_c"),
        (
            "gate_d",
            {"gate_d.py": BLOCK, "mid_d.py": "import scale_d", "scale_d.py": ""},
            "import mid_d",
            "pass",
        ),
        (
            "pack_e.gate",
            {"pack_e/__init__.py": "", "pack_e/gate.py": BLOCK, "pack_e/scale_e.py": ""},
            "from . import scale_e",
            "pass",
        ),
        (
            "pack_f.in_f.gate",
            {
                "pack_f/__init__.py": "",
                "pack_f/in_f/__init__.py": "",
                "pack_f/in_f/gate.py": BLOCK,
                "pack_f/scale_f.py": "",
            },
            "from ..scale_f import *",
            "pass",
        ),
        (
            "pack_g.gate",
            {"pack_g/__init__.py": "from pack_g.scale_g import *", "pack_g/gate.py": BLOCK}
            | {"pack_g/scale_g.py": ""},
            "",
            "pass",
        ),
    ],
)
def test_a_helper_is_part_of_the_source(
    made: Callable[..., Any],
    tmp_path: Path,
    module: str,
    files: dict[str, str],
    imports: str,
    late: str,
) -> None:
    gate = made(module, files, imports, late)
    before = source_hash(gate)
    (helper,) = (tmp_path / name for name in files if "scale" in name)
    helper.write_text("FACTOR = 2")
    assert source_hash(gate) != before
    helper.write_text("")
    assert source_hash(gate) == before


def test_one_file_is_hashed_alone_and_other_files_do_not_count(
    made: Callable[..., Any], tmp_path: Path
) -> None:
    gate = made("gate_h", {"gate_h.py": BLOCK, "unused_h.py": ""})
    assert source_files(gate) == (tmp_path, [tmp_path / "gate_h.py"])
    assert source_hash(gate) == hashlib.sha256((tmp_path / "gate_h.py").read_bytes()).hexdigest()


def test_of_an_installed_package_only_its_own_modules_count(
    made: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "site-packages"
    root.mkdir()
    monkeypatch.syspath_prepend(str(root))
    files = {
        "site-packages/mine_i/__init__.py": BLOCK,
        "site-packages/mine_i/scale.py": "",
        "site-packages/other_i.py": "",
    }
    gate = made("mine_i", files, "import other_i, mine_i.scale")
    names = [file.relative_to(root).as_posix() for file in source_files(gate)[1]]
    assert names == ["mine_i/__init__.py", "mine_i/scale.py"]


def test_a_circle_of_imports_ends(made: Callable[..., Any]) -> None:
    files = {"gate_j.py": BLOCK, "one_j.py": "import two_j", "two_j.py": "import one_j"}
    gate = made("gate_j", files, "import one_j")
    assert [file.name for file in source_files(gate)[1]] == ["gate_j.py", "one_j.py", "two_j.py"]
