"""Several drivers of one study: they share its work, and nothing is run twice."""

import os
import signal
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from attnsearch.blocks.naming import shown_name
from attnsearch.runs.ledger.database import LedgerError
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.search.study import ablation, company, exploring, queue
from attnsearch.search.study.session import SessionResult, run_study
from attnsearch.search.workers.worker import make_training
from attnsearch.spaces import load_space
from tests.search.command import Command

SHARED = """
name: shared
task: classification
data: {source: tiny.npz, image_size: 8}
network: {backbone: resnet20, width: 0.25}
insert:
  - at: layer3
    block: {choice: [none, se, gc, eca]}
  - at: layer2
    block: {choice: [none, eca]}
train: {epochs: 2, batch_size: 16, lr: 0.05}
search: {sampler: tpe, scheduler: {asha: {grace: 1, reduction: 2}}, trials: 4}
confirm: {top: 1, seeds: 2}
"""


# The third journal only with the slow tests: each study takes seconds.
@pytest.fixture(params=["journal", pytest.param("wal", marks=pytest.mark.slow), "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where to put a ledger: a file with either journal of SQLite, or a server."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    path = tmp_path / f"{request.param}.db"
    Ledger(path).database.close()
    if request.param == "wal":
        with sqlite3.connect(path) as file:
            assert file.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    return str(path)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(company, "LOOK_SECONDS", 0.05)


def drive(address: str, path: Path, progress: Any = None, *overrides: str) -> SessionResult:
    """One driver, with a ledger object of its own as a process has."""
    with Ledger(address) as ledger:
        space = load_space(path, overrides)
        return run_study(space, ledger=ledger, progress=progress)  # type: ignore[arg-type]


_THROWN = "SELECT count(*) FROM epoch e JOIN run r ON r.id = e.run_id WHERE e.attempt < r.attempt"


def check_whole(address: str, trials: int = 4, *, ends: str = "both") -> None:
    """A finished study of which every key was run once.

    What its driver had only just begun as it left, another one begins again; of what was recorded
    nothing is trained twice, unless the driver was killed.
    """
    with Ledger(address) as ledger:
        (study,) = ledger.studies()
        rows = ledger.trials(study.id)
        (plan,) = ledger.plans(study.id)
        assert (study.state, plan.state) == ("finished", "finished")
        assert plan.winner is not None
        assert len(ledger.looks()) == 1
        searched = [row for row in rows if row.arm is None]
        assert [row.number for row in searched] == list(range(trials))
        assert len({row.key for row in searched}) == trials
        assert {row.state for row in rows} <= {"finished", "stopped"}
        with ledger.database.read() as connection:
            runs = connection.exec_driver_sql("SELECT key, attempt FROM run").all()
            leases = connection.exec_driver_sql("SELECT resource FROM lease").all()
            thrown = connection.exec_driver_sql(_THROWN).scalar_one()
        assert max(Counter(key for key, _ in runs).values()) == 1
        again = sum(attempt - 1 for _, attempt in runs)
        assert again <= (ends != "both"), "only what its driver left is begun again"
        assert thrown == 0 or ends == "killed"
        assert leases == []


def test_two_drivers_share_one_study(
    address: str,
    write_space: Callable[..., Path],
    in_process: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "wal" in address:  # they learn of each other only as they want the same place
        monkeypatch.setattr(company, "LOOK_SECONDS", 1e9)
    path = write_space(SHARED)
    with ThreadPoolExecutor(2) as pool:
        drivers = [pool.submit(drive, address, path) for _ in range(2)]
        results = [driver.result(timeout=120) for driver in drivers]
    check_whole(address)
    assert len({result.winner for result in results}) == 1
    assert {result.message for result in results} == {results[0].message}
    assert {result.best for result in results} == {results[0].best}
    trained = Counter(job.id for job in in_process.jobs if not job.evaluations)
    assert set(trained.values()) == {1}
    tested = Counter(task.run_id for job in in_process.jobs for task in job.evaluations)
    assert set(tested.values()) == {1}


class Paused:
    """Holds the trainings of one driver before an epoch, until they may go on."""

    def __init__(self, in_process: Any, epoch: int) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self._epoch = epoch
        self._thread: int | None = None
        in_process.make = self._make

    def start(self, pool: ThreadPoolExecutor, *work: Any) -> "Future[SessionResult]":
        def driver() -> SessionResult:
            self._thread = threading.get_ident()
            return drive(*work)

        started = pool.submit(driver)
        assert self.reached.wait(60)
        return started

    def _make(self, *arguments: Any) -> Any:
        training = make_training(*arguments)
        if threading.get_ident() == self._thread:
            run_epoch = training.run_epoch

            def held() -> Any:
                if len(training.history) + 1 == self._epoch:
                    self.reached.set()
                    assert self.go_on.wait(60)
                return run_epoch()

            training.run_epoch = held
        return training


@pytest.mark.slow  # two drivers that wait for each other
def test_a_driver_that_joins_sees_what_others_train(
    write_space: Callable[..., Path],
    in_process: Any,
    tmp_path: Path,
    recorder: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, path = str(tmp_path / "attnsearch.db"), write_space(SHARED)
    seen: list[dict[int, dict[int, float]]] = []
    rule = exploring.should_stop

    def watched(scheduler: Any, number: int, curves: Any, **options: Any) -> bool:
        seen.append({other: dict(curve) for other, curve in curves.items()})
        return rule(scheduler, number, curves, **options)

    monkeypatch.setattr(exploring, "should_stop", watched)
    paused = Paused(in_process, epoch=2)
    with ThreadPoolExecutor(2) as pool:
        first = paused.start(pool, address, path)
        second = pool.submit(drive, address, path, recorder)
        while not any("waiting for" in text for (text,) in recorder.of("note")):
            assert not second.done()
            time.sleep(0.05)  # or the drivers wait for Python's lock
        paused.go_on.set()
        first.result(timeout=120)
        second.result(timeout=120)
    check_whole(address)
    assert all(list(curves[0]) == [1] for curves in seen[:2]), "the epoch that the other has"
    notes = [text for (text,) in recorder.of("note")]
    assert any(text.startswith("joins process") for text in notes)
    assert any(text.startswith("waiting for 1 run of process") for text in notes)
    (end,) = (end for info, end in recorder.of("trial_ended") if info.number == 0 and not info.act)
    assert end.elsewhere


@pytest.mark.slow  # two drivers that wait for each other
def test_who_is_stopped_hands_its_runs_over_at_once(
    write_space: Callable[..., Path],
    in_process: Any,
    tmp_path: Path,
    recorder: Any,
) -> None:
    address, path = str(tmp_path / "attnsearch.db"), write_space(SHARED)
    paused = Paused(in_process, epoch=2)
    with ThreadPoolExecutor(2) as pool:
        first = paused.start(pool, address, path)
        with Ledger(address) as ledger:
            (study,) = ledger.studies()
            with ledger.database.write() as connection:
                connection.exec_driver_sql("DELETE FROM lease")  # as if it had died
            run_study(load_space(path), ledger=ledger, progress=recorder)
            (plain, *_) = ledger.trials(study.id)
            before = plain.ended, plain.attempt
        assert plain.attempt == 2
        paused.go_on.set()
        late = first.result(timeout=120)
    # What comes back late writes nothing of its run, and takes over what there is.
    assert late.state == "finished"
    with Ledger(address) as ledger:
        (plain, *_) = ledger.trials(study.id)
    assert (plain.ended, plain.attempt) == before


def test_who_joins_needs_the_same_settings(
    write_space: Callable[..., Path], in_process: Any, tmp_path: Path
) -> None:
    address, path = str(tmp_path / "attnsearch.db"), write_space(SHARED)
    paused = Paused(in_process, epoch=2)
    with ThreadPoolExecutor(1) as pool:
        first = paused.start(pool, address, path)
        for override in ("search.trials=6", "confirm.seeds=3", "resources.cpus=2", "confirm=null"):
            with pytest.raises(LedgerError, match=f"being run by .*{override.partition('=')[0]}"):
                drive(address, path, None, override)
        with Ledger(address) as ledger, pytest.raises(LedgerError, match="is being run by"):
            ablation.ablate("shared", ledger=ledger)
        paused.go_on.set()
        assert first.result(timeout=120).state == "finished"
    check_whole(address)


def test_different_studies_on_one_ledger_do_not_disturb_each_other(
    address: str, write_space: Callable[..., Path], in_process: Any
) -> None:
    text = SHARED.partition("confirm")[0]
    one = write_space(text)
    other = write_space(text.replace("name: shared", "name: other"), "other.yaml")
    with ThreadPoolExecutor(2) as pool:
        drivers = [pool.submit(drive, address, path) for path in (one, other)]
        for driver in drivers:
            assert driver.result(timeout=120).state == "finished"
    with Ledger(address) as ledger:
        for study in ledger.studies():
            assert study.state == "finished"
            trials = [row for row in ledger.trials(study.id) if row.arm is None]
            assert [row.number for row in trials] == list(range(4))


@pytest.mark.slow  # real drivers, each with a Ray of its own
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("address", "ends"),
    [
        ("wal", "both"),
        ("wal", "killed"),
        ("wal", "stopped"),
        ("postgresql", "both"),
        ("postgresql", "killed"),
    ],
    indirect=["address"],
)
def test_two_processes_share_one_study(
    address: str, ends: str, write_space: Callable[..., Path], mlflow_store: str
) -> None:
    path = write_space(SHARED.replace("trials: 4", "trials: 7") + "resources: {workers: 1}\n")
    places = {"ATTNSEARCH_LEDGER": address, "MLFLOW_TRACKING_URI": mlflow_store}
    places["TMPDIR"] = tempfile.gettempdir()
    both = [Command(path, **places) for _ in range(2)]
    deadline = time.monotonic() + 200
    while not (joined := [one for one in both if "joins process" in one.text]):
        assert time.monotonic() < deadline, "\n".join(one.text for one in both)
        time.sleep(0.1)
    second, *both_joined = joined  # where they start together, each joins the other
    (first,) = (one for one in both if one is not second)
    second.wait_for("started: ")
    if ends == "killed":
        os.killpg(first.process.pid, signal.SIGKILL)
        first.process.wait(timeout=30)
    if ends == "stopped":  # by Ctrl-C
        os.killpg(first.process.pid, signal.SIGINT)
        assert first.process.wait(timeout=60) == 130, first.text
        assert "all is recorded; run it again" in first.text
        assert f"process {second.process.pid} on " in first.text.split("stopped after")[1]
    assert second.process.wait(timeout=400) == 0, second.text
    if ends != "both":
        assert "has left this study" in second.text
    else:
        assert first.process.wait(timeout=100) == 0, first.text
        assert both_joined or "has joined this study" in first.text
        assert "does not show" not in first.text + second.text
    check_whole(address, trials=7, ends=ends)
    with Ledger(address) as ledger:
        (study,) = ledger.studies()
        rows = ledger.trials(study.id)
    client = MlflowClient(mlflow_store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1000)
    shown = [run for run in runs if study.uid in run.data.tags.values()]
    names = Counter(run.info.run_name for run in shown)
    assert set(names.values()) == {1}
    assert {shown_name(row.name) for row in rows} <= set(names)
    assert {run.info.status for run in shown} == {"FINISHED"}
