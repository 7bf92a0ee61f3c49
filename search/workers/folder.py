"""The folder in which a study's Ray lives: where it may lie, and who removes it in the end."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.search.workers import caretaker

PREFIX = "attnsearch-"
LOCK = "in-use"
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
# Of a socket's path, and what Ray and `mkdtemp` append to a temporary folder:
# /attnsearch-12345678/session_2026-11-28_21-47-41_216321_4194304/sockets/plasma_store.10
PATH_BYTES = 103 if sys.platform == "darwin" else 107
APPENDED = 86


class FolderError(AttnsearchError):
    """There is no folder for Ray."""

    exit_status = 1


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that is removed at the end; remove those that killed processes left behind.

    A folder is in use for as long as somebody holds the lock on its file, which the system
    releases however the process ends. Then a caretaker removes it, a process of its own, and ends
    what runs in it; where that was killed too, the next study does.

    Raises:
        FolderError: No folder can be written whose path is short enough for Ray's sockets.
    """
    _remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place()))
    handle = os.open(folder / "locking", os.O_CREAT | os.O_RDWR, 0o600)
    care = None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        (folder / "locking").rename(folder / LOCK)  # appears to others only once it is locked
        care = subprocess.Popen(
            [sys.executable, "-I", caretaker.__file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what is sent to this process's group does not reach it
        )
        yield folder
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)
        if care is not None:
            care.communicate()


def place() -> str:
    """Return the folder for temporary ones, or a shorter one where that is too long for sockets.

    Batch systems give each job a TMPDIR with a long name.
    """
    wanted = tempfile.gettempdir()
    for parent in (wanted, *SHORT_FOLDERS):
        short = len(os.fsencode(Path(parent).absolute())) + APPENDED <= PATH_BYTES
        if short and os.access(parent, os.W_OK | os.X_OK):
            return parent
    raise FolderError(
        f"TMPDIR={wanted} is too long for Ray's sockets, whose paths have at most {PATH_BYTES} "
        f"bytes, and none of {', '.join(SHORT_FOLDERS)} can be written; set TMPDIR to a folder "
        f"of at most {PATH_BYTES - APPENDED} bytes"
    )


def _remove_abandoned() -> None:
    for parent in {tempfile.gettempdir(), *SHORT_FOLDERS}:
        for lock in Path(parent).glob(f"{PREFIX}*/{LOCK}"):
            with contextlib.suppress(OSError):
                handle = os.open(lock, os.O_RDWR)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock.parent, ignore_errors=True)
                finally:
                    os.close(handle)
