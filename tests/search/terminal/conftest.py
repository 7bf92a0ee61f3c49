"""What the tests of terminal output share."""

from pathlib import Path

import pytest

from attnsearch.runs.ledger.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The ledger of an empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    for name in ("ATTNSEARCH_LEDGER", "MLFLOW_TRACKING_URI", "ATTNSEARCH_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    return Ledger(tmp_path / "attnsearch.db")
