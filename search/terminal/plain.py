"""Lines of a study, where no terminal draws a table."""

import sys
from typing import TextIO

from attnsearch.runs.ledger import State
from attnsearch.search.study import TrialEnd, TrialInfo
from attnsearch.search.terminal.display import Display, describe_end, terminal_may_go


class PlainProgress(Display):
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
        with terminal_may_go():
            print(line, file=self._stream, flush=True)
