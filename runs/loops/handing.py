"""Two threads of which one runs at a time, so that a loop can be left and gone on with."""

import threading
from collections.abc import Callable
from typing import Any

import torch


class Left(BaseException):
    """The loop is not gone on with; no `Exception`, so that the user's code lets it through."""


class Handing:
    """A function in a thread of its own, which hands over what it has and waits.

    Args:
        call: The function.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._said: Any = None
        self._error: BaseException | None = None
        self._threads = torch.get_num_threads()  # a new thread would take all cores
        self._thread = threading.Thread(target=self._run, daemon=True)

    def next(self) -> Any:
        """Go on with the function; return what it hands over, None where it has returned.

        Raises:
            BaseException: What it raises.
        """
        self._said = None
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()
        self._back.acquire()
        if self._error is not None:
            raise self._error
        return self._said

    def hand(self, said: Any) -> None:
        """Hand something over, and wait; to be called from within the function.

        Raises:
            Left: It is not gone on with.
        """
        self._said = said
        self._back.release()
        self._go.acquire()
        if self._call is _nothing:
            raise Left

    def close(self) -> None:
        """End the function where it stands, with what its code does as it ends."""
        self._call = _nothing
        if self._thread.is_alive():
            self._go.release()
            self._thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        try:
            self._call()
        except BaseException as error:
            self._error = error
        self._back.release()


def _nothing() -> None:
    """Stand for the function of one that is closed."""
