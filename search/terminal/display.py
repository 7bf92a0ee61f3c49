"""What the displays of a study share: counts, the time left, and the words of each event."""

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Self

from attnsearch.runs.ledger import State
from attnsearch.runs.words import duration
from attnsearch.search.study import ActInfo, Progress, StudyEnd, StudyInfo, TrialEnd, TrialInfo
from attnsearch.search.text import plural, quantity, score


class Display(Progress, ABC):
    """What both displays of a study share: the study and act that they show, and messages.

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
        self._done = 0

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
            self._act = act
            self._count_from(act.done)
        self._say(act.text)

    def note(self, text: str) -> None:
        """Repeat the note."""
        self._say(text, "yellow")

    def study_ended(self, end: StudyEnd) -> None:
        """Say why the session is over."""
        self._say(f"{end.message} ({duration(end.seconds)})", "bold")

    def _count_from(self, done: int) -> None:
        self._done = done

    @abstractmethod
    def _say(self, line: str, style: str = "") -> None:
        """Print a line."""


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
    return (
        f"{begin}, up to {plural(study.epochs, 'epoch')} each, {study.workers} at a time; "
        f"{objectives}; sampler {study.sampler}, scheduler {study.scheduler}"
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


@contextlib.contextmanager
def terminal_may_go() -> Iterator[None]:
    """Go on where nobody reads what is written."""
    with contextlib.suppress(OSError, ValueError):
        yield
