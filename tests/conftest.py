"""Shared fixtures."""

import os
from pathlib import Path

# One thread for tests and the processes they start: more only get in each other's way on tensors
# this small. Set before torch is imported, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout, or a skip where there is none."""
    folder = Path(os.environ.get("ATTNSEARCH_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder} (set ATTNSEARCH_SHARED)")
    return folder
