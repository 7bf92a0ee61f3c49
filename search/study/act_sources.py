"""Where the jobs of the acts come from that follow exploring, and the chain of all acts.

Starting workers takes longer than many a training, so one execution goes through all acts: `Acts`
is its one source, and asks each act's source in turn.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from attnsearch.runs.ledger import PLAN_ROLES, PlanRow, Role, RunRow, State, TrialRow
from attnsearch.runs.statistics import Plan
from attnsearch.search.plans import run_config
from attnsearch.search.study.events import Progress, TrialEnd, TrialInfo
from attnsearch.search.study.exploring import LOST_MAX, POLL_SECONDS
from attnsearch.search.study.records import Entry, Records
from attnsearch.search.workers import LOST, Evaluation, Job, Jobs, Outcome, Report
from attnsearch.spaces import Space


class Closable(Jobs, Protocol):
    """A source that may hold a job which nobody asked for."""

    def close(self) -> None:
        """Let go of what it holds."""


class Acts:
    """The sources of several acts, one after the other.

    Args:
        acts: Gives the source of each act; asked for the next one when all jobs of the one before
            have ended, so what is planned next may depend on them.
    """

    def __init__(self, acts: Iterator[Jobs]) -> None:
        self._acts = acts
        self._current: Jobs | None = None
        self._open: dict[int, Jobs] = {}
        self._ready: Job | None = None
        self._over = False

    def anything_to_train(self) -> bool:
        """Tell whether there is a job, then kept for `next_job`, or may be one later."""
        self._ready = self._ready or self.next_job()
        return self._ready is not None or not self.exhausted()

    def close(self) -> None:
        """Let go of a job that was kept and never asked for."""
        if self._ready is not None:
            job, self._ready = self._ready, None
            self.ended(job, Outcome(State.INTERRUPTED, {}, Report()))

    def next_job(self) -> Job | None:
        """Return the next job of the act, or the first of the next act."""
        if self._ready is not None:
            ready, self._ready = self._ready, None
            return ready
        while not self._over:
            if self._current is not None:
                job = self._current.next_job()
                if job is not None:
                    self._open[job.id] = self._current
                    return job
                if self._open or not self._current.exhausted():
                    return None
            self._current = next(self._acts, None)
            self._over = self._current is None
        return None

    def exhausted(self) -> bool:
        """Return whether all acts are over."""
        return self._over and self._ready is None

    def started(self, job: Job) -> None:
        """A worker begins with it."""
        self._open[job.id].started(job)

    def reported(self, job: Job, report: Report) -> bool:
        """Record a step; return whether the job is to be stopped early."""
        return self._open[job.id].reported(job, report)

    def ended(self, job: Job, outcome: Outcome) -> None:
        """It ended."""
        self._open.pop(job.id).ended(job, outcome)


@dataclass
class PlanWork:
    """What `PlanRuns` needs to know beside its plan.

    Attributes:
        space: Of the study.
        act: What the act is called.
        key: Gives the run key of a config with its fold and seed.
        dataset: Gives the name of the data set of a fold.
        usable: Whether a finished run has all that the plan needs of it.
        past: The study's runs so far.
    """

    space: Space
    act: str
    key: Callable[[Mapping[str, Any]], str]
    dataset: Callable[[int | None], str]
    usable: Callable[[RunRow], bool]
    past: Sequence[TrialRow]


class PlanRuns:
    """Trains the runs of a plan: every arm with every seed and fold, none stopped early.

    A run that failed stays failed, also in later sessions: another seed in its place, or another
    attempt, would bend the comparison. One that was interrupted, or whose worker was lost, is
    begun anew.

    Args:
        row: The plan, stored.
        records: Where everything is written down.
        work: Everything else.
    """

    def __init__(self, row: PlanRow, records: Records, work: PlanWork) -> None:
        self.plan = row.plan
        self._records = records
        self._work = work
        self._twins = _twins(row.plan)
        places = {old.place: old for old in work.past}
        self._failed = {
            old.key: old.id
            for old in work.past
            if old.role in PLAN_ROLES and old.state in (State.FAILED, State.INFEASIBLE)
        }
        self._queue: list[Entry] = []
        self._awaited: list[Entry] = []
        self._running: dict[int, Entry] = {}
        self._polled = 0.0
        self._useless: set[int] = set()
        self.done = 0
        for shown, entry in enumerate(self._entries()):
            entry.shown = shown
            old = places.get((entry.role, entry.arm, entry.number))
            if old is not None and old.key == entry.key and self._settled(old):
                self.done += 1
                entry.run_id = old.id
                self._attach_twins(entry, places)
            else:
                self._queue.append(entry)

    @property
    def runs(self) -> int:
        """How many runs the plan has, those that several arms share counted once."""
        arms = [arm for arm in self.plan.arms if arm.equals is None]
        return len(arms) * len(self.plan.repeats())

    @property
    def left(self) -> list[Entry]:
        """The runs that are still to be begun."""
        return list(self._queue)

    def next_job(self) -> Job | None:
        """Return the next run to train; those that are known are taken over on the way."""
        while True:
            entry = self._next_entry()
            if entry is None:
                return None
            job = self._begin(entry)
            if job is not None:
                return job

    def exhausted(self) -> bool:
        """Return whether every run has been begun."""
        return not self._queue and not self._awaited

    def started(self, job: Job) -> None:
        """A worker begins with a run."""
        self._records.started(self._running[job.id])

    def reported(self, job: Job, report: Report) -> bool:
        """Record an epoch; no run of a plan is stopped early."""
        self._records.epoch(self._running[job.id], report)
        return False

    def ended(self, job: Job, outcome: Outcome) -> None:
        """A run ended."""
        entry = self._running.pop(job.id)
        if outcome.state == LOST:
            entry.lost += 1
            again = entry.lost <= LOST_MAX
            outcome = replace(outcome, state=State.INTERRUPTED if again else State.FAILED)
        if not self._records.ended(entry, outcome):
            self._awaited.append(entry)
        elif outcome.state == State.INTERRUPTED:
            self._queue.append(entry)
        else:
            self._attach_twins(entry)

    def _entries(self) -> Iterator[Entry]:
        """Yield all runs, seed by seed: what is there when a study is stopped can be compared."""
        for number, (fold, seed) in enumerate(self.plan.repeats()):
            for arm in self.plan.arms:
                if arm.equals is not None:
                    continue
                role, name = self.plan.place(arm.label)
                config = run_config(self._work.space, arm, seed, fold)
                yield Entry(
                    number=number,
                    role=Role(role),
                    values=dict(arm.changed),
                    config=config,
                    key=self._work.key(config),
                    seed=seed,
                    arm=name,
                    label=_place_name(self.plan, arm.label, number),
                    act=self._work.act,
                )

    def _settled(self, old: TrialRow) -> bool:
        """Return whether nothing is left to do for a run of an earlier session."""
        return old.state.ended and (old.state != State.FINISHED or self._work.usable(old))

    def _next_entry(self) -> Entry | None:
        if self._queue:
            return self._queue.pop(0)
        if self._awaited and time.monotonic() - self._polled > POLL_SECONDS:
            self._polled = time.monotonic()
            return self._awaited.pop(0)
        return None

    def _begin(self, entry: Entry) -> Job | None:
        """Claim a run: a job if it is to be trained here and now."""
        if entry.key in self._failed:
            self._records.attach(entry, self._failed[entry.key])
            self._attach_twins(entry)
            return None
        claim = self._records.claim(entry, self._useless)
        if claim.outcome == "finished" and not self._work.usable(claim.run):
            # Its weights are gone, and the test part needs them.
            self._useless.add(claim.run_id)
            claim = self._records.claim(entry, self._useless)
        if claim.outcome == "busy":
            self._awaited.append(entry)
            return None
        if claim.outcome == "finished":
            self._records.took_over(entry, claim.run)
            self._attach_twins(entry)
            return None
        self._running[claim.run_id] = entry
        entry.curve.clear()
        return Job(
            id=claim.run_id,
            config=entry.config,
            seed=entry.seed,
            epochs=entry.epochs,
            protected=True,
            dataset=self._work.dataset(self.plan.repeats()[entry.number][0]),
            predictions=("val",),
            act=entry.act,
        )

    def _attach_twins(
        self, entry: Entry, places: Mapping[tuple[str, str | None, int], TrialRow] | None = None
    ) -> None:
        """Give the arms that equal an entry's their rows, unless they have them."""
        assert entry.run_id is not None
        for label in self._twins.get(entry.arm or "", ()):
            role, name = self.plan.place(label)
            known = (places or {}).get((role, name, entry.number))
            if known is None or known.id != entry.run_id:
                twin = replace(
                    entry, arm=name, label=_place_name(self.plan, label, entry.number), values={}
                )
                self._records.attach(twin, entry.run_id)


