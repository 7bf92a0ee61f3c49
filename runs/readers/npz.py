"""Arrays in MedMNIST's layout (Yang et al., Scientific Data 2023, doi:10.1038/s41597-022-01721-8).

`train_images` (N, H, W) or (N, H, W, C) and `train_labels` (N, 1) or (N,), likewise `val_` and
`test_` (`valid_`, `dev_` and the like are taken too), and optionally `class_names`. Labels may be
one-hot, or counted from 1; RGBA is laid over black. Nothing in the file is unpickled.

What a trained network is applied to needs no training part, and may be `images` and `labels`.
"""

import hashlib
import math
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.blocks.hosts import as_size
from attnsearch.runs.keeping import DAMAGE, Anywhere, Lazy, Places, header, locate, pieces
from attnsearch.runs.machine import free_memory
from attnsearch.runs.readers.images import (
    Crop,
    ImageSize,
    depth_factor,
    resize,
    to_channels,
    to_uint8,
)
from attnsearch.runs.readers.source import NO_PART, PARTS, DataError, Source, listing
from attnsearch.runs.readers.walking import named_parts

KINDS = ("images", "labels")
ALL = "all"  # the part of `images` and `labels`, which say none
COPIES = 2  # of an array that is read: as it is stored, and as it is returned


def read_npz(
    path: Path,
    image_size: ImageSize,
    channels: int | None = None,
    keep: str = "memory",
    evaluated: bool = False,
    crop: Crop | None = None,
) -> Source:
    """Read all images of a .npz file.

    Args:
        path: The file.
        image_size: Images of another size are resized to so many pixels, or (height,
            width).
        channels: 1 or 3; None takes what the file has.
        keep: Where the images lie afterwards: `memory`, `mapped` or `files`.
        evaluated: Whether a trained network is applied to them: any part is enough.
        crop: As `resize` takes it.

    Raises:
        DataError: If the file cannot be read, lacks a key, or holds other shapes or types.
    """
    arrays, places = _load(path, keep, evaluated=evaluated)
    parts = [part for part in (*PARTS, ALL) if {f"{part}_{k}" for k in KINDS} & {*arrays}]
    notes: list[str] = []
    images, labels = {}, {}
    for part in parts:
        images[part] = _images(path, f"{part}_images", arrays, notes)
        labels[part] = _labels(path, f"{part}_labels", arrays, len(images[part]))
    class_names = _class_names(path, arrays)
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
        names=[name for part in parts for name in _names(part, len(images[part]))],
        parts=np.repeat([NO_PART if part == ALL else PARTS.index(part) for part in parts], counts),
        class_names=class_names,
        digests=digests,
        notes=notes,
    )


