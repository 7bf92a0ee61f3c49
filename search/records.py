"""What happens to a study's trials, written down: ledger, weights, MLflow, and whoever watches.

Only the driver writes. Everything here is called from its main thread, but for the heartbeat,
which tells other drivers that this one lives.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnsearch.blocks.architecture import describe
from attnsearch.runs.lease import HEARTBEAT_SECONDS
from attnsearch.runs.ledger import Claim, LeaseLost, Ledger, LedgerError
from attnsearch.runs.mirror import Mirror, MirrorReport
from attnsearch.runs.rows import RunRow, StudyRow
from attnsearch.search.events import Progress, TrialEnd, TrialInfo
from attnsearch.search.job import Outcome, Report
from attnsearch.search.objectives import Objectives

WEIGHTS_KEPT = 3  # of a study with one objective; with several, those of the Pareto front
BASELINE = "baseline"


class LateMirror:
    """A mirror that begins when the first trial trains.

    Loading MLflow and opening its store takes seconds of a core, which until then are better
    spent on the workers' start.

    Args:
        mirror: The mirror.
        study_id: The study to show.
    """

    def __init__(self, mirror: Mirror, study_id: int) -> None:
        self._mirror = mirror
        self._study_id = study_id
        self._begun = False

    def begin(self) -> None:
        """Begins to show the study, unless that has begun."""
        if not self._begun:
            self._begun = True
            self._mirror.follow(self._study_id)

    def wake(self) -> None:
        """The ledger has changed."""
        if self._begun:
            self._mirror.wake()

    def close(self, timeout: float) -> MirrorReport:
        """Writes what is left: for so many seconds at most, if anything was trained."""
        if self._begun:
            return self._mirror.close(timeout)
        return self._mirror.sync(self._study_id)


@dataclass
class Entry:
    """A run in its place in a study, from its proposal to its end.

    Attributes:
        number: The trial's number; 0 for the baseline beside a search.
        role: "trial", "plain" or "baseline".
        values: The active decisions.
        config: The resolved config.
        key: The run key.
        seed: Of the run.
        proposal: What the proposer wants to remember.
        run_id: The run's number in the ledger, once it is claimed.
        asked: Optuna's number of the proposal; None for the baseline.
        started: Whether a worker has begun with it in this session.
        curve: The metrics of its epochs in this session, with the epoch's number as `epoch`.
    """

    number: int
    role: str
    values: dict[str, Any]
    config: dict[str, Any]
    key: str
    seed: int
    proposal: dict[str, Any] = field(default_factory=dict)
    run_id: int | None = None
    asked: int | None = None
    started: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """Epochs of its full schedule."""
        return int(self.config["train"]["epochs"])

    @property
    def info(self) -> TrialInfo:
        """What watchers are told of it."""
        return TrialInfo(self.number, describe(self.config), self.values, self.epochs, self.role)


class Records:
    """Writes down what becomes of the trials of one study.

    Args:
        ledger: The ledger.
        study: The study, open and leased.
        mirror: Learns of every change.
        progress: Told of every event.
        objectives: Of the study.
    """

    def __init__(
        self,
        ledger: Ledger,
        study: StudyRow,
        mirror: LateMirror,
        progress: Progress,
        objectives: Objectives,
    ) -> None:
        self._ledger = ledger
        self._study = study
        self._mirror = mirror
        self._progress = progress
        self._objectives = objectives
        self._weights = weights_folder(ledger)
        self._finished: dict[int, tuple[float, ...]] = {}
        self._ours: dict[int, tuple[int, Path]] = {}

    def claim(self, entry: Entry) -> Claim:
        """Asks the ledger for an entry's run, and gives the run its place where it got one."""
        claim = self._ledger.claim(
            entry.key,
            config=entry.config,
            seed=entry.seed,
            epochs=entry.epochs,
            fold=entry.config["data"].get("fold"),
            study_id=self._study.id,
            fresh=self._study.fresh,
        )
        if claim.outcome != "busy":
            entry.run_id = claim.run_id
            self._ledger.attach(
                self._study.id,
                claim.run_id,
                number=entry.number,
                role=entry.role,
                arm="plain" if entry.role == BASELINE else None,
                values=entry.values,
                proposal=entry.proposal,
            )
            self._mirror.wake()
        return claim

    def known(self, number: int, run: RunRow) -> None:
        """Takes in a trial of an earlier session; nothing is written."""
        scores = None
        if run.state == "finished":
            scores = self._objectives.scores(run.metrics, run.costs)
        if scores is not None:
            self._finished[number] = scores

    def took_over(self, entry: Entry, run: RunRow) -> None:
        """A trial needs no training: its run was finished before."""
        self._tell_end(
            entry,
            TrialEnd(
                "finished",
                run.metrics,
                run.costs,
                self._objectives.scores(run.metrics, run.costs),
                reused=True,
                seconds=0.0,
            ),
        )

    def started(self, entry: Entry) -> None:
        """A worker begins with a trial, or goes on with one that was paused."""
        self._mirror.begin()
        if not entry.started and entry.role != BASELINE:
            self._progress.trial_started(entry.info)
        entry.started = True

    def epoch(self, entry: Entry, report: Report) -> None:
        """An epoch was trained."""
        assert entry.run_id is not None
        entry.curve.append({**report.metrics, "epoch": report.epoch})
        self._ledger.record_epoch(entry.run_id, report.epoch, report.metrics)
        self._mirror.wake()
        if entry.role != BASELINE:
            self._progress.epoch(entry.info, report.epoch, report.metrics)

    def ended(self, entry: Entry, outcome: Outcome) -> bool:
        """A run ended.

        Returns:
            Whether it was recorded; not if another driver holds the run by now.
        """
        assert entry.run_id is not None
        report = outcome.report
        scores = None
        if outcome.state == "finished":
            scores = self._objectives.scores(outcome.metrics, report.costs)
        path, new = self._write_weights(entry, scores, report)
        try:
            self._ledger.finish(
                entry.run_id,
                outcome.state,
                metrics=outcome.metrics,
                costs=report.costs,
                violations=report.violations if outcome.state == "infeasible" else {},
                error=outcome.error,
                traceback=outcome.traceback,
                predictions=report.predictions or None,
                weights_path=path,
            )
        except LeaseLost as error:
            self._progress.note(str(error))
            return False
        if path is not None and new and entry.role != BASELINE:
            self._ours[entry.number] = (entry.run_id, path)
        self._mirror.wake()
        self._tell_end(
            entry,
            TrialEnd(
                outcome.state,
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
        """Numbers of the best finished trials: all of the Pareto front, or one, the best."""
        return self._objectives.best(self._finished)

    def first(self) -> int | None:
        """Number of the best finished trial by the first objective."""
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
        if entry.role == BASELINE:
            said = [f"the plain network, trained beside the search: {end.state}"]
            said += [f"{k} {v:.4g}" for k, v in end.metrics.items() if k in self._objectives.names]
            said += [end.reason] if end.reason else []
            self._progress.note(", ".join(said))
            return
        best = False
        if end.scores is not None:
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
        """Keeps the weights of the baseline, or of a trial that is among the best so far.

        Returns:
            Where they lie, if they are kept, and whether no earlier run had left them there.
        """
        good = entry.role == BASELINE or (
            scores is not None
            and entry.number in self._kept({**self._finished, entry.number: scores})
        )
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
            self._progress.note(f"the weights of trial {entry.number:03d} are not kept: {error}")
            return None, False
        return path, new

    def _drop_weights(self) -> None:
        """Deletes the weights of what this session trained and then surpassed."""
        kept = self._kept(self._finished)
        for number in [number for number in self._ours if number not in kept]:
            run_id, path = self._ours.pop(number)
            self._ledger.set_weights_path(run_id, None)
            path.unlink(missing_ok=True)

    def _kept(self, finished: Mapping[int, tuple[float, ...]]) -> Sequence[int]:
        if len(self._objectives.names) > 1:
            return self._objectives.best(finished)
        return self._objectives.ranked(finished)[:WEIGHTS_KEPT]


def weights_folder(ledger: Ledger) -> Path:
    """Where trained weights are kept: ATTNSEARCH_WEIGHTS, or a folder beside the ledger."""
    given = os.environ.get("ATTNSEARCH_WEIGHTS")
    return Path(given).absolute() if given else ledger.folder.absolute() / "attnsearch-weights"
