"""Benchmarks are tools that nobody runs for weeks: what they import must still be there."""

import ast
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import blocks
from benchmarks.picture import draw, rows

FILES = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_a_benchmark_imports_of_the_product_is_there(file: Path) -> None:
    imports = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("attnsearch.")
        for alias in node.names
    ]
    missing = [
        f"{module}: {name}"
        for module, name in imports
        if not hasattr(importlib.import_module(str(module)), name)
        and importlib.util.find_spec(f"{module}.{name}") is None
    ]
    assert not missing


def test_the_picture_is_that_of_the_tables() -> None:
    text = (FILES[0].parents[1] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    widths = [bar.get_width() for axes in draw(text).axes for bar in axes.patches]
    tables = (("## A training step", "default"), ("## Blocks", "ours"))
    cells = [float(row[column]) for heading, column in tables for row in rows(text, heading)]
    assert widths == cells and len(cells) > 10


def test_a_block_that_cannot_be_compiled_says_so_in_its_cell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def compiler(function: Any, fullgraph: bool = False) -> Any:
        def broken(*_: Any) -> None:
            raise RuntimeError("no C++ compiler")

        return broken if fullgraph else function

    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    threads = torch.get_num_threads()
    written = tmp_path / "rows.json"
    words = ["--block", "eca", "--shape", "1,8,8,8", "--rounds", "1", "--device", "cpu"]
    blocks.main([*words, "--threads", str(threads), "--json", str(written)])
    cells = [line.split(" | ")[3:8] for line in capsys.readouterr().out.splitlines()[2:]]
    failed = {version for version, *figures in cells if figures[0] == "not compiled: RuntimeError"}
    assert failed == {"block compiled", "block channels_last compiled"} and len(cells) == 8
    rows = {row["version"]: row for row in json.loads(written.read_text())}
    assert rows["block compiled"]["milliseconds"] is None
    assert rows["naive compiled"]["milliseconds"] > 0
