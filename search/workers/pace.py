"""How long a step of a job may take, learnt from those that were taken."""

import time
from collections.abc import Callable

from attnsearch.runs.words import duration

FLOOR_SECONDS = 180.0
TIMES_LONGEST = 20  # as long as the longest step so far, of whatever job
PAUSE_SECONDS = 20.0  # in which a training that is stopped can finish its step and be saved
TICK_SECONDS = 2.0  # between two looks at most; what is more was spent asleep, the machine or this


class Pace:
    """Notices jobs that hang, by a clock that stands still while nobody looks at it.

    A machine that was suspended, or a driver that was stopped, does not make its workers late.

    Args:
        longest: Seconds that an epoch took in earlier sessions; 0 where none is known.
        clock: Seconds.
        timeout: Seconds that a step may take; None learns them.
    """

    def __init__(
        self,
        longest: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        timeout: float | None = None,
    ) -> None:
        self.longest = longest
        self._timeout = timeout
        self._clock, self._looked, self._now = clock, clock(), 0.0
        self._since: dict[str, float] = {}

    def begun(self, job: str) -> None:
        """Note that a worker begins with a job."""
        self._since[job] = self._now

    def stepped(self, job: str) -> None:
        """Note that a job has taken a step, and learn from it."""
        self.longest = max(self.longest, self._now - self._since.get(job, self._now))
        self._since[job] = self._now

    def over(self, job: str) -> None:
        """Note that a job has ended."""
        self._since.pop(job, None)

    @property
    def limit(self) -> float:
        """Seconds that a step may take; without an end until something is known."""
        if self._timeout is not None:
            return self._timeout
        return max(FLOOR_SECONDS, TIMES_LONGEST * self.longest) if self.longest else float("inf")

    def slow(self) -> list[str]:
        """Return the jobs without a first epoch for long while no epoch of any job is known."""
        if self.limit < float("inf"):
            return []
        return [job for job, since in self._since.items() if self._now - since > FLOOR_SECONDS]

    def why(self) -> str:
        """Say what a job did that is late."""
        if self._timeout is not None:
            return f"no epoch in {duration(self.limit)} (resources.timeout): it hangs"
        return (
            f"no epoch in {duration(self.limit)}, where the longest so far took "
            f"{duration(self.longest)}: it hangs"
        )

    def late(self) -> list[str]:
        """Return the jobs whose step takes longer than the limit; to be asked often."""
        now = self._clock()
        self._now += min(now - self._looked, TICK_SECONDS)
        self._looked = now
        return [job for job, since in self._since.items() if self._now - since > self.limit]
