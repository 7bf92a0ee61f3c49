"""Pictures of what a network sees: images, masks, errors and attention maps side by side.

Colours of masks are those of the PASCAL VOC palette, in which many tools show index masks. Error
maps: light where a class other than the background is right, orange where the network found what
is not there, blue where it missed what is, yellow where it took one class for another.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from attnsearch.runs.readers import IGNORED, scored_classes

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]
Entry = tuple[Any, str]  # of a legend: a colour and its name

# Pixels of one picture: the largest with which a panel is small enough.
SIDES = (160, 128, 104, 84)
PANEL_BYTES = 300_000
GAP, LINE = 6, 15  # pixels between pictures, and of a line of text
TEXT = 11
MAPS_MAX = 6  # attention maps in a row
CLASSES_MAX = 16  # that the legend names

COLUMNS = ("image", "truth", "prediction", "error")
ERRORS = {
    "right": (205, 205, 205),
    "found, not there": (235, 110, 30),
    "missed": (40, 110, 230),
    "another class": (240, 220, 60),
    "ignored": (110, 110, 110),
}
# Anchors of a dark-to-bright ramp whose lightness rises evenly, after matplotlib's inferno.
HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))


@dataclass(frozen=True)
class Case:
    """One image and what is shown of it.

    Attributes:
        caption: One line.
        image: (h, w, 1) or (h, w, 3) of uint8.
        truth: (H, W), the class of each pixel; None where it is not known.
        predicted: (H, W); None for a classification.
        maps: Attention maps (h', w') by site, of any size; they show the whole image.
    """

    caption: str
    image: Pixels
    truth: Pixels | None = None
    predicted: Pixels | None = None
    maps: Mapping[str, Map] = field(default_factory=dict)


def mask_palette(classes: int = 256) -> list[int]:
    """Return red, green and blue of each class, one after the other, as PASCAL VOC has them."""
    # Every third bit of the class's number is one channel's, the lowest its brightest.
    return [
        sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))
        for index in range(classes)
        for channel in range(3)
    ]


def mask_image(mask: Pixels) -> Image.Image:
    """Return a mask (h, w) as a palette image whose pixels are the classes."""
    image = Image.fromarray(np.ascontiguousarray(mask))
    image.putpalette(mask_palette())
    return image


def overlay(image: Pixels, mask: Pixels, class_names: Sequence[str]) -> Image.Image:
    """Return an image with every class but the background laid over it in its colour."""
    picture = _colour(image)
    tint = mask_image(mask).convert("RGB").resize(picture.size, Image.Resampling.NEAREST)
    resized = mask_image(mask).resize(picture.size, Image.Resampling.NEAREST)
    shown = np.isin(np.asarray(resized), scored_classes(class_names))
    alpha = Image.fromarray(np.where(shown, 128, 0).astype(np.uint8))
    return Image.composite(tint, picture, alpha)


def error_map(predicted: Pixels, truth: Pixels, class_names: Sequence[str]) -> Pixels:
    """Return where a mask is wrong and how, (H, W, 3); black where the background is right."""
    marked, there = (np.isin(mask, scored_classes(class_names)) for mask in (predicted, truth))
    same = predicted == truth
    shown = np.zeros((*truth.shape, 3), dtype=np.uint8)
    for name, where in (
        ("right", same & there),
        ("found, not there", marked & ~there),
        ("missed", there & ~marked),
        ("another class", marked & there & ~same),
        ("ignored", truth == IGNORED),
    ):
        shown[where] = ERRORS[name]
    return shown


def heat(image: Pixels, attention: Map) -> Image.Image:
    """Return an attention map over its image in grey, bright where the map is largest."""
    picture = _colour(image)
    scaled = (attention / max(float(attention.max()), 1e-12)).astype(np.float32)
    large = Image.fromarray(scaled).resize(picture.size, Image.Resampling.BILINEAR)
    level = np.asarray(large).clip(0, 1)
    places = np.linspace(0, 1, len(HEAT))
    ramp = np.stack([np.interp(level, places, channel) for channel in np.array(HEAT).T], -1)
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[..., None]
    return Image.fromarray((0.35 * grey + 0.65 * ramp).astype(np.uint8))


def panel(
    cases: Sequence[Case], class_names: Sequence[str], title: str, side: int = SIDES[0]
) -> Image.Image:
    """Return one row for each case: image, truth, prediction, error map, attention maps.

    Columns that no case has are left out. At most `MAPS_MAX` maps are shown, those of the last
    sites: there the network decides. A map that is the same everywhere says nothing and is left
    out.

    Args:
        cases: At least one.
        class_names: One per class.
        title: One line.
        side: Pixels of the square that each picture fits into.
    """
    sites = _sites(cases)
    pictures = [_pictures(case, sites, class_names) for case in cases]
    names = [name for name in COLUMNS if any(name in shown for shown in pictures)] + sites
    legend = []
    if "prediction" in names:
        legend = _legend(cases, class_names, errors="error" in names)
    least = 3 * (side + GAP) + GAP
    width = max(least, len(names) * (side + GAP) + GAP)
    rows = [row for part in legend for row in _wrapped(part, width - 2 * GAP)]
    sizes = [_size(case, side) for case in cases]
    height = sum(size[1] + LINE + GAP for size in sizes) + len(rows) * (LINE + 2)
    height += 2 * LINE + 2 * GAP
    canvas = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    _write(draw, (GAP, GAP), title, width - 2 * GAP, bold=True)
    for number, name in enumerate(names):
        _write(draw, (GAP + number * (side + GAP), GAP + LINE), name, side)
    top = GAP + 2 * LINE
    for case, shown, size in zip(cases, pictures, sizes, strict=True):
        _write(draw, (GAP, top), case.caption, width - 2 * GAP)
        for number, name in enumerate(names):
            if name in shown:
                place = (GAP + number * (side + GAP), top + LINE)
                canvas.paste(_fitted(shown[name], size), place)
                if name in sites:
                    _stamp(draw, place, case.maps[name])
        top += size[1] + LINE + GAP
    for row in rows:
        left = GAP
        for colour, text in row:
            length = _length(text)
            draw.rectangle((left, top + 2, left + 10, top + 12), fill=colour, outline=(90, 90, 90))
            _write(draw, (left + 14, top), text, length)
            left += 14 + length + 2 * GAP
        top += LINE + 2
    return canvas


def panel_bytes(cases: Sequence[Case], class_names: Sequence[str], title: str) -> bytes:
    """Return panel as the bytes of a PNG of 256 colours, at most `PANEL_BYTES` where it can be."""
    content = b""
    for side in SIDES:
        stream = io.BytesIO()
        drawn = panel(cases, class_names, title, side)
        drawn.quantize(256, dither=Image.Dither.NONE).save(stream, "PNG")
        content = stream.getvalue()
        if len(content) <= PANEL_BYTES:
            break
    return content


def _sites(cases: Sequence[Case]) -> list[str]:
    sites = dict.fromkeys(
        site
        for case in cases
        for site, attention in case.maps.items()
        if attention.max() > attention.min()
    )
    return list(sites)[-MAPS_MAX:]


def _pictures(
    case: Case, sites: Sequence[str], class_names: Sequence[str]
) -> dict[str, Image.Image]:
    """Return the pictures that a case has, by the names of their columns."""
    pictures = {"image": _colour(case.image)}
    if case.truth is not None:
        pictures["truth"] = mask_image(case.truth)
    if case.predicted is not None:
        pictures["prediction"] = mask_image(case.predicted)
    if case.truth is not None and case.predicted is not None:
        pictures["error"] = Image.fromarray(error_map(case.predicted, case.truth, class_names))
    return pictures | {
        site: heat(case.image, case.maps[site]) for site in sites if site in case.maps
    }


def _size(case: Case, side: int) -> tuple[int, int]:
    """Return width and height of a case's pictures: its masks', as the image may be stretched."""
    mask = case.truth if case.truth is not None else case.predicted
    height, width = (case.image if mask is None else mask).shape[:2]
    scale = side / max(height, width)
    return max(1, round(scale * width)), max(1, round(scale * height))


def _fitted(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return a picture of this size; masks are not blended."""
    flat = picture.mode == "P" or len(picture.getcolors(64) or []) > 0
    how = Image.Resampling.NEAREST if flat else Image.Resampling.BILINEAR
    return picture.resize(size, how).convert("RGB")


