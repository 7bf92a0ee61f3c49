"""The folder of what is kept between commands, its size, and what leaves it.

`ATTNSEARCH_CACHE` names it; empty switches it off. Entries are folders; those that were not used
for longest are deleted where all together exceed `ATTNSEARCH_CACHE_GB` (20).
"""

import math
import os
import shutil
from pathlib import Path

from attnsearch.runs.keeping.errors import DataError

GB = 20.0


def cache_folder() -> Path | None:
    """Return where entries lie; None where the cache is switched off."""
    named = os.environ.get("ATTNSEARCH_CACHE")
    if named is not None:
        return Path(named).absolute() / "decoded" if named else None
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "attnsearch" / "decoded"


def most_bytes() -> float:
    """Return how many bytes all entries may have together.

    Raises:
        DataError: If `ATTNSEARCH_CACHE_GB` is no size.
    """
    asked = os.environ.get("ATTNSEARCH_CACHE_GB") or str(GB)
    try:
        most = float(asked)
    except ValueError:
        most = math.nan
    if not most >= 0:
        raise DataError(
            f"ATTNSEARCH_CACHE_GB is {asked}, expected a number of gigabytes without a unit, 0 or "
            f"more; correct or unset this environment variable"
        )
    return most * 2**30


def file_state(path: Path) -> list[str | int]:
    """Return what changes with the content of a file; nothing of one that is not there."""
    try:
        status = path.stat()
    except OSError:
        return []
    # Stores of content give all files one time: there the target's name tells them apart.
    target = os.path.realpath(path) if path.is_symlink() else ""
    return [status.st_size, status.st_mtime_ns, target]


def prune(place: Path, keep: Path, most: float) -> None:
    """Remove the entries that were used least lately, until all but one to keep have room."""
    entries = [entry for entry in place.iterdir() if not entry.name.startswith(".")]
    used = {entry: entry.stat().st_mtime for entry in entries if entry != keep and entry.is_dir()}
    sizes = {
        entry: sum(file.stat().st_size for file in entry.iterdir()) for entry in [*used, keep]
    }
    total = sum(sizes.values())
    for entry in sorted(used, key=lambda entry: used[entry]):
        if total <= most:
            return
        shutil.rmtree(entry, ignore_errors=True)
        total -= sizes[entry]
