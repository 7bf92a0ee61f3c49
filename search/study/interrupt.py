"""Ctrl-C and SIGTERM end a study cleanly; a second one ends the process at once."""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType, TracebackType
from typing import Any, Self

from attnsearch.search.workers import PAUSE_SECONDS

STOPPING = (
    f"stopping: what trains finishes its step and is saved, within {PAUSE_SECONDS:.0f} s; Ctrl-C "
    f"again ends all at once"
)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """While the context is open, remembers that the process was asked to stop.

    Signals reach the main thread only; entered from another one, nothing is installed and only
    `request` can ask for the stop.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in SIGNALS}
            # Tune installs a handler for this one and leaves it.
            self._before[signal.SIGUSR1] = signal.getsignal(signal.SIGUSR1)
            for number in SIGNALS:
                # What the caller ignores, as `nohup` does SIGHUP, stays ignored.
                if self._before[number] is not signal.SIG_IGN:
                    signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def request(self) -> None:
        """Ask for the stop."""
        self._asked = True

    def asked(self) -> bool:
        """Return whether the stop was asked for."""
        return self._asked

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._asked = True


def in_background(function: Callable[[], Any]) -> Future[Any]:
    """Call a function in a daemon thread: a process that is interrupted does not wait for it."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future
