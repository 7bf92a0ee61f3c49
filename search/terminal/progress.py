"""What `attnsearch run` shows: a live table on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from attnsearch.runs.ledger import State
from attnsearch.search.study import StudyEnd, StudyInfo, TrialEnd, TrialInfo
from attnsearch.search.terminal.display import (
    Display,
    clock,
    describe_end,
    scores_text,
    terminal_may_go,
)
from attnsearch.search.terminal.plain import PlainProgress
from attnsearch.search.text import score

_STYLES = {
    State.FINISHED: "green",
    State.STOPPED: "yellow",
    State.FAILED: "red",
    State.INFEASIBLE: "magenta",
}
_NARROW = 72  # below it, bars are short
_NARROWEST = 48  # below it, there are none: they make room for the names
_DISK_SECONDS = 2.0  # between two looks at what checkpoints hold


class LiveProgress(Display):
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
        with terminal_may_go():
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
                self._best = f"{trial.number:03d}  {scores_text(end, self.study)}  {trial.label}"
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
        with terminal_may_go():
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
        parts.append(f"{clock(elapsed)} elapsed")
        left = self._seconds_left(total, done, elapsed)
        if left is not None:
            parts.append(f"about {clock(left)} left")
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


def _bar(done: int, total: int, width: int) -> ProgressBar:
    return ProgressBar(total=max(total, 1), completed=min(done, total), width=width)
