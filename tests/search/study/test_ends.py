"""However `attnsearch run` ends, nothing of it is left: processes, shared memory, folders."""

import getpass
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from attnsearch.runs.ledger.ledger import Ledger
from tests.search.command import SLEEPY, Command

SPACE = """
name: ends
task: classification
data: {source: tiny.npz, image_size: 8}
network: {backbone: resnet20, width: 0.25}
insert:
  - at: layer3
    block: {choice: [none, "ends_sleepy:Sleeps"]}
train: {epochs: 8, batch_size: 16, lr: 0.05}
search: {sampler: grid, scheduler: none, trials: 2}
resources: {workers: 1}
"""
# Torch's cache of compiled code: made, empty, when it is imported; one a user, and it stays.
TORCHS_OWN = {f"torchinductor_{getpass.getuser()}"}


class Run(Command):
    """`attnsearch run`, whose processes all carry a mark in their environment."""

    def __init__(self, path: Path, store: str, scratch: Path) -> None:
        self._mark = uuid.uuid4().hex
        self._shared: set[Path] = set()
        super().__init__(path, TMPDIR=str(scratch), MLFLOW_TRACKING_URI=store, MARK=self._mark)

    def wait_for_epoch(self, path: Path) -> None:
        """Wait until the second trial, which takes its time, has an epoch of this session."""
        deadline = time.monotonic() + 400
        self.wait_for("trial 001 started", 400)
        before = self._epochs(path)
        while self._epochs(path) == before:
            assert self.process.poll() is None and time.monotonic() < deadline, self.text
            time.sleep(0.1)
        self._shared = set(self._memory())
        assert self._shared, "Ray keeps its objects there"

    def _memory(self) -> Iterator[Path]:
        """Yield the files of shared memory that its processes have mapped or open."""
        for process in self.family():
            with suppress(psutil.Error, OSError):
                folder = Path(f"/proc/{process.pid}")
                lines = (folder / "maps").read_text("utf-8").splitlines()
                names = [line[line.index("/dev/shm") :] for line in lines if "/dev/shm" in line]
                names += [
                    str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()
                ]
                for name in names:
                    if name.startswith("/dev/shm/"):
                        yield Path(name.removesuffix(" (deleted)"))

    @staticmethod
    def _epochs(path: Path) -> int:
        with Ledger(path.with_name("attnsearch.db")) as ledger:
            return len(ledger.trials(ledger.find_study("ends").id)[-1].epochs)

    def family(self) -> list[psutil.Process]:
        """All living processes that descend from it, whoever their parent is now."""
        marked = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and process.environ().get("MARK") == self._mark:
                    marked.append(process)
        return marked

    def leftovers(self, scratch: Path, seconds: float = 20) -> list[str]:
        """What is still there of it after so many seconds."""
        deadline = time.monotonic() + seconds
        while left := [
            *(str(process) for process in self.family()),
            *(str(place) for place in scratch.iterdir() if place.name not in TORCHS_OWN),
            *(str(file) for file in self._shared if file.exists()),
        ]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        return left


@pytest.mark.slow  # a Ray of its own, five times
@pytest.mark.timeout(2400)
def test_nothing_is_left_however_a_study_ends(
    write_space: Callable[..., Path], tmp_path: Path, scratch: Path, mlflow_store: str
) -> None:
    (tmp_path / "ends_sleepy.py").write_text(SLEEPY)
    path = write_space(SPACE, "ends.yaml")

    run = Run(path, mlflow_store, scratch)
    run.wait_for_epoch(path)
    os.killpg(run.process.pid, signal.SIGINT)  # Ctrl-C
    assert run.process.wait(timeout=60) == 130
    assert "stopped after 1 of 2 trials" in run.text, run.text
    assert run.leftovers(scratch) == []

    run = Run(path, mlflow_store, scratch)
    run.wait_for_epoch(path)
    os.killpg(run.process.pid, signal.SIGINT)
    time.sleep(0.2)
    asked = time.monotonic()
    os.killpg(run.process.pid, signal.SIGINT)  # and again
    assert run.process.wait(timeout=60) in (130, -signal.SIGINT)
    assert time.monotonic() - asked < 10
    assert run.leftovers(scratch) == []

    run = Run(path, mlflow_store, scratch)
    run.wait_for_epoch(path)
    run.process.kill()  # the driver alone
    run.process.wait()
    assert run.leftovers(scratch) == []

    run = Run(path, mlflow_store, scratch)
    run.wait_for_epoch(path)
    for process in run.family():  # everything at once; nobody can remove the folder
        with suppress(psutil.NoSuchProcess):
            process.kill()
    run.process.wait()
    assert all(Path(left).is_relative_to(scratch) for left in run.leftovers(scratch, seconds=2))

    run = Run(path, mlflow_store, scratch)
    assert run.process.wait(timeout=400) == 0, run.text
    assert run.leftovers(scratch) == []
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        rows = ledger.trials(ledger.find_study("ends").id)
    assert [(row.state, row.attempt) for row in rows] == [("finished", 1)] * 2
    assert not list(tmp_path.glob("attnsearch-weights/checkpoints/*/*"))
