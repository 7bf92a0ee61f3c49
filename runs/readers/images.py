"""Image files to pixels of one kind, and the rules of every conversion.

* Orientation: as the EXIF tag says. Of a file with several frames the first is taken.
* Size: resized to the asked size by antialiased bilinear interpolation; the aspect ratio is not
  kept, but where the middle is cut out (`data.eval_crop`). Large JPEG files are decoded at a
  half, a quarter or an eighth of their size first, never below twice the asked size.
* Transparency: laid over black.
* Colour: palettes, CMYK and the like become RGB. Grey is luma of ITU-R 601.
* Depth: integers of more than 8 bits are divided by the largest number of the bit depth that the
  whole source uses (a 12-bit detector's by 4095), floats of 0..1 are multiplied by 255, and
  rounded to 8 bits. One rule for the whole source keeps intensities comparable between images.
  Of colour files with 16 bits a channel Pillow reads the upper 8.
"""

import hashlib
import io
import math
import os
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from attnsearch.blocks.hosts import as_size
from attnsearch.runs.keeping import Items, in_order, survey
from attnsearch.runs.readers.source import DataError

ImageSize: TypeAlias = int | Sequence[int]
"""The side of a square in pixels, or (height, width)."""

Crop: TypeAlias = int | float  # as `data.eval_crop`

Result = TypeVar("Result")
Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)

