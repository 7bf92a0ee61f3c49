"""Decoded sources on disk, so that a folder of images is decoded once and not at every start.

An entry is a folder of `.npy` files, mapped into memory when it is read: processes of one machine
share its pages. Its name is a hash of what it was made from: the settings, and the path, size and
time of change of every image, links followed. It is written beside its place and renamed into it,
so a half-written entry is never read and two writers cannot harm each other. Every file has a
checksum, which is compared whenever the entry is read; a damaged entry is made again. Entries that
were not used for longest are deleted where all together exceed `ATTNSEARCH_CACHE_GB` (20).
`ATTNSEARCH_CACHE` names the folder; empty switches the cache off.

Within a study the decoded arrays lie in Ray's shared memory once per machine, for all trials.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attnsearch.runs.keeping import cache_folder, file_state, most_bytes, prune
from attnsearch.runs.readers.images import SUFFIXES
from attnsearch.runs.readers.source import Masks, Source
from attnsearch.runs.readers.walking import walk
from attnsearch.runs.whole import unfinished

FORMAT = 5
"""Raised when what is stored, or how files are decoded, changes."""

SMALLEST_MB = 1.0  # sources below are decoded faster than a cache is kept
DESCRIBED = "source.json"
CHECKSUMS = "checksums.json"
ARRAYS = ("images", "labels", "parts")
_READ = SUFFIXES | {".csv"}
WORDS = ("name", "names", "class_names", "notes")
MASK_ARRAYS = ("resized", "image", "corners", "sizes", "flat", "starts")


def cached(folder: Path, settings: dict[str, Any], read: Callable[[], Source]) -> Source:
    """Return a source from the cache, or read and put there.

    A cache that cannot be written or read costs the time of decoding and nothing else.

    Args:
        folder: What is read.
        settings: Everything else that the result depends on, as plain JSON values.
        read: Reads it.

    Raises:
        DataError: If `ATTNSEARCH_CACHE_GB` is no size.
    """
    place = cache_folder()
    if place is None:
        return read()
    most = most_bytes()
    try:
        entry = place / _key(folder, settings)
    except OSError:  # whether a folder that cannot be listed matters is the reader's to say
        return read()
    try:
        source = _load(entry)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        # Another error of the system, such as too many open files, says nothing about the entry.
        if not isinstance(error, OSError) or isinstance(
            error, FileNotFoundError | NotADirectoryError
        ):
            _discard(entry)
    else:
        with contextlib.suppress(OSError):
            os.utime(entry)
        return source
    source = read()
    try:
        if source.images.nbytes > SMALLEST_MB * 2**20:
            _store(source, entry)
            prune(place, entry, most)
    except OSError:
        pass
    return source


def _key(folder: Path, settings: dict[str, Any]) -> str:
    listed = hashlib.sha256(json.dumps([FORMAT, [*settings.items()]]).encode())
    listed.update(json.dumps(folder.name).encode())
    for entry in _entries(folder):
        listed.update(json.dumps(entry).encode())
    return listed.hexdigest()


def _entries(folder: Path) -> Iterator[list[str | int]]:
    """Yield all folders and files; of others than images the names alone, for the notes."""
    for place, _, files in walk(folder):
        inside = place.relative_to(folder)
        yield [inside.as_posix(), os.path.realpath(place)]
        for file in files:
            path = place / file
            # Lists of names, as VOC's ImageSets, say which image is of which part, tables what it
            # shows.
            counts = path.suffix.lower() in _READ or "ImageSets" in inside.parts
            yield [file, *(file_state(path) if counts else ())]


def _store(source: Source, entry: Path) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    masks = [name for name in MASK_ARRAYS if getattr(source.masks, name, None) is not None]
    described = {name: getattr(source, name) for name in WORDS} | {
        "digests": [digest.hex() for digest in source.digests],
        "masks": masks,
    }
    with unfinished(entry.parent) as partial:
        partial.mkdir()
        for name in ARRAYS:
            np.save(partial / f"{name}.npy", getattr(source, name))
        for name in masks:
            np.save(partial / f"mask-{name}.npy", getattr(source.masks, name))
        (partial / DESCRIBED).write_text(json.dumps(described))
        sums = {file.name: _checksum(file) for file in partial.iterdir()}
        (partial / CHECKSUMS).write_text(json.dumps(sums))
        partial.rename(entry)


def _load(entry: Path) -> Source:
    sums = json.loads((entry / CHECKSUMS).read_text())
    if {file.name: _checksum(file) for file in entry.iterdir() if file.name != CHECKSUMS} != sums:
        raise ValueError(f"{entry} is damaged")
    described = json.loads((entry / DESCRIBED).read_text())
    masks: dict[str, Any] = dict.fromkeys(MASK_ARRAYS)
    masks |= {name: _array(entry / f"mask-{name}.npy") for name in described["masks"]}
    return Source(
        **{name: described[name] for name in WORDS},
        **{name: _array(entry / f"{name}.npy") for name in ARRAYS},
        digests=[bytes.fromhex(digest) for digest in described["digests"]],
        masks=Masks(**masks) if described["masks"] else None,
    )


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _array(path: Path) -> Any:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _discard(entry: Path) -> None:
    """Remove an entry, if there is one: renamed first, so that none is read half removed."""
    if not entry.exists():
        return
    with contextlib.suppress(OSError), unfinished(entry.parent) as removed:
        entry.rename(removed)
