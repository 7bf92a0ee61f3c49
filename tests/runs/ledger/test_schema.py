"""The tables: a ledger of today has those of one that a release wrote before."""

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.patience import LedgerError

KEPT = Path(__file__).parents[2] / "net" / "ledger-0.1.0.db.gz"


def statements(path: Path) -> dict[str, str]:
    """The SQL that made each table and index of a file."""
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql NOT NULL"))


def test_tables_are_to_the_letter_those_of_a_ledger_written_before(tmp_path: Path) -> None:
    before, now = tmp_path / "before.db", tmp_path / "now.db"
    before.write_bytes(gzip.decompress(KEPT.read_bytes()))
    Ledger(now).close()
    assert "CREATE TABLE run (" in statements(before)["run"]
    added = {"stored_file", "data_content", "analysis"}
    kept = {name: sql for name, sql in statements(now).items() if name not in added}
    assert kept == statements(before)
    content = before.read_bytes()
    Ledger(before).close()
    assert statements(before) == statements(now)
    copy = tmp_path / "before.db.version-2"  # as it was
    assert statements(copy) == kept and Ledger(copy).studies()
    assert copy.stat().st_size >= len(content)


def test_a_ledger_that_cannot_be_copied_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "before.db"
    path.write_bytes(gzip.decompress(KEPT.read_bytes()))
    before = path.read_bytes()
    (tmp_path / "before.db.version-2").mkdir()  # where the copy has to lie
    with pytest.raises(LedgerError, match=r"before\.db is of version 2 .*The ledger is as it was"):
        Ledger(path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".attnsearch-*"))
