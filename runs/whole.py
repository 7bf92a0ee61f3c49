"""Files that are whole or not there, whoever is killed in the midst of making them.

What is being made lies beside its place, under a name that says which process of which machine
makes it. So whoever makes something there next removes what killed processes have left.
"""

import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time

import psutil

_PREFIX, _SUFFIX = ".attnsearch-", ".new"
_STALE_SECONDS = 24 * 3600.0  # after which what another machine began is not finished any more


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """Give a place in a folder for a file or a folder in the making; it is gone afterwards.

    Args:
        folder: Where it lies, so that it can be renamed into its place there.
    """
    here = f"{_PREFIX}{socket.gethostname()}-"
    _remove_left(folder, here)
    place = folder / f"{here}{os.getpid()}-{uuid.uuid4().hex[:12]}{_SUFFIX}"
    try:
        yield place
    finally:
        for left in folder.glob(f"{place.name}*"):  # and a database's journal
            _remove(left)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a place where a file is written; it gets its name once that is done.

    Raises:
        OSError: It cannot be written; what was there before is as it was.
    """
    with unfinished(path.parent) as place:
        yield place
        place.replace(path)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder in TMPDIR that is removed at the end."""
    with unfinished(Path(tempfile.gettempdir())) as place:
        place.mkdir(mode=0o700)
        yield place


def _remove_left(folder: Path, here: str) -> None:
    """Remove what processes that were killed have left in a folder.

    Args:
        folder: The folder.
        here: How names begin that this machine's processes give.
    """
    for left in folder.glob(f"{_PREFIX}*{_SUFFIX}*"):
        with suppress(OSError, OverflowError):
            pid = left.name.removeprefix(here).partition("-")[0]
            ours = left.name.startswith(here) and pid.isdecimal()
            gone = ours and not psutil.pid_exists(int(pid))
            if gone or time() - left.stat().st_mtime > _STALE_SECONDS:
                _remove(left)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)
