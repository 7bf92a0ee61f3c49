"""Which mask belongs to which image, by their names.

    source/images/001.jpg          source/masks/001.png          the same stem
    source/images/001.jpg          source/masks/001_mask.png     the stem and what all masks add
    source/train/images/a/7.png    source/train/masks/a/7.PNG    in parts, in folders

What masks add to the stem, before or after it, is found by itself: the one rule that gives every
image exactly one mask. Where several do (two annotators, `_1stHO` and `_2ndHO`) the choice is the
user's, by `data.mask_name: "{}_1stHO"`.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from attnsearch.runs.readers.mask_layouts import (
    Files,
    beside,
    files_below,
    find_pools,
    mask_side_of,
)
from attnsearch.runs.readers.mask_names import choose, match_masks
from attnsearch.runs.readers.source import NO_PART, PARTS, DataError, listing


@dataclass(frozen=True)
class MaskPair:
    """An image and its mask.

    Attributes:
        name: Of the image, relative to the source, with `/`.
        image: The image's file.
        mask: The mask's file.
        part: Index into `PARTS`, or `NO_PART`.
    """

    name: str
    image: Path
    mask: Path
    part: int


def is_mask_folder(folder: Path) -> bool:
    """Return whether a folder holds images and masks, in one of the layouts that are known."""
    return bool(find_pools(folder)[0])


def find_pairs(folder: Path, mask_name: str | None = None) -> tuple[list[MaskPair], list[str]]:
    """Return the images of a folder with their masks, in the order of their names.

    Args:
        folder: Holds images and masks, see `mask_layouts`.
        mask_name: How a mask's stem is made of its image's, `{}` for that; None finds out.

    Returns:
        The pairs, and notes on what was found.

    Raises:
        DataError: If the layout is not understood, a folder is empty, or an image has no mask or
            more than one.
    """
    pools, notes = find_pools(folder, mask_name)
    if not pools:
        inside = listing(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise DataError(
            f"{folder}: expected the folders images/ and masks/, themselves or in train/, val/ "
            f"and test/; found {inside}"
        )
    pairs: list[MaskPair] = []
    for pool in pools:
        images, masks = pool.single()
        rule = mask_name if mask_name is not None else pool.rule
        matched, remarks = match_masks(images, masks, pool.root, rule, every=pool.every)
        part = PARTS.index(pool.part) if pool.part else NO_PART
        pairs += [
            MaskPair(image.relative_to(folder).as_posix(), image, mask, part)
            for image, mask in matched
        ]
        notes += [note for note in remarks if note not in notes]
    return sorted(pairs, key=lambda pair: pair.name), notes


def masks_beside(side: Path, mask_name: str | None = None) -> dict[str, Path]:
    """Return the masks of those images of a folder that have one, whatever the others lack.

    Args:
        side: The folder of the images, such as images/ beside masks/.
        mask_name: As in `find_pairs`.

    Returns:
        Masks by their images' paths below `side`, without the ending; none where no folder of
        masks is there.

    Raises:
        DataError: If it cannot be told how masks are named.
        OSError: If a folder cannot be listed.
    """
    mask_side = mask_side_of(side)
    if mask_side is None:
        return {}
    return _pairs_of(files_below(side), files_below(mask_side), side.parent, mask_name)


def masks_among(folder: Path, mask_name: str | None = None) -> dict[str, Path]:
    """Return the masks of those images of a folder that have one in the same folder.

    Args:
        folder: Holds `x.png` and `x_mask.png`.
        mask_name: As in `find_pairs`.

    Returns:
        As `masks_beside` does.

    Raises:
        DataError: If it cannot be told how masks are named.
        OSError: If the folder cannot be listed.
    """
    pool = next(iter(beside(folder, mask_name)), None)
    if pool is None:
        return {}
    return _pairs_of(pool.images, pool.masks, folder, pool.rule)


def _pairs_of(images_of: Files, masks_of: Files, root: Path, rule: str | None) -> dict[str, Path]:
    images, masks = (
        {key: paths[0] for key, paths in files.items() if len(paths) == 1}
        for files in (images_of, masks_of)
    )
    if not images or not masks:
        return {}
    _, chosen = choose(images, masks, root, rule)
    owners = Counter(chosen)
    return {
        key: mask
        for key, mask in zip(images, chosen, strict=True)
        if mask is not None and owners[mask] == 1
    }
