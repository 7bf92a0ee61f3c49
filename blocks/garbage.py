"""Python's search for garbage in circles, left out where there is none to find."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage() -> Iterator[None]:
    """Look for no garbage meanwhile: for what makes many objects that stay.

    A sixth of the time of importing torch, Ray and Tune goes into looking, and a fifth of the
    time of a report of ten thousand trials.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
