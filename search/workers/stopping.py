"""Early stopping: Ray Tune's schedulers, with what they lack here.

* The plain network is protected: it is compared with, so it always gets its full schedule.
* A failed or infeasible result has no metric; some of Tune's schedulers would raise on it.
* After an interruption ASHA and the median rule learn the epochs that the ledger knows, so that
  they decide as if there had been none. HyperBand starts new brackets.
* HyperBand fills a bracket before it halves it. Tune's own halves as soon as all trials that have
  been proposed *so far* are at the milestone, and gives the place of one that has ended to the
  next; with few workers each trial is then judged by itself, and none is ever stopped.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    TrialScheduler,
)
from ray.tune.schedulers.hyperband import _Bracket

from attnsearch.search.workers.early_stopping import Curve, scheduler_name
from attnsearch.spaces.file import default_grace

CONTINUE, PAUSE, STOP = TrialScheduler.CONTINUE, TrialScheduler.PAUSE, TrialScheduler.STOP
EPOCH = "epoch"


def make_scheduler(
    spec: str | Mapping[str, Any],
    metric: str,
    mode: str,
    epochs: int,
    more_to_come: Callable[[], bool],
) -> Any:
    """Return the scheduler that `search.scheduler` asks for.

    Args:
        spec: `asha`, `hyperband`, `median` or `none`, or a mapping with one of them to its
            settings.
        metric: The metric that decides; reported in every epoch.
        mode: "max" or "min".
        epochs: Of the longest full schedule.
        more_to_come: Whether further trials may be proposed; HyperBand waits for them.
    """
    name = scheduler_name(spec)
    settings: Mapping[str, Any] = {} if isinstance(spec, str) else spec[name] or {}
    common = {"time_attr": EPOCH, "metric": metric, "mode": mode}
    grace = settings.get("grace") or default_grace(epochs)
    if name == "asha":
        return Asha(
            max_t=epochs,
            grace_period=min(grace, epochs),
            reduction_factor=settings.get("reduction", 3),
            **common,
        )
    if name == "median":
        return Median(
            grace_period=grace,
            min_samples_required=settings.get("min_samples", 3),
            **common,
        )
    if name == "hyperband":
        return HyperBand(
            more_to_come, max_t=epochs, reduction_factor=settings.get("reduction", 3), **common
        )
    return Never()


class Past:
    """Stands for a trial of an earlier session in a scheduler's books."""

    def __init__(self, number: int) -> None:
        self.trial_id = f"past-{number}"
        self.status = Trial.TERMINATED
        self.config: dict[str, Any] = {}


def _protected(trial: Trial | Past) -> bool:
    job = trial.config.get("job")
    return job is not None and job.protected


class _Learning:
    """Replays the curves of earlier trials into a scheduler."""

    _learnt = 0

    def learn(self, curve: Curve, finished: bool) -> None:
        """Take in an earlier trial, as if it had just run."""
        if not curve:
            return
        past: Any = Past(self._learnt)
        self._learnt += 1
        scheduler: Any = self
        scheduler.on_trial_add(None, past)
        # Tune asks a scheduler about every result but the one that ends a full schedule.
        for result in curve[:-1] if finished else curve:
            scheduler.on_trial_result(None, past, dict(result))
        scheduler.on_trial_complete(None, past, dict(curve[-1]))


class Never(_Learning, FIFOScheduler):  # type: ignore[misc]
    """Stops nothing."""


class Asha(_Learning, AsyncHyperBandScheduler):  # type: ignore[misc]
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934)."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return whether the trial goes on."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return str(CONTINUE) if _protected(trial) else decision


class Median(_Learning, MedianStoppingRule):  # type: ignore[misc]
    """Stops what lies below the median of the others' running means (Golovin et al. 2017)."""

    def learn(self, curve: Curve, finished: bool) -> None:
        """Take in an earlier trial, as if it had just run."""
        past = Past(len(self._results))
        # As in a live trial, the last result of one that was stopped is entered twice.
        for result in curve if finished else [*curve, *curve[-1:]]:
            self._results[past].append(dict(result))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return whether the trial goes on."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if _protected(trial):
            self._stopped_trials.discard(trial)
            return str(CONTINUE)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Take in the last result, if it is one of training."""
        if self._metric in result and EPOCH in result:
            super().on_trial_complete(tune_controller, trial, result)

    def _on_insufficient_samples(self, tune_controller: Any, trial: Any, time: float) -> str:
        """Go on where there is too little to compare with; Tune's own would pause."""
        return str(CONTINUE)


