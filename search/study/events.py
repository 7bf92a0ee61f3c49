"""What a study tells whoever watches it: the command line's live table, a notebook, a test.

A session calls a `Progress` from the thread that called `run_study`, in order: `study_started`,
then for each trial `trial_started`, `epoch` once per epoch and `trial_ended`, and `study_ended`
last, also when the study was stopped. An act that follows exploring begins with `act_started`;
its runs take the same calls as trials, with the act's name in `TrialInfo.act`. `note` may come at
any time in between. A call should return at once: it holds up the thread that feeds the workers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnsearch.runs.ledger import Role, State


@dataclass(frozen=True)
class StudyInfo:
    """A study as it starts or continues.

    Attributes:
        name: The name in the space file.
        number: 1 for the first study of that name in this ledger, 2 for the second.
        trials: How many distinct configs the search may spend, those of earlier sessions included.
        done: How many of them have ended already, in earlier sessions.
        epochs: Epochs of one full training.
        objectives: Metric or cost name to "max" or "min"; early stopping follows the first that
            is measured in every epoch.
        workers: How many trials run side by side.
        sampler: The sampler's name, as in the space file.
        scheduler: The scheduler's name, as in the space file.
        ledger: The ledger's URL, without a password.
        tracking_uri: Where MLflow records the study.
        checkpoint_bytes: Gives what the checkpoints of its runs hold on the disk now.
        device: What its trials train on: `cpu` or `cuda`.
        log: Where its log is kept; None for none.
        cost: How long it takes at most, in words; empty where that is not known.
    """

    name: str
    number: int
    trials: int
    done: int
    epochs: int
    objectives: Mapping[str, str]
    workers: int
    sampler: str
    scheduler: str
    ledger: str
    tracking_uri: str
    checkpoint_bytes: Callable[[], int] = lambda: 0
    device: str = "cpu"
    log: Path | None = None
    cost: str = ""


@dataclass(frozen=True)
class ActInfo:
    """An act of a study that follows exploring, as it starts or continues.

    Attributes:
        name: What it is called: `tuning`, `confirm`, `test`, `ablation loco`.
        runs: How many runs it has; 0 where that is not known.
        done: How many of them ended before.
        text: What is going to be done and what it costs, for a person; several lines.
        metrics: Which metrics to show of each of its runs.
        arms: Names of the study's arms so far, in the order of its plans: those of its runs hold
            them.
    """

    name: str
    runs: int
    done: int
    text: str
    metrics: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrialInfo:
    """One trial, or one run of another act.

    Attributes:
        number: Its number in the study, or in the act, from 0.
        label: What is inserted where, as in `ecrm@layer4 psa@layer3.conv2`, or `plain`.
        values: The active decisions by name.
        epochs: Epochs of its full schedule.
        role: A `Role`, or "test" where a trained network is evaluated.
        act: The act's name as in `ActInfo`; empty for exploring.
    """

    number: int
    label: str
    values: Mapping[str, Any]
    epochs: int
    role: str = Role.TRIAL
    act: str = ""


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended.

    Attributes:
        state: "finished" (the full schedule), "stopped" (early), "failed", "infeasible" (never
            trained) or "interrupted".
        metrics: The metrics that count for it: the last epoch's, or the best epoch's where the
            space says `checkpoint: best_val`; empty where nothing was trained.
        costs: `params`, `macs`, `latency_ms`, ... as far as they were measured.
        scores: The objectives' values in the order of `StudyInfo.objectives`; None unless the
            trial finished. Of an act's runs, show the metrics that its `ActInfo` names instead.
        best: Whether it is now the best finished trial, or on the Pareto front.
        reason: Why it failed, is infeasible, or is not ranked although it finished; else None.
        reused: Whether the result was taken over from another run instead of trained.
        elsewhere: Whether another driver of the study brought it, meanwhile.
        seconds: Wall time of the training.
    """

    state: State
    metrics: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    scores: tuple[float, ...] | None = None
    best: bool = False
    reason: str | None = None
    reused: bool = False
    elsewhere: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class StudyEnd:
    """How a session of a study ended.

    Attributes:
        state: "finished", "interrupted" or "failed" (no trial finished).
        done: How many trials have ended, over all sessions.
        best: Number of the best finished trial (of the first objective), None without one.
        message: One or two sentences: why it ended and, where it can go on, how.
        seconds: Wall time of this session.
    """

    state: State
    done: int
    best: int | None
    message: str
    seconds: float


class Progress:
    """Watches a study and does nothing; see the module's text for the order of the calls.

    A program's own watcher derives from it and defines the methods that it wants. What one raises
    ends the session, as an interrupted one; set `stop` to end it cleanly, as Ctrl-C does.
    """

    stop = False

    def stopping(self) -> bool:
        """Return whether the study is to end; asked for often."""
        return self.stop

    def study_started(self, study: StudyInfo) -> None:
        """Hear that the study is open, its data is loaded and the workers are up."""

    def act_started(self, act: ActInfo) -> None:
        """Hear that an act other than exploring begins or continues."""

    def trial_started(self, trial: TrialInfo) -> None:
        """Hear that a worker begins with a trial."""

    def epoch(self, trial: TrialInfo, epoch: int, metrics: Mapping[str, float]) -> None:
        """Hear that an epoch, counted from 1, was trained and validated."""

    def trial_ended(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Hear that a trial ended; infeasible and reused ones do so without having started."""

    def note(self, text: str) -> None:
        """Hear something that the user should know, in one sentence."""

    def study_ended(self, end: StudyEnd) -> None:
        """Hear that the session is over and everything is recorded."""


class Several(Progress):
    """Tells several watchers of every event, in their order.

    Args:
        watchers: Any one of them may ask for the study's end.
    """

    def __init__(self, watchers: Sequence[Progress]) -> None:
        self._watchers = watchers

    def stopping(self) -> bool:
        """Return whether one of them asks for the end."""
        return any(watcher.stopping() for watcher in self._watchers)

    def study_started(self, study: StudyInfo) -> None:
        """Tell that the study is open."""
        for watcher in self._watchers:
            watcher.study_started(study)

    def act_started(self, act: ActInfo) -> None:
        """Tell that an act begins."""
        for watcher in self._watchers:
            watcher.act_started(act)

    def trial_started(self, trial: TrialInfo) -> None:
        """Tell that a trial begins."""
        for watcher in self._watchers:
            watcher.trial_started(trial)

    def epoch(self, trial: TrialInfo, epoch: int, metrics: Mapping[str, float]) -> None:
        """Tell of an epoch."""
        for watcher in self._watchers:
            watcher.epoch(trial, epoch, metrics)

    def trial_ended(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Tell that a trial ended."""
        for watcher in self._watchers:
            watcher.trial_ended(trial, end)

    def note(self, text: str) -> None:
        """Tell a sentence."""
        for watcher in self._watchers:
            watcher.note(text)

    def study_ended(self, end: StudyEnd) -> None:
        """Tell that the session is over."""
        for watcher in self._watchers:
            watcher.study_ended(end)
