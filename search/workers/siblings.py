"""The other processes of a trial that trains on several cards.

A trial's worker is the first of its processes. It starts one more for each further card that Ray
has granted, in its own placement group, and they train one network together, see `blocks.ranks`.
The first alone validates, saves and reports; the others take its steps with it, an epoch when it
is asked for. They are Ray's actors: they share the images in its memory, and end with the process
that started them, however that ends. Where one of them ends, the first must not wait for it for
ever: it raises what the other raised, or goes down with it as a lost worker.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

import ray
import torch
from ray.exceptions import RayTaskError
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from attnsearch.blocks.ranks import connect, disconnect, meeting_place
from attnsearch.runs.data import DataSet
from attnsearch.runs.training import Checkpoint, Training, out_of_memory
from attnsearch.search.workers.cluster import Need
from attnsearch.search.workers.job import Job
from attnsearch.search.workers.losses import FATAL, failure_text

GRACE_SECONDS = 20.0  # in which a training notices by itself that another process has failed
LOOK_SECONDS = 1.0

Make = Callable[[Job, DataSet, str, int], Training]


class Sibling:
    """One of the other processes, an actor.

    Args:
        folders: As for a worker.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        sys.path[:] = dict.fromkeys([*folders, *sys.path])

    def join(
        self,
        make: Make,
        job: Job,
        data: DataSet,
        need: Need,
        rank: int,
        port: int,
        begun: Checkpoint | None,
    ) -> None:
        """Build the training of a job as the first process has it, and join that one."""
        torch.set_num_threads(need.threads)
        device = "cuda" if need.gpus else "cpu"
        self._training = make(job, data, device, need.threads)
        if job.micro_batches > 1:
            self._training.split(job.micro_batches)
        if begun is not None:
            self._training.load_state(begun.state())
        _join(self._training, rank, need, meeting_place(need.ranks, port))

    def run_epoch(self) -> None:
        """Take the steps of the next epoch."""
        self._training.run_epoch()


class Siblings:
    """The other processes of a trial, as its first one has them.

    Args:
        training: Of the first.
        job: What is trained.
        data: The reference of its data set.
        need: How many they are, and what each takes.
        folders: As for a worker.
        make: Builds the training of a job.
        crash: Where to leave a word before this process ends.
    """

    def __init__(
        self,
        training: Training,
        job: Job,
        data: Any,
        need: Need,
        folders: Sequence[str],
        make: Make,
        crash: TextIO | None,
    ) -> None:
        self._training, self._crash = training, crash
        self._error: Exception | None = None  # of the first of the others that failed
        group = get_current_placement_group()
        store = meeting_place(need.ranks)
        state = training.state()
        # As bytes: Ray cannot read all tensors of a state again.
        begun = ray.put(Checkpoint.of(state)) if state["history"] or state["pass"] else None
        self._actors = []
        for rank in range(1, need.ranks):
            bundle = group.bundle_specs[rank]
            actor = ray.remote(Sibling).options(
                num_cpus=bundle.get("CPU", 0),
                num_gpus=bundle.get("GPU", 0),
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, rank),
            )
            self._actors.append(actor.remote(folders))
        asked = [
            actor.join.remote(make, job, data, need, rank, store.port, begun)
            for rank, actor in enumerate(self._actors, 1)
        ]
        with self._together(asked):
            _join(training, 0, need, store)

    def run_epoch(self) -> None:
        """Have all of them take the next epoch."""
        with self._together([actor.run_epoch.remote() for actor in self._actors]):
            self._training.run_epoch()

    def close(self) -> None:
        """End them."""
        self._kill()
        with contextlib.suppress(RuntimeError):
            disconnect()

    def _kill(self) -> None:
        for actor in self._actors:
            ray.kill(actor)

    @contextlib.contextmanager
    def _together(self, asked: list[Any]) -> Iterator[None]:
        """Do the first process's part of what the others were asked for.

        Raises:
            Exception: What one of them raised.
        """
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(LOOK_SECONDS):
                self._error = self._error or _failure(asked)
                if self._error is None:
                    continue
                self._kill()  # breaks the connections that this one waits at
                if not ended.wait(GRACE_SECONDS):
                    self._die(self._error)  # a card that waits for another may never notice

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            yield
        except RuntimeError as error:
            # One that is gone shows as a broken connection first.
            if not out_of_memory(error):
                self._raise(asked, GRACE_SECONDS)
            raise
        finally:
            ended.set()
            watching.join()
        self._raise(asked, None)

    def _raise(self, asked: list[Any], timeout: float | None) -> None:
        """Raise what one of them raised, if they end in time; end like one that died."""
        ray.wait(asked, num_returns=1 if timeout else len(asked), timeout=timeout)
        error = self._error or _failure(asked)
        if isinstance(error, RayTaskError):
            raise error.cause from error
        if error is not None:
            self._die(error)

    def _die(self, error: Exception) -> None:
        """Leave a word, and end this process as a lost worker."""
        if isinstance(error, RayTaskError):
            text = failure_text(error.cause)
        else:
            text = "a process that trained with it on another card ended without a word"
        if self._crash is not None:
            self._crash.write(f"{FATAL}{text}\n")
            self._crash.flush()
        os._exit(1)


def _join(training: Training, rank: int, need: Need, store: Any) -> None:
    device = training.device
    synced = bool(training.config["train"].get("sync_batch_norm"))
    training.join(connect(rank, need.ranks, store, device, synced=synced))


def _failure(asked: list[Any]) -> Exception | None:
    """Return why one of the others failed; None where none has."""
    for answer in ray.wait(asked, num_returns=len(asked), timeout=0)[0]:
        try:
            ray.get(answer)
        except Exception as error:
            return error
    return None
