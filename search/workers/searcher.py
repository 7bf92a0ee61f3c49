"""The two ends of Ray Tune that face us: where its trials come from, and what it says of them.

Tune's own searchers tell Optuna that a trial stopped after one epoch is complete, lose it at a NaN
and know nothing of infeasible ones. So the searcher here only hands over jobs, and the callback
turns what Tune reports into one outcome per job, from what the worker said rather than from what
Tune makes of it. Tune stops a job early where the source says so, not by a scheduler of its own.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.search import Searcher
from ray.tune.stopper import NoopStopper, Stopper

from attnsearch.blocks.naming import describe
from attnsearch.runs.ledger import State, check_file
from attnsearch.runs.machine import memory_kills, memory_limit
from attnsearch.runs.training import sound
from attnsearch.runs.words import duration, quantity
from attnsearch.search.workers.cluster import ClusterError
from attnsearch.search.workers.job import LOST, MACHINE_LOST, Job, Jobs, Outcome, Report
from attnsearch.search.workers.pace import FLOOR_SECONDS, PAUSE_SECONDS, Pace

NEVER_BEGAN = 3  # jobs in a row whose workers never began: it is taken for the machine's fault
OUT_OF_MEMORY = "out of memory"  # how the error of a loss begins that memory was the reason of
FATAL = "Fatal Python error: "  # how faulthandler begins
SLOW = "Timeout ("  # and a look of the watchdog


class RayGone(BaseException):
    """Ray's own processes are gone; after an `Exception`, Tune would wait for them."""


