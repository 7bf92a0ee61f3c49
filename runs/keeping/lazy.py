"""Arrays of examples that lie in memory, or whose rows are made when they are asked for.

Whoever uses examples asks for rows, or goes through all of them by `pieces`, and does not know
where they lie: both kinds give the same numbers.
"""

import contextlib
import mmap
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.machine import available_cpus

PIECE_BYTES = 2**24  # of rows that are gone through in one go

Array: TypeAlias = NDArray[Any]


class Items(Protocol):
    """What rows are made from: the pixels of each file, as they were decoded."""

    def __getitem__(self, item: int) -> Array:
        """Return the pixels of a file; they are not to be written to."""


@dataclass(frozen=True, eq=False)
class Lazy:
    """An array of uint8 whose rows are made when they are asked for.

    Attributes:
        items: What rows are made from.
        make: Makes one from its item, and its number among all rows there ever were.
        rows: (N,) the numbers of the rows that are here.
        row_shape: Of each row; empty where they differ.
        item_of: (all rows,) from which item a row is made; None for each from its own.
    """

    items: Items
    make: Callable[[Array, int], NDArray[np.uint8]]
    rows: NDArray[np.int64]
    row_shape: tuple[int, ...]
    item_of: NDArray[np.int64] | None = None

    dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""
        return (len(self.rows), *self.row_shape)

    @property
    def nbytes(self) -> int:
        """How many bytes all rows would take in memory."""
        return int(np.prod(self.shape))

    def at(self, rows: NDArray[np.int64]) -> "Lazy":
        """Return some of the rows, not made yet."""
        return replace(self, rows=self.rows[rows])

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        """Make one row, or those of a slice or of an array of places."""
        with warnings.catch_warnings():
            # Pillow warns of damaged metadata, which says nothing about the pixels.
            warnings.simplefilter("ignore")
            if isinstance(rows, int | np.integer):
                return self._row(int(self.rows[rows]))
            return self._stacked([self._row(row) for row in self.rows[rows].tolist()])

    def pieces(self) -> Iterator[NDArray[np.uint8]]:
        """Yield all rows in order, some at a time; where they differ, one at a time."""
        cpus = available_cpus()
        size = int(np.prod(self.row_shape))
        step = max(cpus, PIECE_BYTES // max(1, size)) if self.row_shape else cpus
        with ThreadPoolExecutor(cpus) as pool:
            for start in range(0, len(self), step):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    made = [*pool.map(self._row, self.rows[start : start + step].tolist())]
                if self.row_shape:
                    yield self._stacked(made)
                else:
                    yield from made

    def _row(self, row: int) -> NDArray[np.uint8]:
        item = row if self.item_of is None else int(self.item_of[row])
        return self.make(self.items[item], row)

    def _stacked(self, rows: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        return np.stack(rows) if rows else np.empty((0, *self.row_shape), np.uint8)


def is_decoded_anew(rows: Lazy) -> bool:
    """Return whether a row takes a decoder's time, so that processes of their own are worth it."""
    return bool(getattr(rows.items, "decoder", None))


Anywhere: TypeAlias = NDArray[np.uint8] | Lazy
"""Rows of uint8 in memory, or not."""


def pieces(rows: Array | Lazy) -> Iterator[Array]:
    """Yield all rows in order, some at a time; what was mapped for a piece is let go after it."""
    if isinstance(rows, Lazy):
        yield from rows.pieces()
        return
    step = max(1, PIECE_BYTES // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]
        advise(rows, "MADV_DONTNEED")


def take_rows(rows: Anywhere, places: NDArray[np.int64]) -> Anywhere:
    """Return some rows: read-only and copied where they are in memory, unless they lie in one."""
    if isinstance(rows, Lazy):
        return rows.at(places)
    start, stop = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
    taken = rows[start:stop] if stop - start == len(places) else rows[places]
    taken.flags.writeable = False
    return taken


def count_values(rows: Array | Lazy, values: int = 256) -> NDArray[np.int64]:
    """Count how often each of 0, 1, ... occurs, for at least so many values."""
    counts = np.zeros(values, np.int64)
    for piece in pieces(rows):
        counted = np.bincount(piece.ravel(), minlength=values)
        counts = counted + np.pad(counts, (0, len(counted) - len(counts)))
    return counts


def advise(array: Array, advice: str, start: int = 0, size: int | None = None) -> None:
    """Tell the system how a mapped file is used, where it takes such advice.

    Args:
        array: Mapped, or in memory, where nothing is to be told.
        advice: Its name; after `MADV_DONTNEED` pages are read again when they are needed.
        start: Of the part that it is about.
        size: Of that part; None is all the rest.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, advice):
        page = start - start % mmap.PAGESIZE
        rest = (len(base) if size is None else start + size) - page
        with contextlib.suppress(OSError, ValueError):
            base.madvise(getattr(mmap, advice), page, rest)
