"""Waiting for a ledger that is away: a full disk, a lock, a server that is restarted.

A study waits for `PATIENCE_SECONDS`; commands that only look are told at once. A method of the
ledger is one transaction, so one that failed has left nothing and is done again. Where the
connection broke in the commit itself, `Database.write` asks the server what became of it.
"""

import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.words import duration

LEDGER_VARIABLE = "ATTNSEARCH_LEDGER"
LEDGER_FILE = "attnsearch.db"

PATIENCE_SECONDS = 300.0
"""How long a study waits for its ledger, in seconds, before it ends."""

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between two attempts, which double


class LedgerError(AttnsearchError):
    """The ledger cannot be opened, read or written."""


class LedgerAway(LedgerError):
    """The ledger cannot be used now; nothing was written, and it may come back."""


def no_ledger() -> bool:
    """Return whether there is none here, which can be told before its database is loaded."""
    return not os.environ.get(LEDGER_VARIABLE) and not Path(LEDGER_FILE).exists()


@dataclass
class Patience:
    """How long a study waits for its ledger, and whom it tells.

    Attributes:
        note: Tells the user, once each time the ledger is away and once when it is back.
        stop: Whether the user wants an end, which also ends the wait.
        seconds: How long it waits.
        over: Whether a wait was in vain; what follows then fails at once.
    """

    note: Callable[[str], None]
    stop: Callable[[], bool] = lambda: False
    seconds: float = PATIENCE_SECONDS
    over: bool = field(default=False, init=False)

    def attempt(self, action: Callable[[], Any]) -> Any:
        """Do something until it works.

        Raises:
            LedgerAway: It did not work for as long as this waits, or the user wants an end.
        """
        began, pause = time.monotonic(), FIRST_PAUSE
        while True:
            try:
                done = action()
            except LedgerAway as error:
                waited = time.monotonic() - began
                if self.over or self.stop():
                    raise
                if waited >= self.seconds:
                    self.over = True
                    raise LedgerAway(
                        f"{error}\nThis was tried for {duration(waited)}, so the study ends. What "
                        f"was recorded before is kept; the same command goes on from there"
                    ) from error
                if pause == FIRST_PAUSE:
                    self.note(
                        f"{error}; trying again for {duration(self.seconds)}, "
                        f"meanwhile nothing is lost"
                    )
                time.sleep(min(pause, self.seconds - waited))
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if pause > FIRST_PAUSE:
                    self.note(f"the ledger is back after {duration(time.monotonic() - began)}")
                return done


class Patient(Protocol):
    """What has a patience, while a study runs."""

    @property
    def patience(self) -> Patience | None:
        """How long it waits; None outside of a running study."""


_Of = TypeVar("_Of", bound=Patient)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def patient(
    method: Callable[Concatenate[_Of, _Arguments], _Result],
) -> Callable[Concatenate[_Of, _Arguments], _Result]:
    """Have a method wait for a ledger that is away, while a study runs."""

    @functools.wraps(method)
    def waits(self: _Of, *arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        if self.patience is None:
            return method(self, *arguments, **named)
        done: _Result = self.patience.attempt(lambda: method(self, *arguments, **named))
        return done

    return cast("Callable[Concatenate[_Of, _Arguments], _Result]", waits)