class Watch(Callback, Stopper):  # type: ignore[misc]
    """Tells a source what becomes of its jobs, and Tune which of them to stop.

    The source's first failure stops the execution and is kept; Tune would wrap it in its own.

    Args:
        source: Where the jobs come from.
        stop: Whether the user wants an end; a job that ends then was interrupted.
        kill: Ends a worker process at once.
        crash: What a crashed worker left behind about a job, in a line or two; may be empty.
        pace: Knows which jobs hang.
        check: Looks after the machine; raises where nothing more can come of it.
        ship: Whether jobs carry the weights files that they need, since other machines do not see
            this one's disk.
        pause: Asks the trainings of this machine to be saved, and to end.
        tell: Shows a person a sentence.
        memory_kills: Counts the processes that the system has killed since memory ran out.

    Attributes:
        failure: Why the source failed; None unless it did.
    """

    def __init__(
        self,
        source: Jobs,
        stop: Callable[[], bool],
        kill: Callable[[Trial], None],
        crash: Callable[[Job], str],
        *,
        pace: Pace | None = None,
        check: Callable[[], None] = lambda: None,
        ship: bool = False,
        pause: Callable[[], None] = lambda: None,
        tell: Callable[[str], None] = lambda text: None,
        memory_kills: Callable[[], int] = memory_kills,
    ) -> None:
        self._source = source
        self._memory_kills = memory_kills
        self._known_kills = memory_kills()
        self._asked_to_stop = stop
        self._kill = kill
        self._crash = crash
        self._pace = pace or Pace()
        self._late: dict[str, str] = {}  # why a job was ended that hung
        self._check = check
        self._ship = ship
        self._pause = pause
        self._tell = tell
        self._told: set[str] = set()  # of the jobs that a person knows to be slow
        self._kill_at: float | None = None  # those that do not pause
        self._reports: dict[str, Report] = {}
        self._ended: set[str] = set()
        self._trials: list[Trial] = []
        self._begun: set[str] = set()
        self._killed: set[str] = set()
        self._never_began = 0
        self.failure: Exception | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Stay out of the snapshots for Tune's own resuming, which is not used."""
        return NoopStopper, ()

    def stop(self) -> bool:
        """Return whether the study is being stopped."""
        return self.failure is not None or self._asked_to_stop()

    def stop_all(self) -> bool:
        """Return whether Tune may end the rest: the study is being stopped and no worker trains.

        Those that train are killed and must have been seen to be dead, or Tune would wait for
        each of them to answer.
        """
        return self.stop() and all(trial.status != Trial.RUNNING for trial in self._trials)

    def active(self) -> int:
        """Count the jobs that run or are about to."""
        return sum(trial.status in (Trial.PENDING, Trial.RUNNING) for trial in self._trials)

    def next_job(self) -> Job | None:
        """Return the source's next job, with the files that it needs where they must travel."""
        with self._kept():
            job = self._source.next_job()
            if job is None or not self._ship:
                return job
            if not job.evaluations:
                newest = next(sound(Path(job.checkpoints)), None) if job.checkpoints else None
                return job if newest is None else replace(job, checkpoint=ray.put(newest))
            for task in job.evaluations:
                check_file(Path(task.weights), task.checksum)
            packed = (ray.put(Path(task.weights).read_bytes()) for task in job.evaluations)
            return replace(job, packed=tuple(packed))
        return None

    def exhausted(self) -> bool:
        """Return whether no job will come any more."""
        return self.failure is not None or self._source.exhausted()

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """See the trials as they stand, and end the workers when the study is stopped.

        They are given `PAUSE_SECONDS` to finish their step and to be saved. One in the midst of
        something longer would answer a request to stop only after it.
        """
        self._trials = trials
        try:
            self._check()
        except ClusterError as error:
            self.failure = self.failure or error
            raise RayGone from error
        late = self._pace.late()
        for trial in trials:
            if trial.trial_id in late and trial.status == Trial.RUNNING:
                self._pace.over(trial.trial_id)
                self._late[trial.trial_id] = self._pace.why()
                self._kill(trial)
        slow = set(self._pace.slow()) - self._told
        self._told |= slow
        for trial in trials:
            if trial.trial_id in slow and not self.stop():
                job = _job(trial)
                self._tell(
                    f"{describe(job.config)}: no epoch in {duration(FLOOR_SECONDS)}, and none of "
                    f"any run is known yet that could tell whether it hangs"
                    f"{hang_place(self._crash(job))}; Ctrl-C ends the study"
                )
        if self.stop() and self._kill_at is None:
            self._pause()
            self._kill_at = time.monotonic() + PAUSE_SECONDS
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            for trial in trials:
                if trial.status == Trial.RUNNING and trial.trial_id not in self._killed:
                    self._killed.add(trial.trial_id)
                    self._kill(trial)

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Tell that a worker begins with a job."""
        self._begun.add(trial.trial_id)
        self._pace.begun(trial.trial_id)
        with self._kept():
            self._source.started(_job(trial))

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take in what a worker reported; return whether its job is to be stopped early.

        Tune asks this before anything else. The report leaves the result, which Tune keeps.
        """
        job: Job = result.pop("config")["job"]
        report: Report = result.pop("report")
        self._reports[trial_id] = report
        self._pace.stepped(trial_id)
        stops = False
        with self._kept():
            stops = bool(report.metrics) and self._source.reported(job, report)
        return stops and report.state is None

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """End a job that ended by itself or was stopped early."""
        report = self._reports.get(trial.trial_id, Report())
        state = report.state or State.STOPPED
        metrics = report.result if state == State.FINISHED else report.metrics
        memory = report.out_of_memory
        told = report.error, report.traceback
        self._end(trial, Outcome(state, metrics, report, *told, out_of_memory=memory))

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """End a job whose worker process was lost; its queue knows whether for the first time."""
        begun = trial.trial_id in self._begun  # else it left nothing; an earlier attempt may have
        left = newest_word(self._crash(_job(trial))) if begun else ""
        report = self._reports.get(trial.trial_id, Report())
        if reason := self._late.get(trial.trial_id):
            error = f"{reason}{hang_place(left)}"
            self._end(trial, Outcome(State.FAILED, {}, report, error, left or None))
            return
        error = explain_loss(_said(trial), left, killed=begun and self._killed_for_memory())
        # Where no worker began, what filled the memory was no batch of this job.
        place, memory = crash_place(left), begun and error.startswith(OUT_OF_MEMORY)
        self._end(trial, Outcome(LOST, {}, report, error, left or None, place, memory))

    def _killed_for_memory(self) -> bool:
        """Return whether the system has killed another process since memory ran out."""
        killed = self._memory_kills() > self._known_kills
        self._known_kills += killed
        return killed

    def interrupt(self) -> None:
        """End what has not ended, as interrupted."""
        for trial in self._trials:
            report = self._reports.get(trial.trial_id, Report())
            self._end(trial, Outcome(State.INTERRUPTED, report.metrics, report))

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        if trial.trial_id in self._ended:
            return
        if self.stop() and outcome.state != State.FINISHED:
            outcome = Outcome(State.INTERRUPTED, outcome.metrics, outcome.report)
        self._pace.over(trial.trial_id)
        self._ended.add(trial.trial_id)  # a job that is begun anew is another trial
        self._reports.pop(trial.trial_id, None)
        never_began = outcome.state == LOST and trial.trial_id not in self._begun
        self._never_began = self._never_began + 1 if never_began else 0
        with self._kept():
            self._source.ended(_job(trial), outcome)
            if self._never_began >= NEVER_BEGAN:
                raise ClusterError(
                    f"worker processes cannot be started or kept: {outcome.error}\nWhat has "
                    f"finished is recorded; the same command goes on from there"
                )

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error


