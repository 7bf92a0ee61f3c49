"""Where the tiles of an image lie, and how each is cut out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnsearch.blocks.hosts import as_size
from attnsearch.runs.keeping import Array
from attnsearch.runs.readers.images import ImageSize


def placed(
    sizes: Sequence[Sequence[int]], size: ImageSize, overlap: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the image (N,) that each tile is cut from, and its top and left there (N, 2)."""
    all_corners = [tile_corners(height, width, size, overlap) for height, width in sizes]
    image = np.repeat(np.arange(len(sizes)), [len(corners) for corners in all_corners])
    return image, np.array([corner for corners in all_corners for corner in corners], np.int64)


def padded(cut: NDArray[np.uint8], size: tuple[int, int], value: int) -> NDArray[np.uint8]:
    """Return a tile (h, w, ...) of full size, filled up at its lower and right edge."""
    pad = [(0, full - side) for full, side in zip(size, cut.shape, strict=False)]
    return np.pad(cut, [*pad, (0, 0)][: cut.ndim], constant_values=value)


def tile_corners(
    height: int, width: int, size: ImageSize, overlap: float
) -> list[tuple[int, int]]:
    """Return top and left of the tiles that cover an image, row by row."""

    def starts(length: int, side: int) -> list[int]:
        if length <= side:
            return [0]
        step = max(1.0, side * (1 - overlap))
        count = int(np.ceil((length - side) / step)) + 1
        return [round(start) for start in np.linspace(0, length - side, count)]

    high, wide = as_size(size)
    return [(top, left) for top in starts(height, high) for left in starts(width, wide)]


@dataclass(frozen=True)
class Window:
    """Makes a tile from its image or mask."""

    of_whole: Callable[[Array, int], NDArray[np.uint8]]
    size: tuple[int, int]
    image: NDArray[np.int64]
    corners: NDArray[np.int64]
    outside: int

    def __call__(self, pixels: Array, tile: int) -> NDArray[np.uint8]:
        """Return a tile by its number, cut from the whole that it lies in."""
        top, left = self.corners[tile].tolist()
        cut = pixels[top : top + self.size[0], left : left + self.size[1]]
        return padded(self.of_whole(cut, int(self.image[tile])), self.size, self.outside)
