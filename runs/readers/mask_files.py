"""One mask file to its values, before anything is said about what they mean."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from attnsearch.runs.readers.images import open_image, orientation
from attnsearch.runs.readers.mask_colors import Color, by_color, palette_of
from attnsearch.runs.readers.source import DataError

# In black and white pictures saved as JPEG (quality 20 to 95, sharp, antialiased or enlarged up to
# 8 times) no 3x3 pixels are as even as this and as far from both ends; 3 pixels of a grey are.
EVEN = 20
ENDS = 24
STRAY = 4  # such pixels that are forgiven
WHITE = 64  # the brightest pixel of a picture with a white speck, at the least
COLOUR = 16  # how far the channels of a grey picture may lie apart in a lossy file


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A decoded mask, before its values are understood.

    Attributes:
        levels: (h, w) of uint8 or uint16.
        values: The values that occur, ascending.
        lossy: Whether the file is of a kind that does not keep values.
        black_and_white: Of a lossy file, whether it shows nothing else.
        orientation: The EXIF tag that was followed; 1 is upright.
        frames: How many the file has.
        digest: SHA-256 of the file.
        unknown: Colours that `data.mask_colors` lacks, and of how many pixels.
        palette: The colour of each value that occurs, where the file has a palette.
    """

    levels: NDArray[np.unsignedinteger]
    values: tuple[int, ...]
    lossy: bool
    black_and_white: bool
    orientation: int
    frames: int
    digest: bytes
    unknown: Mapping[Color, int] = field(default_factory=dict)
    palette: Mapping[int, Color] = field(default_factory=dict)


def decode_mask(path: Path, mask_colors: Mapping[str, Sequence[int]] | None = None) -> MaskFile:
    """Read a mask, upright, with the values as they stand in the file.

    Args:
        path: The file.
        mask_colors: `data.mask_colors`; with it the values are the classes of the colours.

    Raises:
        DataError: If it is a colour image and there is no palette; its name is left to the caller.
        OSError, or whatever else Pillow raises on a file that it cannot decode.
    """
    content = path.read_bytes()
    with open_image(content) as file:
        lossy = _is_lossy(file, content)
        frames = getattr(file, "n_frames", 1)
        turned = orientation(file)
        image = ImageOps.exif_transpose(file)
        image.load()
    unknown: dict[Color, int] = {}
    if mask_colors is None:
        levels = _levels(image, lossy)
    elif lossy:
        raise DataError(
            "is of a kind, such as JPEG, that does not keep the colours of data.mask_colors; save "
            "the mask as PNG, from its source"
        )
    else:
        levels, unknown = by_color(image, mask_colors)
    bins = 2**16 if levels.dtype == np.uint16 else 2**8
    values = tuple(np.flatnonzero(np.bincount(levels.ravel(), minlength=bins)).tolist())
    indexed = mask_colors is None and image.mode == "P"
    return MaskFile(
        levels,
        values,
        lossy,
        lossy and _is_black_and_white(levels),
        turned,
        frames,
        hashlib.sha256(content).digest(),
        unknown,
        palette_of(image, values) if indexed else {},
    )


def _levels(image: Image.Image, lossy: bool) -> NDArray[np.unsignedinteger]:
    """Return the values of a decoded mask, (h, w) of uint8 or uint16."""
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode in ("L", "P"):
        return np.asarray(image)
    if image.mode == "PA":  # a palette's index and transparency
        return np.ascontiguousarray(np.asarray(image)[..., 0])
    if image.mode in ("RGBA", "LA", "RGB", "CMYK", "YCbCr"):
        channels = np.asarray(image.convert("RGB"))
        apart = channels.max(-1) - channels.min(-1)
        if apart.max() > (COLOUR if lossy else 0):
            raise DataError(
                "is a colour image; a mask has one value per pixel: give the colour of each class "
                "in data.mask_colors, or save it as a grey or palette PNG whose values are the "
                "class indices"
            )
        even = channels.min() == channels.max()
        if even and image.mode in ("RGBA", "LA") and np.ptp(np.asarray(image)[..., -1]):
            raise DataError(
                "has its shape in the transparency and one colour throughout; save the mask as a "
                "grey PNG"
            )
        return channels[..., 0]
    wide = np.asarray(image)
    if wide.ndim != 2:
        raise DataError(f"has the colour mode {image.mode}; save it as a grey or palette PNG")
    if not np.isfinite(wide).all() or wide.min() < 0 or wide.max() >= 2**16:
        raise DataError(f"has values from {wide.min():g} to {wide.max():g}, expected 0..65535")
    if (wide != np.rint(wide)).any():
        raise DataError("has values that are not whole numbers; a mask holds class indices")
    return wide.astype(np.uint16)


def _is_lossy(file: Image.Image, content: bytes) -> bool:
    """Return whether a file is of a kind that does not keep the values of pixels."""
    if file.format == "WEBP":
        place = 12
        while place + 8 <= len(content):  # RIFF chunks: a name, a length, padded to even
            if content[place : place + 4] == b"VP8L":
                return False
            length = int.from_bytes(content[place + 4 : place + 8], "little")
            place += 8 + length + length % 2
        return True
    if file.format == "TIFF":
        return file.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")
    return file.format in ("JPEG", "MPO", "JPEG2000", "AVIF")


def _is_black_and_white(levels: NDArray[np.unsignedinteger]) -> bool:
    """Tell whether all greys of a lossy picture come from compression or smooth edges.

    A third value stands in areas, if only a few pixels wide; at an edge levels change with every
    pixel. A picture without white is black only if it is even: class indices are as dark.
    """
    if levels.max() < WHITE:
        return bool(levels.min() == levels.max() and levels.max() <= 4)
    rows, columns = np.nonzero((levels > ENDS) & (levels < 255 - ENDS))
    if not len(rows) or len(rows) > levels.size // 2:
        return not len(rows)
    framed = np.pad(levels, 1, mode="edge")
    around = np.stack([framed[rows + i, columns + j] for i in range(3) for j in range(3)])
    even = int((around.max(0) - around.min(0) <= EVEN).sum())
    return even <= max(STRAY, levels.size // 50_000)