class Feed(Searcher):  # type: ignore[misc]
    """Hands jobs to Tune, as many as fit side by side.

    Args:
        watch: Knows the next job, and how many are running.
        workers: How many may run.
    """

    def __init__(self, watch: Watch, workers: int) -> None:
        super().__init__()
        self._watch = watch
        self._workers = workers

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next job, None where there is none now, FINISHED where none will come."""
        if self._watch.stop():
            return str(Searcher.FINISHED)
        if self._watch.active() >= self._workers:
            return None
        job = self._watch.next_job()
        if job is not None:
            return {"job": job}
        return str(Searcher.FINISHED) if self._watch.exhausted() else None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: `Watch` hears of it too, with more to see."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Do nothing: the ledger is the record."""


def _job(trial: Trial) -> Job:
    job: Job = trial.config["job"]
    return job


def _said(trial: Trial) -> str:
    """Return what Ray says of a lost worker; Tune itself reads a copy that it makes later."""
    with contextlib.suppress(OSError):
        return Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    return ""


def machine_lost(error: str) -> bool:
    """Return whether Ray says that a whole machine went away."""
    return "node died" in error.lower() or "node was terminated" in error.lower()


def explain_loss(error: str, left: str, *, killed: bool = False) -> str:
    """Return why a worker process was lost, in one sentence.

    Args:
        error: What Ray says.
        left: What the process left behind when it crashed.
        killed: Whether the system has killed a process since memory ran out.
    """
    less = "a smaller train.batch_size or fewer trials side by side (resources) need less"
    if "OutOfMemoryError" in error or "memory pressure" in error or "running low on mem" in error:
        return (
            f"{OUT_OF_MEMORY}: Ray ended the worker because the machine's memory was nearly full; "
            f"{less}"
        )
    if machine_lost(error):
        return MACHINE_LOST
    if place := crash_place(left):
        return f"the worker process crashed: {place}"
    if killed:
        full = f"{quantity(memory_limit())}B of memory were full"
        return f"{OUT_OF_MEMORY}: the system ended the worker, since {full}; {less}"
    return (
        "the worker process died without a word: it was killed (by the system, if memory ran "
        "out), or native code ended it"
    )


def newest_word(left: str) -> str:
    """Return what a process wrote last: that it crashed, or where a long step stood by then."""
    return left[max(left.rfind(SLOW), left.find(FATAL), 0) :]


def crash_place(left: str) -> str:
    """Return how and where a process crashed, from what faulthandler wrote; empty without that.

    Its lines name the innermost call of a thread first, and the thread that crashed.
    """
    fault = left.partition(FATAL)[2].partition("\n")[0]
    return f"{fault}{_innermost(left.partition('Current thread')[2])}"


def hang_place(left: str) -> str:
    """Return where a process hung, from what its watchdog wrote last."""
    return _innermost(left.rpartition("Thread 0x")[2])


def _innermost(calls: str) -> str:
    match = re.search(r'File "(.*)", line (\d+) in (.*)', calls)
    return f" ({Path(match[1]).name}:{match[2]} in {match[3]})" if match else ""
