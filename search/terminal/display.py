"""What the displays of a study share: counts, the time left, and the words of each event."""

import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Self

from attnsearch.blocks.naming import describe, shown_name
from attnsearch.runs.ledger import State
from attnsearch.runs.machine import gpu_names
from attnsearch.runs.words import duration
from attnsearch.search.study import ActInfo, Progress, StudyEnd, StudyInfo, TrialEnd, TrialInfo
from attnsearch.search.text import Letters, plural, quantity, score

STATES = (State.FINISHED, State.STOPPED, State.FAILED, State.INFEASIBLE)
"""In which a trial counts as done."""

_BASELINE = shown_name(describe({}))
_MEMORY = ("system/worker_gpu_peak_mb", "system/worker_memory_mb")  # what limits a trial, first


@dataclass
class Running:
    """A trial that trains now.

    Attributes:
        trial: The trial.
        epoch: Its last epoch; 0 before the first.
        curve: What is watched, after each of its epochs in this session.
        memory_mb: What its last epoch took at most on its GPU, else what its process held after
            it; None before the first.
    """

    trial: TrialInfo
    epoch: int = 0
    curve: list[float] = field(default_factory=list)
    memory_mb: float | None = None


class Display(Progress, ABC):
    """What all displays of a study share: what runs, what ended, and the time left.

    The search is worth more than its lines: when nobody reads them any more (a closed pipe, a
    terminal that is gone) they stop and the search goes on.

    Attributes:
        study: The study, once it has started.
    """

    def __init__(self) -> None:
        # A table is drawn by a thread of its own, several times a second.
        self._lock = threading.Lock()
        self.study: StudyInfo | None = None
        self._act: ActInfo | None = None
        self._letters = Letters(())
        self._best: tuple[TrialInfo, TrialEnd] | None = None
        self._baseline: TrialEnd | None = None
        self._count_from(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def study_started(self, study: StudyInfo) -> None:
        """Say what is going to happen, and begin to count."""
        with self._lock:
            self.study = study
            self._count_from(study.done)
        self._say(describe_study(study))

    def act_started(self, act: ActInfo) -> None:
        """Say what the act is going to do and what it costs, and count anew."""
        with self._lock:
            self._act, self._letters = act, Letters(act.arms)
            self._count_from(act.done)
        self._say(act.text)

    def trial_started(self, trial: TrialInfo) -> None:
        """Count it among what runs."""
        with self._lock:
            if not self._running and self._done == self._before:
                self._begin = time.monotonic()  # workers take seconds to start
            self._running[trial.number] = Running(trial)

    def epoch(self, trial: TrialInfo, epoch: int, metrics: Mapping[str, float]) -> None:
        """Keep how far it is."""
        with self._lock:
            running = self._running.setdefault(trial.number, Running(trial))
            running.epoch = epoch
            self._worked += 1
            if (value := metrics.get(self._watched(metrics))) is not None:
                running.curve.append(value)
            told = [metrics[name] for name in _MEMORY if name in metrics]
            running.memory_mb = told[0] if told else running.memory_mb

    def trial_ended(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Count it among what ended, and say how."""
        with self._lock:
            run = self._running.pop(trial.number, None)
            if end.state in self._counts:
                self._counts[end.state] += 1
                if run is not None and not end.reused:
                    self._spent.append(run.epoch or 1)  # one without epochs is a step by itself
                    self._worked += not run.epoch
            if end.scores is not None and not trial.act:
                if end.best:
                    self._best = trial, end
                if shown_name(trial.label) == _BASELINE and self._beats_baseline(end):
                    self._baseline = end
        self._say_ended(replace(trial, label=self._named(trial.label)), end)

    def note(self, text: str) -> None:
        """Repeat the note."""
        self._say(text, "yellow")

    def study_ended(self, end: StudyEnd) -> None:
        """Say why the session is over."""
        with self._lock:
            self._running.clear()
        self._say(f"{end.message} ({duration(end.seconds)})", "bold")

    @abstractmethod
    def _say(self, line: str, style: str = "") -> None:
        """Print a line."""

    @abstractmethod
    def _say_ended(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Print how a trial ended."""

    def _count_from(self, done: int) -> None:
        self._before = done
        self._running: dict[int, Running] = {}
        self._counts = dict.fromkeys(STATES, 0)
        self._worked = 0  # epochs of this session
        self._spent: list[int] = []  # epochs of each trial that ended in this session
        self._begin = time.monotonic()

    @property
    def _idle(self) -> str:
        """What is done while nothing trains."""
        over = 0 < self._total <= self._done
        return "writing the records" if over else "waiting for the workers"

    def _named(self, label: str) -> str:
        """Return a run's name with letters for long names, without the plan that its act names."""
        plan = self._act.name.partition(" ")[2] if self._act else ""
        return self._letters(label.replace(f"arm {plan}: ", "arm ") if plan else label)

    @property
    def _done(self) -> int:
        return self._before + sum(self._counts.values())

    @property
    def _total(self) -> int:
        """How many there are to be; 0 where that is not known."""
        if self._act is not None:
            return self._act.runs
        return self.study.trials if self.study is not None else 0

    def _watched(self, metrics: Mapping[str, float]) -> str:
        objectives = [*(self._act.metrics if self._act else ())]
        objectives += self.study.objectives if self.study else {}
        return next((name for name in objectives if name in metrics), "val_accuracy")

    def _beats_baseline(self, end: TrialEnd) -> bool:
        assert end.scores is not None, "asked of scored trials alone"
        if self._baseline is None or self._baseline.scores is None or self.study is None:
            return True
        way = next(iter(self.study.objectives.values()), "max")
        difference = end.scores[0] - self._baseline.scores[0]
        return difference > 0 if way == "max" else difference < 0

    def _best_so_far(self) -> list[str]:
        """Return the best so far, and the best baseline beside it; nothing before there is one."""
        if self._best is None:
            return []
        trial, end = self._best
        label = shown_name(trial.label)
        facts = [f"best  {trial.number:03d}  {scores_text(end, self.study)}  {label}"]
        if self._baseline is not None and label != _BASELINE:
            facts.append(f"(baseline: {scores_text(self._baseline, self.study)})")
        return facts

    def _seconds_left(self) -> float | None:
        """Return the seconds left of the act, at the pace of this session so far."""
        running = [(run.epoch, max(run.trial.epochs, 1)) for run in self._running.values()]
        if not self._total or self._worked < 2:  # the first epoch may hold all that starts
            return None
        whole = max((epochs for _, epochs in running), default=0)
        usual = mean(self._spent) if self._spent else whole
        left = max(self._total - self._done - len(running), 0) * usual
        for epoch, epochs in running:
            longer = [spent for spent in self._spent if spent > epoch]
            left += (mean(longer) if longer else epochs) - epoch
        return (time.monotonic() - self._begin) * left / self._worked


def describe_study(study: StudyInfo) -> str:
    """Return one line: what the study is going to do, or to continue."""
    objectives = ", ".join(f"{way} {name}" for name, way in study.objectives.items())
    name = study.name if study.number == 1 else f"{study.name}/{study.number}"
    if not study.trials:
        return f"study {name}: without exploring"
    if study.done:
        begin = f"study {name} continues: {study.done} of {plural(study.trials, 'trial')} done"
    else:
        begin = f"study {name}: {plural(study.trials, 'trial')}"
    cost = f"\n{study.cost}" if study.cost else ""
    return (
        f"{begin}, up to {plural(study.epochs, 'epoch')} each, {study.workers} at a time; "
        f"{objectives}; sampler {study.sampler}, scheduler {study.scheduler}{cost}"
    )


def describe_end(
    trial: TrialInfo, end: TrialEnd, study: StudyInfo | None, act: ActInfo | None = None
) -> str:
    """Return what came out of a trial; its number and state stand before it."""
    objectives = study.objectives if study else {}
    parts = []
    of_plan = act is not None and act.metrics and trial.act
    if end.scores is not None and not of_plan:
        parts.append(scores_text(end, study))
    elif of_plan or end.state == State.STOPPED:
        # An early stop has no score, but where it stood is why it was stopped.
        names = act.metrics if act and of_plan else objectives
        parts += [f"{name} {score(end.metrics[name])}" for name in names if name in end.metrics]
    if "params" in end.costs and "params" not in objectives and end.state != State.FAILED:
        parts.append(f"{quantity(end.costs['params'])} params")
    if end.elsewhere:
        parts.append("run by another process")
    elif end.reused:
        parts.append("taken over from an earlier run")
    elif end.seconds:
        parts.append(duration(end.seconds))
    if end.best:
        parts.append("best so far" if len(objectives) < 2 else "on the Pareto front")
    line = trial.label
    if parts:
        line += ": " + ", ".join(parts)
    if end.reason:
        # The first line names the reason; `attnsearch show` prints all of it.
        line += ": " + end.reason.strip().splitlines()[0]
    return line


def scores_text(end: TrialEnd, study: StudyInfo | None) -> str:
    """Return the objectives' values of a trial, with their names."""
    names = list(study.objectives) if study else []
    values = end.scores or ()
    return ", ".join(
        f"{name} {score(value) if abs(value) < 1000 else quantity(value)}"
        for name, value in zip(names, values, strict=False)
    )


def clock(seconds: float) -> str:
    """Return a time such as `1:02:03`, or `2:03`."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def device_text(device: str) -> str:
    """Return the device that trials train on, a GPU by its name where this machine has it."""
    names = [name.partition(",")[0] for name in gpu_names()] if device != "cpu" else []
    counted = [
        f"{count} x {name}" if count > 1 else name for name, count in Counter(names).items()
    ]
    return f"{device} ({', '.join(counted)})" if counted else device


def memory_text(mebibytes: float | None) -> str:
    """Return memory in a few characters: `512 MB`, `1.4 GB`."""
    if mebibytes is None:
        return "-"
    megabytes = mebibytes * 2**20 / 1e6
    return f"{megabytes:.0f} MB" if megabytes < 999.5 else f"{megabytes / 1e3:.1f} GB"


@contextlib.contextmanager
def terminal_may_go() -> Iterator[None]:
    """Go on where nobody reads what is written."""
    with contextlib.suppress(OSError, ValueError):
        yield
