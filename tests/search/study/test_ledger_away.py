"""A study whose ledger goes away in its midst: it goes on, or ends with nothing half done."""

import functools
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnsearch.runs.ledger import access, database
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.patience import LedgerAway, Patience
from attnsearch.search.study.events import Progress, TrialInfo
from attnsearch.search.study.session import run_study
from attnsearch.spaces import load_space
from tests.postgres import Missing, Postgres


class Once(Progress):
    """Calls something before the end of trial 001, and keeps what it is told."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self.action: Callable[[], Any] | None = action
        self.notes: list[str] = []

    def epoch(self, trial: TrialInfo, epoch: int, metrics: Any) -> None:
        if (trial.number, epoch) == (1, 2) and self.action is not None:
            self.action()
            self.action = None

    def note(self, text: str) -> None:
        self.notes.append(text)


def locked(path: Path) -> sqlite3.Connection:
    """Lock an SQLite ledger, as a copying program or a hung process does."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    return other


def kept(ledger: Ledger, folder: Path) -> tuple[set[str], set[str]]:
    """The weights files that runs name, and those that there are."""
    study = ledger.find_study("tiny")
    named = {Path(row.weights_path).name for row in ledger.trials(study.id) if row.weights_path}
    return named, {path.name for path in (folder / "attnsearch-weights").glob("*.safetensors")}


def check_whole(ledger: Ledger, folder: Path) -> None:
    study = ledger.find_study("tiny")
    rows = ledger.trials(study.id)
    assert study.state == "finished"
    assert [row.state for row in rows] == ["finished"] * 3
    assert len({row.key for row in rows}) == len({row.id for row in rows}) == 3
    assert all([epoch["epoch"] for epoch in row.epochs] == [1, 2] for row in rows)
    named, there = kept(ledger, folder)
    assert named == there and len(named) == 3


def test_a_lock_in_the_midst_of_a_study_costs_nothing(
    in_process: Any,
    write_space: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    path = tmp_path / "attnsearch.db"

    def lock() -> None:
        other = locked(path)
        threading.Timer(0.6, other.close).start()

    watcher = Once(lock)
    with Ledger(path) as ledger:
        result = run_study(load_space(write_space()), ledger=ledger, progress=watcher)  # type: ignore[arg-type]
        check_whole(ledger, tmp_path)
        assert ledger.patience is None
    assert result.state == "finished" and {row.attempt for row in result.trials} == {1}
    assert any("trying again for 5 min" in note for note in watcher.notes)
    assert any("the ledger is back" in note for note in result.notes)


def test_a_server_restarted_in_the_midst_of_a_study_costs_nothing(
    in_process: Any,
    write_space: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        server = Postgres()
    except Missing as missing:
        pytest.skip(str(missing))
    starting = threading.Timer(0.7, server.start)

    def restart() -> None:
        server.stop()
        starting.start()

    try:
        with Ledger(server.new_database()) as ledger:
            space = load_space(write_space())
            result = run_study(space, ledger=ledger, progress=Once(restart))  # type: ignore[arg-type]
            starting.join()
            check_whole(ledger, tmp_path)
        assert {row.attempt for row in result.trials} == {1}
    finally:
        server.close()


@pytest.mark.parametrize("when", [1, 3], ids=["as a trial ends", "as the next is claimed"])
def test_a_ledger_that_stays_away_ends_the_study_with_nothing_half_done(
    in_process: Any,
    write_space: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: int,
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(access, "Patience", functools.partial(Patience, seconds=0.5))
    path = tmp_path / "attnsearch.db"
    others: list[sqlite3.Connection] = []
    watcher = Once(lambda: None)
    if when == 1:
        watcher.action = lambda: others.append(locked(path))
    else:
        monkeypatch.setattr(
            watcher, "trial_ended", lambda *_: others or others.append(locked(path)), raising=False
        )
    ledger = Ledger(path)
    with pytest.raises(LedgerAway, match=r"locked(.|\n)*the study ends.*the same command goes on"):
        run_study(load_space(write_space()), ledger=ledger, progress=watcher)  # type: ignore[arg-type]
    others[0].close()
    ledger.close()  # as the end of the process does
    with Ledger(path) as ledger:
        study = ledger.find_study("tiny")
        assert study.state == "interrupted"
        assert {row.state for row in ledger.trials(study.id)} <= {"finished", "interrupted"}
        named, there = kept(ledger, tmp_path)
        assert named == there
        result = run_study(load_space(write_space()), ledger=ledger)  # type: ignore[arg-type]
        assert result.study.id == study.id
        check_whole(ledger, tmp_path)
