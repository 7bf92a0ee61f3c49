"""The queue of a study's jobs: its acts fill it, and it alone speaks with what executes them.

Starting workers takes longer than many a training, so one execution goes through all acts. They
are one generator of entries. Where it yields `ALL_ENDED`, it goes on once all entries before have
ended, so that what is planned next may depend on them.
"""

import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeVar

from attnsearch.runs.ledger import State
from attnsearch.search.opening import changed_error
from attnsearch.search.workers import LOST, MACHINE_LOST, Job, Outcome, Report

LOST_MAX = 2  # times that an entry is begun anew because its worker was lost
MACHINES_MAX = 20  # and because its machine was, which is hardly ever the training's doing
SAME_PLACE = "it crashes its worker process every time, at the same place: "
POLL_SECONDS = 1.0  # between looks at a run that another driver trains


class Fate(Enum):
    """What becomes of an entry that has no job, or none any more."""

    OVER = "nothing is left to do"
    AGAIN = "it is to be begun anew"
    ELSEWHERE = "another driver has its run, whose end is waited for"


@dataclass
class Queued(ABC):
    """Something that an act wants a worker to do.

    Attributes:
        losses: Where its workers crashed that were lost; how, where they left no word.
        holder: The other driver that has its run, while its end is waited for.
        micro_batches: Into how many each batch of its training is split.
        group: See `Job.group`.
    """

    losses: list[str] = field(default_factory=list, kw_only=True)
    holder: str = field(default="", kw_only=True)
    micro_batches: int = field(default=1, kw_only=True)
    group: str = field(default="", kw_only=True)

    @property
    def most_micro_batches(self) -> int:
        """Into how many a batch can be split; 1 where nothing is trained."""
        return 1

    def split(self, outcome: Outcome) -> Outcome:
        """Return an outcome that is out of memory, as it is recorded.

        It is begun anew with twice as many micro-batches, as long as it has not failed with all.
        """
        before, most = self.micro_batches, self.most_micro_batches
        self.micro_batches = min(2 * before, most)
        again, tried = before < most, f" (with {before} micro-batches a batch)"
        told = f"{outcome.error}{tried if before > 1 else ''}"
        if again:
            told += f"; it goes on with each batch in {self.micro_batches} micro-batches"
        state = State.INTERRUPTED if again else State.FAILED
        return replace(outcome, state=state, error=told)

    @abstractmethod
    def begin(self) -> Job | Fate:
        """Return the job to be done; or its fate, where there is none to do here and now."""

    @abstractmethod
    def started(self) -> None:
        """Hear that a worker begins."""

    @abstractmethod
    def reported(self, report: Report) -> bool:
        """Take in one step of the job; return whether the job is to be stopped early."""

    @abstractmethod
    def ended(self, outcome: Outcome) -> Fate:
        """Take in how the job ended; a lost one as interrupted, or at last as failed."""


ALL_ENDED = None
"""What an act yields to go on only when all entries before have ended."""

_Result = TypeVar("_Result")
Entries = Generator[Queued | None, None, _Result]
"""What an act yields, and what comes of it."""


class Queue:
    """Gives the entries of all acts to the workers, and the workers' reports to the entries.

    Args:
        entries: Of all acts, in order; an entry is asked for when a worker has room for it.
        waiting: Told, once an act, where nothing is left to do in it but to wait for other
            drivers: how many runs each of them has.
    """

    def __init__(
        self,
        entries: Iterator[Queued | None],
        waiting: Callable[[Counter[str]], None] = lambda holders: None,
    ) -> None:
        self._entries = entries
        self._waiting = waiting
        self._said = False  # that others are waited for, in this act
        self._again: deque[Queued] = deque()
        self._elsewhere: deque[Queued] = deque()
        self._running: dict[int, Queued] = {}
        self._ready: Job | None = None
        self._held = False  # until all have ended
        self._over = False
        self._poll_at = 0.0

    def anything_to_train(self) -> bool:
        """Return whether there is a job, which `next_job` then returns, or may be one later."""
        self._ready = self.next_job()
        return self._ready is not None or not self.exhausted()

    def close(self) -> None:
        """End a job that `anything_to_train` took and nobody asked for."""
        if self._ready is not None:
            self.ended(self._ready, Outcome(State.INTERRUPTED, {}, Report()))
            self._ready = None

    def next_job(self) -> Job | None:
        """Return the next job; entries whose result is known are passed over on the way."""
        if self._ready is not None:
            ready, self._ready = self._ready, None
            return ready
        while (entry := self._next_entry()) is not None:
            job = entry.begin()
            if isinstance(job, Job):
                self._running[job.id] = entry
                return job
            self._keep(entry, job)
        if self._elsewhere and not self._running and not self._said:
            self._said = True
            self._waiting(Counter(entry.holder for entry in self._elsewhere if entry.holder))
        return None

    def exhausted(self) -> bool:
        """Return whether all acts are over."""
        left = self._ready or self._running or self._again or self._elsewhere
        return self._over and not left

    def started(self, job: Job) -> None:
        """Hear that a worker begins with a job."""
        self._running[job.id].started()

    def reported(self, job: Job, report: Report) -> bool:
        """Take in one step of a job; return whether the job is to be stopped early."""
        return self._running[job.id].reported(report)

    def ended(self, job: Job, outcome: Outcome) -> None:
        """Take in how a job ended; one whose worker was lost is begun anew a few times.

        One that was out of memory is begun anew in smaller pieces, see `Queued.split`.

        A machine kills a process at any place. Native code that crashes at the same place again
        would do so for ever.
        """
        entry = self._running.pop(job.id)
        if outcome.out_of_memory and entry.most_micro_batches > 1:
            outcome = entry.split(outcome)
        elif outcome.state == LOST:
            same = outcome.place != "" and outcome.place in entry.losses
            entry.losses.append(outcome.place or outcome.error or "")
            machines = entry.losses.count(MACHINE_LOST)
            again = not same and len(entry.losses) - machines <= LOST_MAX
            again = again and machines <= MACHINES_MAX
            outcome = replace(
                outcome,
                state=State.INTERRUPTED if again else State.FAILED,
                error=f"{SAME_PLACE}{outcome.place}" if same else outcome.error,
            )
        self._keep(entry, entry.ended(outcome))
        if outcome.report.changed:
            raise changed_error(outcome.report.changed)

    def _keep(self, entry: Queued, fate: Fate) -> None:
        if fate is Fate.AGAIN:
            self._again.append(entry)
        elif fate is Fate.ELSEWHERE:
            self._elsewhere.append(entry)

    def _next_entry(self) -> Queued | None:
        """Return the next entry to begin: one to be begun anew, one waited for, or a new one."""
        if self._again:
            return self._again.popleft()
        if self._elsewhere and time.monotonic() > self._poll_at:
            self._poll_at = time.monotonic() + POLL_SECONDS
            self._again, self._elsewhere = self._elsewhere, deque()
            return self._again.popleft()
        while not self._over and not (self._held and (self._running or self._elsewhere)):
            self._said = self._said and not self._held
            self._held = False
            try:
                entry = next(self._entries)
            except StopIteration:
                self._over = True
                break
            if entry is not ALL_ENDED:
                return entry
            self._held = True
        return None
