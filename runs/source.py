"""What a reader of images returns: all examples of a source, and the split it came with."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attnsearch.blocks.errors import AttnsearchError

PARTS = ("train", "val", "test")
NO_PART = -1


class DataError(AttnsearchError, ValueError):
    """A data set cannot be read, split or used as the space file asks."""


@dataclass
class Source:
    """All examples of a source, before they are split as the config asks.

    Attributes:
        name: What a person calls the source: a file's name or `digits`, never a whole path.
        images: (N, H, W, C) of uint8.
        labels: (N,) of int64, as the source gives them.
        names: One per example, unique, in the order of the examples.
        parts: (N,) the example's index into `PARTS`, or `NO_PART` throughout where the source has
            no split of its own.
        class_names: One per class in the order of the labels, or None if the source has none.
        digests: One per example: identifies its content before any resizing or conversion.
        notes: What was skipped or converted, one sentence each.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: list[str]
    parts: NDArray[np.int64]
    class_names: list[str] | None
    digests: list[bytes]
    notes: list[str] = field(default_factory=list)


def listing(items: Sequence[str], most: int = 5) -> str:
    """The first items as text, and how many more there are."""
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")
