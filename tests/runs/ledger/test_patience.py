"""A ledger that is away is waited for while a study runs, and nothing is written twice."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attnsearch.runs.ledger import database
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.patience import LedgerAway, LedgerError
from attnsearch.runs.ledger.requests import Claim, Ending, Request
from tests.postgres import Missing, Postgres

CONFIG: dict[str, Any] = {"insert": []}


def claim(ledger: Ledger, key: str = "k") -> Claim:
    return ledger.claim(Request(key, config=CONFIG, seed=7, epochs=2))


@pytest.fixture
def notes() -> list[str]:
    """What the user was told."""
    return []


@pytest.fixture
def file_ledger(tmp_path: Path, notes: list[str]) -> Iterator[Ledger]:
    """A ledger on SQLite that is waited for."""
    with Ledger(tmp_path / "attnsearch.db") as ledger, ledger.waited_for(notes.append, bool):
        yield ledger


@pytest.fixture
def server_ledger(postgres_url: str, notes: list[str]) -> Iterator[Ledger]:
    """A ledger on PostgreSQL that is waited for."""
    with Ledger(postgres_url) as ledger, ledger.waited_for(notes.append, bool):
        yield ledger


def after(seconds: float, action: Any) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def test_a_lock_longer_than_one_attempt_is_waited_for(
    file_ledger: Ledger, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with file_ledger.database.write() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 50")
    path = file_ledger.database.path
    assert path is not None
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    freed = after(0.5, lambda: other.execute("ROLLBACK"))
    run_id = claim(file_ledger).run_id
    freed.join()
    other.close()
    assert file_ledger.run(run_id).attempt == 1
    assert len(notes) == 2
    assert "was locked by another process" in notes[0] and "trying again for 5 min" in notes[0]
    assert notes[1].startswith("the ledger is back after")


def test_a_full_or_read_only_ledger_is_waited_for(file_ledger: Ledger, notes: list[str]) -> None:
    """What stood before the transaction that failed stands, and nothing of it."""
    run_id = claim(file_ledger).run_id
    with file_ledger.database.read() as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None
    for size, (away, back, said) in enumerate(
        (
            ("PRAGMA query_only = ON", "PRAGMA query_only = OFF", "may not be written"),
            ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000", "its disk is full"),
        )
    ):
        raw.execute(away)
        looked = []

        def mend(back: str = back, looked: list[Any] = looked) -> bool:
            """Stands for the user, who looks and frees the disk."""
            if len(notes) % 2 == 1:
                looked.append(file_ledger.run(run_id).epochs)
                raw.execute(back)
            return False

        assert file_ledger.patience is not None
        file_ledger.patience.stop = mend
        file_ledger.record_epoch(run_id, 1, {"text": "x" * (1000 + size * 500_000)})
        assert said in notes[-2] and "is back" in notes[-1]
    assert [epoch["epoch"] for epoch in file_ledger.run(run_id).epochs] == [1]


def test_a_wait_in_vain_ends_with_the_reason_and_what_follows_fails_at_once(
    file_ledger: Ledger, notes: list[str]
) -> None:
    with file_ledger.database.write() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
    assert file_ledger.patience is not None
    file_ledger.patience.seconds = 0.5
    said = (
        r"may not be written; check the rights .*\n.*so the study ends.*the same command goes on"
    )
    with pytest.raises(LedgerAway, match=said):
        claim(file_ledger)
    began = time.monotonic()
    with pytest.raises(LedgerError):
        claim(file_ledger)
    assert time.monotonic() - began < 0.2


def test_who_wants_an_end_does_not_wait(file_ledger: Ledger) -> None:
    with file_ledger.database.write() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
    assert file_ledger.patience is not None
    file_ledger.patience.stop = lambda: True
    with pytest.raises(LedgerAway):
        claim(file_ledger)


def test_what_does_not_pass_is_not_waited_for(tmp_path: Path, notes: list[str]) -> None:
    ledger = Ledger(tmp_path / "attnsearch.db")
    ledger.close()
    (tmp_path / "attnsearch.db").write_text("no database " * 1000)
    with ledger.waited_for(notes.append, bool), pytest.raises(LedgerError, match="no SQLite"):
        claim(ledger)
    assert not notes


def test_commands_that_look_are_told_at_once(tmp_path: Path) -> None:
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        assert ledger.patience is None


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """A server that a test may stop."""
    try:
        server = Postgres()
    except Missing as missing:
        pytest.skip(str(missing))
    yield server
    server.close()


def test_a_server_that_is_restarted_is_waited_for(own_server: Postgres, notes: list[str]) -> None:
    with Ledger(own_server.new_database()) as ledger, ledger.waited_for(notes.append, bool):
        run_id = claim(ledger).run_id
        own_server.stop()
        back = after(0.7, own_server.start)
        ledger.record_epoch(run_id, 1, {"val_accuracy": 0.5})
        back.join()
        ledger.finish(run_id, Ending("finished", metrics={"val_accuracy": 0.5}))
        row = ledger.run(run_id)
    assert (row.state, row.attempt, len(row.epochs)) == ("finished", 1, 1)
    assert "does not answer" in notes[0] and "is back" in notes[1] and len(notes) == 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_that_breaks_in_the_commit_leaves_one_result(
    server_ledger: Ledger, notes: list[str], when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the server has committed or not: it is asked, and the run is claimed once."""
    engine = server_ledger.database._writing
    dialect = engine.dialect
    commit, broken = dialect.do_commit, []

    def breaks(connection: Any) -> None:
        if broken or connection.dbapi_connection is None:
            commit(connection)
            return
        broken.append(when)
        if when == "after":
            commit(connection)
        number = connection.dbapi_connection.info.backend_pid
        with database.create_engine(engine.url).connect() as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({number})")
        time.sleep(0.2)
        connection.dbapi_connection.execute("SELECT 1")  # raises, as the commit would

    monkeypatch.setattr(dialect, "do_commit", breaks)
    claimed = claim(server_ledger)
    assert broken and claimed.outcome == "claimed"
    row = server_ledger.run(claimed.run_id)
    assert (row.state, row.attempt) == ("running", 1)
    server_ledger.finish(row.id, Ending("finished"))
    assert claim(server_ledger).outcome == "finished"
