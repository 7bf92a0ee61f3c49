"""Colour-coded masks: what colour stands for which class, as `data.mask_colors` says it.

A colour is exact: one that no class has is an error, never the nearest class.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnsearch.runs.readers.images import open_image
from attnsearch.runs.readers.source import IGNORED, DataError, listing

Color = tuple[int, int, int]

VOID = "ignore"
"""Whose colour in `data.mask_colors` marks pixels that do not count."""

FEW = 64  # colours of all masks; more are seldom classes
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK")  # of 8 bits


def class_colors(mask_colors: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    """Return the classes of `data.mask_colors` with their colours, in order."""
    return {name: color for name, color in mask_colors.items() if name != VOID}


def by_color(
    image: Image.Image, mask_colors: Mapping[str, Sequence[int]]
) -> tuple[NDArray[np.uint8], dict[Color, int]]:
    """Return the class of each pixel (h, w), and the colours of no class with their pixels.

    Raises:
        DataError: If it is no image of 8 bits a channel.
    """
    packed = _packed(image)
    levels = np.full(packed.shape, IGNORED, np.uint8)
    known = np.zeros(packed.shape, np.bool_)
    colors = [*class_colors(mask_colors).values()]
    codes = [(color, index) for index, color in enumerate(colors)]
    if VOID in mask_colors:
        codes.append((mask_colors[VOID], IGNORED))
    for (red, green, blue), index in codes:
        here = packed == (red << 16 | green << 8 | blue)
        levels[here] = index
        known |= here
    values, counts = np.unique(packed[~known], return_counts=True)
    unknown = zip(map(_unpacked, values.tolist()), counts.tolist(), strict=True)
    return levels, dict(unknown)


def check_colors(
    unknown: Mapping[str, Mapping[Color, int]], mask_colors: Mapping[str, Sequence[int]]
) -> None:
    """See that all colours of some masks are those of classes.

    Args:
        unknown: Of each mask, colours of no class and of how many pixels.
        mask_colors: `data.mask_colors`.

    Raises:
        DataError: If not; it names each colour, its pixels and a file.
    """
    pixels: Counter[Color] = Counter()
    holders: dict[Color, list[str]] = {}
    for name, colors in unknown.items():
        pixels.update(colors)
        for color in colors:
            holders.setdefault(color, []).append(name)
    if not pixels:
        return
    shown = [
        f"{[*color]} ({count:,} pixels in {len(holders[color])} of {len(unknown)} masks, such as "
        f"{holders[color][0]})"
        for color, count in pixels.most_common()
    ]
    way_out = (
        "so many colours mean that the masks were blended (resized with smooth edges, or once "
        "saved as JPEG): export them anew without that"
        if len(pixels) > FEW
        else f"add each as a class, or one as `{VOID}`, whose pixels do not count, or repair the "
        f"masks"
    )
    raise DataError(
        f"the masks hold colours that data.mask_colors does not name: {listing(shown)}; it names "
        f"{listing([f'{name} {[*color]}' for name, color in mask_colors.items()], 12)}; {way_out}"
    )


def palette_of(image: Image.Image, values: Iterable[int]) -> dict[int, Color]:
    """Return the colours that an image of mode P has for some of its values."""
    entries = image.getpalette("RGB") or []
    return {
        value: (red, green, blue)
        for value in values
        if len(color := entries[3 * value : 3 * value + 3]) == 3
        for red, green, blue in [color]
    }


def unlike_palettes(palettes: Mapping[str, Mapping[int, Color]]) -> str | None:
    """Return where two masks have other colours for one value, in words; None where none have."""
    first: dict[int, tuple[Color, str]] = {}
    for name, palette in palettes.items():
        for value, color in palette.items():
            other, holder = first.setdefault(value, (color, name))
            if other != color:
                return f"{value} is {[*other]} in {holder} and {[*color]} in {name}"
    return None


def propose_colors(masks: Sequence[Path]) -> dict[str, list[int]] | None:
    """Return a palette with made-up names for masks that are colour-coded, None for others.

    Masks are looked at one by one, and few tell whether all are worth a look. Those with palettes
    are colour-coded where their values are no classes: not counted from 0, or of other colours in
    other files.
    """
    few = masks[:: max(1, len(masks) // 16)]
    if not _colors_of(few):
        return None
    colors = sorted(_colors_of(masks))
    if not 2 <= len(colors) <= FEW:
        return None
    black = (0, 0, 0)
    named = {"background": [*black]} if black in colors else {}
    rest = [color for color in colors if color != black]
    return named | {f"color_{number}": [*color] for number, color in enumerate(rest, 1)}


def _colors_of(masks: Sequence[Path]) -> set[Color]:
    """Return the colours of masks; none where they are more than few, or are no classes."""
    colors: set[int] = set()
    palettes: dict[str, dict[int, Color]] = {}
    for path in masks:
        try:
            with open_image(path.read_bytes()) as image:
                if image.mode in ("1", "L") or image.format in ("JPEG", "MPO"):
                    return set()  # values, or nothing that is kept
                if image.mode == "P":
                    values = np.unique(np.asarray(image)).tolist()
                    palettes[str(path)] = palette_of(image, values)
                colors.update(np.unique(_packed(image)).tolist())
        except Exception:  # a damaged file: the reader judges it
            return set()
        if len(colors) > FEW:
            return set()
    unpacked = {_unpacked(color) for color in colors}
    if len(palettes) == len(masks):
        values = {value for palette in palettes.values() for value in palette} - {IGNORED}
        counted = values == {*range(len(values))}
        return set() if counted and unlike_palettes(palettes) is None else unpacked
    coloured = any(red != green or green != blue for red, green, blue in unpacked)
    return unpacked if coloured else set()


def _packed(image: Image.Image) -> NDArray[np.uint32]:
    if image.mode not in MODES:
        raise DataError(f"has the colour mode {image.mode}; save it as a colour PNG of 8 bits")
    packed: NDArray[np.uint32] = np.asarray(image.convert("RGB")).astype(np.uint32) @ np.array(
        [65536, 256, 1], np.uint32
    )
    return packed


def _unpacked(color: int) -> Color:
    return color >> 16, color >> 8 & 255, color & 255
