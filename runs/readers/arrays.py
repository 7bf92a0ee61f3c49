"""Arrays of images and labels to a `Source`, under the names that MedMNIST's files give them."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.blocks.hosts import as_size
from attnsearch.runs.keeping import Anywhere, Lazy, Places, pieces
from attnsearch.runs.readers.images import (
    Crop,
    ImageSize,
    depth_factor,
    resize,
    to_channels,
    to_uint8,
)
from attnsearch.runs.readers.source import NO_PART, PARTS, DataError, Source, listing

KINDS = ("images", "labels")
ALL = "all"  # the part of `images` and `labels`, which say none


def arrays_source(
    path: Path,
    arrays: dict[str, NDArray[Any]],
    image_size: ImageSize,
    channels: int | None = None,
    crop: Crop | None = None,
    places: Places | None = None,
    *,
    multilabel: bool = False,
) -> Source:
    """Return arrays as a source.

    Args:
        path: Of the file that they are from, or what stands for it in messages.
        arrays: `train_images`, `train_labels` and the like, of `ALL` where no part is said;
            `class_names` and `train_names` may be there.
        image_size: As of `read_npz`.
        channels: As of `read_npz`.
        crop: As of `read_npz`.
        places: Where images lie that are not in memory.
        multilabel: Whether labels are (N, K) of 0 and 1, for any number of classes an image.

    Raises:
        DataError: If there are other shapes or types.
    """
    parts = [part for part in (*PARTS, ALL) if {f"{part}_{k}" for k in KINDS} & {*arrays}]
    notes: list[str] = []
    images, labels = {}, {}
    for part in parts:
        images[part] = images_of(path, f"{part}_images", arrays, notes)
        read = label_rows if multilabel else _labels
        labels[part] = read(path, f"{part}_labels", arrays, len(images[part]))
    class_names = _class_names(path, arrays)
    if multilabel:
        _check_columns(path, labels)
    else:
        labels, class_names = _from_zero(labels, class_names, notes)
    digests = [
        hashlib.sha256(np.ascontiguousarray(image).data).digest()
        for part in parts
        for piece in pieces(images[part])
        for image in opaque(piece)
    ]
    rule = replace(_rule(path, images, image_size, channels, notes), crop=crop)
    pixels: Anywhere
    if places is None:
        pixels = rule.all_of(images.values())
    else:
        rows = np.arange(sum(map(len, images.values())))
        items = places.rows([f"{part}_images" for part in parts])
        pixels = Lazy(items, rule, rows, (*rule.size, rule.channels))
    counts = [len(images[part]) for part in parts]
    return Source(
        name=path.name,
        images=pixels,
        labels=np.concatenate([labels[part] for part in parts]),
        names=[name for part in parts for name in names_of(path, part, len(images[part]), arrays)],
        parts=np.repeat([NO_PART if part == ALL else PARTS.index(part) for part in parts], counts),
        class_names=class_names,
        digests=digests,
        notes=notes,
    )


def names_of(
    path: Path, part: str, count: int, arrays: Mapping[str, NDArray[Any]] | None = None
) -> list[str]:
    """Return the names of a part's images: those given with them, or their places.

    Raises:
        DataError: If those given are not one text each, or not all different.
    """
    key = f"{part}_names"
    if key not in (arrays or {}):
        place = "" if part == ALL else f"{part}/"
        return [f"{place}{number:06d}" for number in range(count)]
    given = (arrays or {})[key]
    names = [str(name) for name in given]
    if given.dtype.kind not in "UO" or given.shape != (count,) or len({*names}) < count:
        raise DataError(f"{path}: {key} must be {count} different texts, one an image")
    return names


def _from_zero(
    labels: dict[str, NDArray[np.int64]], class_names: list[str] | None, notes: list[str]
) -> tuple[dict[str, NDArray[np.int64]], list[str] | None]:
    """Return labels counted from 0, and the names of classes: they may be counted from 1."""
    least = min(int(part.min()) for part in labels.values())
    most = max(int(part.max()) for part in labels.values())
    names = class_names or [str(label) for label in range(1, most + 1)]
    if least != 1 or most < 2 or len(names) != most:
        return labels, class_names
    notes.append(f"labels run from 1 to {most}: the first class is 1")
    return {part: values - 1 for part, values in labels.items()}, names


def images_of(
    path: Path, key: str, arrays: dict[str, NDArray[Any]], notes: list[str]
) -> NDArray[Any]:
    """Return the images (N, h, w, C) of a part.

    Raises:
        DataError: If it has none, or of another shape or type.
    """
    if key not in arrays:
        raise DataError(f"{path}: has labels but no {key}")
    array = arrays[key]
    shape = "x".join(map(str, array.shape))
    if array.dtype.kind not in "buif":
        raise DataError(f"{path}: {key} is of type {array.dtype}; expected uint8 or floats")
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise DataError(f"{path}: {key} is {shape}; expected (N, H, W) or (N, H, W, C)")
    if array.ndim == 4 and array.shape[3] == 4:
        if array.dtype != np.uint8:
            raise DataError(f"{path}: {key} is RGBA of type {array.dtype}; expected uint8")
        notes.append(f"{key}: RGBA, transparency laid over black")
    elif array.ndim == 4 and array.shape[3] not in (1, 3):
        hint = "the channels come last" if array.shape[1] in (1, 3) else "volumes are not read"
        raise DataError(f"{path}: {key} is {shape}; expected (N, H, W, 1 or 3): {hint}")
    return array if array.ndim == 4 else array[..., None]


def _labels(
    path: Path, key: str, arrays: dict[str, NDArray[Any]], count: int
) -> NDArray[np.int64]:
    if key not in arrays:
        raise DataError(f"{path}: has images but no {key}")
    array = arrays[key]
    shape = "x".join(map(str, array.shape))
    if several_in(array):
        raise DataError(
            f"{path}: {key} is {shape}: several labels an image; write task: multilabel, or give "
            f"one class an image, labels (N,) or (N, 1)"
        )
    if array.ndim == 2 and array.shape[1] > 1:
        array = array.argmax(1)  # one-hot
    if array.ndim not in (1, 2):
        raise DataError(f"{path}: {key} is {shape}; expected (N,) or (N, 1)")
    if array.dtype.kind not in "bui":
        raise DataError(f"{path}: {key} is of type {array.dtype}; expected whole numbers from 0")
    if len(array) != count:
        raise DataError(f"{path}: {key} has {len(array)} labels for {count} images")
    return array.reshape(-1).astype(np.int64)


def label_rows(
    path: Path, key: str, arrays: Mapping[str, NDArray[Any]], count: int
) -> NDArray[np.int64]:
    """Return labels (N, K) of 0 and 1.

    Raises:
        DataError: If there are none, or of another shape or with other values.
    """
    if key not in arrays:
        raise DataError(f"{path}: has images but no {key}")
    array = arrays[key]
    if array.ndim != 2 or array.shape[1] < 2:
        shape = "x".join(map(str, array.shape))
        raise DataError(
            f"{path}: {key} is {shape}; task: multilabel takes 0 or 1 for each image and class, "
            f"(N, K); one class an image is task: classification"
        )
    if len(array) != count:
        raise DataError(f"{path}: {key} has {len(array)} labels for {count} images")
    if array.dtype.kind not in "buif" or not ((array == 0) | (array == 1)).all():
        numbers = array[(array != 0) & (array != 1)] if array.dtype.kind in "uif" else array
        raise DataError(
            f"{path}: {key} holds {numbers.flat[0]!s}; task: multilabel takes 0 (not shown) and 1 "
            f"(shown): say of what is uncertain or unknown which of them it is, or leave it out"
        )
    return array.astype(np.int64)


def _check_columns(path: Path, labels: Mapping[str, NDArray[np.int64]]) -> None:
    counts = {part: array.shape[1] for part, array in labels.items()}
    if len({*counts.values()}) > 1:
        words = listing([f"{count} in {part}" for part, count in counts.items()])
        raise DataError(f"{path}: the parts differ in their number of classes: {words}")


def several_in(labels: NDArray[Any]) -> bool:
    """Return whether labels are of any number of classes an image: (N, K), and not one-hot."""
    return labels.ndim == 2 and labels.shape[1] > 1 and not _is_one_hot(labels)


def _is_one_hot(array: NDArray[Any]) -> bool:
    ones = array == 1
    return bool((ones | (array == 0)).all() and (ones.sum(1) == 1).all())


def _class_names(path: Path, arrays: dict[str, NDArray[Any]]) -> list[str] | None:
    if "class_names" not in arrays:
        return None
    names = arrays["class_names"]
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise DataError(
            f"{path}: class_names is {names.dtype} of shape {names.shape}; expected one text each"
        )
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


@dataclass(frozen=True)
class _Rule:
    """One rule of size, depth and colour for all images of a file."""

    size: tuple[int, int]
    channels: int
    factor: float
    crop: Crop | None = None

    def __call__(self, pixels: NDArray[Any], row: int) -> NDArray[np.uint8]:
        """Return one image, stored as (h, w) or (h, w, C), as (height, width, C) of uint8."""
        image: NDArray[np.uint8] = self.of(pixels.reshape(1, *pixels.shape[:2], -1))[0]
        return image

    def of(self, images: NDArray[Any]) -> NDArray[np.uint8]:
        """Return images (N, h, w, C) as (N, height, width, C) of uint8."""
        images = opaque(images)
        shallow = images if images.dtype == np.uint8 else to_uint8(images, self.factor)
        if images.shape[1:3] != self.size or self.crop is not None:
            resized = np.empty((len(images), *self.size, images.shape[3]), dtype=np.uint8)
            for row, image in zip(resized, shallow, strict=True):
                flat = image.squeeze(-1) if image.shape[-1] == 1 else image
                row[...] = resize(flat, self.size, crop=self.crop).reshape(row.shape)
            shallow = resized
        return to_channels(shallow, self.channels)

    def all_of(self, arrays: Collection[NDArray[Any]]) -> NDArray[np.uint8]:
        """Return all images of some arrays as one."""
        result = np.empty((sum(map(len, arrays)), *self.size, self.channels), dtype=np.uint8)
        start = 0
        for array in arrays:
            for piece in pieces(array):
                result[start : start + len(piece)] = self.of(piece)
                start += len(piece)
        return result


def opaque(images: NDArray[Any]) -> NDArray[Any]:
    """Return images (N, h, w, C), those with transparency (C is 4) laid over black."""
    if images.shape[3] != 4:
        return images
    laid: NDArray[Any] = (images[..., :3].astype(np.uint16) * images[..., 3:] + 127) // 255
    return laid.astype(np.uint8)


def _rule(
    path: Path,
    images: dict[str, NDArray[Any]],
    image_size: ImageSize,
    channels: int | None,
    notes: list[str],
) -> _Rule:
    """Find the rule for all parts."""
    size = as_size(image_size)
    stored = {min(array.shape[3], 3) for array in images.values()}
    channels = channels or max(stored)
    if stored - {channels}:
        words = "repeated to 3 channels" if channels == 3 else "converted to grey"
        notes.append(f"images with {min(stored - {channels})} channels {words}")
    shapes = sorted({array.shape[1:3] for array in images.values()})
    if other := [f"{h}x{w}" for h, w in shapes if (h, w) != size]:
        notes.append(f"resized from {listing(other)} to {size[0]}x{size[1]}")
    return _Rule(size, channels, factor_of(path, images, notes))


def factor_of(path: Path, images: dict[str, NDArray[Any]], notes: list[str]) -> float:
    """Return what brings all parts to 0..255."""
    deep = [array for array in images.values() if array.dtype != np.uint8]
    if not deep:
        return 1.0
    if all(array.dtype.kind == "b" for array in deep):
        return 255.0
    integer = all(array.dtype.kind in "bui" for array in deep)
    ends = [(float(piece.min()), float(piece.max())) for a in deep for piece in pieces(a)]
    low, peak = min(low for low, _ in ends), max(peak for _, peak in ends)
    try:
        factor, words = depth_factor(low, peak, integer)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    notes.append(words)
    return factor
