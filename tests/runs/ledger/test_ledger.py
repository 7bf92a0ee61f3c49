"""The ledger: claims, leases, what dies with a driver, and what a broken database says.

On SQLite and on PostgreSQL, but for what only a file can suffer.
"""

import math
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, text, update

from attnsearch.runs.ledger import access, claims, lease
from attnsearch.runs.ledger.claims import LeaseLost
from attnsearch.runs.ledger.database import ledger_url
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.patience import LedgerError
from attnsearch.runs.ledger.reading import Drivers
from attnsearch.runs.ledger.records import StudyRow
from attnsearch.runs.ledger.requests import Ending, Place, Request
from attnsearch.runs.ledger.schema import Lease, Schema
from attnsearch.runs.ledger.states import LOST_ATTEMPTS, State

SPAWN = multiprocessing.get_context("spawn")
CONFIG = {"insert": [{"at": "layer4", "name": "layer4", "block": "gc", "params": {}}]}
DOCUMENT: dict[str, Any] = {
    "name": "digits",
    "data": {"source": "/here/data", "image_size": 16},
    "train": {"lr": 0.1},
    "search": {"sampler": "tpe", "trials": 4, "objectives": {"val_accuracy": "max"}},
    "confirm": {"top": 2},
    "resources": {"cpus": 1},
}


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where to put a new ledger: a file, or an empty database of a server."""
    if request.param == "sqlite":
        return str(tmp_path / "attnsearch.db")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def ledger(address: str) -> Iterator[Ledger]:
    ledger = Ledger(address)
    yield ledger
    ledger.database.close()


@pytest.fixture
def file_ledger(tmp_path: Path) -> Ledger:
    """A ledger on SQLite, for what only a file can suffer."""
    return Ledger(tmp_path / "attnsearch.db")


def open_study(ledger: Ledger, document: dict[str, Any] = DOCUMENT, **options: Any) -> StudyRow:
    return ledger.open_study("digits", "name: digits", document, "data1", {"n": 1}, **options)


def claim(ledger: Ledger, key: str = "k", **options: Any) -> Any:
    fresh = options.pop("fresh", False)
    return ledger.claim(Request(key, config=CONFIG, seed=7, epochs=2, **options), fresh=fresh)


def finished(ledger: Ledger, key: str, study_id: int | None = None) -> int:
    run_id: int = claim(ledger, key, study_id=study_id).run_id
    ledger.finish(run_id, Ending("finished", metrics={"val_accuracy": 0.5}))
    return run_id


# A run's life


def test_a_finished_run_comes_back_as_it_was_recorded(ledger: Ledger) -> None:
    study = open_study(ledger)
    run_id = claim(ledger, study_id=study.id).run_id
    ledger.attach(study.id, run_id, Place(number=12, values={"layer4.block": "gc", "lr": 0.1}))
    ledger.record_epoch(run_id, 1, {"val_accuracy": np.float32(0.25), "val_auroc": math.nan})
    ledger.record_epoch(run_id, 2, {"val_accuracy": 0.75, "epoch": 2})
    names = np.array(["a.png", "ä.png"])
    probabilities = np.array([[0.1, 0.9], [0.7, 0.3]], np.float32)
    ledger.finish(
        run_id,
        Ending(
            "finished",
            metrics={"val_accuracy": 0.75},
            costs={"params": 1234},
            violations={"limits.params": -5.0},
            weights_path="/w.safetensors",
        ),
        predictions={"val": {"names": names, "probabilities": probabilities}},
    )

    (trial,) = ledger.trials(study.id)
    assert trial.name == "012 gc@layer4"
    assert (trial.number, trial.state, trial.seed, trial.role) == (12, "finished", 7, "trial")
    assert trial.values == {"layer4.block": "gc", "lr": 0.1}
    assert [epoch["epoch"] for epoch in trial.epochs] == [1, 2]
    assert trial.epochs[0]["val_accuracy"] == 0.25
    assert math.isnan(trial.epochs[0]["val_auroc"])
    assert trial.metrics == {"val_accuracy": 0.75}
    assert trial.costs == {"params": 1234}
    assert trial.violations == {"limits.params": -5.0}
    assert trial.weights_path == "/w.safetensors"
    assert trial.reused_from is None
    assert 0 <= trial.seconds < 60
    with pytest.raises(FrozenInstanceError):
        trial.state = "failed"  # type: ignore[misc]
    stored = ledger.predictions(run_id)["val"]
    assert stored["names"].tolist() == names.tolist()
    assert np.array_equal(stored["probabilities"], probabilities)


def test_time_counts_from_when_a_worker_begins(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(ledger)
    run_id = claim(ledger, study_id=study.id).run_id
    claimed = ledger.run(run_id)
    ledger.began(run_id)
    assert ledger.run(run_id).started == claimed.started, "a worker that is there writes nothing"
    later = claimed.started + timedelta(seconds=5)
    monkeypatch.setattr(access, "time", later.timestamp)
    ledger.began(run_id)
    assert ledger.run(run_id).started == later


def test_the_last_epochs_may_come_with_the_end(ledger: Ledger) -> None:
    study = open_study(ledger)
    run_id = claim(ledger, study_id=study.id).run_id
    ledger.record_epoch(run_id, 1, {"val_accuracy": 0.1})
    ledger.finish(run_id, Ending("interrupted"), epochs={1: {"val_accuracy": 0.2}})
    assert claim(ledger, study_id=study.id).run_id == run_id  # another attempt
    epochs = {number: {"val_accuracy": number / 4, "epoch": number} for number in (1, 2)}
    ledger.finish(run_id, Ending("finished", {"val_accuracy": 0.5}), epochs=epochs)
    assert ledger.run(run_id).epochs == tuple(epochs.values())
    with pytest.raises(LeaseLost):
        ledger.finish(run_id, Ending("finished"), epochs={3: {"val_accuracy": 1.0}})
    assert len(ledger.run(run_id).epochs) == 2


def test_records_are_few_transactions_of_statements_that_are_built_once(ledger: Ledger) -> None:
    study, kinds, told = open_study(ledger), ("commit", "before_execute"), []

    def commit(connection: Any) -> None:
        told.append("commit")

    def executed(connection: Any, statement: Any, *_: Any) -> None:
        told.append(statement)

    for kind, hears in zip(kinds, (commit, executed), strict=True):
        event.listen(ledger.database._writing, kind, hears)
    for number in range(3):
        told.clear()
        run_id = at(ledger, study, f"k{number}", number).run_id
        ledger.record_epoch(run_id, 1, {"val_accuracy": 0.1})
        ledger.finish(run_id, Ending("finished"), epochs={2: {"val_accuracy": 0.2}})
        statements = [one for one in told if one != "commit"]
        assert len(told) - len(statements) == 3
        if number == 1:
            known = set(map(id, statements))
        if number == 2:
            assert set(map(id, statements)) <= known


def test_predictions_that_would_need_pickle_are_refused(ledger: Ledger) -> None:
    run_id = claim(ledger).run_id
    with pytest.raises(ValueError, match="allow_pickle"):
        ledger.finish(
            run_id, Ending("finished"), predictions={"val": {"names": np.array([object()])}}
        )
    assert ledger.run(run_id).state == "running"


def test_a_failed_run_keeps_reason_and_traceback(ledger: Ledger) -> None:
    run_id = claim(ledger).run_id
    ledger.finish(run_id, Ending("failed", error="the loss is nan", traceback="Traceback: ..."))
    run = ledger.run(run_id)
    assert (run.state, run.error, run.traceback) == ("failed", "the loss is nan", "Traceback: ...")


def test_a_result_counts_once(ledger: Ledger) -> None:
    run_id = finished(ledger, "k")
    with pytest.raises(LeaseLost, match="not recorded"):
        ledger.finish(run_id, Ending("failed"))
    with pytest.raises(LeaseLost):
        ledger.record_epoch(run_id, 3, {})
    assert ledger.run(run_id).state == "finished"


def test_an_unknown_state_is_a_programming_error(ledger: Ledger) -> None:
    run_id = claim(ledger).run_id
    with pytest.raises(ValueError, match="'done' is not a valid State"):
        ledger.finish(run_id, Ending("done"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot end as running"):
        ledger.finish(run_id, Ending(State.RUNNING))
    with pytest.raises(ValueError, match="'done' is not a valid State"):
        ledger.set_study_state(1, "done")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a study is never infeasible"):
        ledger.set_study_state(1, State.INFEASIBLE)


# Claims


def test_a_finished_key_is_never_trained_again(ledger: Ledger) -> None:
    run_id = finished(ledger, "k")
    again = claim(ledger)
    assert (again.outcome, again.run_id) == ("finished", run_id)
    assert again.run.metrics == {"val_accuracy": 0.5}


def test_a_key_in_training_is_busy_and_names_its_holder(ledger: Ledger) -> None:
    first = claim(ledger)
    other = Ledger(ledger.database.url)
    second = claim(other)
    assert (second.outcome, second.run_id) == ("busy", first.run_id)
    assert f"process {os.getpid()} on " in second.holder
    assert claim(ledger).outcome == "busy"  # its own twin, proposed while the first still trains


@pytest.mark.parametrize("state", ["stopped", "failed", "infeasible"])
def test_what_did_not_finish_is_trained_beside_the_old_record(ledger: Ledger, state: str) -> None:
    study = open_study(ledger)
    old = claim(ledger, study_id=study.id)
    ledger.finish(old.run_id, Ending(state, error="why"))
    new = claim(ledger, study_id=study.id)
    assert (new.outcome, new.run.generation) == ("claimed", 2)
    assert (ledger.run(old.run_id).state, ledger.run(old.run_id).error) == (state, "why")


LOSS = "the worker process died without a word: it was killed"


def test_a_run_whose_worker_was_lost_is_taken_up_in_its_row_a_few_times(ledger: Ledger) -> None:
    study = open_study(ledger)
    first = claim(ledger, study_id=study.id)
    for attempt in range(1, LOST_ATTEMPTS):
        ledger.finish(first.run_id, Ending("failed", error=LOSS))
        assert not ledger.run(first.run_id).settled
        again = claim(ledger, study_id=study.id)
        assert (again.run_id, again.run.attempt) == (first.run_id, attempt + 1)
        assert again.run.error is None
    ledger.finish(first.run_id, Ending("failed", error=LOSS))
    assert ledger.run(first.run_id).settled
    assert claim(ledger, study_id=study.id).run.generation == 2


def test_another_study_does_not_write_into_a_lost_run(ledger: Ledger) -> None:
    old = claim(ledger, study_id=open_study(ledger).id)
    ledger.finish(old.run_id, Ending("failed", error=LOSS))
    other = open_study(ledger, DOCUMENT | {"train": {"lr": 0.2}})
    assert claim(ledger, study_id=other.id).run_id != old.run_id
    assert ledger.run(old.run_id).error == LOSS


def test_an_interrupted_run_is_taken_up_in_its_row_and_starts_over(ledger: Ledger) -> None:
    study = open_study(ledger)
    first = claim(ledger, study_id=study.id)
    ledger.record_epoch(first.run_id, 1, {"val_loss": 1.0})
    ledger.finish(first.run_id, Ending("interrupted"))
    second = claim(ledger, study_id=study.id)
    assert (second.outcome, second.run_id, second.run.attempt) == ("claimed", first.run_id, 2)
    assert second.run.epochs == ()
    ledger.record_epoch(first.run_id, 1, {"val_loss": 2.0})
    assert [e["val_loss"] for e in ledger.run(first.run_id).epochs] == [2.0]


def test_another_study_does_not_write_into_an_interrupted_row(ledger: Ledger) -> None:
    mine = open_study(ledger)
    old = claim(ledger, study_id=mine.id)
    ledger.attach(mine.id, old.run_id, Place(number=0))
    ledger.finish(old.run_id, Ending("interrupted"))
    other = open_study(ledger, DOCUMENT | {"train": {"lr": 0.2}})
    new = claim(ledger, study_id=other.id)
    assert (new.outcome, new.run.generation) == ("claimed", 2)
    ledger.attach(other.id, new.run_id, Place(number=5))
    ledger.finish(new.run_id, Ending("finished"))

    # The first study goes on: the result is known by now, its trial points at it.
    known = claim(ledger, study_id=mine.id)
    assert (known.outcome, known.run_id) == ("finished", new.run_id)
    ledger.attach(mine.id, known.run_id, Place(number=0))
    ledger.attach(mine.id, known.run_id, Place(number=0))
    (trial,) = ledger.trials(mine.id)
    assert (trial.state, trial.reused_from) == ("finished", "digits/2: 005 gc@layer4")
    assert ledger.trials(other.id)[0].reused_from is None


def test_fresh_trains_anew_and_a_continued_fresh_study_keeps_its_own(ledger: Ledger) -> None:
    old = finished(ledger, "k", open_study(ledger).id)
    fresh = open_study(ledger, fresh=True)
    assert (fresh.number, fresh.fresh) == (2, True)
    new = claim(ledger, study_id=fresh.id, fresh=True)
    assert (new.outcome, new.run.generation) == ("claimed", 2)
    ledger.finish(new.run_id, Ending("finished"))
    assert open_study(ledger).id == fresh.id
    again = claim(ledger, study_id=fresh.id, fresh=True)
    assert (again.outcome, again.run_id) == ("finished", new.run_id)
    assert ledger.run(old).state == "finished"


def race(path: str, barrier: Any, answers: Any) -> None:
    with Ledger(path) as ledger:
        barrier.wait()
        for key in range(20):
            answers.put((key, claim(ledger, str(key)).outcome, os.getpid()))
        barrier.wait()  # closing gives the leases back


def test_of_several_processes_exactly_one_wins_each_key(address: str) -> None:
    # They also create the ledger all at once.
    count = 4
    barrier, answers = SPAWN.Barrier(count), SPAWN.Queue()
    processes = [
        SPAWN.Process(target=race, args=(address, barrier, answers)) for _ in range(count)
    ]
    for process in processes:
        process.start()
    got = [answers.get(timeout=60) for _ in range(20 * count)]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    for key in range(20):
        outcomes = sorted(outcome for k, outcome, _ in got if k == key)
        assert outcomes == ["busy"] * (count - 1) + ["claimed"]


# Leases


def hold(path: str, ready: Any) -> None:
    ledger = Ledger(path)
    study = open_study(ledger)
    run_id = claim(ledger, study_id=study.id).run_id
    ledger.attach(study.id, run_id, Place(number=0))
    ledger.record_epoch(run_id, 1, {"val_loss": 1.0})
    ready.set()
    time.sleep(300)


def test_a_killed_driver_frees_everything_at_once(address: str) -> None:
    ready = SPAWN.Event()
    process = SPAWN.Process(target=hold, args=(address, ready))
    process.start()
    assert ready.wait(60)
    ledger = Ledger(address)
    study = ledger.find_study("digits")
    assert claim(ledger, study_id=study.id).outcome == "busy"
    with pytest.raises(LedgerError, match=f"is being run by process {process.pid} on"):
        open_study(ledger)

    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while ledger.study(study.id).state == "running" and time.monotonic() < deadline:
        time.sleep(0.01)  # not yet joined: a zombie must not count as alive
    # Read as it is, before anyone has come by to write it down.
    assert ledger.study(study.id).state == "interrupted"
    assert ledger.trials(study.id)[0].state == "interrupted"
    assert Counter(run.state for run in ledger.trials(study.id)) == {"interrupted": 1}
    assert open_study(ledger).id == study.id
    again = claim(ledger, study_id=study.id)
    assert (again.outcome, again.run.attempt) == ("claimed", 2)
    process.join()


def test_several_may_share_a_study_and_any_may_leave_it(ledger: Ledger) -> None:
    study = open_study(ledger, shared=True)
    other = Ledger(ledger.database.url)
    assert ledger.drivers(study.id) == []
    assert open_study(other, shared=True).id == study.id
    (first,), (second,) = other.drivers(study.id), ledger.drivers(study.id)
    assert first == second == f"process {os.getpid()} on {lease.Holder.current().host}"
    with pytest.raises(LedgerError, match="is being run by process"):
        open_study(Ledger(ledger.database.url))  # which wants it for itself

    other.set_study_state(study.id, State.INTERRUPTED)  # who leaves
    assert ledger.study(study.id).state == "running"
    assert ledger.drivers(study.id) == []
    ledger.set_study_state(study.id, State.INTERRUPTED)  # who leaves last
    assert ledger.study(study.id).state == "interrupted"
    open_study(ledger)
    with pytest.raises(LedgerError, match="is being run by process"):
        open_study(other, shared=True)


@pytest.mark.parametrize(
    ("section", "value", "words"),
    [
        ("confirm", {"top": 3}, r"confirm.top: 2 \(here 3\)"),
        ("search", {**DOCUMENT["search"], "trials": 5}, r"search.trials: 4 \(here 5\)"),
        ("resources", {"cpus": 2}, r"resources.cpus: 1 \(here 2\)"),
        ("resources", {"cpus": 1, "gpus": 1}, "resources.gpus"),
        ("statistics", {"alpha": 0.1}, "alpha"),
    ],
)
def test_who_shares_a_study_has_the_same_settings(
    ledger: Ledger, section: str, value: Any, words: str
) -> None:
    open_study(ledger, shared=True)
    other = Ledger(ledger.database.url)
    here = {**DOCUMENT, "resources": {"cpus": 1, "workers": 3, "timeout": 60.0}}
    here["data"] = {**here["data"], "source": "/there/data"}
    assert open_study(other, here, shared=True).number == 1
    third = Ledger(ledger.database.url)
    if section == "statistics":
        section, value = "alpha", 0.1
    with pytest.raises(LedgerError, match=words):
        open_study(third, {**DOCUMENT, section: value}, shared=True)


def test_a_study_runs_while_one_of_its_drivers_lives(ledger: Ledger) -> None:
    study = open_study(ledger, shared=True)
    foreign(ledger, lease.LEASE_SECONDS + 1)
    assert ledger.study(study.id).state == "interrupted"
    other = Ledger(ledger.database.url)
    open_study(other, shared=True)
    assert ledger.study(study.id).state == "running"
    assert other.drivers(study.id) == []
    assert ledger.reconcile() == 0
    other.close()
    assert ledger.study(study.id).state == "interrupted"


def at(ledger: Ledger, study: StudyRow, key: str, number: int, **options: Any) -> Any:
    request = Request(key, config=CONFIG, seed=7, epochs=2, study_id=study.id)
    return ledger.claim(request, place=Place(number=number), **options)


def test_a_place_is_proposed_for_once(ledger: Ledger) -> None:
    study, other = open_study(ledger, shared=True), Ledger(ledger.database.url)
    first = at(ledger, study, "k0", 0, proposed=True)
    assert first.outcome == "claimed"
    assert at(other, study, "k0", 0, proposed=True).outcome == "busy"  # the same proposal
    taken = at(other, study, "k1", 0, proposed=True)
    assert (taken.outcome, taken.run_id) == ("taken", first.run_id)
    baseline = Place(number=0, role="plain")
    request = Request("k2", config=CONFIG, seed=7, epochs=2, study_id=study.id)
    assert other.claim(request, place=baseline, proposed=True).outcome == "taken"
    assert [row.key for row in ledger.trials(study.id)] == ["k0"]
    assert at(other, study, "k1", 1, proposed=True).outcome == "claimed"
    assert [row.key for row in ledger.trials(study.id)] == ["k0", "k1"]
    (first_place, _) = ledger.trials(study.id)
    assert [row.key for row in ledger.trials(study.id, [first_place.place_id])] == ["k1"]


@pytest.mark.parametrize("state", ["stopped", "failed", "infeasible"])
def test_what_ended_in_another_driver_is_not_begun_again(ledger: Ledger, state: State) -> None:
    study, other = open_study(ledger, shared=True), Ledger(ledger.database.url)
    run_id = at(ledger, study, "k0", 0, proposed=True).run_id
    assert other.holder_of(run_id) is not None
    assert ledger.holder_of(run_id) is None  # not another
    assert at(other, study, "k0", 0).outcome == "busy"
    ledger.finish(run_id, Ending(state, error="so it was"))
    assert other.holder_of(run_id) is None
    ended = at(other, study, "k0", 0)
    assert (ended.outcome, ended.run_id, ended.run.state) == ("ended", run_id, state)
    assert at(other, study, "k0", 1).outcome == "claimed"  # a place of its own
    lost_id = at(ledger, study, "k2", 2).run_id
    ledger.finish(lost_id, Ending("failed", error="the worker process died without a word"))
    assert at(other, study, "k2", 2).outcome == "claimed"  # what the machine did


def foreign(ledger: Ledger, age: float) -> None:
    """Make all leases those of another machine, this many seconds after their heartbeat."""
    with ledger.database.write() as connection:
        connection.execute(
            update(Lease).values(
                token="theirs", host="node7", machine="node7/x", heartbeat=time.time() - age
            )
        )


def test_another_hosts_lease_holds_until_its_heartbeat_is_old(ledger: Ledger) -> None:
    study = open_study(ledger)
    run_id = claim(ledger, study_id=study.id).run_id
    other = Ledger(ledger.database.url)
    foreign(ledger, lease.LEASE_SECONDS / 2)
    assert claim(other, study_id=study.id).holder.endswith("on node7")
    foreign(ledger, lease.LEASE_SECONDS + 1)
    assert claim(other, study_id=study.id).outcome == "claimed"
    assert ledger.heartbeat([run_id]) == [run_id]  # the loser is told,
    with pytest.raises(LeaseLost):  # and cannot overwrite
        ledger.finish(run_id, Ending("finished"))


def test_heartbeats_renew_what_is_held(ledger: Ledger) -> None:
    study = open_study(ledger)
    run_id = claim(ledger, study_id=study.id).run_id
    with ledger.database.write() as connection:
        connection.execute(update(Lease).values(heartbeat=0.0))
    assert ledger.heartbeat([run_id]) == []
    with ledger.database.read() as connection:
        beats = [held.heartbeat for held in lease.held(connection).values()]
    assert len(beats) == 2
    assert min(beats) > time.time() - 60


def test_a_lease_of_a_living_local_process_never_ages(ledger: Ledger) -> None:
    claim(ledger)
    with ledger.database.write() as connection:
        connection.execute(update(Lease).values(heartbeat=0.0))
    assert claim(Ledger(ledger.database.url)).outcome == "busy"


def test_a_reused_process_id_is_not_the_holder() -> None:
    me = lease.Holder.current()
    assert me.alive()
    earlier = lease.Holder(me.host, me.machine, me.pid, me.process_started - 3600)
    assert not earlier.alive()


def test_closing_interrupts_what_still_runs(address: str) -> None:
    with Ledger(address) as ledger:
        study = open_study(ledger)
        run_id = claim(ledger, study_id=study.id).run_id
    after = Ledger(address)
    assert after.study(study.id).state == "interrupted"
    assert after.run(run_id).state == "interrupted"


# Studies


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ({"search": DOCUMENT["search"] | {"trials": 40}}, 1),
        ({"confirm": None, "ablation": {"plans": ["loco"]}, "resources": {"gpus": 1}}, 1),
        ({"data": {"source": "/moved/data", "image_size": 16}}, 1),
        ({"train": {"lr": 0.2}}, 2),
        ({"search": DOCUMENT["search"] | {"seed": 1}}, 2),
        ({"data": {"source": "/here/data", "image_size": 32}}, 2),
    ],
)
def test_only_a_changed_search_is_a_new_study(
    ledger: Ledger, change: dict[str, Any], number: int
) -> None:
    open_study(ledger)
    changed = open_study(ledger, DOCUMENT | change)
    assert changed.number == number
    assert changed.document == DOCUMENT | change
    assert open_study(ledger).number == 1  # changed back


def test_other_data_is_a_new_study(ledger: Ledger) -> None:
    open_study(ledger)
    study = ledger.open_study("digits", "", DOCUMENT, "data2", {})
    assert study.label == "digits/2"


def test_each_start_leaves_its_provenance(ledger: Ledger) -> None:
    open_study(ledger)
    study = ledger.open_study("digits", "name: digits # now", DOCUMENT, "data1", {"n": 2})
    assert study.provenance == ({"n": 1}, {"n": 2})
    assert study.space_text == "name: digits # now"


def test_studies_are_found_by_name_and_number(ledger: Ledger) -> None:
    open_study(ledger)
    open_study(ledger, DOCUMENT | {"train": {}})
    assert ledger.find_study("digits").number == 2
    assert ledger.find_study("digits/1").number == 1
    with pytest.raises(LedgerError, match=r"no study 'digit' .* there are: digits/1, digits/2"):
        ledger.find_study("digit")


def test_places_are_unique_and_can_be_pointed_elsewhere(ledger: Ledger) -> None:
    study = open_study(ledger)
    arm = {"role": "confirm", "arm": "gc@layer4"}
    for seed, key in enumerate(["a", "b"]):
        run_id = finished(ledger, key, study.id)
        ledger.attach(
            study.id, run_id, Place(number=seed, name=f"arm gc@layer4 seed {seed}", **arm)
        )
    ledger.attach(study.id, run_id, Place(number=0, values={"x": [1, 2]}))
    trial, first, second = ledger.trials(study.id)
    assert (trial.arm, first.arm, second.arm) == (None, "gc@layer4", "gc@layer4")
    assert trial.run_id == second.run_id
    assert trial.reused_from == "digits/1: arm gc@layer4 seed 1"
    ledger.attach(study.id, first.run_id, Place(number=0, values={"x": 3}))
    trial, *rest = ledger.trials(study.id)
    assert (trial.run_id, trial.values, len(rest)) == (first.run_id, {"x": 3}, 2)


def test_importances_and_states_are_kept(ledger: Ledger) -> None:
    study = open_study(ledger)
    assert (study.state, study.importances, study.ended) == ("running", None, None)
    rate = {"share": 0.75, "low": 0.5, "high": 0.875, "p": 0.001}
    ledger.set_importances(study.id, {"val_accuracy": {"lr": rate}})
    ledger.set_study_state(study.id, "finished")
    study = ledger.study(study.id)
    assert (study.state, study.importances) == ("finished", {"val_accuracy": {"lr": rate}})
    assert study.ended is not None
    Ledger(ledger.database.url).open_study("digits", "", DOCUMENT, "data1", {})  # lease is free


# The database


def test_the_default_is_a_file_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATTNSEARCH_LEDGER", raising=False)
    with pytest.raises(LedgerError, match=r"no ledger .*attnsearch\.db: nothing was run"):
        Ledger(create=False)
    assert Ledger().database.path == tmp_path / "attnsearch.db"
    monkeypatch.setenv("ATTNSEARCH_LEDGER", "sqlite:///other.db")
    assert Ledger().folder == tmp_path
    assert (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "in memory would be lost"),
        ("mysql://host/db", "'mysql' is not supported"),
        ("nonsense://", "nonsense"),
        (
            "postgresql+nodriver://u:secret@host/db",
            r"'nodriver'.* pip install 'psycopg\[binary\]'",
        ),
        ("/no/such/folder/ledger.db", "there is no folder /no/such/folder"),
        ("/", "is a folder"),
    ],
)
def test_an_address_that_cannot_be_used_says_why(url: str, says: str) -> None:
    with pytest.raises(LedgerError, match=says) as caught:
        Ledger(url)
    assert "secret" not in str(caught.value)


def test_a_postgres_address_asks_for_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LedgerError, match=r"'psycopg'.* pip install 'psycopg\[binary\]'"):
        ledger_url("postgresql://user@host/db")


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "attnsearch.db"
    path.write_text("these are my notes, do not touch " * 100)
    with pytest.raises(LedgerError, match=r"attnsearch\.db is no SQLite database; name another"):
        Ledger(path)
    assert path.read_text().startswith("these are my notes")


def test_a_damaged_database_says_how_to_save_it(file_ledger: Ledger) -> None:
    study = open_study(file_ledger)
    for key in range(50):
        file_ledger.attach(study.id, finished(file_ledger, str(key), study.id), Place(number=key))
    path = file_ledger.database.path
    assert path is not None
    file_ledger.close()
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.seek(4096)
        file.write(os.urandom(size - 8192))
    with pytest.raises(LedgerError, match=r"damaged.*recover"):
        damaged = Ledger(path)
        damaged.trials(study.id)


def test_another_programs_database_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE study (x)")
    with pytest.raises(LedgerError, match=r"another program .*'study'"):
        Ledger(path)
    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert tables == [("study",)]


def test_a_ledger_of_a_later_version_says_what_to_do(ledger: Ledger) -> None:
    with ledger.database.write() as connection:
        connection.execute(update(Schema).values(version=99))
    with pytest.raises(LedgerError, match=r"version 99 .*update attnsearch"):
        Ledger(ledger.database.url)


def test_a_full_disk_says_so_and_keeps_what_was_there(tmp_path: Path) -> None:
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a tiny disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"a tiny disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        ledger = Ledger(disk / "attnsearch.db")
        study = open_study(ledger)
        done = finished(ledger, "first", study.id)
        with pytest.raises(LedgerError, match="its disk is full; free some space"):
            for key in range(1000):
                run_id = claim(ledger, f"{key}", study_id=study.id).run_id
                ledger.finish(run_id, Ending("failed", traceback="x" * 5000))
        assert ledger.run(done).state == "finished"
        ledger.close()
        assert Ledger(disk / "attnsearch.db", create=False).run(done).state == "finished"
    finally:
        ledger.database.close()
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_database_at_its_largest_size_says_the_same(file_ledger: Ledger) -> None:
    with file_ledger.database.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(LedgerError, match=r"attnsearch\.db cannot be written, its disk is full"):
        file_ledger.open_study("big", "x" * 100_000, {}, "data", {})


def test_a_read_only_ledger_says_so(file_ledger: Ledger) -> None:
    with file_ledger.database.write() as connection:  # root may write any file, so SQLite is told
        connection.exec_driver_sql("PRAGMA query_only = ON")
    with pytest.raises(LedgerError, match="may not be written; check the rights"):
        claim(file_ledger)


def test_a_writer_waits_for_another(file_ledger: Ledger) -> None:
    script = (
        "import sqlite3, sys, time\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "print('locked', flush=True)\n"
        "time.sleep(0.7)\n"
        "connection.execute('COMMIT')\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(file_ledger.database.path)], stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    other.stdout.readline()
    assert claim(file_ledger).outcome == "claimed"
    assert other.wait() == 0


# Secrets


def test_an_error_with_a_login_is_kept_without_it(file_ledger: Ledger) -> None:
    run_id = claim(file_ledger).run_id
    address = "https://anna:s3cr3t@host/weights"
    ending = Ending("failed", error=f"no answer from {address}", traceback=f"get({address!r})")
    file_ledger.finish(run_id, ending)
    file_ledger.database.close()
    assert file_ledger.database.path is not None
    assert b"s3cr3t" not in file_ledger.database.path.read_bytes()
    with file_ledger.database.read() as connection:
        error, where = connection.execute(text("SELECT error, traceback FROM run")).one()
    assert (error, where) == (
        "no answer from https://***@host/weights",
        "get('https://***@host/weights')",
    )


def test_a_login_that_an_earlier_release_kept_is_not_told(file_ledger: Ledger) -> None:
    study = open_study(file_ledger)
    kept = text("UPDATE study SET mlflow_uri = 'http://anna:s3cr3t@host:5000'")
    with file_ledger.database.write() as connection:
        connection.execute(kept)
    assert file_ledger.study(study.id).mlflow_uri == "http://***@host:5000"


@pytest.mark.parametrize(
    "address",
    [
        "mysql://anna:s3cr3t@host/db",
        "postgresql+nosuchdriver://host/db?password=s3cr3t",
        "postgresql+nosuchdriver://anna:s3cr3t@host/db",
        "://anna:s3cr3t@host",
    ],
)
def test_a_ledger_s_address_is_refused_without_its_secrets(address: str) -> None:
    with pytest.raises(LedgerError) as refusal:
        ledger_url(address)
    assert "host" in str(refusal.value)
    assert "s3cr3t" not in str(refusal.value)


def test_a_folder_that_the_records_cannot_name_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    with pytest.raises(LedgerError, match=r"caf\\udce9.*not UTF-8.*rename the folder"):
        Ledger(folder / "attnsearch.db")
    assert list(folder.iterdir()) == []


def test_a_claim_reads_the_leases_of_its_own_key_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are as many leases as workers."""
    ledger, other = Ledger(tmp_path / "a.db"), Ledger(tmp_path / "a.db")
    asked: list[tuple[str, ...]] = []

    class Watched(Drivers):
        def __init__(self, connection: Any, *resources: str) -> None:
            asked.append(resources)
            super().__init__(connection, *resources)

    monkeypatch.setattr(claims, "Drivers", Watched)
    for key in ("a", "b"):
        ledger.claim(Request(key, config={}, seed=0, epochs=1))
    assert asked == []
    assert other.claim(Request("b", config={}, seed=0, epochs=1)).outcome == "busy"
    assert asked == [("run:2",)]


@pytest.mark.slow  # a process of its own, which imports for seconds
def test_reading_a_ledger_loads_no_torch(file_ledger: Ledger) -> None:
    finished(file_ledger, "k", open_study(file_ledger).id)
    code = (
        "import sys; from attnsearch.runs.ledger import Ledger\n"
        "ledger = Ledger(sys.argv[1], create=False)\n"
        "assert ledger.studies() and ledger.run(1).state == 'finished'\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(file_ledger)], check=True)
