"""The mirror: MLflow shows what the ledger holds, once, whatever dies or stays away."""

import gc
import math
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient

from attnsearch.runs.figures import exploring
from attnsearch.runs.ledger.files import panel_file, weights_folder
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.records import StudyRow
from attnsearch.runs.ledger.requests import Ending, Place, Request
from attnsearch.runs.mirror import mirror as mirror_module, store as tracking, trials
from attnsearch.runs.mirror.mirror import Mirror
from attnsearch.runs.mirror.positions import Positions

CONFIG: dict[str, Any] = {
    "name": "digits",
    "task": "classification",
    "data": {"source": "/home/someone/data", "image_size": 16},
    "network": {"backbone": "resnet18", "weights": None},
    "insert": [
        {"at": "layer4", "name": "layer4", "block": "psa", "params": {"psa": {"kernels": [3, 5]}}},
        {"at": "layer3", "name": "mid", "block": "none", "params": {}},
    ],
    "train": {"lr": 0.1, "aux_weight": {"ecrm": 0.4}},
    "search": {"trials": 4},
}
DOCUMENT = {
    "task": "classification",
    "data": {"source": "digits"},
    "network": {"backbone": "resnet18"},
    "search": {"sampler": "tpe", "scheduler": "asha", "objectives": {"val_accuracy": "max"}},
}


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store with its tables, which take seconds to make."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    tracking.Store(f"sqlite:///{path}")
    assert [file.name for file in path.parent.iterdir()] == ["mlflow.db"]
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture(autouse=True)
def study_plots(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Draws nothing, since that takes a second a study; returns what really draws."""
    draw = exploring.study_plots
    monkeypatch.setattr(exploring, "study_plots", lambda *_: {})
    return draw


@pytest.fixture
def ledger(folder: Path) -> Ledger:
    return Ledger(folder / "attnsearch.db")


@pytest.fixture
def study(ledger: Ledger) -> StudyRow:
    return open_study(ledger)


def open_study(ledger: Ledger, name: str = "digits", **options: Any) -> StudyRow:
    told = {"command": ["attnsearch", "run", "x.yaml"], "packages": {"attnsearch": "0.1.0"}}
    return ledger.open_study(name, f"name: {name}  # mine", DOCUMENT, "data1", told, **options)


def start(ledger: Ledger, study: StudyRow, number: int, epochs: int = 0) -> int:
    run_id = ledger.claim(
        Request(f"key{number}", config=CONFIG, seed=number, epochs=3, study_id=study.id)
    ).run_id
    ledger.attach(
        study.id, run_id, Place(number=number, values={"layer4.block": "psa", "train.lr": 0.1})
    )
    for epoch in range(1, epochs + 1):
        ledger.record_epoch(run_id, epoch, {"val_accuracy": epoch / 10, "epoch_s": time.time()})
    return run_id


def complete(ledger: Ledger, study: StudyRow, number: int, state: str = "finished") -> int:
    epochs = {"finished": 3, "stopped": 1}.get(state, 0)
    run_id = start(ledger, study, number, epochs)
    ledger.finish(
        run_id,
        Ending(
            state,
            metrics={"val_accuracy": epochs / 10} if epochs else {},
            costs={"params": 1000 + number, "latency_ms": 1.5},
            error="the loss is nan" if state == "failed" else None,
            traceback="Traceback ..." if state == "failed" else None,
        ),
    )
    return run_id


def shown(folder: Path, uri: str | None = None) -> dict[str, Run]:
    """Every run of the store by its name; fails on two of one name."""
    client = MlflowClient(uri or f"sqlite:///{folder / 'mlflow.db'}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments, run_view_type=ViewType.ALL)
    names = [run.info.run_name for run in runs]
    assert len(set(names)) == len(names), f"duplicates: {sorted(names)}"
    return {run.info.run_name: run for run in runs}


def history(folder: Path, run: Run, key: str) -> list[tuple[int, float]]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.get_metric_history(run.info.run_id, key)
    return sorted((metric.step, metric.value) for metric in found)


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Circles of objects stay in memory unless someone asks for their end."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_drawings_leave_nothing_in_memory(
    ledger: Ledger,
    study: StudyRow,
    study_plots: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = []

    def watched(*args: Any) -> Any:
        figures = study_plots(*args)
        for figure in figures.values():
            # Frozen: what it draws is what can be watched.
            object.__setattr__(figure, "draw", partial(watch, figure.draw))
        return figures

    def watch(draw: Callable[[Any], None], sheet: Any) -> None:
        drawn.append(weakref.ref(sheet.canvas))
        draw(sheet)

    monkeypatch.setattr(exploring, "study_plots", watched)
    complete(ledger, study, 0)
    Mirror(ledger).sync(study.id)
    assert drawn
    assert [canvas() for canvas in drawn] == [None] * len(drawn)


def test_a_study_is_shown_as_the_ledger_has_it(
    ledger: Ledger,
    study: StudyRow,
    folder: Path,
    study_plots: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exploring, "study_plots", study_plots)
    for number, state in enumerate(["finished", "stopped", "failed", "interrupted", "infeasible"]):
        complete(ledger, study, number, state)
    start(ledger, study, 5, epochs=2)
    ledger.set_importances(
        study.id,
        {"val_accuracy": {"train.lr": {"share": 1.0, "low": 0.5, "high": 1.0, "p": 0.001}}},
    )
    report = Mirror(ledger).sync(study.id)
    assert (report.problem, report.missing, report.total) == (None, 0, 6)

    runs = shown(folder)
    parent = runs.pop("digits/1")
    assert sorted(runs) == [f"{number:03d} psa@layer4" for number in range(6)]
    assert parent.info.status == "RUNNING"
    for run in (parent, *runs.values()):
        (data,) = run.inputs.dataset_inputs
        assert (data.dataset.name, data.dataset.digest) == ("digits", "data1")
        assert [(tag.key, tag.value) for tag in data.tags] == [("mlflow.data.context", "training")]
    for run in runs.values():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.experiment_id == parent.info.experiment_id
    finished, stopped, failed, interrupted, infeasible, running = (
        runs[name] for name in sorted(runs)
    )
    states = {"finished", "stopped", "failed", "interrupted", "infeasible", "running"}
    assert {run.data.tags["attnsearch.state"] for run in runs.values()} == states
    assert [
        run.info.status for run in (finished, stopped, failed, interrupted, infeasible, running)
    ] == ["FINISHED", "FINISHED", "FAILED", "KILLED", "FINISHED", "RUNNING"]
    assert failed.data.tags["error"] == "the loss is nan"

    assert finished.data.params == {
        "task": "classification",
        "data.image_size": "16",
        "network.backbone": "resnet18",
        "layer4.block": "psa",
        "layer4.psa.kernels": "[3, 5]",
        "mid.block": "none",
        "train.lr": "0.1",
        "train.aux_weight": '{"ecrm": 0.4}',
    }
    assert history(folder, finished, "val_accuracy") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert history(folder, running, "val_accuracy") == [(1, 0.1), (2, 0.2)]
    assert finished.data.metrics["params"] == 1000
    assert finished.data.metrics["latency_ms"] == 1.5
    assert finished.data.metrics["epochs"] == 3
    assert "score_val_accuracy" not in finished.data.metrics

    trials = {trial.name: trial for trial in ledger.trials(study.id)}
    assert all(trials[name].mlflow_run_id == run.info.run_id for name, run in runs.items())
    trial = trials["000 psa@layer4"]
    assert trial.ended is not None
    assert finished.info.start_time == int(trial.started.timestamp() * 1000)
    assert finished.info.end_time == int(trial.ended.timestamp() * 1000)

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")

    def files(run: Run, path: str | None = None) -> set[str]:
        return {file.path for file in client.list_artifacts(run.info.run_id, path)}

    assert files(finished) == {"config.yaml"}
    assert files(failed) == {"config.yaml", "traceback.txt"}
    config = client.download_artifacts(finished.info.run_id, "config.yaml")
    assert yaml.safe_load(Path(config).read_text(encoding="utf-8")) == CONFIG
    tables = {f"leaderboard.{ending}" for ending in ("csv", "json", "md")}
    assert files(parent) == tables | {"space.yaml", "provenance.json", "plots"}
    assert files(parent, "plots") == {
        f"plots/{name}.png" for name in ("objective_val_accuracy", "importances", "curves")
    }
    assert str(finished.info.artifact_uri).startswith(str(folder / "mlruns"))


def test_the_parent_tells_what_the_study_is(ledger: Ledger, study: StudyRow, folder: Path) -> None:
    complete(ledger, study, 0)
    complete(ledger, study, 1, "stopped")
    ledger.set_study_state(study.id, "finished")
    Mirror(ledger).sync(study.id)
    parent = shown(folder)["digits/1"]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_val_accuracy"] == 0.3
    assert set(parent.data.metrics) == {"best_val_accuracy"}  # what a person wants, no counts
    assert parent.data.params["search.sampler"] == "tpe"
    assert parent.data.params["search.objectives"] == "val_accuracy:max"
    assert parent.data.tags["mlflow.source.name"] == "attnsearch run x.yaml"
    assert (
        "**digits/1** is finished: 1 finished, 1 stopped"
        in parent.data.tags["mlflow.note.content"]
    )
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    space = client.download_artifacts(parent.info.run_id, "space.yaml")
    assert Path(space).read_text(encoding="utf-8") == "name: digits  # mine"
    table = client.load_table(parent.info.experiment_id, "leaderboard.json")
    assert table["name"].tolist() == ["000 psa@layer4", "001 psa@layer4"]
    assert table["val_accuracy"].tolist() == pytest.approx([0.3, 0.1])


def test_syncing_again_writes_nothing(ledger: Ledger, study: StudyRow, folder: Path) -> None:
    complete(ledger, study, 0)
    Mirror(ledger).sync(study.id)
    before = (folder / "mlflow.db").read_bytes()
    report = Mirror(ledger).sync(study.id)
    assert (report.problem, report.missing) == (None, 0)
    assert (folder / "mlflow.db").read_bytes() == before


def test_a_study_that_is_shown_is_not_read_again(
    ledger: Ledger, study: StudyRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand trials take seconds to read."""
    run_id = complete(ledger, study, 0)
    assert Mirror(ledger).sync(study.id).problem is None
    read: list[int] = []
    trials = Ledger.trials
    monkeypatch.setattr(Ledger, "trials", lambda *given: read.append(given[1]) or trials(*given))
    assert Mirror(ledger).sync(study.id).problem is None
    assert read == []
    ledger.add_test(run_id, {"test_accuracy": 0.5}, {"names": np.array(["a"])})
    assert Mirror(ledger).sync(study.id).problem is None
    assert read == [study.id]


def test_writing_everything_again_makes_no_second_point(
    ledger: Ledger, study: StudyRow, folder: Path
) -> None:
    run_id = start(ledger, study, 0)
    ledger.record_epoch(run_id, 1, {"val_auroc": math.nan, "val_loss": 2.0})
    ledger.finish(run_id, Ending("finished", metrics={"val_accuracy": 0.5}, costs={"params": 10}))
    Mirror(ledger).sync(study.id)
    # As if the process had died before it could note what it had written.
    parent = ledger.study(study.id)
    assert parent.mlflow_experiment_id is not None
    Positions(ledger).set_parent(study.id, "elsewhere", parent.mlflow_experiment_id, "x")
    Mirror(ledger, f"sqlite:///{folder / 'mlflow.db'}").sync(study.id)
    run = shown(folder)["000 psa@layer4"]
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    for key in run.data.metrics:
        assert len(client.get_metric_history(run.info.run_id, key)) == 1, key


def test_an_interrupted_run_goes_on_in_its_mlflow_run(
    ledger: Ledger, study: StudyRow, folder: Path
) -> None:
    run_id = start(ledger, study, 0, epochs=2)
    ledger.finish(run_id, Ending("interrupted"))
    Mirror(ledger).sync(study.id)
    first = shown(folder)["000 psa@layer4"]
    assert first.info.status == "KILLED"

    assert start(ledger, study, 0, epochs=1) == run_id
    Mirror(ledger).sync(study.id)
    assert shown(folder)["000 psa@layer4"].info.status == "RUNNING"
    ledger.record_epoch(run_id, 2, {"val_accuracy": 0.2})
    ledger.record_epoch(run_id, 3, {"val_accuracy": 0.3})
    ledger.finish(run_id, Ending("finished", metrics={"val_accuracy": 0.3}))
    Mirror(ledger).sync(study.id)
    again = shown(folder)["000 psa@layer4"]
    assert (again.info.run_id, again.info.status) == (first.info.run_id, "FINISHED")
    # The epochs that it repeated are the same points, not second ones.
    assert history(folder, again, "val_accuracy") == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_a_reused_result_gets_its_own_run(ledger: Ledger, study: StudyRow, folder: Path) -> None:
    run_id = complete(ledger, study, 0)
    Mirror(ledger).sync(study.id)
    original = shown(folder)["000 psa@layer4"]
    later = open_study(ledger, "later")
    ledger.attach(later.id, run_id, Place(number=7))
    Mirror(ledger).sync(later.id)
    reused = shown(folder)["007 psa@layer4"]
    assert reused.info.run_id != original.info.run_id
    assert reused.data.tags["reused_from"] == original.info.run_id
    assert reused.data.tags["attnsearch.reused_from"] == "digits/1: 000 psa@layer4"
    assert reused.data.metrics["val_accuracy"] == 0.3
    assert reused.info.status == "FINISHED"


def test_scores_of_a_checkpoint_are_told_from_the_last_epochs(
    ledger: Ledger, study: StudyRow, folder: Path
) -> None:
    run_id = start(ledger, study, 0, epochs=3)
    ledger.finish(run_id, Ending("finished", metrics={"val_accuracy": 0.75}))
    Mirror(ledger).sync(study.id)
    metrics = shown(folder)["000 psa@layer4"].data.metrics
    assert (metrics["val_accuracy"], metrics["score_val_accuracy"]) == (0.3, 0.75)


def test_predictions_are_shown_only_where_they_are_stored(
    ledger: Ledger, study: StudyRow, folder: Path
) -> None:
    run_id = start(ledger, study, 0)
    labels = np.arange(5)
    ledger.finish(run_id, Ending("finished"), predictions={"val": {"labels": labels}})
    Mirror(ledger).sync(study.id)
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    run = shown(folder)["000 psa@layer4"]
    path = client.download_artifacts(run.info.run_id, "predictions_val.npz")
    with np.load(path) as arrays:
        assert arrays["labels"].tolist() == labels.tolist()


def test_the_picture_of_a_run_is_shown(ledger: Ledger, study: StudyRow, folder: Path) -> None:
    for number in range(2):
        run_id = start(ledger, study, number)
        ledger.finish(run_id, Ending("finished"))
    first = min(ledger.trials(study.id), key=lambda row: row.number)
    panel = panel_file(weights_folder(ledger), first.key)
    panel.parent.mkdir()
    panel.write_bytes(b"drawn")
    Mirror(ledger).sync(study.id)
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    artifacts = {
        name: {item.path for item in client.list_artifacts(run.info.run_id)}
        for name, run in shown(folder).items()
    }
    assert "panel.png" in artifacts[first.name]
    assert sum("panel.png" in paths for paths in artifacts.values()) == 1


# What dies, and what stays away


def dies(target: Callable[[str], None], path: str) -> None:
    process = multiprocessing.get_context("spawn").Process(target=target, args=(path,))
    process.start()
    process.join(60)
    assert process.exitcode == 9


def die_after_creating(path: str) -> None:
    ledger = Ledger(path)
    study = open_study(ledger)
    complete(ledger, study, 0)
    Positions.set_runs = lambda *_: os._exit(9)  # type: ignore[method-assign]
    Mirror(ledger).sync(study.id)


def test_a_crash_between_creating_a_run_and_noting_it_makes_no_duplicate(folder: Path) -> None:
    path = str(folder / "attnsearch.db")
    dies(die_after_creating, path)
    left = shown(folder)["000 psa@layer4"]
    ledger = Ledger(path)
    (trial,) = ledger.trials(ledger.find_study("digits").id)
    assert trial.mlflow_run_id is None

    report = Mirror(ledger).sync(trial.study_id or 0)
    assert report.problem is None
    found = shown(folder)  # fails on duplicates
    assert found["000 psa@layer4"].info.run_id == left.info.run_id
    assert found["000 psa@layer4"].info.status == "FINISHED"
    assert found["digits/1"].info.status == "KILLED"  # its driver is dead


def die_in_the_midst(path: str) -> None:
    ledger = Ledger(path)
    study = open_study(ledger)
    for number in range(3):
        complete(ledger, study, number)
    write = tracking.Store.note_data

    def killed(self: Any, run_id: str, data: Any) -> None:
        if self.client.get_run(run_id).info.run_name.startswith("002"):
            os._exit(9)
        write(self, run_id, data)

    tracking.Store.note_data = killed  # type: ignore[method-assign]
    trials._TOGETHER_SECONDS = 60  # also on a busy machine
    Mirror(ledger).sync(study.id)


def test_a_crash_among_runs_shown_together_leaves_none_of_them(folder: Path) -> None:
    path = str(folder / "attnsearch.db")
    dies(die_in_the_midst, path)
    assert sorted(shown(folder)) == ["digits/1"]
    ledger = Ledger(path)
    report = Mirror(ledger).sync(ledger.find_study("digits").id)
    assert (report.problem, report.missing) == (None, 0)
    runs = shown(folder)  # fails on duplicates
    assert sorted(runs) == [*(f"{number:03d} psa@layer4" for number in range(3)), "digits/1"]
    assert history(folder, runs["001 psa@layer4"], "val_accuracy") == [
        (1, 0.1),
        (2, 0.2),
        (3, 0.3),
    ]


def test_a_study_goes_on_without_its_server_and_the_records_follow(
    ledger: Ledger, study: StudyRow, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, away = tracking._connect, threading.Event()
    away.set()

    def unreliable(uri: str) -> Any:
        if away.is_set():
            raise ConnectionError("the server does not answer")
        return connect(uri)

    monkeypatch.setattr(tracking, "_connect", unreliable)
    monkeypatch.setattr(mirror_module, "PAUSE_SECONDS", 0.05)
    mirror = Mirror(ledger)
    mirror.follow(study.id)
    complete(ledger, study, 0)
    mirror.wake()
    time.sleep(0.3)
    assert not ledger.trials(study.id)[0].mlflow_run_id
    away.clear()
    wait_for(lambda: ledger.trials(study.id)[0].mlflow_run_id)
    complete(ledger, study, 1)
    ledger.set_study_state(study.id, "finished")
    report = mirror.close()
    assert (report.problem, report.missing) == (None, 0)
    assert sorted(shown(folder)) == ["000 psa@layer4", "001 psa@layer4", "digits/1"]


def test_a_server_that_fails_halfway_is_tried_again(
    ledger: Ledger, study: StudyRow, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete(ledger, study, 0)
    complete(ledger, study, 1)
    for failing in ("log_batch", "create_run", "set_terminated", "log_artifacts"):
        with monkeypatch.context() as patched:

            def fail(*_: Any, **__: Any) -> Any:
                raise ConnectionError("connection reset by peer")

            patched.setattr(MlflowClient, failing, fail)
            report = Mirror(ledger).sync(study.id)
            assert report.problem == "connection reset by peer", failing
    report = Mirror(ledger).sync(study.id)
    assert (report.problem, report.missing) == (None, 0)
    runs = shown(folder)
    assert sorted(runs) == ["000 psa@layer4", "001 psa@layer4", "digits/1"]
    assert history(folder, runs["001 psa@layer4"], "val_accuracy") == [
        (1, 0.1),
        (2, 0.2),
        (3, 0.3),
    ]


def test_a_whole_sync_makes_anew_what_was_deleted_and_doubles_nothing(
    folder: Path, ledger: Ledger, study: StudyRow
) -> None:
    for number in range(3):
        complete(ledger, study, number)
    mirror = Mirror(ledger)
    mirror.sync(study.id)
    before = shown(folder)
    lost = next(run for name, run in before.items() if name.startswith("001"))
    with sqlite3.connect(folder / "mlflow.db") as store:
        for table in ("metrics", "latest_metrics", "params", "tags"):
            store.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (lost.info.run_id,))
        store.execute("DELETE FROM runs WHERE run_uuid = ?", (lost.info.run_id,))
    shutil.rmtree(folder / "mlruns")
    assert not Mirror(ledger).sync(study.id).missing, "it is taken for shown"
    assert len(shown(folder)) == 3
    report = Mirror(ledger).sync(study.id, whole=True)
    assert (report.problem, report.missing) == (None, 0)
    after = shown(folder)
    assert after.keys() == before.keys()
    for name, run in after.items():
        assert run.data.metrics == before[name].data.metrics
        if name != study.label:
            assert [step for step, _ in history(folder, run, "val_accuracy")] == [1, 2, 3]
    assert list((folder / "mlruns").rglob("*.*")), "the files are there again"


def test_a_copied_project_looks_at_its_own_store(
    ledger: Ledger, study: StudyRow, tmp_path_factory: pytest.TempPathFactory, folder: Path
) -> None:
    complete(ledger, study, 0)
    Mirror(ledger).sync(study.id)
    ledger.close()
    copy = tmp_path_factory.mktemp("copies") / "copy"
    shutil.copytree(folder, copy)
    before = (folder / "mlflow.db").read_bytes()
    with Ledger(copy / "attnsearch.db") as copied:
        complete(copied, copied.study(study.id), 1)
        # The current folder is still the original's.
        report = Mirror(copied).sync(study.id)
    assert report.uri == f"sqlite:///{copy / 'mlflow.db'}"
    assert (folder / "mlflow.db").read_bytes() == before
    assert len(shown(copy)) == 3 and len(shown(folder)) == 2
    for name, run in shown(copy).items():
        if name != study.label:
            assert [step for step, _ in history(copy, run, "val_accuracy")] == [1, 2, 3]


def test_a_server_that_never_comes_is_reported_soon(
    ledger: Ledger, study: StudyRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    mirror = Mirror(ledger)
    mirror.follow(study.id)
    complete(ledger, study, 0)
    began = time.monotonic()
    report = mirror.close(timeout=20)
    assert time.monotonic() - began < 15
    assert report.missing == 1
    assert "http://127.0.0.1:9 does not show 1 of 1 runs" in str(report)
    assert "does not answer" in str(report)
    assert "`attnsearch run`, `show` or `sync`" in str(report)


def test_a_server_that_hangs_does_not_hold_the_study(
    ledger: Ledger, study: StudyRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = threading.Event()
    monkeypatch.setattr(tracking, "_connect", lambda _: hanging.wait())
    mirror = Mirror(ledger)
    mirror.follow(study.id)
    complete(ledger, study, 0)
    began = time.monotonic()
    report = mirror.close(timeout=0.5)
    assert time.monotonic() - began < 2
    assert "it did not take them within" in str(report)
    hanging.set()


END_WHILE_DRAWING = """
import threading
from attnsearch.runs.figures import exploring
from attnsearch.runs.mirror import mirror as mirror_module
from attnsearch.runs.ledger import Ending, Ledger, Place, Request
from attnsearch.runs.mirror import Mirror

ledger = Ledger()
study = ledger.open_study("digits", "", {}, "data", {})
run_id = ledger.claim(Request("key", {}, 0, 1, study_id=study.id)).run_id
ledger.attach(study.id, run_id, Place(0, name="000 plain"))
ledger.finish(run_id, Ending("finished", {"val_accuracy": 0.5}, {"params": 1}))
ledger.set_study_state(study.id, "finished")
draw, drawing = exploring.study_plots, threading.Event()

def slow(*given):
    drawing.set()
    return {str(index): draw(*given)["objective_val_accuracy"] for index in range(30)}

exploring.study_plots = slow
mirror_module.PLOTS_SECONDS = 0
mirror = Mirror(ledger)
mirror.follow(study.id)
assert drawing.wait(100)
print(mirror.close(timeout=0.1), flush=True)
"""


@pytest.mark.slow  # a process that draws
def test_leaving_in_the_middle_of_a_plot_ends_the_process_cleanly(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", END_WHILE_DRAWING], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "it did not take them within" in done.stdout


def test_one_refused_run_does_not_hold_back_the_others(
    ledger: Ledger, study: StudyRow, folder: Path
) -> None:
    for number, value in enumerate([{"what?": "a name that MLflow refuses"}, {"train.lr": 0.1}]):
        run_id = ledger.claim(
            Request(str(number), config={"insert": []}, seed=0, epochs=1, study_id=study.id)
        ).run_id
        ledger.attach(study.id, run_id, Place(number=number, values=value))
        ledger.finish(run_id, Ending("finished", metrics={"val_accuracy": 0.5}))
    report = Mirror(ledger).sync(study.id)
    assert report.missing == 1
    assert report.problem is not None
    assert "what?" in report.problem
    assert shown(folder)["001 baseline"].data.metrics["val_accuracy"] == 0.5


def test_what_the_user_threw_away_stays_away(
    ledger: Ledger, study: StudyRow, folder: Path
) -> None:
    complete(ledger, study, 0)
    run_id = start(ledger, study, 1)
    Mirror(ledger).sync(study.id)
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    for run in shown(folder).values():
        client.delete_run(run.info.run_id)
    ledger.finish(run_id, Ending("finished", metrics={"val_accuracy": 0.5}))
    complete(ledger, study, 2)
    assert Mirror(ledger).sync(study.id).missing == 0
    # Only the parent comes back: without it no run of the study is seen.
    assert {name: run.info.lifecycle_stage for name, run in shown(folder).items()} == {
        "digits/1": "active",
        "000 psa@layer4": "deleted",
        "001 psa@layer4": "deleted",
        "002 psa@layer4": "active",
    }


def forget(folder: Path, condition: str = "1") -> None:
    """Take runs out of the store for good, as `mlflow gc` does."""
    with sqlite3.connect(folder / "mlflow.db") as connection:
        for table in ("latest_metrics", "metrics", "params", "tags", "runs"):
            connection.execute(f"DELETE FROM {table} WHERE {condition}")


def test_a_lost_store_is_filled_again(ledger: Ledger, study: StudyRow, folder: Path) -> None:
    complete(ledger, study, 0)
    Mirror(ledger).sync(study.id)
    forget(folder)
    start(ledger, study, 1)
    assert Mirror(ledger).sync(study.id).missing == 0
    runs = shown(folder)
    assert sorted(runs) == ["000 psa@layer4", "001 psa@layer4", "digits/1"]
    assert history(folder, runs["000 psa@layer4"], "val_accuracy") == [
        (1, 0.1),
        (2, 0.2),
        (3, 0.3),
    ]


def test_a_second_store_gets_everything(
    ledger: Ledger, study: StudyRow, folder: Path, empty_store: Path
) -> None:
    complete(ledger, study, 0)
    Mirror(ledger).sync(study.id)
    shutil.copy(empty_store, folder / "second.db")
    Mirror(ledger, "sqlite:///second.db").sync(study.id)
    second = shown(folder, f"sqlite:///{folder / 'second.db'}")
    assert second["000 psa@layer4"].info.status == "FINISHED"
    # `show` goes on with the store that showed the study last; going back finds the old runs.
    assert Mirror(ledger).sync(study.id).uri.endswith("/second.db")
    first = shown(folder)["000 psa@layer4"].info.run_id
    Mirror(ledger, "sqlite:///mlflow.db").sync(study.id)
    assert ledger.trials(study.id)[0].mlflow_run_id == first
    assert sorted(shown(folder)) == ["000 psa@layer4", "digits/1"]


def test_a_purged_run_is_made_again(ledger: Ledger, study: StudyRow, folder: Path) -> None:
    run_id = start(ledger, study, 0, epochs=1)
    Mirror(ledger).sync(study.id)
    old = shown(folder)["000 psa@layer4"].info.run_id
    forget(folder, f"run_uuid = '{old}'")
    ledger.finish(run_id, Ending("finished", metrics={"val_accuracy": 0.1}))
    assert Mirror(ledger).sync(study.id).problem is None
    new = shown(folder)["000 psa@layer4"]
    assert new.info.run_id != old
    assert (new.info.status, new.data.params["layer4.block"]) == ("FINISHED", "psa")
    assert history(folder, new, "val_accuracy") == [(1, 0.1)]


def test_only_one_process_writes_a_study(ledger: Ledger, study: StudyRow, folder: Path) -> None:
    complete(ledger, study, 0)
    driver = Ledger(folder / "attnsearch.db")
    assert driver.hold(f"mirror:{study.id}") is None
    report = Mirror(ledger).sync(study.id)
    assert report.problem is not None
    assert report.problem.endswith("writes them now")
    driver.close()
    assert Mirror(ledger).sync(study.id).problem is None


def create_store(folder: str, barrier: Any) -> None:
    os.chdir(folder)
    barrier.wait()
    tracking.Store(tracking.tracking_uri()).experiment(f"e{os.getpid()}")


@pytest.mark.slow
def test_a_store_is_created_whole_by_several_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [
        context.Process(target=create_store, args=(str(folder), barrier)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    assert len(client.search_experiments()) == 4  # with MLflow's own
    assert not list(folder.glob(".attnsearch-*"))


def test_a_half_made_store_is_never_left_in_place(
    folder: Path, ledger: Ledger, study: StudyRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mlflow.db").unlink()
    (folder / ".attnsearch-0.new").write_text("what a killed process left")
    os.utime(folder / ".attnsearch-0.new", (0, 0))

    def killed(self: Any, **_: Any) -> Any:
        raise RuntimeError("killed while the tables were made")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "search_experiments", killed)
        assert Mirror(ledger).sync(study.id).problem == "killed while the tables were made"
    assert not (folder / "mlflow.db").exists()
    assert not list(folder.glob(".attnsearch-*"))


@pytest.mark.parametrize(
    ("given", "environment", "recorded", "chosen"),
    [
        (None, None, None, "sqlite:///{folder}/mlflow.db"),
        (None, "http://server:5000", "sqlite:///gone.db", "http://server:5000"),
        ("sqlite:///a.db", "http://server:5000", None, "sqlite:///{folder}/a.db"),
        (None, None, "http://server:5000", "http://server:5000"),
        (None, None, "sqlite:////gone/mlflow.db", "sqlite:///{folder}/mlflow.db"),
    ],
)
def test_the_store_is_the_one_asked_for(
    given: str | None,
    environment: str | None,
    recorded: str | None,
    chosen: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if environment:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    assert tracking.tracking_uri(given, recorded) == chosen.format(folder=folder)


def test_a_login_is_used_and_told_to_nobody(
    ledger: Ledger, study: StudyRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete(ledger, study, 0)
    address = "http://anna:s3cr3t@host:5000"
    asked: list[str] = []

    def refuse(uri: str) -> None:
        asked.append(uri)
        raise ConnectionError(f"{uri} does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(tracking, "_connect", refuse)
        report = Mirror(ledger, address).sync(study.id)
    assert asked == [address]
    assert report.uri == "http://***@host:5000"
    assert "s3cr3t" not in str(report)
    Positions(ledger).set_parent(study.id, address, "1", "run")
    assert ledger.study(study.id).mlflow_uri == "http://***@host:5000"
    later = Mirror(ledger).sync(study.id)
    assert "set MLFLOW_TRACKING_URI" in str(later)


def test_a_study_shown_under_a_login_stays_shown(ledger: Ledger, study: StudyRow) -> None:
    complete(ledger, study, 0)
    positions = Positions(ledger)
    positions.set_parent(study.id, "http://***@host:5000", "1", "run")
    positions.mark(positions.pending(study.id))
    positions.set_parent(study.id, "http://anna:other@host:5000", "1", "run")
    assert positions.count(study.id)[0] == 0, "another password is no other store"
    positions.set_parent(study.id, "http://other:5000", "1", "run")
    assert positions.count(study.id)[0] == 1


def test_files_of_a_folder_with_a_percent_sign_lie_in_it(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a%20b"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copy(empty_store, folder / "mlflow.db")
    store = tracking.Store(tracking.tracking_uri())
    run_id = store.create(store.experiment("digits"), "000", 0, {})
    store.files(run_id, {"config.yaml": b"x"})
    (file,) = folder.rglob("config.yaml")
    assert file.read_bytes() == b"x"
    assert not (tmp_path / "a b").exists()


def test_judging_what_is_shown_loads_nothing_heavy() -> None:
    """`attnsearch show` judges it, and took half of its time to load torch."""
    script = (
        "import sys\nimport attnsearch.runs.mirror.mirror\n"
        "print([name for name in ('torch', 'pandas', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
