"""Fixtures of the blocks' tests."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def naive() -> ModuleType:
    """The plain transcriptions of the blocks' formulas, `tests/naive.py`."""
    path = Path(__file__).parents[1] / "naive.py"
    spec = importlib.util.spec_from_file_location("attnsearch_naive", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
