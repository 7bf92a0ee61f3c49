"""Taking turns on one machine: trainings run side by side, a measurement of time runs alone.

Locks on two files do it, which the system releases however a process ends. A training goes through
the door and into the room with every step; who measures closes the door and waits until the room
is empty. What was measured is kept beside them, so that equal networks have equal times.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

WAIT_SECONDS = 60.0  # for the room: a block that hangs in it must not hold up all others
_POLL_SECONDS = 0.002

Times = Mapping[str, float]


class Turns:
    """A worker's turns among the processes of its machine.

    Args:
        folder: Where the files lie, the same for all; None takes no turns.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
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
        fcntl.flock(self._door, fcntl.LOCK_SH)
        fcntl.flock(self._room, fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)
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
            if not _lock(self._door, deadline):
                return {}
            known = json.loads(file.read_text()) if file.exists() else {}
            if architecture not in known:
                if not _lock(self._room, deadline):
                    return {}
                write_times(self._folder, known | {architecture: dict(measure())})
                known = json.loads(file.read_text())
            return dict(known[architecture])
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)
            fcntl.flock(self._door, fcntl.LOCK_UN)


def write_times(folder: Path, times: Mapping[str, Times]) -> None:
    """Write the times of architectures that workers need not measure again."""
    partial = folder / "times.partial"
    partial.write_text(json.dumps(times))
    partial.rename(folder / "times.json")


def _lock(handle: int, deadline: float) -> bool:
    """Take a lock alone; return whether it was free in time."""
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