def _colour(image: Pixels) -> Image.Image:
    pixels = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")


def _stamp(draw: ImageDraw.ImageDraw, place: tuple[int, int], attention: Map) -> None:
    """How far a map is from even, on the map: its colours alone do not say."""
    peak = float(attention.max() / max(float(attention.mean()), 1e-12))
    text = f"peak {peak:.3g} x even"
    left, top = place
    draw.rectangle((left, top, left + 6 * len(text) + 2, top + LINE - 2), fill=(0, 0, 0))
    draw.text((left + 2, top), text, fill=(255, 255, 255), font=_font())


def _legend(
    cases: Sequence[Case], class_names: Sequence[str], *, errors: bool
) -> list[list[Entry]]:
    """Return colours and their names: of the classes, then of the error map."""
    palette = mask_palette(len(class_names))
    classes: list[Entry] = [
        (tuple(palette[3 * k : 3 * k + 3]), name)
        for k, name in enumerate(class_names[:CLASSES_MAX])
    ]
    if not errors:
        return [classes]
    names = dict(ERRORS)
    if len(class_names) == 2:
        del names["another class"]
    if len(scored_classes(class_names)) == len(class_names):  # there is no background
        del names["found, not there"], names["missed"]
    if not any(case.truth is not None and (case.truth == IGNORED).any() for case in cases):
        del names["ignored"]
    return [classes, [(colour, f"error: {name}") for name, colour in names.items()]]


def _wrapped(entries: Sequence[Entry], width: int) -> list[list[Entry]]:
    rows: list[list[Entry]] = []
    used = width + 1
    for entry in entries:
        length = 14 + _length(entry[1]) + 2 * GAP
        if used + length > width:
            rows.append([])
            used = 0
        rows[-1].append(entry)
        used += length
    return rows


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    width: int,
    *,
    bold: bool = False,
) -> None:
    """One line of text; what does not fit is left out in its middle."""
    font = _font(TEXT + bold)
    text = "".join(char if char.isprintable() else "?" for char in text)
    if draw.textlength(text, font=font) > width:
        kept = len(text)
        while kept > 1 and draw.textlength(_shortened(text, kept), font=font) > width:
            kept -= 1
        text = _shortened(text, kept)
    draw.text(place, text, fill=(0, 0, 0), font=font)


def _shortened(text: str, kept: int) -> str:
    head = kept // 2
    return f"{text[:head]}...{text[len(text) - (kept - head) :]}"


def _length(text: str) -> int:
    return int(_font().getlength(text)) + 1


def _font(size: int = TEXT) -> Any:
    return ImageFont.load_default(size)
