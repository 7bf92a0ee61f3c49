"""The exploring act: proposes trials, passes over what is known, and takes their outcomes.

A `Jobs` for `attnsearch.search.workers.execute`. What it knows of earlier sessions it reads
from the ledger when it is made, so that a study goes on as if it had not been interrupted.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from attnsearch.runs.ledger import Role, RunRow, State, TrialRow
from attnsearch.runs.words import value_text
from attnsearch.search.propose import Objectives, Proposal, Proposals, Told
from attnsearch.search.study.events import Progress
from attnsearch.search.study.records import Entry, Records
from attnsearch.search.workers import LOST, Curve, Job, Outcome, Report
from attnsearch.spaces import Space
from attnsearch.spaces.file import excess

REPEATS_RANDOM = 10  # proposals in a row that are not new, until they are drawn at random
REPEATS_LIST = 30  # until the space is listed for what is left, if it can be
REPEATS_END = 1000  # until the search gives up
LISTED_MAX = 20_000  # combinations that are listed for that
LOST_MAX = 2  # times that a trial is begun anew because its worker was lost
LABEL_MAX = 200  # characters
POLL_SECONDS = 1.0  # between looks at a run that another driver trains


class Explorer:
    """Proposes the trials of one study.

    Attributes:
        workers: How many trials run side by side; noted with each proposal.
        ended_before: How many trials had ended in earlier sessions.

    Args:
        space: The space.
        proposals: The bridge to Optuna, empty.
        records: Where everything is written down.
        objectives: Of the study.
        progress: Told of what the user should know.
        key: Gives the run key of a config.
        past: The study's trials so far.
        trials: How many distinct configs may be tried.
        baseline: The plain network's config, where it is to be trained beside the search.
        role: Of its trials: `Role.TRIAL`, or `Role.TUNING` where only training settings are
            searched.
        arm: The arm whose settings are tuned; None for a study's trials.
        act: The act's name; empty for a study's exploring.
        stops: Says from a trial's number and the curves of all whether it is stopped early;
            None stops none.
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
        trials: int,
        baseline: dict[str, Any] | None = None,
        role: Role = Role.TRIAL,
        arm: str | None = None,
        act: str = "",
        stops: Callable[[int, Mapping[int, Curve]], bool] | None = None,
    ) -> None:
        self._role, self._arm, self._act = role, arm, act
        self._space = space
        self._proposals = proposals
        self._records = records
        self._objectives = objectives
        self._progress = progress
        self._key = key
        self._stops = stops
        self._curves: dict[int, Curve] = {}  # by trial number, as `stops` takes them
        self._budget = trials
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
        self._ready: Job | None = None
        self.workers = 1
        self.ended_before = 0
        self._adopt(past)
        if baseline is not None and not any(
            row.role == Role.BASELINE and _done(row) for row in past
        ):
            self._queue.append(
                Entry(0, Role.BASELINE, {}, baseline, key(baseline), baseline["train"]["seed"])
            )

    @property
    def count(self) -> int:
        """Distinct configs so far, those of earlier sessions included."""
        return len(self._asked)

    @property
    def ended_early(self) -> str | None:
        """Why the search ended before its budget was spent, if it did."""
        return self._over

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
        """Return the next trial to train; known ones on the way are told and passed over."""
        if self._ready is not None:
            ready, self._ready = self._ready, None
            return ready
        while True:
            entry = self._next_entry()
            if entry is None:
                return None
            job = self._begin(entry)
            if job is not None:
                return job

    def exhausted(self) -> bool:
        """Return whether all has been proposed and nothing is left to begin."""
        spent = self.count >= self._budget or self._over is not None
        return spent and not self._queue and not self._awaited and self._ready is None

    def started(self, job: Job) -> None:
        """A worker begins with a trial."""
        self._records.started(self._running[job.id])

    def reported(self, job: Job, report: Report) -> bool:
        """Record an epoch; return whether the trial is to be stopped early."""
        entry = self._running[job.id]
        self._records.epoch(entry, report)
        self._follow(entry, entry.curve)
        measured = report.epoch in self._curves[_place(entry)]
        return (
            self._stops is not None
            and measured
            and not job.protected
            and self._stops(_place(entry), self._curves)
        )

    def ended(self, job: Job, outcome: Outcome) -> None:
        """A trial ended; Optuna is told, and those that waited for the same config."""
        entry = self._running.pop(job.id)
        lost = outcome.state == LOST
        if lost:
            entry.lost += 1
            again = entry.lost <= LOST_MAX
            outcome = replace(outcome, state=State.INTERRUPTED if again else State.FAILED)
        if not self._records.ended(entry, outcome):
            self._awaited.append(entry)
            return
        if lost and outcome.state == State.INTERRUPTED:
            self._queue.append(entry)
        if outcome.state == State.INTERRUPTED or entry.role == Role.BASELINE:
            return
        report, state = outcome.report, State(outcome.state)
        scores = None
        if state == State.FINISHED:
            scores = self._objectives.scores(outcome.metrics, report.costs)
        constraints = self._constraints(state, report.costs, report.violations)
        self._tell(entry, self._objectives.told(state, entry.curve, scores, constraints))

    def numbers(self) -> list[int]:
        """Return Optuna's numbers of the distinct configs, which importances are computed from."""
        return list(self._asked.values())

    def _adopt(self, past: Sequence[TrialRow]) -> None:
        """Take over the trials of earlier sessions, in the order of their proposals."""
        for row in past:
            if _done(row):
                self._follow(row, row.epochs)
            if row.role == Role.BASELINE:
                continue
            note = row.proposal
            for before in note.get("before", ()):
                self._adopt_known(before)
            entry = Entry(
                row.number, row.role, row.values, row.config, row.key, row.seed, note, row.id
            )
            self._name(entry)
            done = _done(row)
            told = self._told_of(row) if done else None
            entry.asked = self._proposals.adopt(row.values, told, note.get("how", "sampler"))
            self._register(entry)
            if told is None:
                self._queue.append(entry)
                continue
            self._told[row.key] = told
            self._records.known(row.number, row)
            self.ended_before += 1

    def _adopt_known(self, before: Mapping[str, Any]) -> None:
        """Take over a proposal that was passed over."""
        key = next((k for k, e in self._entries.items() if e.number == before.get("same")), None)
        told: Told | None = Told(State.INFEASIBLE, constraints={"forbid": 1.0})
        if "same" in before:
            told = self._told.get(key or "")
        number = self._proposals.adopt(before["values"], told, before["how"])
        if told is None:
            self._same[key or ""].append(number)

    def _follow(self, trial: Entry | TrialRow, epochs: Sequence[Mapping[str, float]]) -> None:
        """Take in the curve of a trial as it stands."""
        self._curves[_place(trial)] = dict(self._objectives.curve(epochs))

    def _register(self, entry: Entry) -> None:
        assert entry.asked is not None
        self._entries[entry.key] = entry
        self._asked[entry.number] = entry.asked

    def _name(self, entry: Entry) -> None:
        """Say to which arm and act an entry belongs."""
        entry.arm, entry.act = self._arm, self._act
        if self._arm is not None:
            told = " ".join(f"{key}={value_text(value)}" for key, value in entry.values.items())
            entry.label = f"tuning {self._arm} {entry.number:03d} {told}"[:LABEL_MAX]

    def _next_entry(self) -> Entry | None:
        """Return the next entry to begin: left over, waited for, or new."""
        if self._queue:
            return self._queue.pop(0)
        if self._awaited and time.monotonic() - self._polled > POLL_SECONDS:
            self._polled = time.monotonic()
            return self._awaited.pop(0)
        if self.count >= self._budget or self._over is not None:
            return None
        return self._propose()

    def _begin(self, entry: Entry) -> Job | None:
        """Claim an entry's run: a job if it is to be trained here and now."""
        claim = self._records.claim(entry)
        if claim.outcome == "busy":
            self._awaited.append(entry)
            return None
        if claim.outcome == "finished":
            self._take_over(entry, claim.run)
            return None
        self._running[claim.run_id] = entry
        entry.curve.clear()
        self._curves.pop(_place(entry), None)
        return Job(
            id=claim.run_id,
            config=entry.config,
            seed=entry.seed,
            epochs=entry.epochs,
            protected=entry.role not in (Role.TRIAL, Role.TUNING),
            limits=self._limits,
            act=self._act,
        )

    def _take_over(self, entry: Entry, run: RunRow) -> None:
        self._records.took_over(entry, run)
        self._follow(entry, run.epochs)
        if entry.role == Role.BASELINE:
            return
        self._tell(entry, self._told_of(run))

    def _tell(self, entry: Entry, told: Told) -> None:
        assert entry.asked is not None
        self._told[entry.key] = told
        for number in (entry.asked, *self._same.pop(entry.key, ())):
            self._proposals.tell(number, told)

    def _told_of(self, run: RunRow) -> Told:
        scores = None
        if run.state == State.FINISHED:
            scores = self._objectives.scores(run.metrics, run.costs)
        constraints = self._constraints(run.state, run.costs, run.violations)
        return self._objectives.told(run.state, list(run.epochs), scores, constraints)

    def _constraints(
        self, state: State, costs: Mapping[str, float], violations: Mapping[str, float]
    ) -> Mapping[str, float]:
        """Return amounts for the sampler: what was violated, else the slack that was left.

        Every trained trial carries every limit: the GP sampler wants them all from each.
        """
        if state == State.INFEASIBLE:
            return violations
        return {f"limits.{name}": 0.0 for name in self._limits} | excess(costs, self._limits)

    def _propose(self) -> Entry | None:
        """Return the next config that is new; None once there is none left."""
        before: list[dict[str, Any]] = []
        while True:
            proposal = self._ask(len(before))
            if proposal is None:
                return None
            note: dict[str, Any] = {"how": proposal.how}
            reason = self._space.forbidden(proposal.values)
            if reason is not None:
                told = Told(State.INFEASIBLE, constraints={"forbid": 1.0})
                self._proposals.tell(proposal.number, told)
                before.append({**note, "values": proposal.values, "forbidden": reason})
                continue
            config = self._space.resolve(proposal.values)
            key = self._key(config)
            same = self._entries.get(key)
            if same is None:
                number = max(self._asked, default=-1) + 1
                if before:
                    note["before"] = before
                if self.workers > 1:
                    note["workers"] = self.workers
                plain = number == 0 and proposal.values == self._space.plain()
                entry = Entry(
                    number,
                    Role.BASELINE_TRIAL if plain and self._role == Role.TRIAL else self._role,
                    proposal.values,
                    config,
                    key,
                    config["train"]["seed"],
                    note,
                    asked=proposal.number,
                )
                self._name(entry)
                self._register(entry)
                return entry
            before.append({**note, "values": proposal.values, "same": same.number})
            if key in self._told:
                self._proposals.tell(proposal.number, self._told[key])
            else:
                self._same[key].append(proposal.number)

    def _ask(self, repeats: int) -> Proposal | None:
        """Ask for a proposal, the more insistently the more of them were not new."""
        if repeats == REPEATS_LIST and self._can_be_listed():
            left = self._untried()
            if left is not None:
                return self._proposals.give(left)
            self._over = self._all_tried()
            return None
        if repeats >= REPEATS_END:
            self._over = (
                f"the search ended after {self.count} of {self._budget} trials: the last "
                f"{repeats} proposals were all known or forbidden"
            )
            return None
        proposal = self._proposals.ask("random" if repeats >= REPEATS_RANDOM else "sampler")
        if proposal is None:
            self._over = self._all_tried()
        return proposal

    def _all_tried(self) -> str:
        return (
            f"the space is exhausted: all {self.count} different configs that it allows have been "
            f"tried (search.trials: {self._budget})"
        )

    def _can_be_listed(self) -> bool:
        """Return whether all combinations can be gone through."""
        if any(decision.count is None for decision in self._space.decisions):
            return False
        return next(islice(self._space.grid(), LISTED_MAX, None), None) is None

    def _untried(self) -> dict[str, Any] | None:
        """Return the first combination whose config has not been tried, if one is left."""
        for values in self._space.grid():
            if self._key(self._space.resolve(values)) not in self._entries:
                return values
        return None


def _done(row: TrialRow) -> bool:
    return row.state.ended


def _place(trial: Entry | TrialRow) -> int:
    """Return a trial's number; -1 for the baseline beside the search."""
    return -1 if trial.role == Role.BASELINE else trial.number
