"""Records what becomes of a study's trainings: ledger, weights, MLflow, and watchers.

Only the driver writes. Everything here is called from its main thread.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from attnsearch.blocks.naming import describe, shown_name
from attnsearch.runs.ledger import (
    SEARCH_ROLES,
    Claim,
    Ending,
    LeaseLost,
    LedgerError,
    Place,
    Request,
    Role,
    RunRow,
    State,
    panel_file,
    weights_folder,
)
from attnsearch.runs.training import SMALLEST
from attnsearch.search.propose import ProposalResult
from attnsearch.search.study.checkpoints import Checkpoints
from attnsearch.search.study.events import TrialEnd, TrialInfo
from attnsearch.search.study.queue import Fate, Queued
from attnsearch.search.study.stage import Stage
from attnsearch.search.workers import Job, Outcome, Report
from attnsearch.spaces.keys import excess

WEIGHTS_KEPT = 3  # of a study with one objective; with several, those of the Pareto front


@dataclass
class QueuedRun(Queued):
    """A run in its place in a study, from its proposal to its end.

    Attributes:
        place: Its place. The baseline beside a search has number 0.
        config: The resolved config.
        key: The run key.
        records: Where all is written down.
        settled: Called once its result is known, with `result` set.
        begun: Called when it needs a worker, or waits for another driver's.
        asked: Optuna's number of the proposal; None for the baseline.
        limits: Cost name to its upper limit.
        weak: Says after each epoch whether it is to be stopped early.
        usable: Whether a finished run of its key can be taken over.
        dataset: The name of its data set.
        predictions: The splits whose predictions are kept.
        act: The act, as `ActInfo` names it; empty for exploring.
        shown: Its number in the act, where that is not the place's.
        run_id: The run's number in the ledger, once it is claimed.
        trained: Whether a worker has begun with it in this session.
        curve: What early stopping follows, by epoch.
        result: What became of it, for Optuna; None until its run is over.
        outcome: How its training ended in this session.
        saved: The checkpoint that it last went on from; later ones sort after it.
        proposed: Whether it was proposed just now, and another driver may have its place.
        taken: Whether another driver had; nothing comes of it then.
    """

    place: Place
    config: dict[str, Any]
    key: str
    records: "Records"
    settled: Callable[["QueuedRun"], None]
    begun: Callable[[], None] = lambda: None
    asked: int | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    weak: Callable[["QueuedRun"], bool] = lambda entry: False
    usable: Callable[[RunRow], bool] = lambda run: True
    dataset: str = "data"
    predictions: tuple[str, ...] = ()
    act: str = ""
    shown: int | None = None
    run_id: int = -1
    trained: bool = False
    curve: dict[int, float] = field(default_factory=dict)
    result: ProposalResult | None = None
    outcome: Outcome | None = None
    saved: str = ""
    proposed: bool = False
    taken: bool = False

    @property
    def info(self) -> TrialInfo:
        """What watchers hear of it."""
        place = self.place
        number = place.number if self.shown is None else self.shown
        label = shown_name(place.name or describe(self.config))
        epochs = int(self.config["train"]["epochs"])
        return TrialInfo(number, label, place.values, epochs, place.role, self.act)

    @property
    def most_micro_batches(self) -> int:
        """Into how many a batch can be split."""
        return max(1, int(self.config["train"]["batch_size"]) // SMALLEST)

    @property
    def beside(self) -> bool:
        """Whether it is the baseline beside a search: a note tells how it ended, no more."""
        return self.place.role == Role.BASELINE

    def begin(self) -> Job | Fate:
        """Claim the run; return its job, unless it has ended before or trains elsewhere."""
        stage = self.records.stage
        stage.company.met()
        if elsewhere := self.holder != "":
            self.holder = stage.ledger.holder_of(self.run_id) or ""
            if self.holder:
                stage.mirror.wake()
                return Fate.ELSEWHERE
        inputs = self.records.stage.inputs(self.config)
        claim = self.records.claim(self)
        if claim.outcome == "finished" and not self.usable(claim.run):
            # Its weights are gone, and the test part needs them.
            claim = self.records.claim(self, {claim.run_id})
        if claim.outcome == "taken":
            self.taken = True
            return Fate.OVER
        if claim.outcome in ("finished", "ended"):
            elsewhere = elsewhere or claim.outcome == "ended"
            self.records.took_over(self, claim.run, elsewhere=elsewhere)
            self.settled(self)
            return Fate.OVER
        self.begun()
        if claim.outcome == "busy":
            self.holder = claim.holder or ""
            return Fate.ELSEWHERE
        self.curve = self.records.stage.objectives.curve(claim.run.epochs)
        return Job(
            id=claim.run_id,
            config=self.config,
            dataset=self.dataset,
            limits=self.limits,
            predictions=self.predictions,
            act=self.act,
            inputs=inputs,
            micro_batches=self.micro_batches,
            group=self.group,
            checkpoints=str(self.records.checkpoints.begun(self.key, self.run_id)),
        )

    def started(self) -> None:
        """Hear that a worker begins with it; tell watchers, but only once."""
        stage = self.records.stage
        stage.ledger.began(self.run_id)
        stage.mirror.prepare()
        if not self.trained and not self.beside:
            stage.progress.trial_started(self.info)
        self.trained = True

    def reported(self, report: Report) -> bool:
        """Record an epoch, the last with the end; return whether to stop the training early."""
        stage = self.records.stage
        self.records.checkpoints.take(self.run_id, self.key, report)
        try:
            for epoch in sorted(report.epochs.keys() - self.curve.keys() | {report.epoch}):
                metrics = report.epochs[epoch]
                self.curve |= stage.objectives.curve([{**metrics, "epoch": epoch}])
                if report.state is None:  # else one transaction, one wait for the disk, does both
                    stage.ledger.record_epoch(self.run_id, epoch, metrics)
        except LeaseLost:
            return True  # another driver trains it; `ended` says so
        stage.mirror.begin()
        stage.mirror.wake()
        if not self.beside:
            stage.progress.epoch(self.info, report.epoch, report.metrics)
        return report.epoch in self.curve and self.weak(self)

    def ended(self, outcome: Outcome) -> Fate:
        """Record how it ended, unless another driver holds the run by now."""
        if not self.records.ended(self, outcome):
            return Fate.ELSEWHERE
        if outcome.state == State.INTERRUPTED:
            return Fate.AGAIN
        self.settled(self)
        return Fate.OVER


class Records:
    """Writes down what becomes of the trainings of one act.

    Attributes:
        stage: The study's surroundings.
        checkpoints: Of its runs.

    Args:
        stage: The study's surroundings.
        keep: Whose weights are kept: the "best" trials', those of "all" runs, or of "none".
    """

    def __init__(self, stage: Stage, keep: str) -> None:
        self.stage = stage
        self._keep = keep
        self._weights = weights_folder(stage.ledger)
        self._finished: dict[int, tuple[float, ...]] = {}
        self._ours: dict[int, tuple[int, Path]] = {}
        self.checkpoints = Checkpoints(stage)

    def claim(self, entry: QueuedRun, unusable: Collection[int] = ()) -> Claim:
        """Ask the ledger for an entry's run, which gets its place.

        Args:
            entry: The entry.
            unusable: Finished runs that cannot be taken over.
        """
        study, ledger = self.stage.study, self.stage.ledger
        newest = self.checkpoints.newest(entry.key)
        claim = ledger.claim(
            Request(
                entry.key,
                config=entry.config,
                seed=entry.config["train"]["seed"],
                epochs=int(entry.config["train"]["epochs"]),
                fold=entry.config["data"].get("fold"),
                study_id=study.id,
            ),
            fresh=study.fresh,
            unusable=unusable,
            goes_on=(newest[0], newest[1].epoch) if newest else None,
            place=entry.place,
            proposed=entry.proposed,
        )
        if claim.outcome == "taken":
            return claim
        entry.run_id, entry.proposed = claim.run_id, False
        self.stage.mirror.wake()
        if claim.outcome == "claimed":
            if newest is None or newest[0] != claim.run_id:
                self.checkpoints.drop(entry.key, claim.run_id)
            elif newest[1].name > entry.saved:
                entry.saved = newest[1].name
                entry.losses.clear()  # it has come further than to where it was lost before
        return claim

    def attach(self, entry: QueuedRun, run_id: int) -> None:
        """Give a run the place of an entry."""
        entry.run_id = run_id
        self.stage.ledger.attach(self.stage.study.id, run_id, entry.place)
        self.stage.mirror.wake()

    def recall(self, entry: QueuedRun, run: RunRow) -> None:
        """Take in that the run of an entry is over; nothing is written."""
        entry.curve = self.stage.objectives.curve(run.epochs)
        result = self._judge(entry, run.state, run.metrics, run.costs, run.violations)
        entry.result = replace(result, error=run.error)

    def took_over(self, entry: QueuedRun, run: RunRow, *, elsewhere: bool) -> None:
        """Take in that an entry needs no training: its run has ended, before or elsewhere."""
        self.recall(entry, run)
        assert entry.result is not None
        if run.state != State.FINISHED:
            entry.outcome = Outcome(run.state, run.metrics, Report(), run.error, run.traceback)
        end = TrialEnd(run.state, run.metrics, run.costs, entry.result.scores, reused=True)
        why = run.error or _why(entry.result)
        self._say_end(entry, replace(end, elsewhere=elsewhere, reason=why))
        self._drop_weights()

    def ended(self, entry: QueuedRun, outcome: Outcome) -> bool:
        """Record how a training ended; return False where another driver holds the run by now."""
        report, stage, state = outcome.report, self.stage, State(outcome.state)
        violations = report.violations if state == State.INFEASIBLE else {}
        result = self._judge(entry, state, outcome.metrics, report.costs, violations)
        path, new = self._write_weights(entry, report)
        last = report.epochs if report.state and report.metrics else None
        if report.panel is not None:
            panel = panel_file(self._weights, entry.key)
            self._write(panel, report.panel, "a picture of validation images is not kept")
        try:
            stage.ledger.finish(
                entry.run_id,
                Ending(
                    state,
                    metrics=outcome.metrics,
                    costs=report.costs,
                    violations=violations,
                    error=outcome.error,
                    traceback=outcome.traceback,
                    weights_path=None if path is None else str(path),
                ),
                epochs=last,
                predictions=report.predictions or None,
            )
        except LeaseLost as error:
            self._finished.pop(entry.place.number, None)
            stage.progress.note(str(error))
            return False
        except LedgerError:
            if path is not None and new:  # no run would name it; its checkpoint stays
                path.unlink(missing_ok=True)
            raise
        if state != State.INTERRUPTED:
            self.checkpoints.drop(entry.key, entry.run_id)
            entry.result = replace(result, error=outcome.error)
            entry.outcome = replace(outcome, report=Report())
        if path is not None and new and not entry.beside and self._keep == "best":
            self._ours[entry.place.number] = (entry.run_id, path)
        stage.mirror.wake()
        end = TrialEnd(state, outcome.metrics, report.costs, result.scores)
        reason = outcome.error or _why(result)
        self._say_end(entry, replace(end, reason=reason, seconds=report.seconds))
        self._drop_weights()
        return True

    def best(self) -> list[int]:
        """Return the numbers of the best finished trials: the Pareto front, or one."""
        return self.stage.objectives.best(self._finished)

    def first(self) -> int | None:
        """Return the number of the best finished trial by the first objective."""
        return next(iter(self.stage.objectives.ranked(self._finished)), None)

    def _judge(
        self,
        entry: QueuedRun,
        state: State,
        metrics: Mapping[str, float],
        costs: Mapping[str, float],
        violations: Mapping[str, float],
    ) -> ProposalResult:
        """Say what became of an entry: its scores, and how it stands to the limits.

        An infeasible one has what it violates. Every other carries every limit, as the slack that
        was left, or 0: the GP sampler wants them all from each.
        """
        objectives = self.stage.objectives
        if state != State.INFEASIBLE:
            violations = {f"limits.{name}": 0.0 for name in entry.limits}
            violations |= excess(costs, entry.limits)
        result = objectives.told(state, entry.curve, metrics, costs, violations)
        ranked = entry.place.role in (*SEARCH_ROLES, Role.TUNING) and result.feasible
        if result.scores is not None and ranked:
            self._finished[entry.place.number] = result.scores
        return result

    def _say_end(self, entry: QueuedRun, end: TrialEnd) -> None:
        names, progress = self.stage.objectives.names, self.stage.progress
        if entry.beside:
            parts = [f"the baseline, trained beside the search: {end.state}"]
            parts += [f"{name} {end.metrics[name]:.4g}" for name in end.metrics if name in names]
            parts += [end.reason] if end.reason else []
            progress.note(", ".join(parts))
            return
        best = entry.place.number in self._finished and entry.place.number in self.best()
        progress.trial_ended(entry.info, replace(end, best=best))

    def _write_weights(self, entry: QueuedRun, report: Report) -> tuple[Path | None, bool]:
        """Keep the weights of the baseline, of a trial that is among the best so far, or of all.

        Returns:
            Where they lie, if they are kept, and whether no earlier run had left them there.
        """
        number = entry.place.number
        best = self._keep == "best" and number in self._finished and number in self._kept()
        if report.weights is None or not (best or entry.beside or self._keep == "all"):
            return None, False
        path = self._weights / f"{entry.key}.safetensors"
        new = not path.exists()
        name = entry.place.name or f"trial {number:03d}"
        written = self._write(path, report.weights, f"the weights of {name} are not kept")
        return (path, new) if written else (None, False)

    def _write(self, path: Path, content: np.ndarray, otherwise: str) -> bool:
        """Write a file whole or not at all; note where it cannot be written."""
        try:
            self.stage.ledger.write_file(path, content.data)
        except OSError as error:
            self.stage.progress.note(f"{otherwise}: {error}")
            return False
        return True

    def _drop_weights(self) -> None:
        """Delete the weights of what this session trained and then surpassed."""
        kept = self._kept()
        for number in [number for number in self._ours if number not in kept]:
            run_id, path = self._ours.pop(number)
            if self.stage.ledger.drop_file(path):
                self.stage.ledger.set_weights_path(run_id, None)

    def _kept(self) -> Sequence[int]:
        objectives = self.stage.objectives
        if len(objectives.names) > 1:
            return objectives.best(self._finished)
        return objectives.ranked(self._finished)[:WEIGHTS_KEPT]


def _why(result: ProposalResult) -> str | None:
    """Say why a trial with a full schedule is not ranked, if it is not."""
    if result.state != State.FINISHED or result.feasible:
        return None
    above = [f"{name} by {by:.1%}" for name, by in result.constraints.items() if by > 0]
    return f"as measured after training it is above {', '.join(above)}, so it is not ranked"
