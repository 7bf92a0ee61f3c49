"""The other drivers that run the same study, each with work of its own."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from attnsearch.runs.ledger import HEARTBEAT_SECONDS, Ledger, LedgerError, State
from attnsearch.search.text import plural

LOOK_SECONDS = 1.0  # between looks at who else is there


def waiting_text(holders: Mapping[str, int]) -> str:
    """Return what a person reads while nothing is left but what other drivers do.

    Args:
        holders: How many runs each of them has.
    """
    runs = (f"{plural(count, 'run')} of {name}" for name, count in holders.items())
    return f"waiting for {' and '.join(runs)}; what it does not finish goes on here"


@contextlib.contextmanager
def heartbeat(ledger: Ledger) -> Iterator[None]:
    """Tell other drivers that this one lives, in a thread, for as long as the context is open."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            # Where it fails, the next write of the main thread fails too, and says so.
            with contextlib.suppress(LedgerError):
                ledger.heartbeat()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)


class Company:
    """Knows whether this session shares its study.

    Args:
        ledger: The ledger.
        study_id: The study, opened as shared.
        note: Tells the user who comes and goes.
    """

    def __init__(self, ledger: Ledger, study_id: int, note: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._study_id = study_id
        self._note = note
        self._looked = time.monotonic()
        self._names = ledger.drivers(study_id)
        self._met = bool(self._names)
        if self._names:
            note(
                f"joins {' and '.join(self._names)} in this study: they share its runs, and any "
                f"of them may be ended"
            )

    def met(self) -> bool:
        """Return whether there is another driver, or was one in this session."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            names = self._ledger.drivers(self._study_id)
            for name in names:
                if name not in self._names:
                    self._note(f"{name} has joined this study")
            for name in self._names:
                if name not in names:
                    self._note(f"{name} has left this study; what it had begun goes on here")
                    # It may have noted that the study is over, by what it was asked for.
                    self._ledger.set_study_state(self._study_id, State.RUNNING)
            self._names = names
            self._met |= bool(names)
        return self._met

    def crossed(self) -> None:
        """Hear that another driver was met in the ledger."""
        self._met = True
