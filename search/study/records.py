"""What happens to a study's trials, written down: ledger, weights, MLflow, and whoever watches.

Only the driver writes. Everything here is called from its main thread, but for the heartbeat,
which tells other drivers that this one lives.
"""

import contextlib
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnsearch.blocks.build import describe
from attnsearch.runs.ledger import (
    HEARTBEAT_SECONDS,
    PLAN_ROLES,
    Claim,
    Ending,
    LeaseLost,
    Ledger,
    LedgerError,
    Place,
    Request,
    Role,
    RunRow,
    State,
    StudyRow,
    panel_file,
    weights_folder,
)
from attnsearch.search.propose import Objectives
from attnsearch.search.study.events import Progress, TrialEnd, TrialInfo
from attnsearch.search.workers import Outcome, Report

if TYPE_CHECKING:
    from attnsearch.runs.mirror import Mirror, MirrorReport

WEIGHTS_KEPT = 3  # of a study with one objective; with several, those of the Pareto front
MIRROR_SECONDS = 10.0  # from the first trial's start to MLflow's, if its first epoch takes longer


class LateMirror:
    """A mirror that begins when the first trial has trained an epoch, or some seconds.

    Loading MLflow and opening its store takes seconds of a core, which until then are better
    spent on the workers' start.

    Args:
        mirror: The mirror.
        study_id: The study to show.
    """

    def __init__(self, mirror: "Mirror", study_id: int) -> None:
        self._mirror = mirror
        self._study_id = study_id
        self._lock = threading.Lock()
        self._soon: threading.Timer | None = None
        self._begun = False

    def prepare(self) -> None:
        """Something trains: begins to show the study soon."""
        if self._soon is None:
            self._soon = threading.Timer(MIRROR_SECONDS, self.begin)
            self._soon.daemon = True
            self._soon.start()

    def begin(self) -> None:
        """Begin to show the study, unless that has begun."""
        with self._lock:
            if not self._begun:
                self._begun = True
                self._mirror.follow(self._study_id)

    def wake(self) -> None:
        """The ledger has changed."""
        if self._begun:
            self._mirror.wake()

    def close(self, timeout: float) -> "MirrorReport":
        """Write what is left: for so many seconds at most, if anything was trained."""
        if self._soon is None:
            return self._mirror.sync(self._study_id)
        self._soon.cancel()
        self.begin()
        return self._mirror.close(timeout)


@dataclass
class Entry:
    """A run in its place in a study, from its proposal to its end.

    Attributes:
        number: The trial's number, or the run's in its arm; 0 for the baseline beside a search.
        role: What it is in the study for.
        values: The active decisions.
        config: The resolved config.
        key: The run key.
        seed: Of the run.
        proposal: What the proposer wants to remember.
        run_id: The run's number in the ledger, once it is claimed.
        asked: Optuna's number of the proposal; None for the baseline.
        started: Whether a worker has begun with it in this session.
        curve: The metrics of its epochs in this session, with the epoch's number as `epoch`.
        lost: How often its worker was lost.
        arm: The arm that it belongs to; None for a trial.
        label: What it is called; what is inserted where if not given.
        act: The act, as `ActInfo` names it; empty for exploring.
        shown: Its number in the act, where that is not `number`.
    """

    number: int
    role: Role
    values: dict[str, Any]
    config: dict[str, Any]
    key: str
    seed: int
    proposal: dict[str, Any] = field(default_factory=dict)
    run_id: int | None = None
    asked: int | None = None
    started: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)
    lost: int = 0
    arm: str | None = None
    label: str | None = None
    act: str = ""
    shown: int | None = None

    @property
    def epochs(self) -> int:
        """Epochs of its full schedule."""
        return int(self.config["train"]["epochs"])

    @property
    def info(self) -> TrialInfo:
        """What watchers are told of it."""
        number = self.number if self.shown is None else self.shown
        label = self.label or describe(self.config)
        return TrialInfo(number, label, self.values, self.epochs, self.role, self.act)


