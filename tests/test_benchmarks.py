"""Benchmarks are tools that nobody runs for weeks: what they import must still be there."""

import ast
import importlib.util
from pathlib import Path

import pytest

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
