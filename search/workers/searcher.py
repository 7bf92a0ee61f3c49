"""The two ends of Ray Tune that face us: where its trials come from, and what it says of them.

Tune's own searchers tell Optuna that a trial stopped after one epoch is complete, lose it at a NaN
and know nothing of infeasible ones. So the searcher here only hands over jobs, and the callback
turns what Tune reports into one outcome per job, from what the worker said rather than from what
Tune makes of it. Tune stops a job early where the source says so, not by a scheduler of its own.
"""

import contextlib
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

from attnsearch.blocks.naming import describe, shown_name
from attnsearch.runs.ledger import State, check_file
from attnsearch.runs.machine import memory_kills
from attnsearch.runs.store import is_store_named
from attnsearch.runs.training import sound
from attnsearch.runs.words import duration
from attnsearch.search.workers.cluster import ClusterError
from attnsearch.search.workers.job import LOST, MACHINE_LOST, Job, Jobs, Outcome, Report
from attnsearch.search.workers.losses import (
    OUT_OF_MEMORY,
    crash_place,
    explain_loss,
    hang_place,
    newest_word,
)
from attnsearch.search.workers.pace import FLOOR_SECONDS, PAUSE_SECONDS, Pace

NEVER_BEGAN = 3  # jobs in a row whose workers never began: it is taken for the machine's fault


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
        replicas: How many jobs of one group a process trains in turns. Where one of them takes it
            down, or memory runs out, each goes on alone.
        leave: Ends one of them at its next epoch.
        gone: Whether the machine of a lost worker is gone, by what Ray says of the loss.
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
        replicas: int = 1,
        leave: Callable[[Job], None] = lambda job: None,
        gone: Callable[[str], bool] = lambda said: False,
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
        self._replicas, self._leave, self._gone = replicas, leave, gone
        self._next: Job | None = None  # taken from the source, and of another group
        self._alone: set[tuple[str, int]] = set()  # group and seed of those that go on alone
        self._reports: dict[tuple[str, int], Report] = {}
        self._ended: set[tuple[str, int]] = set()
        self._trials: list[Trial] = []
        self._begun: set[str] = set()
        self._killed: set[str] = set()
        self._taken_over: set[str] = set()  # trials given a worker that had another before
        self._never_began: set[str] = set()  # trials, in a row
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
            job = self._take()
            if job is None or not self._ship:
                return job and self._with_replicas(job)
            if not job.evaluations:
                ships = job.checkpoints and not is_store_named()
                newest = next(sound(Path(job.checkpoints)), None) if ships else None
                return job if newest is None else replace(job, checkpoint=ray.put(newest))
            for task in job.evaluations:
                check_file(Path(task.weights), task.checksum)
            packed = (ray.put(Path(task.weights).read_bytes()) for task in job.evaluations)
            return replace(job, packed=tuple(packed))
        return None

    def _take(self) -> Job | None:
        job, self._next = self._next or self._source.next_job(), None
        return job

    def _with_replicas(self, job: Job) -> Job:
        """Return a job with those of its group that come next, as far as a process takes them."""
        jobs = [job]
        while len(jobs) < self._replicas and self._may_share(job):
            another = self._take()
            if another is None:
                break
            if another.group != job.group or not self._may_share(another):
                self._next = another
                break
            jobs.append(another)
        return replace(job, replicas=tuple(jobs)) if len(jobs) > 1 else job

    def _may_share(self, job: Job) -> bool:
        whole = job.group != "" and job.micro_batches == 1
        return whole and _identity(job) not in self._alone

    def exhausted(self) -> bool:
        """Return whether no job will come any more."""
        return self.failure is not None or (self._next is None and self._source.exhausted())

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
                name = shown_name(describe(job.config))
                self._tell(
                    f"{name}: no epoch in {duration(FLOOR_SECONDS)}, and none of any run "
                    f"is known yet that could tell whether it hangs"
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
        for job in _job(trial).members:
            with self._kept():
                self._source.started(job)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take in what a worker reported; return whether its job is to be stopped early.

        Tune asks this before anything else. The report leaves the result, which Tune keeps.
        """
        given: Job = result.pop("config")["job"]
        report: Report = result.pop("report")
        job = next((member for member in given.replicas if member.id == report.job), given)
        self._reports[trial_id, job.id] = report
        self._pace.stepped(trial_id)
        stops = False
        with self._kept():
            stops = bool(report.metrics) and self._source.reported(job, report)
        stops = stops and report.state is None
        if not given.replicas:
            return stops
        if stops:
            self._leave(job)
        if stops or report.state:
            self._complete(trial_id, job, together=True)
        return all((trial_id, member.id) in self._ended for member in given.replicas)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """End a job that ended by itself or was stopped early."""
        job = _job(trial)
        for member in job.members:
            self._complete(trial.trial_id, member, together=len(job.members) > 1)
        self._pace.over(trial.trial_id)

    def takes_over(self, trial: Trial) -> None:
        """Hear that a trial is given a worker that had another before."""
        self._taken_over.add(trial.trial_id)

    def _complete(self, trial_id: str, job: Job, *, together: bool) -> None:
        """End a job by its last report; what ran out of memory beside others goes on alone."""
        report = self._reports.get((trial_id, job.id), Report())
        state = report.state or State.STOPPED
        memory = report.out_of_memory
        if memory and together:
            self._alone.add(_identity(job))
            state, memory = State.INTERRUPTED, False
        metrics = report.result if state == State.FINISHED else report.metrics
        told = report.error, report.traceback
        self._end(trial_id, job, Outcome(state, metrics, report, *told, out_of_memory=memory))

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """End a job whose worker process was lost; its queue knows whether for the first time."""
        begun = trial.trial_id in self._begun  # else it left nothing; an earlier attempt may have
        left = newest_word(self._crash(_job(trial))) if begun else ""
        reason = self._late.get(trial.trial_id)
        error = f"{reason}{hang_place(left)}"
        if not reason:
            said = _said(trial)
            error = explain_loss(said, left, killed=begun and self._killed_for_memory())
            if not left and not error.startswith(OUT_OF_MEMORY) and self._gone(said):
                error = MACHINE_LOST
        # Where no worker began, what filled the memory was no batch of this job.
        place, memory = crash_place(left), begun and error.startswith(OUT_OF_MEMORY)
        for job in _job(trial).members:
            report = self._reports.get((trial.trial_id, job.id), Report())
            outcome = Outcome(LOST, {}, report, error, left or None, place, memory)
            if reason:
                outcome = Outcome(State.FAILED, {}, report, error, left or None)
            if not begun and trial.trial_id in self._taken_over:
                # The worker died while it had no job.
                outcome = Outcome(State.INTERRUPTED, report.metrics, report, error)
            if begun and _job(trial).replicas:
                self._alone.add(_identity(job))
                # Which of them it was will show; the others are not to blame.
                outcome = Outcome(State.INTERRUPTED, report.metrics, report, error)
            self._end(trial.trial_id, job, outcome)
        self._pace.over(trial.trial_id)

    def _killed_for_memory(self) -> bool:
        """Return whether the system has killed another process since memory ran out."""
        killed = self._memory_kills() > self._known_kills
        self._known_kills += killed
        return killed

    def interrupt(self) -> None:
        """End what has not ended, as interrupted."""
        left = [(trial.trial_id, job) for trial in self._trials for job in _job(trial).members]
        left += [("", self._next)] if self._next else []
        self._next = None
        for trial_id, job in left:
            report = self._reports.get((trial_id, job.id), Report())
            self._end(trial_id, job, Outcome(State.INTERRUPTED, report.metrics, report))

    def _end(self, trial_id: str, job: Job, outcome: Outcome) -> None:
        if (trial_id, job.id) in self._ended:
            return
        if self.stop() and outcome.state != State.FINISHED:
            outcome = Outcome(State.INTERRUPTED, outcome.metrics, outcome.report)
        self._ended.add((trial_id, job.id))  # a job that is begun anew is another trial
        self._reports.pop((trial_id, job.id), None)
        # A machine that goes away takes as many as began on it along.
        never_began = outcome.state == LOST and outcome.error != MACHINE_LOST
        never_began = never_began and trial_id not in self._begun
        self._never_began = self._never_began | {trial_id} if never_began else set()
        with self._kept():
            self._source.ended(job, outcome)
            if len(self._never_began) >= NEVER_BEGAN:
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
        workers: Says how many may run.
    """

    def __init__(self, watch: Watch, workers: Callable[[], int]) -> None:
        super().__init__()
        self._watch = watch
        self._workers = workers

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next job, None where there is none now, FINISHED where none will come."""
        if self._watch.stop():
            return str(Searcher.FINISHED)
        if self._watch.active() >= self._workers():
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


def _identity(job: Job) -> tuple[str, int]:
    """Return what a job of a group keeps when it is begun anew."""
    return job.group, job.config["train"]["seed"]


def _said(trial: Trial) -> str:
    """Return what Ray says of a lost worker; Tune itself reads a copy that it makes later."""
    with contextlib.suppress(OSError):
        return Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    return ""