class Records:
    """Writes down what becomes of the trials of one study.

    Args:
        ledger: The ledger.
        study: The study, open and leased.
        mirror: Learns of every change.
        progress: Told of every event.
        objectives: Of the study.
        keep: Whose weights are kept: the "best" trials', those of "all" runs, or of "none".
    """

    def __init__(
        self,
        ledger: Ledger,
        study: StudyRow,
        mirror: LateMirror,
        progress: Progress,
        objectives: Objectives,
        *,
        keep: str = "best",
    ) -> None:
        self._keep = keep
        self._ledger = ledger
        self._study = study
        self._mirror = mirror
        self._progress = progress
        self._objectives = objectives
        self._weights = weights_folder(ledger)
        self._finished: dict[int, tuple[float, ...]] = {}
        self._ours: dict[int, tuple[int, Path]] = {}

    def claim(self, entry: Entry, unusable: Collection[int] = ()) -> Claim:
        """Ask the ledger for an entry's run, and gives the run its place where it got one.

        Args:
            entry: The entry.
            unusable: Finished runs that cannot be taken over.
        """
        claim = self._ledger.claim(
            Request(
                entry.key,
                config=entry.config,
                seed=entry.seed,
                epochs=entry.epochs,
                fold=entry.config["data"].get("fold"),
                study_id=self._study.id,
            ),
            fresh=self._study.fresh,
            unusable=unusable,
        )
        if claim.outcome != "busy":
            self.attach(entry, claim.run_id)
        return claim

    def attach(self, entry: Entry, run_id: int) -> None:
        """Give a run the place of an entry."""
        entry.run_id = run_id
        self._ledger.attach(
            self._study.id,
            run_id,
            Place(
                number=entry.number,
                role=entry.role,
                arm="plain" if entry.role == Role.BASELINE else entry.arm,
                name=entry.label,
                values=entry.values,
                proposal=entry.proposal,
            ),
        )
        self._mirror.wake()

    def known(self, number: int, run: RunRow) -> None:
        """Take in a trial of an earlier session; nothing is written."""
        scores = None
        if run.state == State.FINISHED:
            scores = self._objectives.scores(run.metrics, run.costs)
        if scores is not None:
            self._finished[number] = scores

    def took_over(self, entry: Entry, run: RunRow) -> None:
        """A trial needs no training: its run was finished before."""
        self._tell_end(
            entry,
            TrialEnd(
                State.FINISHED,
                run.metrics,
                run.costs,
                self._objectives.scores(run.metrics, run.costs),
                reused=True,
                seconds=0.0,
            ),
        )

    def started(self, entry: Entry) -> None:
        """Tell that a worker begins with a trial; once, though it may have to begin anew."""
        self._mirror.prepare()
        if not entry.started and entry.role != Role.BASELINE:
            self._progress.trial_started(entry.info)
        entry.started = True

    def epoch(self, entry: Entry, report: Report) -> None:
        """An epoch was trained."""
        assert entry.run_id is not None
        entry.curve.append({**report.metrics, "epoch": report.epoch})
        self._ledger.record_epoch(entry.run_id, report.epoch, report.metrics)
        self._mirror.begin()
        self._mirror.wake()
        if entry.role != Role.BASELINE:
            self._progress.epoch(entry.info, report.epoch, report.metrics)

    def ended(self, entry: Entry, outcome: Outcome) -> bool:
        """Return a run ended.

        Returns:
            Whether it was recorded; not if another driver holds the run by now.
        """
        assert entry.run_id is not None
        report, state = outcome.report, State(outcome.state)
        scores = None
        if state == State.FINISHED:
            scores = self._objectives.scores(outcome.metrics, report.costs)
        path, new = self._write_weights(entry, scores, report)
        self._write_panel(entry, report)
        try:
            self._ledger.finish(
                entry.run_id,
                Ending(
                    state,
                    metrics=outcome.metrics,
                    costs=report.costs,
                    violations=report.violations if state == State.INFEASIBLE else {},
                    error=outcome.error,
                    traceback=outcome.traceback,
                    weights_path=None if path is None else str(path),
                ),
                predictions=report.predictions or None,
            )
        except LeaseLost as error:
            self._progress.note(str(error))
            return False
        if path is not None and new and entry.role != Role.BASELINE and self._keep == "best":
            self._ours[entry.number] = (entry.run_id, path)
        self._mirror.wake()
        self._tell_end(
            entry,
            TrialEnd(
                state,
                outcome.metrics,
                report.costs,
                scores,
                reason=outcome.error,
                seconds=report.seconds,
            ),
        )
        self._drop_weights()
        return True

    def best(self) -> list[int]:
        """Number the best finished trials: all of the Pareto front, or one, the best."""
        return self._objectives.best(self._finished)

    def first(self) -> int | None:
        """Return number of the best finished trial by the first objective."""
        ranked = self._objectives.ranked(self._finished)
        return ranked[0] if ranked else None

    @contextlib.contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Renews the leases of this driver for as long as the context is open."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT_SECONDS):
                # Where it fails, the next write of the main thread fails too, and says so.
                with contextlib.suppress(LedgerError):
                    self._ledger.heartbeat()

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=5)

    def _tell_end(self, entry: Entry, end: TrialEnd) -> None:
        if entry.role == Role.BASELINE:
            said = [f"the plain network, trained beside the search: {end.state}"]
            said += [f"{k} {v:.4g}" for k, v in end.metrics.items() if k in self._objectives.names]
            said += [end.reason] if end.reason else []
            self._progress.note(", ".join(said))
            return
        best = False
        if end.scores is not None and entry.role not in PLAN_ROLES:
            self._finished[entry.number] = end.scores
            best = entry.number in self.best()
        self._progress.trial_ended(
            entry.info,
            TrialEnd(
                end.state,
                end.metrics,
                end.costs,
                end.scores,
                best,
                end.reason,
                end.reused,
                end.seconds,
            ),
        )

    def _write_weights(
        self, entry: Entry, scores: tuple[float, ...] | None, report: Report
    ) -> tuple[Path | None, bool]:
        """Keep the weights of the baseline, of a trial that is among the best so far, or of all.

        Returns:
            Where they lie, if they are kept, and whether no earlier run had left them there.
        """
        good = entry.role == Role.BASELINE or self._keep == "all"
        if self._keep == "best" and scores is not None:
            kept = self._kept({**self._finished, entry.number: scores})
            good = good or entry.number in kept
        if report.weights is None or not good:
            return None, False
        path = self._weights / f"{entry.key}.safetensors"
        new = not path.exists()
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self._weights.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(report.weights.data)
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            name = entry.label or f"trial {entry.number:03d}"
            self._progress.note(f"the weights of {name} are not kept: {error}")
            return None, False
        return path, new

    def _write_panel(self, entry: Entry, report: Report) -> None:
        """Keep the picture of a finished run, for MLflow and whoever looks into the folder."""
        if report.panel is None:
            return
        path = panel_file(self._weights, entry.key)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self._weights.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(report.panel.data)
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            self._progress.note(f"a picture of validation images is not kept: {error}")

    def _drop_weights(self) -> None:
        """Delete the weights of what this session trained and then surpassed."""
        kept = self._kept(self._finished)
        for number in [number for number in self._ours if number not in kept]:
            run_id, path = self._ours.pop(number)
            self._ledger.set_weights_path(run_id, None)
            path.unlink(missing_ok=True)

    def _kept(self, finished: Mapping[int, tuple[float, ...]]) -> Sequence[int]:
        if len(self._objectives.names) > 1:
            return self._objectives.best(finished)
        return self._objectives.ranked(finished)[:WEIGHTS_KEPT]
