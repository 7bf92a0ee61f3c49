"""Files are whole or not there; what killed processes began is removed by the next."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from attnsearch.runs.exports.predict import _write_rows
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.training.checkpoints import Checkpoint
from attnsearch.runs.whole import temporary_folder, unfinished, whole
from tests.killed import killed_in


def write(path: Path) -> None:
    with whole(path) as new:
        new.write_text("new")


def in_temporary_folder() -> None:
    with temporary_folder() as folder:
        (folder / "plots").mkdir()
        (folder / "plots" / "a.png").write_text("a")


def test_a_file_is_whole_at_every_moment_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    for before in (None, "old"):
        if before:
            path.write_text(before)
        killed_in("", 1, lambda: write(path))
        assert (path.read_text() if path.exists() else None) == before
        assert len(list(tmp_path.iterdir())) == (2 if before else 1)  # what was begun
        write(path)
        assert [file.name for file in tmp_path.iterdir()] == ["report.md"]
        assert path.read_text() == "new"
        path.unlink()
    path.write_text("old")
    with pytest.raises(RuntimeError), whole(path) as new:
        new.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_temporary_folders_of_killed_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed_in("plots", 1, in_temporary_folder)
    assert len(list(tmp_path.iterdir())) == 1
    in_temporary_folder()
    assert not list(tmp_path.iterdir())


def test_what_is_at_work_stays(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = f".attnsearch-{socket.gethostname()}-"
    dead = [f"{here}{ended.pid}-a.new", f"{here}{ended.pid}-a.new-journal"]
    old = ".attnsearch-another-1-a.new"
    at_work = [f"{here}{os.getpid()}-a.new", f".attnsearch-another-{ended.pid}-a.new"]
    for name in (*dead, old, *at_work, "mlflow.db.new"):
        (tmp_path / name).touch()
    os.utime(tmp_path / old, (0, 0))
    with unfinished(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db.new", *at_work}


def test_weights_checkpoints_and_predictions_are_written_so(tmp_path: Path) -> None:
    checkpoint = Checkpoint(f"000001-000000000-{'0' * 64}.checkpoint", b"state")
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        for name, work in {
            "weights": lambda folder: ledger.write_file(folder / "a", b"weights"),
            "checkpoint": checkpoint.write,
            "predictions": lambda folder: _write_rows(folder / "a.csv", [["a"]]),
        }.items():
            folder = tmp_path / name
            folder.mkdir()
            killed_in("", 1, lambda work=work, folder=folder: work(folder))
            (begun,) = folder.iterdir()
            work(folder)
            (done,) = folder.iterdir()
            assert begun.name.startswith(".") and not done.name.startswith(".")