def read_pictures(path: Path, notes: list[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the images of a .npz file at their own size, (h, w, C) of uint8, by their names.

    Labels need not be there.

    Args:
        path: The file.
        notes: What was converted is added to it.

    Raises:
        DataError: If it cannot be read, holds no images, or such of more than 8 bits.
    """
    arrays, _ = _load(path, "memory", evaluated=True)
    parts = [part for part in (*PARTS, ALL) if f"{part}_images" in arrays]
    images = {part: _images(path, f"{part}_images", arrays, notes) for part in parts}
    if any(array.dtype.kind in "iu" and array.max() > 255 for array in images.values()):
        raise DataError(
            f"{path}: more than 8 bits a pixel; convert it to 8 bits by the rule that converted "
            f"the training data"
        )
    factor = _factor(path, images, notes)
    for part, array in images.items():
        for name, image in zip(_names(part, len(array)), array, strict=True):
            laid = opaque(image[None])[0]
            yield name, laid if laid.dtype == np.uint8 else to_uint8(laid, factor)


def _names(part: str, count: int) -> list[str]:
    return [f"{number:06d}" if part == ALL else f"{part}/{number:06d}" for number in range(count)]


def is_npz(path: Path) -> bool:
    """Return whether a path is such a file, by its name."""
    return path.suffix.lower() == ".npz" and path.is_file()


def npz_shapes(path: Path) -> list[tuple[int, int]]:
    """Return (H, W) of the images of each part, training's first, from headers alone."""
    return [shape[1:3] for shape, _ in _image_headers(path)]


def npz_bytes(path: Path, data: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many bytes the images take as the network sees them, and while they are read."""
    height, width = as_size(data["image_size"])
    headers = _image_headers(path)
    channels = data.get("channels")
    shown = sum(
        shape[0] * height * width * (channels or (1 if len(shape) == 3 else min(shape[3], 3)))
        for shape, _ in headers
    )
    return shown, COPIES * sum(math.prod(shape) * kind.itemsize for shape, kind in headers)


def _image_headers(path: Path) -> list[tuple[Any, np.dtype[Any]]]:
    """Return shape and type of the images of each part, training's first."""
    headers = []
    try:
        with zipfile.ZipFile(path) as archive:
            for member in sorted(archive.namelist(), key=lambda name: name[:5] != "train"):
                if member.endswith("images.npy"):
                    with archive.open(member) as stream:
                        shape, _, kind = header(stream)
                        headers.append((shape, kind))
    except DAMAGE:
        return []  # `read_npz` says what is wrong with it
    return [(shape, kind) for shape, kind in headers if len(shape) >= 3]


def _load(
    path: Path, keep: str, *, evaluated: bool
) -> tuple[dict[str, NDArray[Any]], Places | None]:
    """Return the arrays that we know, by key; where images are not in memory, where they lie."""
    arrays: dict[str, NDArray[Any]] = {}
    keys: list[str] = []
    where, places = str(path), None
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.lib.npyio.NpzFile):  # else one array without a name
            with file:
                keys = list(file)
                known = _known(path, keys)
                if evaluated and (alone := [kind for kind in KINDS if kind in keys]):
                    known |= {f"{ALL}_{kind}": kind for kind in alone}
                members = {name: f"{key}.npy" for name, key in known.items()}
                if keep == "memory":
                    _check_memory(path, {*members.values()})
                else:
                    own = {n: member for n, member in members.items() if n.endswith("_images")}
                    places = locate(path, own, keep)
                    arrays = places.mapped()
                for name, key in known.items():
                    where = f"{path}: {key}"
                    if name not in arrays:
                        arrays[name] = file[key]
    except DataError:
        raise
    except DAMAGE as error:
        if "pickle" in str(error).lower():
            raise DataError(
                f"{where}: holds Python objects or is no .npz file; nothing is unpickled: save "
                f"plain arrays of numbers and text with numpy.savez_compressed"
            ) from None
        raise DataError(f"{where}: cannot be read: {error}") from None
    needed = [] if evaluated else ["train_images", "train_labels"]
    if evaluated and not any(name.endswith("_images") for name in arrays):
        needed = ["images", "labels"]
    if missing := [key for key in needed if key not in arrays]:
        raise DataError(
            f"{path}: no {listing(missing)}; expected MedMNIST's layout (train_images, "
            f"train_labels, val_images, ...), found {listing(keys, 10) or 'nothing'}"
        )
    return arrays, places


def _known(path: Path, keys: Sequence[str]) -> dict[str, str]:
    """Return the keys that we know by what they are called here: `valid_images` is `val_images`.

    Raises:
        DataError: If two are called like the same part.
    """
    known = {"class_names": "class_names"} if "class_names" in keys else {}
    words = {key.removesuffix(f"_{kind}") for kind in KINDS for key in keys if key.endswith(kind)}
    for part, names in named_parts(sorted(words)).items():
        if len(names) > 1:
            raise DataError(f"{path}: both {names[0]}_ and {names[1]}_ look like the {part} part")
        known |= {f"{part}_{k}": f"{names[0]}_{k}" for k in KINDS if f"{names[0]}_{k}" in keys}
    return known


def _check_memory(path: Path, members: set[str]) -> None:
    """See that arrays fit into memory before they are expanded: black images pack a thousandfold.

    Raises:
        DataError: If they do not.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(item.file_size for item in archive.infolist() if item.filename in members)
    free = free_memory()
    if COPIES * size > free:
        raise DataError(
            f"{path}: its arrays expand to {size / 2**20:,.0f} MB and are held {COPIES} times, "
            f"while {free / 2**20:,.0f} MB of memory are free; save fewer or smaller images"
        )


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


def _images(
    path: Path, key: str, arrays: dict[str, NDArray[Any]], notes: list[str]
) -> NDArray[Any]:
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
    if array.ndim == 2 and array.shape[1] > 1 and _is_one_hot(array):
        array = array.argmax(1)  # one-hot: one class an image after all
    if array.ndim == 2 and array.shape[1] > 1:
        raise DataError(
            f"{path}: {key} is {shape}: several labels an image; one class an image is supported, "
            f"labels (N,) or (N, 1)"
        )
    if array.ndim not in (1, 2):
        raise DataError(f"{path}: {key} is {shape}; expected (N,) or (N, 1)")
    if array.dtype.kind not in "bui":
        raise DataError(f"{path}: {key} is of type {array.dtype}; expected whole numbers from 0")
    if len(array) != count:
        raise DataError(f"{path}: {key} has {len(array)} labels for {count} images")
    return array.reshape(-1).astype(np.int64)


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
    return _Rule(size, channels, _factor(path, images, notes))


def _factor(path: Path, images: dict[str, NDArray[Any]], notes: list[str]) -> float:
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
