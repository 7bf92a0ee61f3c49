"""Folders of images and masks: see `mask_pairs` for the layout, `masks` for the values.

Every image counts: one that cannot be read, has no mask, or a mask of another size or with an
unknown value is an error that names it. In a set of a hundred images a skipped one shows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from attnsearch.blocks.hosts import as_size, size_name
from attnsearch.runs.keeping import Anywhere, Array, Items, Lazy
from attnsearch.runs.readers.images import (
    Common,
    Decoded,
    ImageSize,
    common_rule,
    decode,
    decode_all,
    note_conversions,
    some,
)
from attnsearch.runs.readers.mask_files import MaskFile, decode_mask
from attnsearch.runs.readers.mask_pairs import find_pairs
from attnsearch.runs.readers.masks import Coding, check_found, find_coding, shrink
from attnsearch.runs.readers.source import (
    IGNORED,
    DataError,
    Masks,
    Source,
    by_reason,
    class_key,
    listing,
    scored_classes,
)
from attnsearch.runs.readers.tiling import Window, padded, placed
from attnsearch.runs.readers.walking import folder_shapes, images_in

Result = TypeVar("Result")
Both = tuple[tuple[str, Decoded], tuple[str, MaskFile]]  # an image and its mask, with their names


def read_mask_folder(
    folder: Path,
    image_size: ImageSize,
    channels: int | None = None,
    classes: int | Sequence[str] | None = None,
    ignore_index: int | None = None,
    mask_values: Sequence[int] | None = None,
    mask_name: str | None = None,
    mask_colors: Mapping[str, Sequence[int]] | None = None,
    tile_overlap: float | None = None,
    keep: str = "memory",
) -> Source:
    """Read all images and masks of a folder.

    Args:
        folder: Holds images/ and masks/, or train/, val/ and test/ that do.
        image_size: Images are resized to so many pixels, or (height, width), or cut
            into tiles of that size.
        channels: 1 or 3; None takes 1 if all images are grey by their mode, else 3.
        classes: Their number or names; None takes them from the masks.
        ignore_index: The mask value that does not count.
        mask_values: The value of each class; None finds out.
        mask_name: How a mask's stem is made of its image's; None finds out.
        mask_colors: The colour of each class, in order; None for masks of values.
        tile_overlap: Tiles overlap by at least this fraction; None resizes whole images.
        keep: Where images and masks lie afterwards: `memory`, `mapped` or `files`.

    Raises:
        DataError: If anything is missing, damaged, or does not fit; it names the file.
    """
    pairs, notes = find_pairs(folder, mask_name)
    mask_names = [pair.mask.relative_to(folder).as_posix() for pair in pairs]
    size = as_size(image_size) if tile_overlap is None else None
    decoded, image_items = _readable(
        partial(decode, size=size),
        {pair.name: pair.image for pair in pairs},
        "images",
        keep,
        ["images", *(size or ())],
    )
    files, mask_items = _readable(
        partial(decode_mask, mask_colors=mask_colors),
        {n: pair.mask for n, pair in zip(mask_names, pairs, strict=True)},
        "masks",
        keep,
        ["masks", *(mask_colors or {}).items()],
    )
    both = list(zip(decoded.items(), files.items(), strict=True))
    _check_sizes(both)
    note_conversions(decoded, notes, size)
    _note_masks(both, notes)
    coding, conclusions = find_coding(files, classes, ignore_index, mask_values, mask_colors)
    check_found(files, coding)
    notes += [
        *conclusions,
        scored_sentence(
            coding.class_names, named=bool(mask_colors) or isinstance(classes, list | tuple)
        ),
    ]
    rule = common_rule(decoded, channels, notes)
    images: Anywhere
    if image_items is None or mask_items is None:
        originals = [coding.index(file, name) for name, file in files.items()]
        pixels = [rule(image.pixels, number) for number, image in enumerate(decoded.values())]
        if tile_overlap is None:
            images, masks = np.stack(pixels), whole_masks(originals, image_size)
        else:
            images, masks = tile(pixels, originals, image_size, tile_overlap)
    else:
        index = _Index(coding, np.array([f.lossy for f in files.values()]), np.array([*files]))
        index.check(files, mask_items)
        sizes = [mask.levels.shape for mask in files.values()]
        images, masks = _elsewhere(
            image_items, rule, mask_items, index, sizes, as_size(image_size), tile_overlap
        )
    if tile_overlap is not None:
        pixels_of_tile = size_name(as_size(image_size))
        notes.append(
            f"cut into {len(images)} tiles of {pixels_of_tile} pixels, from {len(pairs)} images"
        )
    return Source(
        name=folder.name,
        images=images,
        labels=np.zeros(len(pairs), dtype=np.int64),
        names=list(decoded),
        parts=np.array([pair.part for pair in pairs], dtype=np.int64),
        class_names=list(coding.class_names),
        digests=[image.digest + mask.digest for (_, image), (_, mask) in both],
        notes=notes,
        masks=masks,
    )


def mask_folder_bytes(folder: Path, data: Mapping[str, Any]) -> tuple[int, int]:
    """Return about how many bytes a folder's images and masks take, and nothing more.

    By the size of some.
    """
    height, width = as_size(data["image_size"])
    channels = data.get("channels") or 3
    shapes = folder_shapes(folder)
    native = sum(h * w for h, w in shapes) / max(1, len(shapes))
    overlap = data.get("tile_overlap")
    shown = height * width if overlap is None else native / (1 - overlap) ** 2
    # Half of the files are masks; images are kept whole too while they are cut into tiles.
    each = shown * (channels + 1) + native * (1 if overlap is None else channels + 1)
    return int(len(images_in(folder)) / 2 * each), 0


def whole_masks(originals: Sequence[NDArray[np.uint8]], size: ImageSize) -> Masks:
    """Return masks of whole images, at a common size and at their own."""
    return _masks(originals, [shrink(mask, size) for mask in originals], np.arange(len(originals)))


def tile(
    pixels: Sequence[NDArray[np.uint8]],
    originals: Sequence[NDArray[np.uint8]],
    size: ImageSize,
    overlap: float,
) -> tuple[NDArray[np.uint8], Masks]:
    """Cut images into tiles of one size, evenly spaced, that overlap at least so far.

    An image smaller than a tile is padded at its lower and right edge: black, and ignored in the
    mask.

    Args:
        pixels: Images (h, w, C).
        originals: Their masks (h, w).
        size: Of a tile.
        overlap: Fraction of each side.
    """
    high, wide = as_size(size)
    image, corners = placed([mask.shape for mask in originals], size, overlap)
    images, resized = [], []
    for number, (top, left) in zip(image.tolist(), corners.tolist(), strict=True):
        window = slice(top, top + high), slice(left, left + wide)
        images.append(padded(pixels[number][window], (high, wide), 0))
        resized.append(padded(originals[number][window], (high, wide), IGNORED))
    return np.stack(images), _masks(originals, resized, image, corners)


@dataclass(frozen=True)
class _Index:
    """Makes the classes of pixels from the levels of a mask, which need not be in memory."""

    coding: Coding
    lossy: NDArray[np.bool_]
    names: NDArray[np.str_]

    def __call__(self, levels: Array, number: int) -> NDArray[np.uint8]:
        return self.coding.of_levels(levels, bool(self.lossy[number]), str(self.names[number]))

    def flat(self, levels: Array, number: int) -> NDArray[np.uint8]:
        """Return those of a whole mask, one row after the other."""
        return self(levels, number).ravel()

    def check(self, files: Mapping[str, MaskFile], items: Items) -> None:
        """See that every mask has values of classes.

        Raises:
            DataError: If one has another; it names the file.
        """
        known = {*self.coding.values, self.coding.ignored}
        for number, file in enumerate(files.values()):
            if not file.lossy and not known.issuperset(file.values):
                self(items[number], number)


@dataclass(frozen=True)
class _Shrunk:
    """Makes a mask of the network's size."""

    index: _Index
    size: tuple[int, int]

    def __call__(self, levels: Array, number: int) -> NDArray[np.uint8]:
        return shrink(self.index(levels, number), self.size)


