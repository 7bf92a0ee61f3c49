"""Arrays in MedMNIST's layout (Yang et al., Scientific Data 2023, doi:10.1038/s41597-022-01721-8).

`train_images` (N, H, W) or (N, H, W, C) and `train_labels` (N, 1) or (N,), likewise `val_` and
`test_` (`valid_`, `dev_` and the like are taken too), and optionally `class_names`. Labels may be
one-hot, or counted from 1; RGBA is laid over black. Nothing in the file is unpickled.

What a trained network is applied to needs no training part, and may be `images` and `labels`.
"""

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.blocks.hosts import as_size
from attnsearch.runs.keeping import DAMAGE, Places, header, locate
from attnsearch.runs.machine import free_memory
from attnsearch.runs.readers.arrays import (
    ALL,
    KINDS,
    arrays_source,
    factor_of,
    images_of,
    names_of,
    opaque,
    several_in,
)
from attnsearch.runs.readers.images import (
    Crop,
    ImageSize,
    to_uint8,
)
from attnsearch.runs.readers.source import PARTS, DataError, Source, listing
from attnsearch.runs.readers.walking import named_parts

COPIES = 2  # of an array that is read: as it is stored, and as it is returned


def read_npz(
    path: Path,
    image_size: ImageSize,
    channels: int | None = None,
    keep: str = "memory",
    evaluated: bool = False,
    crop: Crop | None = None,
    *,
    multilabel: bool = False,
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
        multilabel: Whether labels are (N, K) of 0 and 1.

    Raises:
        DataError: If the file cannot be read, lacks a key, or holds other shapes or types.
    """
    arrays, places = _load(path, keep, evaluated=evaluated)
    return arrays_source(path, arrays, image_size, channels, crop, places, multilabel=multilabel)


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
    images = {part: images_of(path, f"{part}_images", arrays, notes) for part in parts}
    if any(array.dtype.kind in "iu" and array.max() > 255 for array in images.values()):
        raise DataError(
            f"{path}: more than 8 bits a pixel; convert it to 8 bits by the rule that converted "
            f"the training data"
        )
    factor = factor_of(path, images, notes)
    for part, array in images.items():
        for name, image in zip(names_of(path, part, len(array)), array, strict=True):
            laid = opaque(image[None])[0]
            yield name, laid if laid.dtype == np.uint8 else to_uint8(laid, factor)


def is_npz(path: Path) -> bool:
    """Return whether a path is such a file, by its name."""
    return path.suffix.lower() == ".npz" and path.is_file()


def npz_of_several(path: Path) -> bool:
    """Return whether a file has labels of any number of classes an image, by its training part."""
    try:
        with np.load(path, allow_pickle=False) as file:
            key = _known(path, [*file]).get("train_labels")
            return key is not None and several_in(file[key])
    except (DataError, *DAMAGE):
        return False  # reading it as one class an image says what is wrong


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
