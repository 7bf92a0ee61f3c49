"""Lines of a study, where no terminal draws a table: printed, or kept in the study's log."""

import sys
import threading
import time
from pathlib import Path
from typing import Self, TextIO

from attnsearch.blocks.naming import shown_name
from attnsearch.runs.ledger import State
from attnsearch.runs.words import duration
from attnsearch.search.study import StudyInfo, TrialEnd, TrialInfo
from attnsearch.search.terminal.display import Display, describe_end, terminal_may_go
from attnsearch.search.text import score

QUIET_SECONDS = 30.0
"""After so long without a line, one says how far everything is."""


class PlainProgress(Display):
    """One line when a trial starts and one when it ends, for logs and pipes.

    Where nothing else was said for `QUIET_SECONDS`, a line tells epochs and the time left.

    Args:
        stream: Where the lines go; standard error by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = sys.stderr if stream is None else stream
        self._spoke = time.monotonic()
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._break_silence, daemon=True)

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()

    def trial_started(self, trial: TrialInfo) -> None:
        """Say which trial starts; the runs of an act are announced by its plan."""
        super().trial_started(trial)
        if not trial.act:
            self._say(f"trial {trial.number:03d} started: {trial.label}")

    def status(self) -> str:
        """Return how far everything is, in a line."""
        with self._lock:
            if self.study is None:
                return "loading the data, starting the workers, racing a few steps (train.speed)"
            what = f"{self._act.name}: " if self._act else ""
            of = f" of {self._total}" if self._total else ""
            running = [
                f"{number:03d} {self._named(shown_name(run.trial.label))} at epoch {run.epoch} of "
                f"{run.trial.epochs}" + (f" ({score(run.curve[-1])})" if run.curve else "")
                for number, run in sorted(self._running.items())
            ]
            said = "; ".join(running) or self._idle
            return f"{what}{self._done}{of} done{self._left()}; {said}"

    def _left(self) -> str:
        left = self._seconds_left()
        return "" if left is None else f", about {duration(left)} left"

    def _say_ended(self, trial: TrialInfo, end: TrialEnd) -> None:
        outcome = describe_end(trial, end, self.study, self._act)
        with self._lock:
            left = self._left() if self._done < self._total else ""
        if trial.act:
            of = f" of {self._act.runs}" if self._act and self._act.runs else ""
            state = "" if end.state == State.FINISHED else f" {end.state}"
            told = f"{trial.act} {self._done}{of}{state}: {outcome}"
            self._say(told + (f" ({left.removeprefix(', ')})" if left else ""))
            return
        of = f" of {self.study.trials}" if self.study else ""
        self._say(f"trial {trial.number:03d} {end.state}: {outcome} ({self._done}{of}{left})")

    def _break_silence(self) -> None:
        while not self._over.wait(min(1.0, QUIET_SECONDS)):
            if time.monotonic() - self._spoke >= QUIET_SECONDS:
                self._say(self.status())

    def _say(self, line: str, style: str = "") -> None:
        self._spoke = time.monotonic()
        with terminal_may_go():
            print(line, file=self._stream, flush=True)


class StudyLog(PlainProgress):
    """The same lines in a file beside the ledger, each with the time of day; for later readers.

    A session goes on in the file of the one before. Where it cannot be written, there is none.
    """

    def __init__(self) -> None:
        super().__init__()
        self._file: Path | None = None
        self._waiting: list[str] = []

    def study_started(self, study: StudyInfo) -> None:
        """Begin the file, or go on with it."""
        self._file = study.log
        super().study_started(study)

    def _say(self, line: str, style: str = "") -> None:
        self._spoke = time.monotonic()
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        with self._lock:  # the thread that breaks the silence writes too
            self._waiting.append("".join(f"{now}  {part}\n" for part in line.splitlines()))
            if self._file is None:
                return
            with terminal_may_go():
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("a", encoding="utf-8") as file:
                    file.write("".join(self._waiting))
            self._waiting.clear()
