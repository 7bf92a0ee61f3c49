"""Python's search for garbage in circles, left out where there is none to find."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_lock = Lock()
_within, _was_on = 0, True  # how many contexts are open in all threads; before the first of them


@contextmanager
def no_garbage() -> Iterator[None]:
    """Look for no garbage meanwhile: for what makes many objects that stay.

    A sixth of the time of importing torch, Ray and Tune goes into looking, and a fifth of the
    time of a report of ten thousand trials. Threads that do so side by side do not end it for
    each other.
    """
    global _within, _was_on
    with _lock:
        if not _within:
            _was_on = gc.isenabled()
            gc.disable()
        _within += 1
    try:
        yield
    finally:
        with _lock:
            _within -= 1
            if not _within and _was_on:
                gc.enable()
