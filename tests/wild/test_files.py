"""Odd places, names, locales and addresses: what a study leaves where, and what it gives away."""

import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.requests import Ending, Place, Request
from attnsearch.runs.mirror.mirror import Mirror
from attnsearch.search.cli import call
from attnsearch.search.exit import DONE, INTERRUPTED, WRONG_INPUT
from attnsearch.search.study import session as engine
from attnsearch.search.study.stage import LateMirror
from tests.wild.files import SPACE, attnsearch, project
from tests.wild.making import picture, save
from tests.wild.with_arrays import arrays

ODD_FOLDERS = ("a?b", "a%20b", "a#b", "d\u00e9j\u00e0 vu")
"""Names of a project's folder."""


def odd_folders(*quick: str) -> list[object]:
    """Return the names of odd folders, marked as slow but for some."""
    slow = pytest.mark.slow
    return [pytest.param(name, marks=() if name in quick else slow) for name in ODD_FOLDERS]


@pytest.fixture
def trainer(in_process: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Trains in this process, with no ledger or store named by the environment."""
    for name in ("ATTNSEARCH_LEDGER", "ATTNSEARCH_WEIGHTS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    # What the networks cost is told elsewhere, and takes longer to measure than these to train.
    monkeypatch.setattr("attnsearch.runs.training.train.costs", lambda *_, **__: {"params": 1.0})
    yield in_process


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, which is the current folder."""
    folder = project(tmp_path / "mine")
    monkeypatch.chdir(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def shown_by_mlflow(folder: Path) -> list[str]:
    """Return the states of the runs in a folder's MLflow store, read without MLflow."""
    file = folder / "mlflow.db"
    assert file.is_file(), sorted(path.name for path in folder.iterdir())
    uri = f"{file.as_uri()}?mode=ro"
    with sqlite3.connect(uri, uri=True) as connection:
        return [state for (state,) in connection.execute("select status from runs")]


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return all that a command printed, in one line."""
    return " ".join((done.stdout + done.stderr).split())


# The project's folder


@pytest.mark.timeout(60)  # it hangs where it fails
@pytest.mark.parametrize("name", odd_folders("a?b"))
def test_mlflow_shows_a_study_that_lies_in_an_odd_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with Ledger(folder / "attnsearch.db") as ledger:
        document = {"search": {"objectives": {"val_accuracy": "max"}}}
        study = ledger.open_study("s", "", document, "data", {})
        claim = ledger.claim(Request("key", config={}, seed=0, epochs=1, study_id=study.id))
        place = Place(number=0, name="000 se", role="trial", values={})
        ledger.attach(study.id, claim.run_id, place)
        ledger.record_epoch(claim.run_id, 1, {"val_accuracy": 0.5})
        ledger.finish(claim.run_id, Ending("finished", metrics={"val_accuracy": 0.5}, costs={}))
        report = Mirror(ledger).sync(study.id)
    assert (report.problem, report.missing) == (None, 0)
    assert "FINISHED" in shown_by_mlflow(folder)
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing lands elsewhere"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", odd_folders())
def test_a_study_in_an_odd_folder_is_run_shown_and_exported(name: str, tmp_path: Path) -> None:
    folder = project(tmp_path / name)
    for words in (
        ("check", "space.yaml"),
        ("run", "space.yaml"),
        ("show", "scans"),
        ("export", "scans", "--to", "best"),
        ("predict", "best", "scans", "--to", "out"),
    ):
        done = attnsearch(folder, *words, seconds=60 if words[0] == "show" else 200)
        assert done.returncode == DONE, done
        assert "does not show" not in said(done)
    assert set(shown_by_mlflow(folder)) == {"FINISHED"}
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing lands elsewhere"


@pytest.mark.slow
def test_a_file_called_as_an_installed_module_is_no_harm(tmp_path: Path) -> None:
    folder = project(tmp_path / "mine")
    (folder / "profile.py").write_text("raise RuntimeError('mine')\n")
    done = attnsearch(folder, "run", "space.yaml")
    assert done.returncode == DONE, done
    shown = json.loads(attnsearch(folder, "show", "scans", "--json").stdout)
    assert {trial["state"] for trial in shown["trials"]} == {"finished"}


@pytest.mark.slow
def test_a_long_folder_for_temporary_files(tmp_path: Path) -> None:
    folder = project(tmp_path / "mine")
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        long = Path(short, *["x" * 40] * 3)
        long.mkdir(parents=True)
        assert len(str(long)) > 120
        done = attnsearch(folder, "run", "space.yaml", "--until", "explore", TMPDIR=str(long))
        assert done.returncode == DONE, done
        left = [path for path in long.iterdir() if not path.name.startswith("torchinductor")]
        assert left == [], "temporary files are removed"  # torch keeps a cache of its own


# Locales and names


ASCII = {"LC_ALL": "C", "LANG": "", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def accents(tmp_path: Path) -> Path:
    """A project with accents in its space file: in a comment, and in the name of a class."""
    data = "source: arrays.npz, classes: [gesund, \u00fcbel], image_size: 16"
    space = SPACE.replace("source: scans, image_size: 16", data)
    folder = project(tmp_path / "mine", f"# f\u00fcr die Klinik\n{space}")
    arrays(folder, ["gesund", "\u00fcbel"])
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_with_accents_under_a_locale_without_utf8(accents: Path) -> None:
    for words in (
        ("check", "space.yaml"),
        ("run", "space.yaml"),
        ("show", "scans"),
        ("export", "scans", "--to", "best"),
        ("predict", "best", "scans", "--to", "out"),
    ):
        done = attnsearch(accents, *words, **ASCII)
        assert done.returncode == DONE, done
        assert "does not show" not in said(done)
    head = (accents / "out/predictions.csv").read_text(encoding="utf-8").splitlines()[0]
    assert head == "name,label,gesund,\u00fcbel"


@pytest.mark.slow
@pytest.mark.parametrize("where", ["folder", "space file"])
def test_a_name_with_accents_does_under_any_locale(where: str, tmp_path: Path) -> None:
    folder = project(tmp_path / ("klinik" if where == "space file" else "M\u00fcnchen"))
    space = "r\u00f6ntgen.yaml" if where == "space file" else "space.yaml"
    (folder / "space.yaml").rename(folder / space)
    done = attnsearch(folder, "run", space, "--until", "explore", **ASCII)
    assert done.returncode == DONE, done
    assert "does not show" not in said(done)
    assert set(shown_by_mlflow(folder)) == {"FINISHED"}


@pytest.mark.parametrize("where", ["class", "file"])
def test_names_that_are_not_utf8_are_refused_at_once(
    where: str, trainer: Any, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(b"caf\xe9")
    if where == "class":
        Path("scans/ill").rename(f"scans/{odd}")
    else:
        Path("scans/ill/ill_3.png").rename(f"scans/ill/{odd}.png")
    for command in ("check", "run"):
        assert call([command, "space.yaml"]) == WRONG_INPUT
        assert "UTF-8" in capsys.readouterr().err
    assert trainer.jobs == []


# Addresses


@pytest.mark.usefixtures("trainer")
def test_the_password_of_a_tracking_server_is_shown_to_nobody(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:s3cr3t@127.0.0.1:9")
    monkeypatch.setattr(engine, "LateMirror", LateMirror)
    assert call(["run", "space.yaml", "--until", "explore"]) == DONE
    told = capsys.readouterr()
    assert "127.0.0.1:9" in told.out + told.err, "that the server is away must be said"
    call(["show", "scans"])
    call(["show", "scans", "--json"])
    told_later = capsys.readouterr()
    assert "s3cr3t" not in told.out + told.err + told_later.out + told_later.err
    leaks = [name for name, content in contents(here).items() if b"s3cr3t" in content]
    assert leaks == []


# Copies


@pytest.mark.slow  # three whole studies
def test_running_in_a_copy_leaves_the_original_whole(
    tmp_path: Path,
    trainer: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = project(tmp_path / "original")
    monkeypatch.chdir(original)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_train", stopped_before_the_test(trainer._train))
        assert call(["run", "space.yaml"]) == INTERRUPTED
    before = contents(original)
    assert any(name.endswith(".safetensors") for name in before)
    shutil.copytree(original, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    assert call(["run", "space.yaml"]) == DONE, capsys.readouterr()
    assert call(["export", "scans", "--to", "best"]) == DONE, capsys.readouterr()
    assert contents(original) == before
    monkeypatch.chdir(original)
    assert call(["run", "space.yaml"]) == DONE, capsys.readouterr()
    assert call(["export", "scans", "--to", "best"]) == DONE, capsys.readouterr()


def stopped_before_the_test(train: Callable[..., Any]) -> Callable[..., Any]:
    """Train, but be stopped where the test part is to be opened."""

    def instead(worker: Any, source: Any, job: Any) -> Any:
        if job.evaluations:
            raise KeyboardInterrupt
        return train(worker, source, job)

    return instead


def test_a_moved_project_is_exported_and_continued(
    tmp_path: Path,
    trainer: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = project(tmp_path / "old")
    monkeypatch.chdir(old)
    assert call(["run", "space.yaml"]) == DONE
    trained = len(trainer.jobs)
    new = old.rename(tmp_path / "new")
    monkeypatch.chdir(new)
    assert call(["run", "space.yaml"]) == DONE, capsys.readouterr()
    assert len(trainer.jobs) == trained, "nothing is trained again"
    assert call(["export", "scans", "--to", "best"]) == DONE, capsys.readouterr()
    save(new / "one.png", picture(0, 99, (16, 16, 3)))
    assert call(["predict", "best", "one.png", "--to", "out"]) == DONE, capsys.readouterr()
    assert not old.exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mlflow_follows_a_moved_project(tmp_path: Path) -> None:
    old = project(tmp_path / "old", SPACE.replace("trials: 2", "trials: 1"))
    assert attnsearch(old, "run", "space.yaml", "--until", "explore").returncode == DONE
    new = old.rename(tmp_path / "new")
    done = attnsearch(new, "run", "space.yaml", "--set", "search.trials=2", "--until", "explore")
    assert done.returncode == DONE, done
    assert not old.exists(), "the old folder is made again"
    assert set(shown_by_mlflow(new)) == {"FINISHED"}
    assert attnsearch(new, "export", "scans", "--to", "best").returncode == DONE
