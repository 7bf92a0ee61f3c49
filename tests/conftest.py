"""Shared fixtures."""

import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# One thread for tests and the processes they start: more only get in each other's way on tensors
# this small. Set before torch is imported, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Decoded data sets are not kept, unless a test says where.
os.environ["ATTNSEARCH_CACHE"] = ""

import pytest
from sqlalchemy import Engine, event

from tests.postgres import Missing, Postgres


@event.listens_for(Engine, "connect")
def _leave_syncing_to_the_system(connection: Any, _record: Any) -> None:
    """Databases of tests need not outlive a loss of power; those of killed processes do."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One PostgreSQL for all tests, or a skip where none can be started."""
    try:
        server = Postgres()
    except Missing as missing:
        pytest.skip(str(missing))
    yield server
    server.close()


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> str:
    """The address of an empty database on PostgreSQL."""
    return postgres_server.new_database()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout, or a skip where there is none."""
    folder = Path(os.environ.get("ATTNSEARCH_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder} (set ATTNSEARCH_SHARED)")
    return folder


@pytest.fixture(autouse=True)
def _forget_written_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Blocks that a test writes to a file are not found, under the same name, by the next."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    base = tmp_path_factory.getbasetemp()
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(base):
            del sys.modules[name]


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Write a module of the user's, importable and in the current folder, which is returned."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> Path:
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
        return tmp_path

    return write
