"""Mask files to class indices: one rule for a whole source, and no value is ever blended.

What a pixel of a mask says is found from the values that occur in all masks together:

* 1-bit images, and those whose only values are 0 and one other (255, most often): background and
  one class;
* palette images: the index, not the colour;
* grey images with small values: the class index;
* any other values need `data.mask_values`, which lists them in the order of the classes.

A mask that was saved as JPEG has values beside its own: where these gather at both ends it is read
as black and white, cut at 128, and a note says so.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from attnsearch.runs.images import PHOTOGRAPHS
from attnsearch.runs.source import DataError, listing

IGNORED = 255
"""What an ignored pixel holds in every mask that this package keeps."""

CLASSES_MAX = 255
NEAR = 40  # levels from black or white within which a JPEG's values are those


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A decoded mask, before its values are understood.

    Attributes:
        levels: (h, w) of uint8 or uint16.
        values: The values that occur, ascending.
        photograph: Whether the file is of a lossy kind.
        digest: SHA-256 of the file.
    """

    levels: NDArray[np.unsignedinteger]
    values: tuple[int, ...]
    photograph: bool
    digest: bytes


@dataclass(frozen=True)
class Coding:
    """What the values of a source's masks mean.

    Attributes:
        values: Of the classes, in their order.
        ignored: The value of ignored pixels, or None.
        class_names: One per class.
        cut: Whether lossy masks are cut into black and white at 128.
    """

    values: tuple[int, ...]
    ignored: int | None
    class_names: tuple[str, ...]
    cut: bool = False

    def index(self, mask: MaskFile, name: str) -> NDArray[np.uint8]:
        """The class of each pixel (h, w), `IGNORED` where none counts.

        Raises:
            DataError: For a value that is no class; it names the file.
        """
        levels = mask.levels
        if self.cut:
            levels = np.where(levels < 128, np.uint8(self.values[0]), np.uint8(self.values[1]))
        table = np.full(2**16 if levels.dtype == np.uint16 else 2**8, -1, dtype=np.int16)
        table[list(self.values)] = np.arange(len(self.values))
        if self.ignored is not None:
            table[self.ignored] = IGNORED
        found = table[levels]
        if found.min() < 0:
            unknown = [str(value) for value in np.unique(levels[found < 0])]
            raise DataError(
                f"{name}: the mask holds {listing(unknown)}, which is no class: classes have the "
                f"values {listing([str(value) for value in self.values], 12)}"
                + (f", {self.ignored} is ignored" if self.ignored is not None else "")
                + "; repair the mask, or name all values in data.mask_values, or the one to leave "
                "out in data.ignore_index"
            )
        index: NDArray[np.uint8] = found.astype(np.uint8)
        return index


def decode_mask(path: Path) -> MaskFile:
    """Read a mask, upright, with the values as they stand in the file.

    Raises:
        DataError: If it is a colour image; its name is left to the caller.
        OSError, or whatever else Pillow raises on a file that it cannot decode.
    """
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as file:
        image = ImageOps.exif_transpose(file)
        image.load()
    if image.mode in ("RGBA", "LA", "RGB", "CMYK", "YCbCr"):
        channels = np.asarray(image.convert("RGB"))
        if (channels != channels[..., :1]).any():
            raise DataError(
                "is a colour image; a mask has one value per pixel: save it as a grey or palette "
                "PNG whose values are the class indices"
            )
        levels = channels[..., 0]
    elif image.mode == "1":
        levels = np.asarray(image).astype(np.uint8)
    elif image.mode in ("L", "P"):
        levels = np.asarray(image)
    else:
        wide = np.asarray(image)
        if not np.isfinite(wide).all() or wide.min() < 0 or wide.max() >= 2**16:
            raise DataError(f"has values from {wide.min():g} to {wide.max():g}, expected 0..65535")
        if (wide != np.rint(wide)).any():
            raise DataError("has values that are not whole numbers; a mask holds class indices")
        levels = wide.astype(np.uint16)
    bins = 2**16 if levels.dtype == np.uint16 else 2**8
    values = np.flatnonzero(np.bincount(levels.ravel(), minlength=bins))
    return MaskFile(
        levels,
        tuple(values.tolist()),
        path.suffix.lower() in PHOTOGRAPHS,
        hashlib.sha256(content).digest(),
    )


