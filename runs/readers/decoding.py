"""Many image files to pixels of one kind: decoded in parallel, with one rule for the source."""

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.readers.images import Decoded, depth_factor, to_channels, to_uint8
from attnsearch.runs.readers.source import DataError

Result = TypeVar("Result")


def attempt_all(function: Callable[[Path], Result], paths: Sequence[Path]) -> list[Result | str]:
    """Call a function on every file, in parallel; where it fails, the reason stands instead.

    Pillow frees the interpreter while it decodes and resizes.
    """

    def attempt(path: Path) -> Result | str:
        try:
            return function(path)
        except MemoryError:
            raise
        except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
            return str(error).split(" <_io")[0] or type(error).__name__

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with warnings.catch_warnings(), ThreadPoolExecutor(cores) as pool:
        # Pillow warns of damaged metadata, which says nothing about the pixels.
        warnings.simplefilter("ignore")
        return list(pool.map(attempt, paths))


def note_conversions(
    decoded: Sequence[Decoded], names: Sequence[str], notes: list[str], *, resized: bool = True
) -> None:
    """Note what happened to images that are not plain.

    Args:
        decoded: The images.
        names: One per image.
        notes: Added to.
        resized: Whether they were resized to a square.
    """
    several = [n for i, n in zip(decoded, names, strict=True) if i.frames > 1]
    transparent = [n for i, n in zip(decoded, names, strict=True) if i.transparent]
    stretched = [
        n for i, n in zip(decoded, names, strict=True) if resized and i.shape[0] != i.shape[1]
    ]
    for found, words in (
        (several, "several frames, the first was taken"),
        (transparent, "transparent, laid over black"),
        (stretched, "not square, the aspect ratio is not kept"),
    ):
        if found:
            notes.append(f"{words}: {len(found)} of {len(names)} images, such as {found[0]}")


def to_common(
    decoded: Sequence[Decoded], names: Sequence[str], channels: int | None, notes: list[str]
) -> list[NDArray[np.uint8]]:
    """Return all images as arrays (h, w, C) of uint8, with one rule for depth and colour.

    Args:
        decoded: The images.
        names: One per image, for messages.
        channels: 1 or 3; None takes 1 if all are grey, else 3.
        notes: Added to.

    Raises:
        DataError: If the pixels' range is one that no rule fits.
    """
    factor = {integer: _factor(decoded, names, integer, notes) for integer in (True, False)}
    grey = sum(image.pixels.ndim == 2 for image in decoded)
    if channels is None:
        channels = 1 if grey == len(decoded) else 3
    if channels == 3 and grey:
        notes.append(f"grey, repeated to 3 channels: {grey} of {len(decoded)} images")
    if channels == 1 and grey < len(decoded):
        colour = len(decoded) - grey
        notes.append(f"colour, converted to grey: {colour} of {len(decoded)} images")
    images = []
    for image in decoded:
        pixels = to_uint8(image.pixels, factor[image.integer]) if image.deep else image.pixels
        images.append(to_channels(pixels.reshape(*pixels.shape[:2], -1), channels))
    return images


def _factor(
    decoded: Sequence[Decoded], names: Sequence[str], integer: bool, notes: list[str]
) -> float:
    """Give what brings images of more than 8 bits, those of integers or of floats, to 0..255."""
    deep = [
        (image, name)
        for image, name in zip(decoded, names, strict=True)
        if image.deep and image.integer == integer
    ]
    if not deep:
        return 1.0
    lowest, low_name = min(deep, key=lambda pair: pair[0].low)
    highest, high_name = max(deep, key=lambda pair: pair[0].peak)
    try:
        factor, words = depth_factor(lowest.low, highest.peak, integer)
    except DataError as error:
        raise DataError(f"{low_name}, {high_name}: {error}") from None
    notes.append(f"more than 8 bits: {len(deep)} of {len(decoded)} images, {words}")
    return factor
