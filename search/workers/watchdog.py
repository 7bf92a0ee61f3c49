"""Where a step stands that takes long, written again and again, so that a hang has a place.

By a thread of Python's and not by `faulthandler.dump_traceback_later`, which looks at threads that
run without Python's lock: in processes that import and train, one look in some hundreds ended the
process with a segmentation fault, without a word. Where native code hangs and keeps the lock,
nothing is written.
"""

import contextlib
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def watched(stream: TextIO, seconds: float) -> Iterator[None]:
    """Write where this thread stands after so many seconds, again and again, as faulthandler does.

    Args:
        stream: What was written to it before is lost.
        seconds: Between two looks.
    """
    stream.seek(0)
    stream.truncate()
    ended, thread = threading.Event(), threading.get_ident()

    def look() -> None:
        while not ended.wait(seconds):
            calls = traceback.walk_stack(sys._current_frames()[thread])
            lines = [
                f'  File "{frame.f_code.co_filename}", line {line} in {frame.f_code.co_name}\n'
                for frame, line in calls
            ]
            first = f"Timeout ({seconds:g} s)!\nThread 0x{thread:x} (most recent call first):\n"
            stream.write("".join([first, *lines]))
            stream.flush()

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join()