def _elsewhere(
    image_items: Items,
    rule: Common,
    mask_items: Items,
    index: _Index,
    sizes: Sequence[tuple[int, ...]],
    size: tuple[int, int],
    overlap: float | None,
) -> tuple[Lazy, Masks]:
    """Return images and masks that are not in memory, as `tile` and `whole_masks` make them."""
    count = len(sizes)
    image, corners = np.arange(count), None
    make_image: Callable[[Array, int], NDArray[np.uint8]] = rule
    make_mask: Callable[[Array, int], NDArray[np.uint8]] = _Shrunk(index, size)
    if overlap is not None:
        image, corners = placed(sizes, size, overlap)
        make_image = Window(rule, size, image, corners, 0)
        make_mask = Window(index, size, image, corners, IGNORED)
    rows = np.arange(len(image))
    masks = Masks(
        resized=Lazy(mask_items, make_mask, rows, size, image),
        image=image,
        corners=corners,
        sizes=np.array(sizes, dtype=np.int64),
        flat=Lazy(mask_items, index.flat, np.arange(count), ()),
        starts=np.zeros(count, np.int64),
    )
    return Lazy(image_items, make_image, rows, (*size, rule.channels), image), masks


def _masks(
    originals: Sequence[NDArray[np.uint8]],
    resized: Sequence[NDArray[np.uint8]],
    image: NDArray[np.int64],
    corners: NDArray[np.int64] | None = None,
) -> Masks:
    """Return masks as `Masks` holds them: those of the images one after the other."""
    sizes = np.array([mask.shape for mask in originals], dtype=np.int64)
    return Masks(
        resized=np.stack(resized),
        image=image,
        corners=corners,
        sizes=sizes,
        flat=np.concatenate([mask.ravel() for mask in originals]),
        starts=np.concatenate([[0], np.cumsum(sizes.prod(1))[:-1]]).astype(np.int64),
    )


