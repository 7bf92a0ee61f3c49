"""An entry of the cache that holds decoded files: their pixels, and what is known of each.

The pixels lie in one file, as they were decoded; beside it, line by line, lies what is known of
the files of each chunk, with the chunk's checksum. A chunk counts once its line is whole, so a
process that is killed costs the chunk it was at.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attnsearch.runs.keeping.decoding import (
    Fact,
    array_in,
    emptied,
    fact_type,
    in_order,
    packed,
    unpacked,
)

PIXELS, CHUNKS = "pixels.bin", "chunks.jsonl"
CHUNK_BYTES, CHUNK_FILES = 2**26, 1024


class Entry:
    """An entry that is looked through and written on, by one process at a time."""

    def __init__(self, entry: Path, pixels: bool) -> None:
        self._entry, self._has_pixels = entry, pixels
        self._stack = contextlib.ExitStack()
        self._lines: list[Any] = []
        self._begin()

    def __enter__(self) -> "Entry":
        self._entry.mkdir(parents=True, exist_ok=True)
        lock = self._stack.enter_context((self._entry / "lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.utime(self._entry)
        for name in (PIXELS, CHUNKS):
            (self._entry / name).touch()
        self._pixels = self._stack.enter_context((self._entry / PIXELS).open("r+b"))
        self._chunks = self._stack.enter_context((self._entry / CHUNKS).open("r+b"))
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None and self._lines:
                self._end()
        finally:
            self._stack.close()

    def known(
        self, decoder: Callable[[Path], Fact], paths: Sequence[Path]
    ) -> Iterator[tuple[Fact | None, str]]:
        """Yield what the whole chunks say, up to the first damaged one; what follows goes.

        A file that could not be decoded is tried again: what failed may have been a disk.
        """
        kept, done, kind = (0, 0), 0, fact_type(decoder)
        for line in self._chunks:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                chunk = json.loads(line)
                facts = [
                    (None if fact is None else kind(**unpacked(fact)), fault)
                    for fact, fault in chunk["files"]
                ]
                faulty = [
                    path
                    for (fact, _), path in zip(facts, paths[done:], strict=False)
                    if fact is None
                ]
                tried = [fact for _, fact, _ in in_order(decoder, dict(enumerate(faulty)))]
                if self._sum(chunk["bytes"]) == chunk["sha256"] and not any(
                    fact is not None for fact in tried
                ):
                    yield from facts
                    done += len(facts)
                    kept = kept[0] + len(line), kept[1] + chunk["bytes"]
                    continue
            break
        for file, size in ((self._chunks, kept[0]), (self._pixels, kept[1])):
            file.seek(size)
            file.truncate()

    def add(self, fact: Fact | None, fault: str) -> Fact | None:
        """Take in a file, and return what is known of it without its pixels."""
        empty = None
        if fact is not None:
            empty = emptied(fact)
            if self._has_pixels:
                content = np.ascontiguousarray(getattr(fact, array_in(fact))).data.cast("B")
                self._pixels.write(content)
                self._hash.update(content)
                self._bytes += content.nbytes
        self._lines.append([None if empty is None else packed(empty), fault])
        if self._bytes >= CHUNK_BYTES or len(self._lines) >= CHUNK_FILES:
            self._end()
        return empty

    def _end(self) -> None:
        """End a chunk: its pixels first, then the line by which it counts."""
        self._pixels.flush()
        chunk = {"bytes": self._bytes, "sha256": self._hash.hexdigest(), "files": self._lines}
        self._chunks.write(json.dumps(chunk).encode() + b"\n")
        self._chunks.flush()
        os.utime(self._entry)  # what is least used leaves the cache first
        self._begin()

    def _begin(self) -> None:
        self._lines, self._bytes, self._hash = [], 0, hashlib.sha256()

    def _sum(self, size: int) -> str:
        """Return the checksum of the next bytes; of nothing where they are not all there."""
        checked = hashlib.sha256()
        while size:
            read = self._pixels.read(min(size, 2**20))
            if not read:
                return ""
            checked.update(read)
            size -= len(read)
        return checked.hexdigest()
