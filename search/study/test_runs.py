"""Trained networks applied to the test part, several in one job, by one driver at a time."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from attnsearch.runs.ledger import LedgerError, PlanRow, State
from attnsearch.search.study.events import Progress, TrialEnd, TrialInfo
from attnsearch.search.study.queue import Fate, Queued
from attnsearch.search.study.stage import Stage, tested
from attnsearch.search.workers import Evaluation, Job, Outcome, Report, has_user_code


def evaluations(stage: Stage, row: PlanRow) -> tuple[list[tuple[Evaluation, str]], int]:
    """Return a plan's runs without test scores, and how many of them have no weights.

    Those without, since the disk was full for instance, are trained again in the next session.
    """
    wanted: dict[int, tuple[Evaluation, str]] = {}
    without = set()
    for runs in stage.ledger.arm_runs(row).values():
        for run in runs:
            if run is None or run.state != State.FINISHED or tested(run):
                continue
            if run.weights_path is None or not stage.ledger.intact(run.weights_path):
                without.add(run.id)
                continue
            # Its own weights take the place of those that it started from.
            network = {**run.config["network"], "weights": None}
            task = Evaluation(
                run.id,
                run.config,
                stage.dataset(run.fold),
                run.weights_path,
                checksum=stage.ledger.checksum(run.weights_path),
                inputs=stage.inputs({**run.config, "network": network}),
            )
            wanted.setdefault(run.id, (task, run.name))
    return list(wanted.values()), len(without)


@dataclass
class Turn(Queued):
    """A driver's turn at what one of them does at a time; others wait for its end.

    Attributes:
        stage: The study's surroundings.
        resource: What it is the turn at, as leases name it.
    """

    stage: Stage
    resource: str

    def begin(self) -> Fate:
        """Take the turn, or wait for it."""
        self.stage.company.met()
        self.holder = self.stage.ledger.hold(self.resource) or ""
        return Fate.ELSEWHERE if self.holder else Fate.OVER

    def __enter__(self) -> None:
        """Do nothing: `begin` takes it."""

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(LedgerError):  # it then ends with this process
            self.stage.ledger.free(self.resource)

    def started(self) -> None:
        """Do nothing: it has no job."""

    def reported(self, report: Report) -> bool:
        """Do nothing: it has no job."""
        return False

    def ended(self, outcome: Outcome) -> Fate:
        """Do nothing: it has no job."""
        return Fate.OVER


@dataclass
class TestRuns(Queued):
    """Networks that one job applies to the test part, one a step.

    What a job leaves is tried again in another one, but for the network at which it failed. Those
    with a user's block come last and each in a job of its own, since its code may leave the
    process in any state.

    Attributes:
        act: What the act is called.
        networks: What is to be evaluated, and how watchers are shown it.
        store: Takes a run's number, its scores and its predictions.
        progress: Told of every network.
        failed: The runs that could not be scored.
    """

    __test__ = False  # its name begins as pytest's classes do

    act: str
    networks: list[tuple[Evaluation, TrialInfo]]
    store: Callable[[int, Mapping[str, float], Mapping[str, Any]], None]
    progress: Progress
    failed: list[int] = field(default_factory=list)

    def begin(self) -> Job:
        """Return the job that evaluates what is left."""
        self.networks.sort(key=lambda pair: has_user_code(pair[0].config))
        clean = [task for task, _ in self.networks if not has_user_code(task.config)]
        tasks = tuple(clean or [self.networks[0][0]])
        return Job(
            id=-tasks[0].run_id,  # which no training has
            config=tasks[0].config,
            dataset=tasks[0].dataset,
            act=self.act,
            evaluations=tasks,
        )

    def started(self) -> None:
        """Do nothing: watchers hear of each network when it is evaluated."""

    def reported(self, report: Report) -> bool:
        """Store the scores of a network; the others of the job follow."""
        assert report.evaluated is not None
        ((_, predictions),) = report.predictions.items()
        self.store(report.evaluated, report.metrics, predictions)
        self._leave(report.evaluated, TrialEnd(State.FINISHED, report.metrics))
        self.losses.clear()  # they are counted for each network
        return False

    def ended(self, outcome: Outcome) -> Fate:
        """Return whether networks are left for another job."""
        if self.networks and outcome.state not in (State.INTERRUPTED, State.FINISHED):
            run_id = self.networks[0][0].run_id
            self.failed.append(run_id)
            self.losses.clear()
            reason = outcome.error or "it was not evaluated"
            self._leave(run_id, TrialEnd(State.FAILED, reason=reason))
        return Fate.AGAIN if self.networks else Fate.OVER

    def _leave(self, run_id: int, end: TrialEnd) -> None:
        (info,) = (info for task, info in self.networks if task.run_id == run_id)
        self.networks = [pair for pair in self.networks if pair[0].run_id != run_id]
        self.progress.trial_ended(info, end)