def find_coding(
    masks: Mapping[str, MaskFile],
    classes: int | Sequence[str] | None,
    ignored: int | None,
    mask_values: Sequence[int] | None,
) -> tuple[Coding, list[str]]:
    """What the values of all masks together mean.

    Args:
        masks: By name.
        classes: `data.classes`: their number or names.
        ignored: `data.ignore_index`.
        mask_values: `data.mask_values`: the value of each class.

    Returns:
        The coding, and notes on what was concluded.

    Raises:
        DataError: If no rule fits; it names the values, a file and what to say in the space file.
    """
    names = [str(name) for name in classes] if isinstance(classes, list | tuple) else None
    count = len(names) if names is not None else classes if isinstance(classes, int) else None
    values, cut, notes = _values(masks, ignored)
    if mask_values is not None:
        coded = tuple(mask_values)
        if count is not None and count != len(coded):
            raise DataError(
                f"data.mask_values has {len(coded)} values and data.classes {count} classes; give "
                f"one value per class"
            )
    elif count in (None, 2) and (set(values) <= {0, 255} or (count and _black_and_white(values))):
        coded = (0, 255)
    elif count is not None:
        coded = tuple(range(count))
    elif len(values) <= 2 and 0 in values:
        coded = (0, max(values) or 1)
    else:
        coded = tuple(range(max(values, default=0) + 1))
        if len(coded) > CLASSES_MAX or len(coded) > 2 * len(values):
            example = next(name for name, mask in masks.items() if max(mask.values) == max(values))
            raise DataError(
                f"the masks' values are {listing([str(value) for value in values], 12)} (such as "
                f"in {example}), which are no class indices counted from 0; list them in the "
                f"order of the classes, data.mask_values: [{', '.join(map(str, values[:12]))}]"
            )
    if len(coded) < 2:
        raise DataError(
            f"the masks hold nothing but {listing([str(value) for value in values])}: there is no "
            f"class to find; is this the folder of the masks, and is data.ignore_index right?"
        )
    names = names or _default_names(len(coded))
    coding = Coding(coded, ignored, tuple(names), cut)
    said = ", ".join(f"{value} {name}" for value, name in zip(coded[:12], names[:12], strict=True))
    notes.append(f"mask values: {said}" + (f", {ignored} ignored" if ignored is not None else ""))
    return coding, notes


def shrink(mask: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A mask (h, w) at (size, size): each pixel takes the nearest one's class."""
    if mask.shape == (size, size):
        return mask
    image = Image.fromarray(np.ascontiguousarray(mask))
    return np.asarray(image.resize((size, size), Image.Resampling.NEAREST))


def _values(
    masks: Mapping[str, MaskFile], ignored: int | None
) -> tuple[tuple[int, ...], bool, list[str]]:
    """All values that occur but the ignored one, whether to cut, and a note on that."""
    values = sorted({value for mask in masks.values() for value in mask.values} - {ignored})
    lossy = [name for name, mask in masks.items() if mask.photograph]
    if lossy and len(values) > 2:
        inner = ends = 0
        for name in lossy:
            levels = masks[name].levels
            between = int(np.count_nonzero((levels > NEAR) & (levels < 255 - NEAR)))
            inner, ends = inner + between, ends + levels.size - between
        if max(values) > 255 - NEAR and inner < 0.1 * ends:
            note = (
                f"masks saved as JPEG were cut into black and white at 128: {len(lossy)} of "
                f"{len(masks)}"
            )
            return (0, 255), True, [note]
    return tuple(values), False, []


def _black_and_white(values: Sequence[int]) -> bool:
    """Whether two classes are black and white, whatever else was found."""
    return {0, 255} <= set(values) and 1 not in values


def _default_names(count: int) -> list[str]:
    if count == 2:
        return ["background", "foreground"]
    return [f"class {index}" for index in range(count)]
