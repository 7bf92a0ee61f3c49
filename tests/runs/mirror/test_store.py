"""A store of MLflow's that moves or is copied with its project."""

import http.server
import shutil
import threading
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service import utils

from attnsearch.runs.addresses import sqlite_url
from attnsearch.runs.mirror.store import Store


def test_a_copied_store_writes_beside_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow keeps absolute places: the copy's files went into the original's folder."""
    original, copy = tmp_path / "original", tmp_path / "copy of it"
    original.mkdir()
    monkeypatch.chdir(original)
    store = Store(sqlite_url(original / "mlflow.db"))
    experiment = store.experiment("study")
    run = store.create(experiment, "trial", 0, {})
    store.files(run, {"kept.txt": b"from the original"})
    before = sorted(original.rglob("*.txt"))

    shutil.copytree(original, copy)
    monkeypatch.chdir(copy)
    store = Store(sqlite_url(copy / "mlflow.db"))
    store.files(run, {"new.txt": b"from the copy"})
    other = store.create(store.experiment("study"), "another", 0, {})
    store.files(other, {"other.txt": b"from the copy"})
    assert sorted(original.rglob("*.txt")) == before
    assert {path.name for path in copy.rglob("*.txt")} == {"kept.txt", "new.txt", "other.txt"}


def test_artifacts_that_did_not_come_along_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(sqlite_url(tmp_path / "mlflow.db"))
    run = store.create(store.experiment("study"), "trial", 0, {})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mlflow.db").rename(tmp_path / "elsewhere" / "mlflow.db")
    Store(sqlite_url(tmp_path / "elsewhere" / "mlflow.db")).files(run, {"new.txt": b"x"})
    assert [path.is_relative_to(tmp_path / "mlruns") for path in tmp_path.rglob("new.txt")] == [
        True
    ]


def test_what_mlflow_opens_for_a_run_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(sqlite_url(tmp_path / "mlflow.db"))
    experiment = store.experiment("study")
    runs = [store.create(experiment, f"trial {number}", 0, {}) for number in range(3)]
    for run in runs:
        store.files(run, {"config.yaml": b"x"})
    assert not utils._artifact_repos_cache.keys() & set(runs)
    assert len(list(tmp_path.rglob("config.yaml"))) == 3


def test_what_a_server_may_have_created_is_not_asked_for_again() -> None:
    """It does what it is asked, and is cut off before it answers; MLflow would ask seven times."""
    asked = []

    class CutOff(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_POST(self) -> None:
            asked.append(self.path)
            self.close_connection = True

        def log_message(self, *told: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), CutOff) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = Store(f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(Exception, match="runs/create"):
            store.create("1", "a run", 0, {})
        server.shutdown()
    assert [path.rpartition("mlflow/")[2] for path in asked] == ["runs/create"]
