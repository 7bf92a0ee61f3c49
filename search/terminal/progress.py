"""What `attnsearch run` shows: a live table on a terminal, plain lines elsewhere."""

import contextlib
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from attnsearch.runs.ledger import State
from attnsearch.runs.words import duration
from attnsearch.search.study import ActInfo, Progress, StudyEnd, StudyInfo, TrialEnd, TrialInfo
from attnsearch.search.text import plural, quantity, score

_STYLES = {
    State.FINISHED: "green",
    State.STOPPED: "yellow",
    State.FAILED: "red",
    State.INFEASIBLE: "magenta",
}
_NARROW = 72  # below it, bars are short
_NARROWEST = 48  # below it, there are none: they make room for the names
_DISK_SECONDS = 2.0  # between two looks at what checkpoints hold


class _Display(Progress, ABC):
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


class PlainProgress(_Display):
    """One line when a trial starts and one when it ends, for logs and pipes; none for epochs.

    Args:
        stream: Where the lines go; standard error by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = sys.stderr if stream is None else stream

    def trial_started(self, trial: TrialInfo) -> None:
        """Say which trial starts; the runs of an act are announced by its plan."""
        if not trial.act:
            self._say(f"trial {trial.number:03d} started: {trial.label}")

    def trial_ended(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Say how it ended, and how many have."""
        self._done += end.state != State.INTERRUPTED
        outcome = describe_end(trial, end, self.study, self._act)
        if trial.act:
            of = f" of {self._act.runs}" if self._act and self._act.runs else ""
            state = "" if end.state == State.FINISHED else f" {end.state}"
            self._say(f"{trial.act} {self._done}{of}{state}: {outcome}")
            return
        of = f" of {self.study.trials}" if self.study else ""
        self._say(f"trial {trial.number:03d} {end.state}: {outcome} ({self._done}{of})")

    def _say(self, line: str, style: str = "") -> None:
        with _terminal_may_go():
            print(line, file=self._stream, flush=True)


