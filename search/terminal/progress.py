"""What `attnsearch run` shows: a live table on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import mean
from typing import Self, TextIO

import psutil
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from attnsearch.blocks.naming import shown_name
from attnsearch.runs.ledger import State
from attnsearch.runs.words import value_text
from attnsearch.search.study import Several, StudyEnd, StudyInfo, TrialEnd, TrialInfo
from attnsearch.search.terminal.display import (
    Display,
    clock,
    describe_end,
    device_text,
    memory_text,
    terminal_may_go,
)
from attnsearch.search.terminal.plain import PlainProgress, StudyLog
from attnsearch.search.text import score

_STYLES = {
    State.FINISHED: "green",
    State.STOPPED: "yellow",
    State.FAILED: "red",
    State.INFEASIBLE: "magenta",
}
_NARROW = 72  # below it, bars are short, and what a trial holds is left out
_NARROWEST = 48  # below it, there are none: they make room for the names
_WIDE = 100  # from it on, there are curves
_CURVE = 10  # characters
_MEMORY = 6
_HEIGHTS = "▁▂▃▄▅▆▇█"
_DISK_SECONDS = 2.0  # between two looks at what checkpoints hold


class LiveProgress(Display):
    """A table of the running trials under the lines of those that ended.

    Args:
        console: Where it is drawn; a console on standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._console = console or Console(stderr=True, highlight=False)
        self._asked, self._saved_bytes = float("-inf"), 0
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
        with terminal_may_go():
            self._live.stop()

    def study_ended(self, end: StudyEnd) -> None:
        """Take the table away and say why the session is over."""
        with self._lock:
            self._running.clear()
        self.__exit__()
        super().study_ended(end)

    def _say_ended(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Turn the row into a line above the table."""
        outcome = describe_end(trial, end, self.study, self._act)
        line = Table.grid(padding=(0, 2))
        line.add_column(min_width=3)
        line.add_column(min_width=max(map(len, _STYLES)), style=_STYLES.get(end.state, ""))
        line.add_column(style="bold" if end.best else "", overflow="fold")
        line.add_row(f"{trial.number:03d}", end.state, outcome)
        self._print(line)

    def _say(self, line: str, style: str = "") -> None:
        self._print(Text(line, style=style))

    def _print(self, line: RenderableType) -> None:
        with terminal_may_go():
            self._console.print(line)

    def _draw(self) -> RenderableType:
        with self._lock:
            if self.study is None:
                return Text(
                    "loading the data, starting the workers, racing a few steps (train.speed) ...",
                    style="dim",
                )
            width = self._console.width
            bar = 0 if width < _NARROWEST else 6 if width < _NARROW else 12
            parts: list[RenderableType] = [Text(""), self._header(self.study, bar)]
            if self._running:
                parts.append(self._rows(bar))
                labels = [run.trial.label for run in self._running.values()]
                legend = self._letters.legend(*labels)
                parts += [Text(legend, style="dim")] if legend else []
            else:
                parts.append(Text(f"{self._idle} ...", style="dim"))
            if best := self._best_so_far():
                parts.append(Text(_in_lines(best, width), style="bold"))
            return Group(*parts)

    def _header(self, study: StudyInfo, bar: int) -> RenderableType:
        done, total = self._done, self._total
        what = f"{self._act.name} runs" if self._act else "trials"
        parts = [f"{done}/{total} {what}" if total else f"{done} {what}"]
        parts.append(f"{clock(time.monotonic() - self._begin)} elapsed")
        left = self._seconds_left()
        if left is not None:
            parts.append(f"about {clock(left)} left")
        width = self._console.width
        long = 20 if bar > 6 else bar
        if not bar or long + 2 + len("  ".join(parts)) > width:
            line: RenderableType = Text(_in_lines(parts, width))
        else:
            line = Table.grid(padding=(0, 2))
            line.add_row(_bar(done, total, long), "  ".join(parts))
        states = [f"{count} {state}" for state, count in self._counts.items() if count]
        memory = psutil.virtual_memory()
        told = [
            *states,
            device_text(study.device),
            f"memory {memory.percent:.0f} % of {memory.total / 1e9:.0f} GB",
        ]
        if (saved := self._saved(study)) > 0:
            told.append(f"checkpoints {saved / 1e6:,.1f} MB")
        return Group(line, Text(_in_lines(told, width), style="dim"))

    def _saved(self, study: StudyInfo) -> int:
        """Return the bytes of the study's checkpoints, asked for every few seconds."""
        now = time.monotonic()
        if now - self._asked > _DISK_SECONDS:
            self._asked, self._saved_bytes = now, study.checkpoint_bytes()
        return self._saved_bytes

    def _rows(self, bar: int) -> Table:
        grid = Table.grid(padding=(0, 2))
        curve = _CURVE if self._console.width >= _WIDE else 0
        reached = max(len(f"{run.epoch}/{run.trial.epochs}") for run in self._running.values())
        memory = _MEMORY if self._console.width >= _NARROW else 0
        widths = [width for width in (3, bar, reached, 6, memory, curve) if width]
        for width in widths:  # trial, bar, epoch, value, memory, curve
            grid.add_column(no_wrap=True, width=width, justify="right")
        grid.add_column(no_wrap=True, overflow="ellipsis")
        room = max(self._console.width - sum(widths) - 2 * len(widths), 1)
        for number, run in sorted(self._running.items()):
            trial, last = run.trial, run.curve[-1] if run.curve else None
            bars = [_bar(run.epoch, trial.epochs, bar)] if bar else []
            held = [memory_text(run.memory_mb)] if memory else []
            curves = [sparkline(run.curve, _CURVE)] if curve else []
            epochs = f"{run.epoch}/{trial.epochs}"
            # The head says which act it is, and its runs' names all begin alike.
            label = self._named(shown_name(trial.label)).removeprefix("arm ")
            name = Text(" ".join([label, *_settings(trial)]))
            name.truncate(room, overflow="ellipsis")  # rich would cut the other columns too
            grid.add_row(f"{number:03d}", *bars, epochs, score(last), *held, *curves, name)
        return grid


def _in_lines(facts: Sequence[str], width: int) -> str:
    """Return facts side by side, in as many lines as they need; none is broken."""
    lines = [facts[0]]
    for fact in facts[1:]:
        if len(lines[-1]) + 2 + len(fact) <= width:
            lines[-1] += f"  {fact}"
        else:
            lines.append(fact)
    return "\n".join(lines)


def sparkline(values: Sequence[float], most: int) -> str:
    """Return a curve of at most so many characters, each the mean of some values in a row."""
    count = min(most, len(values))
    cuts = [len(values) * index // max(count, 1) for index in range(count + 1)]
    means = [mean(values[low:high]) for low, high in pairwise(cuts)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    scale = (len(_HEIGHTS) - 1) / ((high - low) or 1.0)
    return "".join(_HEIGHTS[round(scale * (value - low))] for value in means)


def _settings(trial: TrialInfo) -> list[str]:
    """Return the decisions of a trial that its name does not tell: `lr=0.05`."""
    if trial.act:
        return []
    return [
        f"{name.rpartition('.')[2]}={value_text(value)}"
        for name, value in trial.values.items()
        if not name.endswith(".block")
    ]


class Shown(Several):
    """What a user looks at, and the study's log.

    Args:
        display: What the user looks at.
        log: The log.
    """

    def __init__(self, display: Display, log: StudyLog) -> None:
        super().__init__([display, log])
        self.display = display

    @property
    def study(self) -> StudyInfo | None:
        """The study, once it has started."""
        return self.display.study


@contextlib.contextmanager
def open_progress(stream: TextIO | None = None) -> Iterator[Shown]:
    """Give a live table where standard error is a terminal that draws it, else plain lines.

    The plain lines go to the study's log in either case.

    Args:
        stream: Where plain lines go instead, whatever it is.
    """
    console = Console(stderr=True, highlight=False)
    draws = (
        stream is None
        and console.is_terminal
        and not console.is_dumb_terminal
        and sys.stderr.isatty()
    )
    with LiveProgress(console) if draws else PlainProgress(stream) as display, StudyLog() as log:
        yield Shown(display, log)


def _bar(done: int, total: int, width: int) -> ProgressBar:
    return ProgressBar(total=max(total, 1), completed=min(done, total), width=width)
