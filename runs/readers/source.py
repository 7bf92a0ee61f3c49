"""What a reader of images returns: all examples of a source, and the split it came with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.keeping import Anywhere, DataError as DataError, Kept, Lazy, take_rows
from attnsearch.spaces.keys import GIVEN

PARTS = ("train", "val", "test")
NO_PART = -1

IGNORED = 255
"""What an ignored pixel holds in every mask that this package keeps."""


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of N examples, which are M images or tiles of them.

    Pixels hold the class index; 255 does not count. `flat` and `starts` hold masks at the size of
    their images, one after the other: metrics count there.

    Attributes:
        resized: (N, H, W) of uint8, as the network sees them.
        image: (N,) the image, 0..M-1, that each example shows or is cut from.
        corners: (N, 2) top and left of each tile in its image; None for whole images.
        sizes: (M, 2) height and width of each image.
        flat: (P,) of uint8, or each image's mask (h * w,) where they are not in memory; None where
            masks at the images' size are not kept.
        starts: (M,) where each image's mask begins in `flat`, where that is in memory.
    """

    resized: Anywhere
    image: NDArray[np.int64]
    corners: NDArray[np.int64] | None
    sizes: NDArray[np.int64]
    flat: Anywhere | None
    starts: NDArray[np.int64]

    @property
    def images(self) -> int:
        """M."""
        return len(self.sizes)

    def original(self, image: int) -> NDArray[np.uint8]:
        """Return the mask (h, w) of one image at its own size.

        Raises:
            ValueError: If these masks are kept at the network's size only.
        """
        if self.flat is None:
            raise ValueError("masks at the images' own size are not kept for this part")
        height, width = self.sizes[image].tolist()
        if isinstance(self.flat, Lazy):
            return self.flat[image].reshape(height, width)
        start = int(self.starts[image])
        return self.flat[start : start + height * width].reshape(height, width)

    @property
    def cut(self) -> NDArray[np.int64]:
        """(N, 2) how much of each example lies in its image; beyond are black pixels.

        Height and width in pixels. Of whole images all of it, whatever their own size.
        """
        sides = np.array(self.resized.shape[1:], dtype=np.int64)
        if self.corners is None:
            return np.broadcast_to(sides, (len(self.image), 2))
        within: NDArray[np.int64] = np.minimum(sides, self.sizes[self.image] - self.corners)
        return within

    def take(self, images: NDArray[np.int64], *, keep_original: bool) -> "Masks":
        """Return the masks of some of the images, in ascending order."""
        number = np.full(self.images, -1)
        number[images] = np.arange(len(images))
        rows = np.flatnonzero(number[self.image] >= 0)
        flat: Anywhere | None = None
        starts = np.zeros(len(images), dtype=np.int64)
        if keep_original and isinstance(self.flat, Lazy):
            flat = self.flat.at(images)
        elif keep_original and self.flat is not None:
            starts = np.cumsum([0, *self.sizes[images].prod(1)])[: len(images)].astype(np.int64)
            # An empty part has masks too: of no image.
            originals = [self.original(image).ravel() for image in images.tolist()]
            flat = np.concatenate([*originals, np.zeros(0, np.uint8)])
            flat.flags.writeable = False
        return Masks(
            resized=take_rows(self.resized, rows),
            image=number[self.image[rows]],
            corners=None if self.corners is None else self.corners[rows],
            sizes=self.sizes[images],
            flat=flat,
            starts=starts,
        )


@dataclass
class Source:
    """All examples of a source, before they are split as the config asks.

    Of tiled images, `labels`, `names`, `parts` and `digests` are one per image, and `images` one
    per tile; `masks.image` tells which tile is of which image.

    Attributes:
        name: What a person calls the source: a file's name or `digits`, never a whole path.
        images: (N, H, W, C) of uint8, in memory or not.
        labels: (N,) of int64, as the source gives them, or of any number of classes an image
            (N, K) of 0 and 1; zeros where there are masks.
        names: One per example, unique, in the order of the examples.
        parts: (N,) the example's index into `PARTS`, or `NO_PART` throughout where the source has
            no split of its own.
        class_names: One per class in the order of the labels, or None if the source has none.
        digests: One per example: identifies its content before any resizing or conversion.
        notes: What was skipped or converted, one sentence each.
        masks: Of a source for segmentation.
        kept: Where its examples lie, and why; None where nothing was to be decided.
    """

    name: str
    images: Anywhere
    labels: NDArray[np.int64]
    names: list[str]
    parts: NDArray[np.int64]
    class_names: list[str] | None
    digests: list[bytes]
    notes: list[str] = field(default_factory=list)
    masks: Masks | None = None
    kept: Kept | None = None


class Given(str):
    """What `data.source` is where a program gives its own data: a text, and the data with it.

    A document holds it as it holds a path; what is recorded and sent to workers is the text alone.
    """

    def __new__(cls, *_: object) -> Self:
        """Return the text."""
        return super().__new__(cls, GIVEN)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (GIVEN,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def read(self, data: Mapping[str, Any], task: str) -> Source:
        """Return all examples, see `read_source`."""
        raise NotImplementedError


def listing(items: Sequence[str], most: int = 5) -> str:
    """Return the first items as text, and how many more there are."""
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


def by_reason(faults: Mapping[str, str]) -> list[str]:
    """Return what is wrong with files, each reason once, from the names of files to reasons."""
    names: dict[str, list[str]] = {}
    for name, reason in faults.items():
        names.setdefault(reason, []).append(name)
    return [f"{listing(alike)} ({reason})" for reason, alike in names.items()]


def scored_classes(class_names: Sequence[str]) -> list[int]:
    """Return the classes that count in means."""
    if len(class_names) == 2:
        return [1]
    return [k for k, name in enumerate(class_names) if name.lower() != "background"]


def class_key(name: str) -> str:
    """Return a class's name as it stands in names of metrics."""
    return "".join(char if char.isalnum() else "_" for char in name)
