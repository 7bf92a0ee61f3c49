"""Runs that are shown together are one transaction of an SQLite store."""

import sqlite3
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from attnsearch.runs.addresses import sqlite_url
from attnsearch.runs.mirror import store as store_module
from attnsearch.runs.mirror.store import Store
from attnsearch.runs.mirror.together import sessions_of
from attnsearch.runs.mirror.view import MetricValue


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(sqlite_url(tmp_path_factory.mktemp("store") / "mlflow.db"))


def names(store: Store) -> set[str]:
    """What another process sees."""
    with sqlite3.connect(store.uri.removeprefix("sqlite:///")) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM runs")}


def test_runs_are_seen_once_they_are_whole(store: Store, tmp_path: Path) -> None:
    experiment = store.experiment("seen")
    with store.together():
        runs = [store.create(experiment, f"seen {number}", 0, {"a": "b"}) for number in range(2)]
        for run in runs:
            store.log(run, [MetricValue("loss", 0.5, 1, 1)], {"lr": "0.1"}, {"c": "d"})
            store.set_status(run, "FINISHED", 5)
        assert not names(store) & {"seen 0", "seen 1"}
    shown = [store.client.get_run(run) for run in runs]
    assert [run.data.metrics for run in shown] == [{"loss": 0.5}] * 2
    assert [run.data.params for run in shown] == [{"lr": "0.1"}] * 2
    assert [run.data.tags["c"] for run in shown] == ["d"] * 2
    assert [run.info.end_time for run in shown] == [5, 5]


def test_what_mlflow_refuses_is_undone_alone(store: Store) -> None:
    experiment = store.experiment("refused")
    point = MetricValue("loss", 0.5, 1, 1)
    with store.together():
        run = store.create(experiment, "refused", 0, {})
        store.log(run, [point], {"lr": "0.1"})
        with pytest.raises(MlflowException):
            store.log(run, params={"lr": "0.2"})  # a param cannot change
        store.log(run, [point, point._replace(step=2)])  # one of them is there already
        assert store.stage("0" * 32) == "missing"
    data = store.client.get_run(run).data
    assert data.params == {"lr": "0.1"}
    assert [m.step for m in store.client.get_metric_history(run, "loss")] == [1, 2]


def test_an_error_undoes_all_of_it(store: Store) -> None:
    experiment = store.experiment("error")
    with pytest.raises(Exception, match="the disk is full"), store.together():
        store.create(experiment, "undone", 0, {})
        raise OSError("the disk is full")
    assert "undone" not in names(store)
    store.create(experiment, "after it", 0, {})
    assert "after it" in names(store)


def test_another_thread_writes_a_transaction_of_its_own(store: Store) -> None:
    experiment = store.experiment("thread")
    written: list[str] = []
    other = threading.Thread(
        target=lambda: written.append(store.create(experiment, "of another", 0, {}))
    )
    with pytest.raises(Exception, match="no more"), store.together():
        store.create(experiment, "of this", 0, {})
        other.start()
        assert store.client.get_experiment(experiment).name == "thread"
        other.join(0.2)  # it waits for this one
        raise RuntimeError("no more")
    other.join(30)
    assert written
    assert "of another" in names(store)
    assert "of this" not in names(store)


def test_an_mlflow_with_other_inner_parts_writes_call_by_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: Any = SimpleNamespace(_tracking_client=SimpleNamespace(store=object()))
    assert sessions_of(client) is None
    monkeypatch.setattr(store_module, "sessions_of", lambda client: None)
    store = Store(sqlite_url(tmp_path / "mlflow.db"))
    assert not store.joins
    with store.together():
        store.create(store.experiment("other"), "at once", 0, {})
        assert names(store) == {"at once"}
