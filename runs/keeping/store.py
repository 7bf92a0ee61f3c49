"""Decoded files: what is known of each, and its pixels from a mapped file or from itself.

All files are decoded once, some at a time, and of each only what is known of it stays in memory.
With `mapped` the pixels are written to an entry of the cache, in chunks. Who begins reads all that
there are, and decodes anew from the first damaged one on; a lock lets one process write. With
`files` an entry says what is known alone, so that the next start knows it.
"""

import hashlib
import json
import math
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.keeping.decoding import Fact, array_in, emptied, in_order
from attnsearch.runs.keeping.entry import PIXELS, Entry
from attnsearch.runs.keeping.errors import DataError
from attnsearch.runs.keeping.lazy import Array, Items, advise
from attnsearch.runs.keeping.place import cache_folder, file_state, most_bytes, prune

FORMAT = 1
"""Raised when what is stored, or how files are decoded, changes."""

MAPPED_BYTES = 2**25  # that are read before a process gives its mapped pages back


@dataclass(frozen=True, eq=False)
class Files:
    """The pixels of files, decoded whenever they are asked for.

    Attributes:
        paths: Of the files; as bytes they take a fourth of what text takes in an array.
        digests: SHA-256 of each.
        decoder: Decodes one; of what it returns one attribute is an array, and `digest` is there.
    """

    paths: NDArray[np.bytes_]
    digests: NDArray[np.bytes_]
    decoder: Callable[[Path], Any]
    _last: list[tuple[int, Array]] = field(default_factory=list, repr=False)

    def __getitem__(self, item: int) -> Array:
        """Decode a file; the tiles of one image follow each other, so the last one is held.

        Raises:
            DataError: If it cannot be decoded any more, or is another than at the start.
        """
        for known, last in self._last[:1]:
            if known == item:
                return last
        path = self.path(item)
        try:
            fact = self.decoder(path)
        except Exception as error:
            raise DataError(
                f"{path}: could be read when the study began, and cannot now: {error}; put it "
                f"back, or let data.keep be mapped or memory"
            ) from None
        self.check(item, fact)
        pixels: Array = getattr(fact, array_in(fact))
        self._last[:] = [(item, pixels)]
        return pixels

    def path(self, item: int) -> Path:
        """Return where a file lies."""
        return Path(os.fsdecode(bytes(self.paths[item])))

    def check(self, item: int, fact: Any) -> None:
        """See that a file holds what it did.

        Raises:
            DataError: If not.
        """
        if fact.digest != bytes(self.digests[item])[:-1]:
            raise DataError(
                f"{self.path(item)} was changed since the study began; run it again, which tells "
                f"what has changed"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": []}


@dataclass(frozen=True, eq=False)
class Mapped:
    """The pixels of all files in one file, which processes of a machine map and share.

    Attributes:
        path: Of that file.
        end: How many bytes it has at the least.
        starts: Where each one's pixels begin.
        shapes: (N, 3) of each; 0 where it has fewer dimensions.
        kinds: Its type, as numpy writes it.
        again: Makes the file again where a machine lacks it or holds another, and says where.
        host: The machine on which it was looked through.
    """

    path: Path
    end: int
    starts: NDArray[np.int64]
    shapes: NDArray[np.int64]
    kinds: NDArray[np.str_]
    again: Callable[[], Path]
    host: str = field(default_factory=socket.gethostname)
    _open: list[Any] = field(default_factory=list, repr=False)

    def __getitem__(self, item: int) -> Array:
        """Return the pixels of a file, which lie in the mapped one.

        Raises:
            DataError: If there is none, and it cannot be made.
        """
        whole = self._mapped()
        start, kind = int(self.starts[item]), np.dtype(str(self.kinds[item]))
        shape = [int(side) for side in self.shapes[item] if side]
        size = math.prod(shape) * kind.itemsize
        advise(whole, "MADV_WILLNEED", start, size)
        self._open[1] += size
        if self._open[1] > MAPPED_BYTES:
            advise(whole, "MADV_DONTNEED")
            self._open[1] = 0
        pixels: Array = whole[start : start + size].view(kind).reshape(shape)
        return pixels

    def _mapped(self) -> Array:
        if not self._open:
            path = self.path
            if self.host != socket.gethostname() or not self._is_whole():
                path = self.again()
            whole = np.memmap(path, np.uint8, "r")
            advise(whole, "MADV_RANDOM")  # reads what is asked for, and not its neighbours
            self._open[:] = [whole, 0]
        mapped: Array = self._open[0]
        return mapped

    def _is_whole(self) -> bool:
        return self.path.is_file() and self.path.stat().st_size >= self.end

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": []}


def map_rows(
    arrays: Sequence[tuple[int, tuple[int, ...], np.dtype[Any]]],
    path: Path,
    again: Callable[[], Path],
) -> Mapped:
    """Return the rows of arrays that lie in one file: where each begins, its shape, its type."""
    starts: list[NDArray[np.int64]] = []
    shapes, kinds = [], []
    for start, shape, kind in arrays:
        size = int(np.prod(shape[1:])) * kind.itemsize
        starts.append(start + size * np.arange(shape[0], dtype=np.int64))
        row = [*shape[1:], 0, 0, 0][:3]
        shapes.append(np.tile(np.array(row, np.int64), (shape[0], 1)))
        kinds.append(np.full(shape[0], kind.str))
    end = max(start + math.prod(shape) * kind.itemsize for start, shape, kind in arrays)
    whole = np.concatenate(starts), np.concatenate(shapes), np.concatenate(kinds)
    return Mapped(path, end, *whole, again)


def survey(
    files: Mapping[str, Path],
    decoder: Callable[[Path], Fact],
    keep: str,
    settings: Sequence[Any],
) -> tuple[dict[str, Fact], dict[str, str], Items]:
    """Decode all files, and keep their pixels as asked.

    Args:
        files: By name.
        decoder: Decodes one into a dataclass of plain values and one array.
        keep: `mapped` or `files`.
        settings: What the decoder depends on, as plain JSON values.

    Returns:
        What is known of each file, with the shape and type of its pixels and none of them; the
        reason where one cannot be decoded; and the pixels of those that can.

    Raises:
        DataError: If there is no place for them.
    """
    place = cache_folder()
    if place is None and keep == "mapped":
        raise DataError(
            "data.keep: mapped needs the folder of ATTNSEARCH_CACHE, which is empty; name one, or "
            "unset it, or say data.keep: files"
        )
    entry = None
    if place is not None:
        listed = [FORMAT, keep, *settings, *([n, file_state(p)] for n, p in files.items())]
        entry = place / f"{keep}-{hashlib.sha256(json.dumps(listed).encode()).hexdigest()}"
    facts: dict[str, Fact] = {}
    faults: dict[str, str] = {}
    with warnings.catch_warnings():
        # Pillow warns of damaged metadata, which says nothing about the pixels.
        warnings.simplefilter("ignore")
        for name, fact, fault in _surveyed(files, decoder, entry, pixels=keep == "mapped"):
            if fact is None:
                faults[name] = fault
            else:
                facts[name] = fact
    own = Files(
        np.array([os.fsencode(files[name]) for name in facts]),
        # One more byte: numpy takes zeros off the end of bytes.
        np.array([fact.digest + b"." for fact in facts.values()]),  # type: ignore[attr-defined]
        decoder,
    )
    if keep == "files" or entry is None or not facts:
        return facts, faults, own
    shapes = np.zeros((len(facts), 3), np.int64)
    kinds: list[str] = []
    sizes: list[int] = []
    for row, fact in zip(shapes, facts.values(), strict=True):
        pixels: Array = getattr(fact, array_in(fact))
        row[: pixels.ndim] = pixels.shape
        kinds.append(pixels.dtype.str)
        sizes.append(pixels.size * pixels.dtype.itemsize)
    ends = np.cumsum(sizes, dtype=np.int64)
    starts, end = ends - np.array(sizes, np.int64), int(ends[-1])
    again = _Again(own, entry)
    return facts, faults, Mapped(entry / PIXELS, end, starts, shapes, np.array(kinds), again)


@dataclass(frozen=True)
class _Again:
    """Makes an entry on another machine, or one that was removed, or finds it there."""

    files: Files
    entry: Path

    def __call__(self) -> Path:
        entry, place = self.entry, cache_folder()
        if not entry.is_dir() and place is not None:
            entry = place / entry.name
        paths = {str(number): self.files.path(number) for number in range(len(self.files.paths))}
        for number, fact, fault in _surveyed(paths, self.files.decoder, entry, pixels=True):
            if fact is None:
                raise DataError(
                    f"data.keep: mapped, and on {socket.gethostname()} there are neither decoded "
                    f"images in {entry} nor the file {paths[number]} ({fault}); let "
                    f"ATTNSEARCH_CACHE name a folder that all machines see"
                )
            self.files.check(int(number), fact)
        return entry / PIXELS


def _surveyed(
    files: Mapping[str, Path],
    decoder: Callable[[Path], Fact],
    entry: Path | None,
    *,
    pixels: bool,
) -> Iterator[tuple[str, Fact | None, str]]:
    """Yield what is known of each file, in order, and see to it that an entry is whole."""
    if entry is None:
        for name, fact, fault in in_order(decoder, files):
            yield name, None if fact is None else emptied(fact), fault
        return
    try:
        with Entry(entry, pixels) as open_entry:
            names = [*files]
            done = 0
            for fact, fault in open_entry.known(decoder, [*files.values()]):
                yield names[done], fact, fault
                done += 1
            rest = {name: files[name] for name in names[done:]}
            for name, fact, fault in in_order(decoder, rest):
                yield name, open_entry.add(fact, fault), fault
        prune(entry.parent, entry, most_bytes())
    except OSError as error:
        raise DataError(
            f"data.keep: decoded images cannot be written to {entry.parent}: {error}; make room, "
            f"let ATTNSEARCH_CACHE name another folder, or say data.keep: files"
        ) from None