@dataclass
class TestWork:
    """What `TestRuns` needs to know.

    Attributes:
        act: What the act is called.
        evaluations: What is to be evaluated, with the name of each.
        chunks: Into how many jobs that is divided.
        numbers: Gives the jobs their numbers, which no run has.
        store: Takes a run's number, its scores and its predictions.
    """

    act: str
    evaluations: Sequence[tuple[Evaluation, str]]
    chunks: int
    numbers: Iterator[int]
    store: Callable[[int, Mapping[str, float], Mapping[str, Any]], None]
    failed: list[int] = field(default_factory=list)


class TestRuns:
    """Applies trained networks to the test part, several in one job.

    Args:
        work: What is to be done.
        progress: Told of every network.
    """

    __test__ = False  # its name begins as pytest's classes do

    def __init__(self, work: TestWork, progress: Progress) -> None:
        self._work = work
        self._progress = progress
        self._info = {
            task.run_id: TrialInfo(number, label, {}, 1, "test", work.act)
            for number, (task, label) in enumerate(work.evaluations)
        }
        tasks = [task for task, _ in work.evaluations]
        parts = (tuple(tasks[start :: work.chunks]) for start in range(work.chunks))
        self._queue = [part for part in parts if part]
        self._done: set[int] = set()
        self._lost = 0

    def next_job(self) -> Job | None:
        """Return the next networks to evaluate."""
        if not self._queue:
            return None
        tasks = self._queue.pop(0)
        return Job(
            id=next(self._work.numbers),
            config=tasks[0].config,
            seed=tasks[0].seed,
            epochs=len(tasks),
            protected=True,
            dataset=tasks[0].dataset,
            act=self._work.act,
            evaluations=tasks,
        )

    def exhausted(self) -> bool:
        """Return whether all have been handed out."""
        return not self._queue

    def started(self, job: Job) -> None:
        """A worker begins."""

    def reported(self, job: Job, report: Report) -> bool:
        """Record what one network scored; the others of the job follow."""
        run_id = report.evaluated
        assert run_id is not None
        ((_, predictions),) = report.predictions.items()
        self._work.store(run_id, report.metrics, predictions)
        self._done.add(run_id)
        self._progress.trial_ended(self._info[run_id], TrialEnd(State.FINISHED, report.metrics))
        return False

    def ended(self, job: Job, outcome: Outcome) -> None:
        """A job ended; what it left is tried again, but for the network at which it failed."""
        left = [task for task in job.evaluations if task.run_id not in self._done]
        if outcome.state == State.INTERRUPTED or not left:
            return
        if outcome.state == LOST and self._lost < LOST_MAX:
            self._lost += 1
        else:
            failed = left.pop(0)
            self._work.failed.append(failed.run_id)
            end = TrialEnd(State.FAILED, reason=outcome.error or "it was not evaluated")
            self._progress.trial_ended(self._info[failed.run_id], end)
        if left:
            self._queue.append(tuple(left))


def job_numbers() -> Iterator[int]:
    """Return numbers for jobs that no run has: -1, -2, ..."""
    return itertools.count(-1, -1)


def _twins(plan: Plan) -> dict[str, list[str]]:
    """Return the name of an arm -> the labels of the arms that equal it."""
    origin = {arm.label: arm.equals for arm in plan.arms}
    found: dict[str, list[str]] = {}
    for label, other in origin.items():
        if other is None:
            continue
        while (further := origin[other]) is not None:
            other = further
        found.setdefault(plan.place(other)[1], []).append(label)
    return found


def _place_name(plan: Plan, label: str, number: int) -> str:
    """Name a run of an arm: seeds count from 1, as the numbers themselves are long."""
    fold, seed = plan.repeats()[number]
    part = "" if fold is None else f" fold {fold}"
    return f"arm {_short(plan.place(label)[1])}{part} seed {plan.seeds.index(seed) + 1}"


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[: most - 4]} ..."
