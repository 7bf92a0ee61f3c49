"""Decoded sources on disk, so that a folder of images is decoded once and not at every start.

An entry is a folder of `.npy` files, mapped into memory when it is read: processes of one machine
share its pages. Its name is a hash of what it was made from: the settings, and the path, size and
time of change of every file. It is written beside its place and renamed into it, so a half-written
entry is never read and two writers cannot harm each other. Entries that were not used for longest
are deleted where all together exceed `ATTNSEARCH_CACHE_GB` (20). `ATTNSEARCH_CACHE` names the
folder; empty switches the cache off.

Within a study the decoded arrays lie in Ray's shared memory once per machine, for all trials.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attnsearch.runs.source import Masks, Source

FORMAT = 1
"""Raised when what is stored, or how files are decoded, changes."""

SMALLEST_MB = 1.0  # sources below are decoded faster than a cache is kept
ARRAYS = ("images", "labels", "parts")
MASK_ARRAYS = ("resized", "image", "corners", "sizes", "flat", "starts")


def cached(folder: Path, settings: dict[str, Any], read: Callable[[], Source]) -> Source:
    """A source from the cache, or read and put there.

    A cache that cannot be written or read costs the time of decoding and nothing else.

    Args:
        folder: What is read.
        settings: Everything else that the result depends on, as plain JSON values.
        read: Reads it.
    """
    place = cache_folder()
    if place is None:
        return read()
    entry = place / _key(folder, settings)
    try:
        found = _load(entry)
        os.utime(entry)
        return found
    except (OSError, ValueError, KeyError, EOFError):
        pass
    source = read()
    try:
        if source.images.nbytes > SMALLEST_MB * 2**20:
            _store(source, entry)
            _prune(place, entry)
    except OSError:
        pass
    return source


def cache_folder() -> Path | None:
    """Where entries lie; None where the cache is switched off."""
    given = os.environ.get("ATTNSEARCH_CACHE")
    if given is not None:
        return Path(given).absolute() / "decoded" if given else None
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "attnsearch" / "decoded"


def _key(folder: Path, settings: dict[str, Any]) -> str:
    listed = hashlib.sha256(json.dumps([FORMAT, settings], sort_keys=True).encode())
    listed.update(folder.name.encode())
    for path, status in sorted(_files(folder)):
        listed.update(f"{path}\0{status}\n".encode("utf-8", "surrogateescape"))
    return listed.hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for place, _, files in os.walk(folder):
        for file in files:
            path = Path(place) / file
            status = path.stat()
            yield str(path.relative_to(folder)), f"{status.st_size} {status.st_mtime_ns}"


def _store(source: Source, entry: Path) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".", dir=entry.parent))
    try:
        for name in ARRAYS:
            np.save(partial / f"{name}.npy", getattr(source, name))
        for name in MASK_ARRAYS if source.masks is not None else ():
            array = getattr(source.masks, name)
            if array is not None:
                np.save(partial / f"mask-{name}.npy", array)
        described = {
            "name": source.name,
            "names": source.names,
            "class_names": source.class_names,
            "digests": [digest.hex() for digest in source.digests],
            "notes": source.notes,
            "masks": source.masks is not None,
        }
        (partial / "source.json").write_text(json.dumps(described))
        partial.rename(entry)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _load(entry: Path) -> Source:
    described = json.loads((entry / "source.json").read_text())
    masks = None
    if described["masks"]:
        masks = Masks(**{name: _array(entry / f"mask-{name}.npy") for name in MASK_ARRAYS})
    return Source(
        name=described["name"],
        **{name: _array(entry / f"{name}.npy") for name in ARRAYS},
        names=described["names"],
        class_names=described["class_names"],
        digests=[bytes.fromhex(digest) for digest in described["digests"]],
        notes=described["notes"],
        masks=masks,
    )


def _array(path: Path) -> Any:
    if not path.exists():
        return None
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _prune(place: Path, keep: Path) -> None:
    most = float(os.environ.get("ATTNSEARCH_CACHE_GB") or 20) * 2**30
    entries = sorted(
        (entry for entry in place.iterdir() if entry != keep and not entry.name.startswith(".")),
        key=lambda entry: entry.stat().st_mtime,
    )
    sizes = {
        entry: sum(file.stat().st_size for file in entry.iterdir()) for entry in [*entries, keep]
    }
    total = sum(sizes.values())
    for entry in entries:
        if total <= most:
            return
        shutil.rmtree(entry, ignore_errors=True)
        total -= sizes[entry]
