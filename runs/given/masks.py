"""Arrays of images and masks to a `Source`, as files of them are read."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.blocks.hosts import as_size, size_name
from attnsearch.runs.readers import (
    ALL,
    NO_PART,
    PARTS,
    DataError,
    MaskFile,
    Source,
    check_found,
    factor_of,
    find_coding,
    names_of,
    opaque,
    resize,
    scored_sentence,
    tile,
    to_channels,
    to_uint8,
    whole_masks,
)


def masks_source(
    path: Path, arrays: Mapping[str, NDArray[Any]], data: Mapping[str, Any]
) -> Source:
    """Return images and masks as a source.

    Args:
        path: What stands for them in messages.
        arrays: `train_images` (N, H, W) or (N, H, W, C) and `train_masks` (N, H, W) and the like,
            of `ALL` where no part is said; of different sizes arrays of objects.
        data: The `data` section of a resolved config.

    Raises:
        DataError: If they do not fit together, or a mask has an unknown value.
    """
    parts = [part for part in (*PARTS, ALL) if f"{part}_images" in arrays]
    notes: list[str] = []
    images: dict[str, NDArray[Any]] = {}
    files: dict[str, MaskFile] = {}
    for part in parts:
        pictures, masks = arrays[f"{part}_images"], arrays.get(f"{part}_masks")
        if masks is None or len(masks) != len(pictures):
            count = 0 if masks is None else len(masks)
            raise DataError(f"{path}: {part}: {count} masks for {len(pictures)} images")
        names = names_of(path, part, len(pictures), arrays)
        for name, image, mask in zip(names, pictures, masks, strict=True):
            images[name] = _image(path, name, image)
            files[name] = _mask(path, name, mask, images[name].shape[:2])
    named = data.get("classes")
    if named is None and "class_names" in arrays:
        named = [str(name) for name in arrays["class_names"]]
    coding, said = find_coding(files, named, data.get("ignore_index"), data.get("mask_values"))
    check_found(files, coding)
    notes += [*said, scored_sentence(coding.class_names, named=isinstance(named, list | tuple))]
    factor = factor_of(path, {name: image[None] for name, image in images.items()}, notes)
    stored = {min(image.shape[2], 3) for image in images.values()}
    channels = data.get("channels") or max(stored)
    size, overlap = as_size(data["image_size"]), data.get("tile_overlap")
    pixels = []
    for image in images.values():
        shallow = opaque(image[None])[0]
        shallow = shallow if shallow.dtype == np.uint8 else to_uint8(shallow, factor)
        if overlap is None:
            flat = shallow[..., 0] if shallow.shape[2] == 1 else shallow
            shallow = resize(flat, size).reshape(*size, -1)
        pixels.append(to_channels(shallow[None], channels)[0])
    originals = [coding.index(file, name) for name, file in files.items()]
    if overlap is None:
        seen, masks_seen = np.stack(pixels), whole_masks(originals, size)
    else:
        seen, masks_seen = tile(pixels, originals, size, overlap)
        notes.append(
            f"cut into {len(seen)} tiles of {size_name(size)} pixels, from {len(pixels)} images"
        )
    counts = [len(arrays[f"{part}_images"]) for part in parts]
    return Source(
        name=path.name,
        images=seen,
        labels=np.zeros(len(pixels), dtype=np.int64),
        names=list(images),
        parts=np.repeat([NO_PART if part == ALL else PARTS.index(part) for part in parts], counts),
        class_names=list(coding.class_names),
        digests=[
            hashlib.sha256(np.ascontiguousarray(image).data).digest() + files[name].digest
            for name, image in images.items()
        ],
        notes=notes,
        masks=masks_seen,
    )


def _image(path: Path, name: str, image: Any) -> NDArray[Any]:
    array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.dtype.kind not in "buif":
        raise DataError(
            f"{path}: {name}: an image is {array.dtype} of shape {array.shape}; expected "
            f"(H, W) or (H, W, 1 or 3), the channels last"
        )
    return array


def _mask(path: Path, name: str, mask: Any, shape: tuple[int, ...]) -> MaskFile:
    levels = np.asarray(mask)
    levels = levels[..., 0] if levels.ndim == 3 and levels.shape[2] == 1 else levels
    levels = levels[0] if levels.ndim == 3 and levels.shape[0] == 1 else levels
    if levels.shape != shape:
        raise DataError(
            f"{path}: {name}: its mask is {levels.shape}, the image {shape}: one value a pixel"
        )
    if levels.dtype.kind not in "bui" or levels.min() < 0 or levels.max() > 65535:
        raise DataError(
            f"{path}: {name}: a mask is of type {levels.dtype}; expected whole numbers, 0 to 65535"
        )
    levels = np.ascontiguousarray(levels.astype(np.uint16 if levels.max() > 255 else np.uint8))
    values = tuple(np.unique(levels).tolist())
    return MaskFile(levels, values, False, False, 1, 1, hashlib.sha256(levels.data).digest())
