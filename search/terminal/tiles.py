"""Whether `init` cuts images into tiles: where resizing would lose what is to be found."""

from dataclasses import dataclass

from attnsearch.runs.data import DataSet
from attnsearch.runs.readers import PARTS, tile_corners
from attnsearch.runs.words import plural
from attnsearch.search.check import lost_detail

_OVERLAP = 0.25
_SMALL_MEAN = 0.8  # tiles show less of what is around: with one thin class of ten they did harm
_TILES = (20_000, 400_000)  # to train with, on a CPU and on a GPU: what other trainings see in all
_BYTES = 2**32  # of all tiles, which are kept in memory


@dataclass(frozen=True)
class Tiling:
    """What is proposed, and why.

    Attributes:
        overlap: `data.tile_overlap`, or None.
        words: What resizing would lose; empty where that is little.
    """

    overlap: float | None = None
    words: str = ""


def tiling_of(data: DataSet, gpus: bool) -> Tiling:
    """Return the tiles for a data set that was read resized."""
    detail, mean = lost_detail(data)
    if not detail:
        return Tiling()
    if mean >= _SMALL_MEAN:
        return Tiling(None, f"{detail}; if it matters, raise image_size or say tile_overlap: 0.25")
    size = data.image_size
    counts = {}
    for part in PARTS:
        masks = getattr(data, part).masks
        counts[part] = sum(
            len(tile_corners(height, width, size, _OVERLAP)) for height, width in masks.sizes
        )
    taken = sum(counts.values()) * size[0] * size[1] * data.channels
    if counts["train"] > _TILES[gpus] or taken > _BYTES:
        return Tiling(
            None,
            f"{detail}; tiles of that size would be {plural(sum(counts.values()), 'tile')}, too "
            f"many to propose: scale the images down, raise image_size, or say tile_overlap: "
            f"{_OVERLAP}",
        )
    return Tiling(_OVERLAP, f"{detail}, so images are cut into tiles (tile_overlap)")
