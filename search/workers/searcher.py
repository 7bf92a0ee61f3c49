"""The two ends of Ray Tune that face us: where its trials come from, and what it says of them.

Tune's own searchers tell Optuna that a trial stopped after one epoch is complete, lose it at a NaN
and know nothing of infeasible ones. So the searcher here only hands over jobs, and the callback
turns what Tune reports into one outcome per job, from what the worker said rather than from what
Tune makes of it.
"""

from collections.abc import Callable
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from attnsearch.runs.ledger import State
from attnsearch.search.workers.job import LOST, Job, Jobs, Outcome, Report


class Feed(Searcher):  # type: ignore[misc]
    """Hands jobs to Tune, as many as fit side by side.

    Args:
        source: Where the jobs come from.
        active: How many jobs are running or about to run.
        paused: How many wait to go on; until they do, Tune must not think that the end has come,
            or it would start a new process for each of them.
        workers: How many may run.
        stop: Whether to hand over no more.
    """

    def __init__(
        self,
        source: Jobs,
        active: Callable[[], int],
        paused: Callable[[], int],
        workers: int,
        stop: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._source = source
        self._active = active
        self._paused = paused
        self._workers = workers
        self._stop = stop

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next job, None where there is none now, FINISHED where none will come."""
        if self._stop():
            return str(Searcher.FINISHED)
        if self._active() >= self._workers:
            return None
        job = self._source.next_job()
        if job is not None:
            return {"job": job}
        over = self._source.exhausted() and not self._paused()
        return str(Searcher.FINISHED) if over else None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: `Watch` hears of it too, with more to see."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the record."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the ledger is the record."""


class Watch(Callback):  # type: ignore[misc]
    """Tells a source what becomes of its jobs, and keeps count of those that are active.

    Args:
        source: Where the jobs came from.
        stop: Whether the study is being stopped; a job that ends then was interrupted.
        kill: Ends a worker process at once.
        crash: What a crashed worker left behind about a job, in a line or two; may be empty.
    """

    def __init__(
        self,
        source: Jobs,
        stop: Callable[[], bool],
        kill: Callable[[Trial], None],
        crash: Callable[[Job], str],
    ) -> None:
        self._source = source
        self._stop = stop
        self._kill = kill
        self._crash = crash
        self._reports: dict[int, Report] = {}
        self._ended: set[int] = set()
        self._trials: list[Trial] = []
        self._begun: set[str] = set()
        self._killed: set[str] = set()

    def stopped(self) -> bool:
        """Return whether Tune may end the rest: the study is being stopped and no worker trains.

        Those that train are killed and must have been seen to be dead, or Tune would wait for
        each of them to answer.
        """
        return self._stop() and all(trial.status != Trial.RUNNING for trial in self._trials)

    def active(self) -> int:
        """Count the jobs that run or are about to, without those paused by a scheduler."""
        return sum(trial.status in (Trial.PENDING, Trial.RUNNING) for trial in self._trials)

    def paused(self) -> int:
        """Return how many jobs a scheduler has paused."""
        return sum(trial.status == Trial.PAUSED for trial in self._trials)

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """See the trials as they stand, and ends the workers when the study is stopped.

        A worker in the middle of an epoch would answer a request to stop only after it.
        """
        self._trials = trials
        if self._stop():
            for trial in trials:
                if trial.status == Trial.RUNNING and trial.trial_id not in self._killed:
                    self._killed.add(trial.trial_id)
                    self._kill(trial)

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A worker begins with a job."""
        self._begun.add(trial.trial_id)
        self._source.started(_job(trial))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """A worker reported. The report leaves the result, which Tune would keep for good."""
        report: Report = result.pop("report")
        result.pop("config", None)
        job = _job(trial)
        self._reports[job.id] = report
        if report.metrics:
            self._source.reported(job, report)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A job ended by itself, or its scheduler stopped it."""
        report = self._reports.get(_job(trial).id, Report())
        state = report.state or State.STOPPED
        metrics = report.result if state == State.FINISHED else report.metrics
        self._end(_job(trial), Outcome(state, metrics, report, report.error, report.traceback))

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A worker process was lost."""
        job = _job(trial)
        left = self._crash(job)
        error = str(trial.get_error())
        begun = trial.trial_id in self._begun
        state = State.FAILED if begun and not machine_lost(error) else LOST
        report = self._reports.get(job.id, Report())
        self._end(job, Outcome(state, {}, report, explain_loss(error, left), left))

    def interrupt(self) -> None:
        """End what has not ended, as interrupted."""
        for trial in self._trials:
            job = _job(trial)
            if job.id not in self._ended:
                report = self._reports.get(job.id, Report())
                self._end(job, Outcome(State.INTERRUPTED, report.metrics, report))

    def _end(self, job: Job, outcome: Outcome) -> None:
        if job.id in self._ended:
            return
        if self._stop() and outcome.state != State.FINISHED:
            outcome = Outcome(State.INTERRUPTED, outcome.metrics, outcome.report)
        self._ended.add(job.id)
        self._reports.pop(job.id, None)
        self._source.ended(job, outcome)


def _job(trial: Trial) -> Job:
    job: Job = trial.config["job"]
    return job


def machine_lost(error: str) -> bool:
    """Return whether Ray says that a whole machine went away."""
    return "node died" in error.lower() or "node was terminated" in error.lower()


def explain_loss(error: str, left: str) -> str:
    """Return why a worker process was lost, in one sentence.

    Args:
        error: What Ray says.
        left: What the process left behind when it crashed.
    """
    if "OutOfMemoryError" in error or "memory pressure" in error or "running low on mem" in error:
        return (
            "out of memory: Ray ended the worker because the machine's memory was nearly full; a "
            "smaller train.batch_size or fewer trials side by side (resources) need less"
        )
    if machine_lost(error):
        return "the machine that trained it was lost"
    if left:
        fault = left.splitlines()[0].removeprefix("Fatal Python error: ")
        return f"the worker process crashed: {fault}"
    return (
        "the worker process died without a word: it was killed (by the system, if memory ran "
        "out), or native code ended it"
    )