class _FilledOnce(_Bracket):  # type: ignore[misc]
    """A bracket with so many places, each taken once."""

    def filled(self) -> bool:
        """Return whether all places are taken, also by trials that have ended."""
        return bool(len(self._all_trials) >= self._n0)


class PerAct(TrialScheduler):  # type: ignore[misc]
    """A scheduler of its own for each act of a study; those without one stop nothing.

    Acts follow one another: none begins before the jobs of the one before have ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self._never = Never()
        self._of: dict[str, Any] = {}
        self._now: Any = self._never

    def begin(self, act: str, scheduler: Any | None) -> None:
        """An act begins, with this scheduler."""
        self._now = self._of[act] = scheduler or self._never

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Ask the act's scheduler."""
        self._scheduler(trial).on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Ask the act's scheduler."""
        self._scheduler(trial).on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ask the act's scheduler."""
        decision: str = self._scheduler(trial).on_trial_result(tune_controller, trial, result)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Ask the act's scheduler."""
        self._scheduler(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Ask the act's scheduler."""
        self._scheduler(trial).on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Ask the scheduler of the act that is under way."""
        return self._now.choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        """Say nothing; Tune's logs are off."""
        return ""

    def _scheduler(self, trial: Any) -> Any:
        return self._of.get(trial.config["job"].act, self._never)


class HyperBand(HyperBandScheduler):  # type: ignore[misc]
    """HyperBand (Li et al. 2018, arXiv 1603.06560): synchronous halving in brackets.

    Args:
        more_to_come: Whether further trials may be proposed.
        options: Of Tune's scheduler.
    """

    def __init__(self, more_to_come: Callable[[], bool], **options: Any) -> None:
        super().__init__(**options)
        self._more_to_come = more_to_come
        self._free: list[Any] = []

    def learn(self, curve: Curve, finished: bool) -> None:
        """Nothing: the trials of a bracket must be alive to be compared."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Put a trial in a bracket, unless it is protected."""
        if _protected(trial):
            self._free.append(trial)
        else:
            super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return whether the trial goes on, waits for the others of its bracket, or ends."""
        if _protected(trial) or self._metric not in result:
            return str(CONTINUE)
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return decision

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Take a trial that ended out of its bracket."""
        if _protected(trial):
            self._free.remove(trial)
        else:
            super().on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the protected one first, then by bracket.

        Tune calls this in every step, so here a bracket is halved that nobody will halve
        otherwise: one whose trials all wait, because no more will come to fill it or because the
        one that they waited for has failed.
        """
        for bracket in self._brackets():
            trials = bracket.current_trials()
            waiting = [trial.status == Trial.PAUSED for trial in trials]
            if (
                trials
                and all(waiting)
                and not bracket.trials_to_unpause
                and bracket.cur_iter_done()
                and not self._filling(bracket)
            ):
                super()._process_bracket(tune_controller, bracket)
        for trial in self._free:
            if trial.status == Trial.PENDING:
                return trial
        return super().choose_trial_to_run(tune_controller)

    def _process_bracket(self, tune_controller: Any, bracket: Any) -> str:
        if self._filling(bracket):
            return str(PAUSE)
        decision: str = super()._process_bracket(tune_controller, bracket)
        return decision

    def _create_bracket(self, s: int) -> Any:
        return _FilledOnce(
            time_attr=self._time_attr,
            max_trials=self._get_n0(s),
            init_t_attr=self._get_r0(s),
            max_t_attr=self._max_t_attr,
            eta=self._eta,
            s=s,
            stop_last_trials=self._stop_last_trials,
        )

    def _filling(self, bracket: Any) -> bool:
        """Return whether further trials may join a bracket."""
        return self._more_to_come() and not bracket.filled()

    def _brackets(self) -> Iterable[Any]:
        return [bracket for band in self._hyperbands for bracket in band if bracket is not None]