def _readable(
    decoder: Callable[[Path], Result],
    files: Mapping[str, Path],
    what: str,
    keep: str,
    settings: Sequence[Any],
) -> tuple[dict[str, Result], Items | None]:
    """Return all files decoded, by name, and their pixels where they are not in memory.

    Raises:
        DataError: If one cannot be.
    """
    results, faults, items = decode_all(decoder, files, keep, settings)
    if faults:
        shown = listing(by_reason(faults))
        raise DataError(
            f"{len(faults)} of {len(files)} {what} cannot be used: {shown}; repair or remove them"
        )
    return results, items


def _check_sizes(both: Sequence[Both]) -> None:
    unlike = [pair for pair in both if pair[0][1].shape != pair[1][1].levels.shape]
    if not unlike:
        return
    faults = [
        f"{mask_name} is {mask.levels.shape[1]}x{mask.levels.shape[0]}, {name} is "
        f"{image.shape[1]}x{image.shape[0]}"
        for (name, image), (mask_name, mask) in unlike
    ]
    turned = sum(
        image.orientation != mask.orientation and image.shape == mask.levels.shape[::-1]
        for (_, image), (_, mask) in unlike
    )
    raise DataError(
        f"{len(faults)} of {len(both)} masks do not have the size of their image (width x "
        f"height): {listing(faults)}; "
        + (
            f"{turned} of these images are turned by their EXIF orientation and the masks are "
            f"not: turn the masks, or remove the tag from the images"
            if turned
            else "export them at the image's size"
        )
    )


def _note_masks(both: Sequence[Both], notes: list[str]) -> None:
    """Note what a person may not expect of mask files."""
    if several := [name for _, (name, mask) in both if mask.frames > 1]:
        notes.append(some("several frames, the first was taken", several, len(both), "masks"))
    turned = [name for (name, i), (_, mask) in both if i.orientation != mask.orientation]
    if turned:
        words = "turned or mirrored by the EXIF orientation, which their masks do not have"
        notes.append(f"{some(words, turned, len(both))}; see whether these masks fit")


def scored_sentence(class_names: Sequence[str], *, named: bool) -> str:
    """Return which classes the mean Dice is over, in words.

    Args:
        class_names: One per class.
        named: Whether the space file names them.

    Raises:
        DataError: If two metrics would have the same name, or of two classes the second is called
            background.
    """
    counted = [class_names[k] for k in scored_classes(class_names)]
    if len(class_names) == 2:
        if counted[0].lower() == "background":
            raise DataError(
                f"data.classes: {list(class_names)}; of two classes the first is the background; "
                f"turn them round, with data.mask_values where the background is not 0"
            )
        return f"Dice is that of {counted[0]}"
    keys = [class_key(name) for name in counted]
    for key, name in zip(keys, counted, strict=True):
        alike = [other for own, other in zip(keys, counted, strict=True) if own == key]
        if len(alike) > 1 or key == "pooled":
            why = "two classes have the metric" if len(alike) > 1 else "all classes together have"
            raise DataError(
                f"data.classes: {listing(alike)}: {why} val_dice_{key}; rename "
                f"{'one' if len(alike) > 1 else name}"
            )
    left_out = [name for name in class_names if name not in counted]
    if not left_out:
        return (
            f"Dice is the mean over all {len(counted)} classes; one called background would be "
            f"left out"
        )
    return f"Dice is the mean over {listing(counted)}; {listing(left_out)} is left out" + (
        "" if named else ", by its name: where it is a class to find, give data.classes"
    )
