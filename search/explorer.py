"""The exploring act: proposes trials, passes over what is known, and takes their outcomes.

A `Source` for `attnsearch.search.executor.execute`. What it knows of earlier sessions it reads
from the ledger when it is made, so that a study goes on as if it had not been interrupted.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attnsearch.runs.rows import RunRow, TrialRow
from attnsearch.search.events import Progress
from attnsearch.search.job import Job, Outcome, Report
from attnsearch.search.objectives import Objectives
from attnsearch.search.proposals import Proposal, Proposals, Told
from attnsearch.search.records import BASELINE, Entry, Records
from attnsearch.search.schedulers import EarlyStopping
from attnsearch.search.trainable import excess
from attnsearch.spaces import Space

REPEATS_RANDOM = 10  # proposals in a row that are not new, until they are drawn at random
REPEATS_LIST = 30  # until the space is listed for what is left, if it can be
REPEATS_END = 1000  # until the search gives up
LISTED_MAX = 20_000  # combinations that are listed for that
POLL_SECONDS = 1.0  # between looks at a run that another driver trains


class Explorer:
    """Proposes the trials of one study.

    Args:
        space: The space.
        proposals: The bridge to Optuna, empty.
        records: Where everything is written down.
        objectives: Of the study.
        progress: Told of what the user should know.
        key: Gives the run key of a config.
        past: The study's trials so far.
        scheduler: Learns from trials that were not trained in this session.
        trials: How many distinct configs may be tried.
        workers: How many run side by side; noted with each proposal.
        baseline: The plain network's config, where it is to be trained beside the search.
        predictions: The splits whose predictions are stored.
    """

    def __init__(
        self,
        space: Space,
        proposals: Proposals,
        records: Records,
        objectives: Objectives,
        progress: Progress,
        key: Callable[[Mapping[str, Any]], str],
        past: Sequence[TrialRow],
        *,
        scheduler: EarlyStopping | None = None,
        trials: int,
        workers: int = 1,
        baseline: dict[str, Any] | None = None,
        predictions: tuple[str, ...] = ("val",),
    ) -> None:
        self._space = space
        self._proposals = proposals
        self._records = records
        self._objectives = objectives
        self._progress = progress
        self._key = key
        self._scheduler = scheduler
        self._budget = trials
        self._workers = workers
        self._predictions = predictions
        limits = space.document.get("limits") or {}
        self._limits = {name: float(limit) for name, limit in limits.items() if limit is not None}
        self._entries: dict[str, Entry] = {}  # by key: the configs of this study
        self._told: dict[str, Told] = {}  # by key: what became of them
        self._same: dict[str, list[int]] = defaultdict(list)  # proposals that wait for a key
        self._queue: list[Entry] = []
        self._awaited: list[Entry] = []
        self._polled = 0.0
        self._running: dict[int, Entry] = {}
        self._asked: dict[int, int] = {}  # trial number -> Optuna's number
        self._over: str | None = None
        self.ended_before = 0
        self._adopt(past)
        if baseline is not None and not any(row.role == BASELINE and _done(row) for row in past):
            self._queue.append(
                Entry(0, BASELINE, {}, baseline, key(baseline), baseline["train"]["seed"])
            )

    @property
    def count(self) -> int:
        """Distinct configs so far, those of earlier sessions included."""
        return len(self._asked)

    @property
    def ended_early(self) -> str | None:
        """Why the search ended before its budget was spent, if it did."""
        return self._over

    def more_to_come(self) -> bool:
        """Whether further trials may be proposed."""
        return not self.exhausted()

    def next_job(self) -> Job | None:
        """The next trial to train; known ones on the way are told and passed over."""
        while True:
            entry = self._next_entry()
            if entry is None:
                return None
            job = self._begin(entry)
            if job is not None:
                return job

    def exhausted(self) -> bool:
        """Whether all has been proposed and nothing is left to begin."""
        spent = self.count >= self._budget or self._over is not None
        return spent and not self._queue and not self._awaited

    def started(self, job: Job) -> None:
        """A worker begins with a trial."""
        self._records.started(self._running[job.id])

    def reported(self, job: Job, report: Report) -> None:
        """An epoch was trained."""
        self._records.epoch(self._running[job.id], report)

    def ended(self, job: Job, outcome: Outcome) -> None:
        """A trial ended; Optuna is told, and those that waited for the same config."""
        entry = self._running.pop(job.id)
        if not self._records.ended(entry, outcome):
            self._awaited.append(entry)
            return
        if outcome.state == "interrupted" or entry.role == BASELINE:
            return
        report = outcome.report
        scores = None
        if outcome.state == "finished":
            scores = self._objectives.scores(outcome.metrics, report.costs)
        curve = self._curves.pop(job.id, [])
        constraints = self._constraints(outcome.state, report.costs, report.violations)
        self._tell(entry, self._objectives.told(outcome.state, curve, scores, constraints))
