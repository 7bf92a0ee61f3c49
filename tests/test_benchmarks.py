"""Benchmarks are tools that nobody runs for weeks: what they import must still be there."""

import ast
import importlib.util
from pathlib import Path

import pytest

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