PHOTOGRAPHS = {".jpg", ".jpeg", ".jpe", ".jfif", ".webp"}
BITMAPS = {".png", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
SUFFIXES = frozenset(PHOTOGRAPHS | BITMAPS)
GREY_MODES = frozenset({"1", "L", "LA", "La"})
MEGAPIXELS = 179  # Pillow's own limit; more may be an attack on the memory
LONGEST = 64  # times a crop's pixels that an image around it may have, to be resized as a whole
LUMA = (19595, 38470, 7471)  # 0.299, 0.587, 0.114 in 16-bit fixed point, as Pillow has them


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded image.

    Attributes:
        pixels: (H, W) grey or (H, W, 3) colour, of uint8; float32 for a file of more than 8 bits.
        shape: (H, W) of the file, upright.
        digest: SHA-256 of the file.
        transparent: Whether it was laid over black.
        frames: How many the file has.
        orientation: The EXIF tag that was followed; 1 is upright.
        low: The least pixel value of a file of more than 8 bits.
        peak: The largest.
        integer: Whether its values are whole numbers.
    """

    pixels: NDArray[Any]
    shape: tuple[int, int]
    digest: bytes
    transparent: bool
    frames: int
    orientation: int
    low: float
    peak: float
    integer: bool

    @property
    def deep(self) -> bool:
        """Whether the file has more than 8 bits."""
        return self.pixels.dtype != np.uint8


def decode(path: Path, size: ImageSize | None, crop: Crop | None = None) -> Decoded:
    """Read an image file and resize it as `resize` does; None leaves its size.

    Raises:
        OSError, or whatever else Pillow raises on a file that it cannot decode.
    """
    content = path.read_bytes()
    with open_image(content) as file:
        frames = getattr(file, "n_frames", 1)
        stored, tag = file.size, orientation(file)
        if size is not None:
            sideways = tag > 4  # turned by a quarter: the file's own sides are the other way
            shape = stored if sideways else stored[::-1]
            height, width = as_size(size) if crop is None else before_crop(shape, size, crop)
            wanted = (height, width) if sideways else (width, height)
            file.draft(None, (2 * wanted[0], 2 * wanted[1]))
        upright = ImageOps.exif_transpose(file)
        turned = file.size[::-1] == upright.size and file.size != upright.size
    deep = upright.mode.startswith(("I", "F"))
    pixels, transparent = (np.asarray(upright, np.float32), False) if deep else shallow(upright)
    if deep and not np.isfinite(pixels).all():
        raise OSError("holds values that are not finite")
    return Decoded(
        pixels=pixels if size is None else resize(pixels, size, crop=crop),
        shape=stored if turned else stored[::-1],
        digest=hashlib.sha256(content).digest(),
        transparent=transparent,
        frames=frames,
        orientation=tag,
        low=float(pixels.min()) if deep else 0,
        peak=float(pixels.max()) if deep else 255,
        integer=not upright.mode.startswith("F"),
    )


def open_image(content: bytes) -> Image.Image:
    """Open an image file that has no more pixels than `ATTNSEARCH_MEGAPIXELS` millions (179).

    Raises:
        DataError: If it has more, or that variable is no number.
        OSError, or whatever else Pillow raises on a file that it cannot decode.
    """
    asked = os.environ.get("ATTNSEARCH_MEGAPIXELS") or str(MEGAPIXELS)
    try:
        Image.MAX_IMAGE_PIXELS = max(1, int(float(asked) * 1e6 / 2))  # Pillow refuses at twice it
    except (ValueError, OverflowError):
        raise DataError(f"ATTNSEARCH_MEGAPIXELS is {asked}, expected a number") from None
    try:
        return Image.open(io.BytesIO(content))
    except Image.DecompressionBombError:
        raise DataError(
            f"has more than {asked} megapixels; if it is meant, set the environment variable "
            f"ATTNSEARCH_MEGAPIXELS to what it has"
        ) from None


def orientation(image: Image.Image) -> int:
    """Read an image's orientation from its EXIF tag: 1 is upright, 2..8 mirrored or turned."""
    tag = image.getexif().get(ExifTags.Base.Orientation, 1)
    return tag if tag in range(2, 9) else 1


def shallow(image: Image.Image) -> tuple[NDArray[Any], bool]:
    """Return an image of 8 bits or fewer, (H, W) or (H, W, 3), and whether it is transparent."""
    grey = image.mode in GREY_MODES or (image.mode == "P" and _grey_palette(image))
    transparent = False
    if image.has_transparency_data:
        image = image.convert("RGBA")
        transparent = bool(np.asarray(image.getchannel("A")).min() < 255)
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        image = image.getchannel("R") if grey else image
    return np.asarray(image.convert("L" if grey else "RGB")), transparent


def _grey_palette(image: Image.Image) -> bool:
    """Return whether all colours of a palette image are grey."""
    colours = np.array(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def surroundings(size: ImageSize, crop: Crop) -> tuple[int, int]:
    """Return the (H, W) of which a crop of a size is the middle.

    `crop` is `data.eval_crop`: the pixels around the crop's shorter side, or the fraction of them
    that it is.
    """
    height, width = as_size(size)
    short = min(height, width)
    shorter = int(crop) if crop > 1 else math.floor(short / crop)
    return height * shorter // short, width * shorter // short


def before_crop(shape: Sequence[int], size: ImageSize, crop: Crop) -> tuple[int, int]:
    """Return the (H, W) that an image is resized to before its middle is cut out.

    It keeps its ratio, and is the smallest that covers the crop's surroundings.

    Args:
        shape: (H, W) of the image.
        size: Of the crop.
        crop: See `surroundings`.
    """
    (tall, wide), (height, width) = surroundings(size, crop), shape
    if height * wide <= width * tall:
        return tall, width * tall // height
    return height * wide // width, wide


def resize(
    pixels: NDArray[Any],
    size: ImageSize,
    how: Image.Resampling = Image.Resampling.BILINEAR,
    crop: Crop | None = None,
) -> NDArray[Any]:
    """Return pixels (H, W) or (H, W, 3), uint8 or float32, at another size.

    Args:
        pixels: Of one image.
        size: Of what is returned.
        how: How pixels between others are found.
        crop: Resizes it to `before_crop` and cuts out the middle; None is the whole image.
    """
    height, width = as_size(size)
    if crop is None and pixels.shape[:2] == (height, width):
        return np.ascontiguousarray(pixels)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if crop is None:
        return np.asarray(image.resize((width, height), how))
    tall, wide = before_crop(pixels.shape[:2], size, crop)
    top, left = round((tall - height) / 2), round((wide - width) / 2)
    if tall * wide <= LONGEST * height * width:
        box = (left, top, left + width, top + height)
        return np.asarray(image.resize((wide, tall), how).crop(box))
    down, across = image.height / tall, image.width / wide
    inside = (left * across, top * down, (left + width) * across, (top + height) * down)
    return np.asarray(image.resize((width, height), how, box=inside))


def to_uint8(pixels: NDArray[Any], factor: float) -> NDArray[np.uint8]:
    """Return deep pixels times `factor`, rounded to 8 bits."""
    return np.clip(np.rint(pixels * np.float32(factor)), 0, 255).astype(np.uint8)


def depth_factor(low: float, peak: float, integer: bool) -> tuple[float, str]:
    """Return the factor that brings the values of a whole source to 0..255, and the words for it.

    Args:
        low: The least value in the source.
        peak: The largest.
        integer: Whether the values are integers.

    Raises:
        DataError: If the range is one that no rule fits.
    """
    if integer and low >= 0 and peak < 2**16:
        bits = max(8, int(peak).bit_length())
        return 255 / (2**bits - 1), f"{bits}-bit values divided by {2**bits - 1}"
    if not integer and low >= 0 and peak <= 1:
        return 255.0, "floats of 0..1 times 255"
    if not integer and low >= 0 and peak <= 255:
        return 1.0, "floats of 0..255 rounded"
    kind = "integers" if integer else "floats"
    allowed = "0..65535" if integer else "0..1, or 0..255"
    raise DataError(
        f"pixel values are {kind} from {low:g} to {peak:g}, expected {allowed}; rescale them, "
        f"with one rule for all images"
    )


def to_channels(images: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return images (N, H, W, 1) or (N, H, W, 3) to (N, H, W, channels), `channels` 1 or 3."""
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    luma = np.full(images.shape[:-1], 1 << 15, dtype=np.uint32)
    for channel, weight in enumerate(LUMA):
        luma += images[..., channel] * np.uint32(weight)
    return (luma >> 16).astype(np.uint8)[..., None]


def attempt_all(
    function: Callable[[Item], Result], files: Mapping[Key, Item]
) -> tuple[dict[Key, Result], dict[Key, str]]:
    """Call a function on every file, in parallel.

    Pillow frees the interpreter while it decodes and resizes.

    Returns:
        What it returned, by the files' keys and in their order, and the reason where it failed.
    """
    results: dict[Key, Result] = {}
    faults: dict[Key, str] = {}
    with warnings.catch_warnings():
        # Pillow warns of damaged metadata, which says nothing about the pixels.
        warnings.simplefilter("ignore")
        for key, result, fault in in_order(function, files):
            if result is None:
                faults[key] = fault
            else:
                results[key] = result
    return results, faults


def decode_all(
    decoder: Callable[[Path], Result],
    files: Mapping[str, Path],
    keep: str,
    settings: Sequence[Any],
) -> tuple[dict[str, Result], dict[str, str], Items | None]:
    """Decode every file, and keep the pixels where they are to lie.

    Args:
        decoder: Returns a dataclass with one array.
        files: By name.
        keep: `memory`; `mapped` or `files`, where what is returned takes no memory for its array.
        settings: What the decoder depends on, as plain JSON values.

    Returns:
        As `attempt_all`; and the pixels, where they are not in memory.
    """
    if keep == "memory":
        return *attempt_all(decoder, files), None
    return survey(files, decoder, keep, settings)


def some(words: str, names: Sequence[str], total: int, what: str = "images") -> str:
    """Return a note on some of all files: how many, and the first one's name."""
    return f"{words}: {len(names)} of {total} {what}, such as {names[0]}"


def note_conversions(
    decoded: Mapping[str, Decoded], notes: list[str], size: ImageSize | None
) -> None:
    """Note what happened to images that are not plain.

    Args:
        decoded: The images, by name.
        notes: Added to.
        size: That they were resized to; None where they were not.
    """
    height, width = as_size(size or 1)
    square = height == width
    distorted = "not square" if square else f"of another form than {height}x{width}"
    kinds: dict[str, Callable[[Decoded], bool]] = {
        "several frames, the first was taken": lambda image: image.frames > 1,
        "transparent, laid over black": lambda image: image.transparent,
        f"{distorted}, the aspect ratio is not kept": lambda image: (
            size is not None and image.shape[0] * width != image.shape[1] * height
        ),
    }
    for words, is_so in kinds.items():
        if names := [name for name, image in decoded.items() if is_so(image)]:
            notes.append(some(words, names, len(decoded)))


@dataclass(frozen=True)
class Common:
    """One rule for depth and colour of all images of a source.

    Attributes:
        channels: 1 or 3.
        factors: (N,) what brings each image of more than 8 bits to 0..255.
    """

    channels: int
    factors: NDArray[np.float64]

    def __call__(self, pixels: NDArray[Any], number: int) -> NDArray[np.uint8]:
        """Return the pixels of an image as (h, w, C) of uint8."""
        if pixels.dtype != np.uint8:
            pixels = to_uint8(pixels, self.factors[number])
        return to_channels(pixels.reshape(*pixels.shape[:2], -1), self.channels)


def common_rule(decoded: Mapping[str, Decoded], channels: int | None, notes: list[str]) -> Common:
    """Find the one rule for depth and colour of some images.

    Args:
        decoded: The images, by name.
        channels: 1 or 3; None takes 1 if all are grey, else 3.
        notes: Added to.

    Raises:
        DataError: If the pixels' range is one that no rule fits.
    """
    factor = {integer: _factor(decoded, integer, notes) for integer in (True, False)}
    grey = sum(image.pixels.ndim == 2 for image in decoded.values())
    colour = len(decoded) - grey
    channels = channels or (3 if colour else 1)
    if channels == 3 and grey:
        notes.append(f"grey, repeated to 3 channels: {grey} of {len(decoded)} images")
    if channels == 1 and colour:
        notes.append(f"colour, converted to grey: {colour} of {len(decoded)} images")
    return Common(channels, np.array([factor[image.integer] for image in decoded.values()]))


def to_common(
    decoded: Mapping[str, Decoded], channels: int | None, notes: list[str]
) -> list[NDArray[np.uint8]]:
    """Return all images as arrays (h, w, C) of uint8, by the rule that `common_rule` finds."""
    rule = common_rule(decoded, channels, notes)
    return [rule(image.pixels, number) for number, image in enumerate(decoded.values())]


def _factor(decoded: Mapping[str, Decoded], integer: bool, notes: list[str]) -> float:
    """Give what brings images of more than 8 bits, those of integers or of floats, to 0..255."""
    deep = {n: image for n, image in decoded.items() if image.deep and image.integer == integer}
    if not deep:
        return 1.0
    lowest = min(deep, key=lambda name: deep[name].low)
    highest = max(deep, key=lambda name: deep[name].peak)
    try:
        factor, words = depth_factor(deep[lowest].low, deep[highest].peak, integer)
    except DataError as error:
        raise DataError(f"{lowest}, {highest}: {error}") from None
    notes.append(f"more than 8 bits: {len(deep)} of {len(decoded)} images, {words}")
    return factor