class LiveProgress(_Display):
    """A table of the running trials under the lines of those that ended.

    Args:
        console: Where it is drawn; a console on standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._console = console or Console(stderr=True, highlight=False)
        self._best: str | None = None
        self._asked, self._saved_bytes = float("-inf"), 0
        self._count_from(0)
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=4,
            transient=True,
            # What goes to a file or a pipe stays there.
            redirect_stdout=sys.stdout.isatty(),
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with _terminal_may_go():
            self._live.stop()

    def trial_started(self, trial: TrialInfo) -> None:
        """Add a row."""
        with self._lock:
            self._running[trial.number] = (trial, 0, None)

    def epoch(self, trial: TrialInfo, epoch: int, metrics: Mapping[str, float]) -> None:
        """Move the trial's bar."""
        with self._lock:
            self._running[trial.number] = (trial, epoch, metrics.get(self._watched(metrics)))

    def trial_ended(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Turn the row into a line above the table."""
        outcome = describe_end(trial, end, self.study, self._act)
        with self._lock:
            self._running.pop(trial.number, None)
            if end.state in self._counts:
                self._counts[end.state] += 1
                self._trained += end.state != State.INFEASIBLE and not end.reused
            if end.best and not trial.act:
                self._best = f"{trial.number:03d}  {_scores(end, self.study)}  {trial.label}"
        line = Table.grid(padding=(0, 2))
        line.add_column(min_width=3)
        line.add_column(min_width=max(map(len, _STYLES)), style=_STYLES.get(end.state, ""))
        line.add_column(style="bold" if end.best else "", overflow="fold")
        line.add_row(f"{trial.number:03d}", end.state, outcome)
        self._print(line)

    def study_ended(self, end: StudyEnd) -> None:
        """Take the table away and say why the session is over."""
        with self._lock:
            self._running.clear()
        self.__exit__()
        super().study_ended(end)

    def _count_from(self, done: int) -> None:
        super()._count_from(done)
        self._running: dict[int, tuple[TrialInfo, int, float | None]] = {}
        self._counts = dict.fromkeys(_STYLES, 0)
        self._trained = 0
        self._begin = time.monotonic()

    def _say(self, line: str, style: str = "") -> None:
        self._print(Text(line, style=style))

    def _print(self, line: RenderableType) -> None:
        with _terminal_may_go():
            self._console.print(line)

    def _watched(self, metrics: Mapping[str, float]) -> str:
        objectives = [*(self._act.metrics if self._act else ())]
        objectives += self.study.objectives if self.study else {}
        return next((name for name in objectives if name in metrics), "val_accuracy")

    def _draw(self) -> RenderableType:
        with self._lock:
            if self.study is None:
                return Text("loading the data and starting the workers ...", style="dim")
            width = self._console.width
            bar = 0 if width < _NARROWEST else 6 if width < _NARROW else 12
            parts: list[RenderableType] = [Text(""), self._header(self.study, bar)]
            if self._running:
                parts.append(self._rows(bar))
            else:
                parts.append(Text("waiting for the workers ...", style="dim"))
            if self._best:
                parts.append(
                    Text(f"best  {self._best}", style="bold", no_wrap=True, overflow="ellipsis")
                )
            return Group(*parts)

    def _header(self, study: StudyInfo, bar: int) -> RenderableType:
        done = self._done + sum(self._counts.values())
        elapsed = time.monotonic() - self._begin
        total = self._act.runs if self._act else study.trials
        what = f"{self._act.name} runs" if self._act else "trials"
        parts = [f"{done}/{total} {what}" if total else f"{done} {what}"]
        parts += [f"{count} {state}" for state, count in self._counts.items() if count]
        parts.append(f"{_clock(elapsed)} elapsed")
        left = self._seconds_left(total, done, elapsed)
        if left is not None:
            parts.append(f"about {_clock(left)} left")
        if (saved := self._saved(study)) > 0:
            parts.append(f"checkpoints {saved / 1e6:,.1f} MB")
        line = Text("  ".join(parts), no_wrap=True, overflow="ellipsis")
        if not bar:
            return line
        grid = Table.grid(padding=(0, 2))
        grid.add_column(min_width=bar)
        grid.add_column(no_wrap=True, overflow="ellipsis")
        grid.add_row(_bar(done, total, 20 if bar > 6 else bar), line)
        return grid

    def _saved(self, study: StudyInfo) -> int:
        """Return the bytes of the study's checkpoints, asked for every few seconds."""
        now = time.monotonic()
        if now - self._asked > _DISK_SECONDS:
            self._asked, self._saved_bytes = now, study.checkpoint_bytes()
        return self._saved_bytes

    def _seconds_left(self, total: int, done: int, elapsed: float) -> float | None:
        """Return the seconds left, at the pace of this session so far."""
        partly = sum(epoch / max(trial.epochs, 1) for trial, epoch, _ in self._running.values())
        worked = self._trained + partly
        if worked < 1:
            return None
        return elapsed * max(total - done - partly, 0.0) / worked

    def _rows(self, bar: int) -> Table:
        grid = Table.grid(padding=(0, 2))
        for _, width in (("trial", 3), ("bar", bar), ("epoch", 3), ("value", 6)):
            if width:
                # A least width: rich would rather cut these than the last column.
                grid.add_column(no_wrap=True, min_width=width, justify="right")
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for number, (trial, epoch, value) in sorted(self._running.items()):
            bars = [_bar(epoch, trial.epochs, bar)] if bar else []
            reached = f"{epoch}/{trial.epochs}"
            grid.add_row(f"{number:03d}", *bars, reached, score(value), trial.label)
        return grid


def open_progress() -> PlainProgress | LiveProgress:
    """Return a live table where standard error is a terminal that draws it, else plain lines."""
    console = Console(stderr=True, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal and sys.stderr.isatty():
        return LiveProgress(console)
    return PlainProgress()


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
        parts.append(_scores(end, study))
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


def _scores(end: TrialEnd, study: StudyInfo | None) -> str:
    names = list(study.objectives) if study else []
    values = end.scores or ()
    return ", ".join(
        f"{name} {score(value) if abs(value) < 1000 else quantity(value)}"
        for name, value in zip(names, values, strict=False)
    )


def _bar(done: int, total: int, width: int) -> ProgressBar:
    return ProgressBar(total=max(total, 1), completed=min(done, total), width=width)


def _clock(seconds: float) -> str:
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextlib.contextmanager
def _terminal_may_go() -> Iterator[None]:
    with contextlib.suppress(OSError, ValueError):
        yield
