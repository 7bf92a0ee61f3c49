"""Saving a training while it goes on, so that whatever ends it costs little of it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.training import Checkpoint, Training, sound
from attnsearch.search.workers.job import Job

SHARE = 0.015  # of the time of training, at most, goes into checkpoints
LONGEST_SECONDS = 240.0  # of training between two checkpoints, also within an epoch
GUESSED_SECONDS = 0.005  # what the first one takes before its bytes
GUESSED_BYTES_PER_SECOND = 200e6
STATES = 4  # times the network's size: with the optimizer's two moments and the best epoch


class Paused(AttnsearchError):
    """The study is being stopped; the training has been saved as it stands."""


class Keeper:
    """Saves one training, as often as `SHARE` allows.

    Args:
        job: Says where its checkpoints lie.
        here: Whether this machine has the driver's disk, or reaches the store that the driver
            uses; else checkpoints go to the driver with reports.
        pause: A file that appears when the study is being stopped.
        clock: Seconds.

    Attributes:
        seconds: Spent on saving since `take` was last called.
        trouble: Why the last checkpoint could not be written; None where it was.
    """

    def __init__(
        self,
        job: Job,
        here: bool,
        pause: Path | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._job = job
        self._folder = Path(job.checkpoints) if here and job.checkpoints else None
        self._pause = pause
        self._clock = clock
        self._last = clock()
        self._cost: float | None = None
        self._made: Checkpoint | None = None
        self.seconds = 0.0
        self.trouble: str | None = None

    def sound(self) -> Iterator[Checkpoint]:
        """Yield what the training may go on from, the newest first."""
        if self._folder is not None:
            yield from sound(self._folder)
        elif self._job.checkpoint is not None:
            yield ray.get(self._job.checkpoint)

    def between(self, training: Training) -> None:
        """Save a training within an epoch that is long, or that is to be paused.

        Raises:
            Paused: It is.
        """
        pausing = self._pause is not None and self._pause.exists()
        if self._folder is not None and (pausing or self._due(training, LONGEST_SECONDS)):
            self._save(training)
        if pausing:
            raise Paused("the study is being stopped")

    def after_epoch(self, training: Training) -> dict[str, Any]:
        """Save a training that is not done; return what its report says of checkpoints."""
        if self._job.checkpoints and not training.done and self._due(training):
            self._save(training)
        seconds, made, self.seconds, self._made = self.seconds, self._made, 0.0, None
        return {"checkpoint_s": seconds, "checkpoint": made, "trouble": self.trouble}

    def _due(self, training: Training, least_seconds: float = 0.0) -> bool:
        """Return whether as much time has passed since the last one as its cost asks for."""
        if self._cost is None:
            state = training.network.state_dict().values()
            size = STATES * sum(value.nbytes for value in state if hasattr(value, "nbytes"))
            self._cost = GUESSED_SECONDS + size / GUESSED_BYTES_PER_SECOND
        return self._clock() - self._last >= max(self._cost / SHARE, least_seconds)

    def _save(self, training: Training) -> None:
        if not training.can_save:
            return
        start = self._clock()
        try:
            checkpoint = Checkpoint.of(training.state())
            if self._folder is None:
                self._made = checkpoint
            else:
                checkpoint.write(self._folder)
            self.trouble = None
        except Exception as error:  # a training must not fail with its checkpoint
            self.trouble = f"{type(error).__name__}: {error}"
        self._last = self._clock()
        self._cost = self._last - start
        self.seconds += self._cost
