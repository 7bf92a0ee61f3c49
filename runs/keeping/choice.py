"""`data.keep`: where the examples of a study lie, and what `auto` becomes.

* `device`: in memory, and on a card whole;
* `memory`: once per machine, in Ray's shared memory;
* `mapped`: decoded once to a file in the cache, which all processes of a machine map;
* `files`: nowhere; what is needed is decoded.
"""

import contextlib
import shutil
from dataclasses import dataclass

from attnsearch.runs.keeping.place import cache_folder, most_bytes
from attnsearch.runs.machine import card_memory_mb, free_memory

COPIES = 3
"""Of all examples in memory at one time: as they were read, as they were split, and Ray's."""

CARD_SHARE = 0.5  # of a card's memory that images may take; the rest is the network's


@dataclass(frozen=True)
class Kept:
    """Where examples lie.

    Attributes:
        how: `memory`, `mapped` or `files`.
        words: Why, with the figures.
        asked: `data.keep`, where that is not left open.
    """

    how: str
    words: str
    asked: str | None = None

    @property
    def notable(self) -> bool:
        """Whether it is more than what all small data sets do."""
        return self.how != "memory" or self.asked is not None

    def told(self, size: int, gpus: float) -> str:
        """Say where examples lie, and how they come to a card.

        Args:
            size: Bytes of the images that a training uses.
            gpus: Cards of a trial.
        """
        card = 0.0
        if gpus:
            with contextlib.suppress(OSError):  # the driver's tool may be missing
                card = card_memory_mb()[1] * 2**20 * min(1.0, gpus)
        if self.how == "files":
            return f"{self.words}; decoded by resources.cpus processes of each trial"
        if not card:
            return self.words
        whole = self.how == "memory" and on_card(self.asked, size, card)
        way = "whole" if whole else "batch by batch"
        return f"{self.words}; {_gb(size)} go to a trial's {_gb(card)} of GPU memory {way}"


def choose(asked: str | None, size: int, sets: int = 1, reading: int = 0) -> Kept:
    """Decide where examples lie.

    Args:
        asked: `data.keep`; None is `auto`.
        size: Bytes of all examples, as they are trained on.
        sets: How many data sets a study has of them: one more for each fold.
        reading: Bytes that reading them all takes beside.

    Raises:
        DataError: If `ATTNSEARCH_CACHE_GB` is no size.
    """
    if asked not in (None, "auto"):
        how = "memory" if asked == "device" else asked
        return Kept(how, f"{how}, by data.keep: {asked}; {_gb(size)} of images", asked)
    free = free_memory()
    needed = max(size * (COPIES + sets - 1), size + reading)
    figures = f"{_gb(size)} of images need up to {_gb(needed)} of memory, {_gb(free)} are free"
    if needed <= free:
        return Kept("memory", f"memory: {figures}")
    place = cache_folder()
    if place is None:
        return Kept("files", f"files: {figures}; ATTNSEARCH_CACHE is empty")
    parent = next(folder for folder in (place, *place.parents) if folder.exists())
    room = min(most_bytes(), shutil.disk_usage(parent).free)
    if size <= room:
        return Kept("mapped", f"mapped: {figures}; what is decoded lies in {place}")
    words = f"{place} has room for {_gb(room)} (its disk, or ATTNSEARCH_CACHE_GB)"
    return Kept("files", f"files: {figures}; {words}")


def on_card(asked: str | None, size: int, card: float) -> bool:
    """Return whether images in memory go to a card whole, or batch by batch.

    Args:
        asked: `data.keep`; None is `auto`.
        size: Bytes of the images that a training uses.
        card: Bytes of the card's memory that a training may take.
    """
    return asked == "device" or (asked != "memory" and size <= CARD_SHARE * card)


def _gb(size: float) -> str:
    gb, mb = size / 2**30, size / 2**20
    if gb < 1:
        return f"{mb:.{0 if mb >= 10 else 1}f} MB"
    return f"{gb:,.{0 if gb >= 10 else 1}f} GB"
