"""Trainings of one arm in one process: each takes a step in its turn, as if it were alone.

Their code is that of a single training. Each runs in a thread of its own, and one thread runs at a
time: after every training step it gives way. What it had set in the process (random streams,
torch's settings) it finds again when its turn comes. On a card each has a stream, with graphs of
its own: the host goes on with the next one while the kernels of the others run.
"""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from attnsearch.runs.training import Surroundings, own_stream
from attnsearch.search.workers.job import Job


class Replica:
    """A function that gives way to others in its midst.

    Args:
        call: The function; it calls `give_way` now and then.
        device: Where it computes.
    """

    def __init__(self, call: Callable[[], Any], device: torch.device) -> None:
        self._call, self._device = call, device
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._over = False  # whether the call has returned
        self._closed = False
        self._before: Surroundings | None = None
        self._told: Any = None
        self._threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def advance(self) -> bool:
        """Go on with the call to where it gives way, or begin it; return whether it is over."""
        self._over = False
        self._go.release()
        self._back.acquire()
        return self._over

    def told(self) -> Any:
        """Return what the call returned, or raise what it raised."""
        if isinstance(self._told, BaseException):
            raise self._told
        return self._told

    def give_way(self) -> None:
        """Let others go on; to be called from within the call."""
        if threading.current_thread() is not self._thread:
            return
        mine = Surroundings(self._device)
        assert self._before is not None, "the call has begun"
        self._before.restore()
        self._switch()
        if self._closed:
            raise SystemExit
        mine.restore()

    def close(self) -> None:
        """End the thread, where its call stands."""
        self._closed = True
        self._go.release()
        self._thread.join()

    def _switch(self) -> None:
        self._back.release()
        self._go.acquire()

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        if self._device.type == "cuda":
            torch.cuda.set_stream(own_stream(self, self._device))
        self._go.acquire()
        while not self._closed:
            self._before = Surroundings(self._device)
            try:
                self._told = self._call()
            except BaseException as error:
                self._told = error
            if self._closed:
                return
            self._over = True
            self._switch()


class Replicas:
    """Several of them, in turns.

    Args:
        members: By name.
    """

    def __init__(self, members: Mapping[int, Replica]) -> None:
        self._turns = dict(members)  # in the order of their turns

    def __len__(self) -> int:
        """Count those that are left."""
        return len(self._turns)

    def next(self) -> tuple[int, Any]:
        """Go on with all, one after the other, until a call returns.

        Returns:
            Whose it was, and what it returned; its next turn begins its call anew.
        """
        while True:
            name, member = next(iter(self._turns.items()))
            self._turns[name] = self._turns.pop(name)  # the last one now
            if member.advance():
                return name, member.told()

    def leave(self, name: int) -> None:
        """End one, wherever it stands."""
        if name in self._turns:
            self._turns.pop(name).close()

    def close(self) -> None:
        """End all."""
        for name in list(self._turns):
            self.leave(name)


def stop_file(folder: Path, job: Job) -> Path:
    """Return the file that ends one of several replicas at its next epoch."""
    return folder / f"stop-{job.id}"
