"""Where a study's Ray lives, and that nothing of it is left behind."""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from attnsearch.search.workers import folder as module
from attnsearch.search.workers.caretaker import processes
from attnsearch.search.workers.folder import (
    APPENDED,
    LOCK,
    PATH_BYTES,
    PREFIX,
    FolderError,
    place,
    temporary_folder,
)


def test_abandoned_folders_are_removed_and_those_in_use_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, used = (tmp_path / f"{PREFIX}{name}" for name in ("left", "used"))
    for folder in (left, used):
        folder.mkdir()
        (folder / LOCK).touch()
    with (used / LOCK).open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with temporary_folder() as folder:
            assert folder.is_dir()
            assert used.is_dir()
            assert not left.exists()
            with temporary_folder():
                assert folder.is_dir()
        assert not folder.exists()


@pytest.mark.parametrize(
    "name", ["scratch_local_slurm_job_1234567_user", "verzeichnis-für-läufe-" + "ä" * 10]
)
def test_a_folder_too_long_for_sockets_gives_way_to_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    long = tmp_path / name
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with temporary_folder() as folder:
        suffix = "session_2026-11-28_21-47-41_216321_4194304/sockets/plasma_store"
        assert len(os.fsencode(folder / suffix)) <= PATH_BYTES
        assert not list(long.iterdir())
    assert not folder.exists()


def test_the_longest_folder_that_fits_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(module, "SHORT_FOLDERS", ())
    fits = "/" + "a" * (PATH_BYTES - APPENDED - 1)
    monkeypatch.setattr(tempfile, "tempdir", fits)
    assert place() == fits
    monkeypatch.setattr(tempfile, "tempdir", f"{fits}a")
    with pytest.raises(FolderError, match="set TMPDIR to a folder of at most"):
        place()


DRIVER = """
import os, subprocess, sys
from attnsearch.search.workers.folder import temporary_folder
with temporary_folder() as folder:
    out = open(folder / "out", "w")
    kept = [subprocess.Popen(["sleep", "300"], stdout=out, start_new_session=True)]
    quiet = subprocess.DEVNULL
    kept += [subprocess.Popen(["sleep", "300"], stdout=quiet, start_new_session=True)]
    print(folder, *(process.pid for process in kept), flush=True)
    sys.stdin.read()
"""


def test_nothing_is_left_of_a_driver_that_is_killed() -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    name, agent, other = driver.stdout.readline().split()
    assert processes(name) == [int(agent)]
    (caretaker,) = (p for p in psutil.Process(driver.pid).children() if "-I" in p.cmdline())
    agent_process = psutil.Process(int(agent))
    driver.kill()
    driver.communicate()
    deadline = time.monotonic() + 20
    while (Path(name).exists() or caretaker.is_running()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(name).exists() and not caretaker.is_running()
    assert psutil.wait_procs([agent_process], timeout=10)[0]
    psutil.Process(int(other)).kill()  # what is not of the folder is not touched
