"""Sizes of images and widths of networks, in the one form in which all compare them.

This module needs no torch.
"""

from collections.abc import Sequence

from attnsearch.blocks.errors import SiteError

Size = tuple[int, int]
Width = float | str | Sequence[float]
"""A multiplier of all widths or the name of one, or a multiplier for each stage."""


def as_width(width: Width) -> float | str | tuple[float, ...]:
    """Return a width in one hashable form: one number where all stages have the same."""
    if isinstance(width, str):
        return width
    if not isinstance(width, Sequence):
        return float(width)
    factors = tuple(float(factor) for factor in width)
    return factors[0] if len(set(factors)) == 1 else factors


def as_size(image_size: int | Sequence[int]) -> Size:
    """Return (height, width) from one number or from a pair.

    Raises:
        SiteError: It is neither, or a side is below one pixel.
    """
    pair = tuple(image_size) if isinstance(image_size, Sequence) else (image_size, image_size)
    if len(pair) != 2 or not all(isinstance(side, int) and side >= 1 for side in pair):
        raise SiteError(
            f"image_size is {image_size!r}; it must be a whole number of pixels from 1, "
            "or a pair of them (height, width)"
        )
    return pair[0], pair[1]


def halved(size: Size) -> Size:
    """Return what stride 2 leaves of a map, with the padding of ResNets: half, rounded up."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def size_name(size: Sequence[int]) -> str:
    """Return a size as messages print it: ``128x96``, or ``128`` where both sides are equal."""
    return str(size[0]) if len(set(size)) == 1 else "x".join(map(str, size))
