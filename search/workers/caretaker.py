"""Outlives a driver that is killed: ends what runs in its folder, and removes the folder.

It runs as a program of its own and waits for the end of its standard input, which the system
closes with the driver. Ray's own agents would run for a minute more.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path


def processes(folder: str) -> list[int]:
    """Return the processes that write their output or errors into a folder, as only Ray's do."""
    writing = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            streams = [(entry / "fd" / number).readlink() for number in "12"]
            if any(stream.is_relative_to(folder) for stream in streams):
                writing.append(int(entry.name))
    return writing


def main(folder: str) -> None:
    """Wait for the driver's end, and leave nothing of it."""
    sys.stdin.buffer.read()
    if not Path(folder).exists():
        return  # the driver has removed it, and ended what ran in it
    while found := processes(folder):  # one may have started another meanwhile
        for process in found:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
