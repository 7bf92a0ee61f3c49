"""Taking turns on one machine: trainings run side by side, a measurement of time runs alone.

Locks on two files do it, which the system releases however a process ends. A training goes through
the door and into the room with every step; who measures closes the door and waits until the room
is empty. What was measured is kept beside them, so that equal networks have equal times.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attnsearch.runs.data import DataSet
from attnsearch.runs.training import architecture
from attnsearch.spaces.keys import LATENCY_QUARTILES

if TYPE_CHECKING:  # the ledger's rows, whose database a worker need not load
    from attnsearch.runs.ledger import RunRow

WAIT_SECONDS = 60.0  # for what hangs in a step or while it is measured: it must not hold up all
_POLL_SECONDS = 0.002
TIMES = ("latency_ms", *LATENCY_QUARTILES)

Times = Mapping[str, float]


class Turns:
    """A worker's turns among the processes of its machine.

    Args:
        folder: Where the files lie, the same for all; None takes no turns.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._patient = True  # until a measurement took too long: it hangs, and is not waited for
        if folder is not None:
            self._door, self._room = (
                os.open(folder / name, os.O_CREAT | os.O_RDWR, 0o600) for name in ("door", "room")
            )

    @contextmanager
    def working(self) -> Iterator[None]:
        """Do one step of a training, beside those of others, while nobody measures."""
        if self._folder is None:
            yield
            return
        self._patient = self._enter(time.monotonic() + WAIT_SECONDS * self._patient)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    def measured(self, architecture: str, measure: Callable[[], Times]) -> Times:
        """Return the times of an architecture, measured alone and once.

        Args:
            architecture: What has these times.
            measure: Measures them; called while no other process of the machine trains.

        Returns:
            The times; none where the others did not end their steps in `WAIT_SECONDS`.
        """
        if self._folder is None:
            return measure()
        file = self._folder / "times.json"
        deadline = time.monotonic() + WAIT_SECONDS
        try:
            if not _lock(self._door, fcntl.LOCK_EX, deadline):
                return {}
            times = json.loads(file.read_text()) if file.exists() else {}
            if architecture not in times:
                if not _lock(self._room, fcntl.LOCK_EX, deadline):
                    return {}
                times[architecture] = dict(measure())
                write_times(self._folder, times)
            return dict(times[architecture])
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)
            fcntl.flock(self._door, fcntl.LOCK_UN)

    def _enter(self, deadline: float) -> bool:
        """Go through the door into the room; return whether both were open in time."""
        try:
            return all(_lock(place, fcntl.LOCK_SH, deadline) for place in (self._door, self._room))
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)


def write_times(folder: Path, times: Mapping[str, Times]) -> None:
    """Write the times of architectures that workers need not measure again."""
    partial = folder / "times.partial"
    partial.write_text(json.dumps(times))
    partial.rename(folder / "times.json")


def known_times(runs: Iterable["RunRow"], data: DataSet, threads: int) -> dict[str, Times]:
    """Return the times that earlier sessions measured on this machine, by architecture.

    Networks with a user's block are measured again: its code may have changed since.
    """
    return {
        architecture(run.config, data, threads): {name: run.costs[name] for name in TIMES}
        for run in runs
        if run.host == socket.gethostname()
        and run.costs.keys() >= set(TIMES)
        and all(":" not in entry["block"] for entry in run.config.get("insert", ()))
    }


def _lock(handle: int, kind: int, deadline: float) -> bool:
    """Take a lock, shared or alone; return whether it was free in time."""
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
