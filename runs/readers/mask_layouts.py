"""Where images and their masks lie: the layouts that people have.

images/ masks/                  by their folders' names, with train/, val/ and test/ above or
img_dir/train/ ann_dir/train/   below both (mmseg, ADE, Cityscapes, CVC, DRIVE)
imagesTr/ labelsTr/             nnU-Net
JPEGImages/ SegmentationClass/  VOC, its parts by ImageSets/Segmentation/*.txt
p1/images/ p1/masks/            a folder for each patient
x.png x_mask.png                beside each other, at any depth
a/ b/                           two folders with the same stems, one of them masks by its pixels
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from attnsearch.runs.readers.images import SUFFIXES
from attnsearch.runs.readers.mask_names import SAME, choose, rules_of
from attnsearch.runs.readers.source import DataError, listing
from attnsearch.runs.readers.walking import images_in, part_folders, subfolders, walk

Files = dict[str, list[Path]]  # by path below a folder, without the ending

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "labelcol", "gt")
MORE_IMAGE_FOLDERS = (
    *("imagestr", "imgdir", "jpegimages", "leftimg8bit"),
    *("original", "originals", "input", "inputs"),
)
MORE_MASK_FOLDERS = (
    *("labelstr", "anndir", "segmentationclass", "gtfine", "groundtruth", "groundtruths"),
    *("annotations", "annotation", "segmentation", "segmentations", "target", "targets"),
)
"""Names without spaces and the like. Those of `MORE_` count where the files' names fit too."""

UNMISTAKABLE = MORE_IMAGE_FOLDERS[:4]
FIRST_MASK_FOLDERS = ("1stmanual", "manual1", "manual")
"""Stand before others: beside them `mask/` is the field of view (DRIVE)."""

MASK_WORD = r"(?:masks?|segmentation|seg|ground_?truth|gt|labels?|annotation)"
MASK_STEM = re.compile(rf"(?i)^(.+?)[ _.-]+{MASK_WORD}(?:[ _-]?\d+)?$")
"""A mask's stem beside its image, `x_mask` and `x_mask_1`; the group is the image's."""

LOOKED_AT = 8  # files whose pixels tell masks from images
FEW = 32  # values or colours of a mask, at most
ALIKE = 0.9  # share of the files of both folders that must have a partner


@dataclass(frozen=True)
class Pool:
    """Images and masks of one part, not paired yet.

    Attributes:
        root: The folder, for messages.
        sides: Where images and masks lie, for messages.
        images: Files by their paths below their folder, without the ending.
        masks: Likewise.
        part: Of `PARTS`; empty where the source has no split.
        rule: How masks are named, where the layout tells.
        every: Whether each image must have a mask.
    """

    root: Path
    sides: tuple[Path, Path]
    images: Files
    masks: Files
    part: str = ""
    rule: str | None = None
    every: bool = True

    def single(self) -> tuple[dict[str, Path], dict[str, Path]]:
        """Return the images and the masks, of which no two differ in their endings only.

        Raises:
            DataError: If two do, or there are none.
        """
        both = []
        for side, files in zip(self.sides, (self.images, self.masks), strict=True):
            if not files:
                raise DataError(
                    f"{side}: no images; expected files that end in {' '.join(sorted(SUFFIXES))}"
                )
            if several := [paths for paths in files.values() if len(paths) > 1]:
                first, second = (path.name for path in several[0][:2])
                raise DataError(f"{side}: {first} and {second} have the same stem; keep one")
            both.append({key: paths[0] for key, paths in files.items()})
        return both[0], both[1]


def find_pools(folder: Path, mask_name: str | None = None) -> tuple[list[Pool], list[str]]:
    """Return the images and masks of a folder, part by part, and notes on what is left out.

    Args:
        folder: The source.
        mask_name: `data.mask_name`: where it is given, it tells masks beside images.

    Returns:
        No pools where the folder has none of the layouts.

    Raises:
        DataError: If a part has images and something else that may be their masks.
    """
    if voc := _voc(folder):
        return voc, []
    parts = part_folders(folder)
    pools = {name: _pools(root, mask_name) for name, root in parts.items()}
    pools = {name: found for name, found in pools.items() if found}
    notes = _left_out(folder, parts, pools)
    if not pools:
        return _divided(_pools(folder, mask_name), folder)
    if "train" not in pools:
        raise DataError(
            f"{folder}: found {listing([f'{name}/' for name in pools])} with images and masks but "
            f"no train/; add it, or put images/ and masks/ directly into {folder.name}/"
        )
    return [replace(pool, part=name) for name in pools for pool in pools[name]], notes


def mask_side_of(image_side: Path) -> Path | None:
    """Return the folder of the masks of a folder of images, by both folders' names."""
    named = _named(image_side.parent)
    return named[1] if named is not None and named[0] == image_side else None


def is_image_side(name: str) -> bool:
    """Return whether a folder is called like one of images beside their masks."""
    return _plain(name) in (*IMAGE_FOLDERS, *MORE_IMAGE_FOLDERS)


def is_mask_side(name: str) -> bool:
    """Return whether a folder is called like one of masks beside their images."""
    return _plain(name) in (*FIRST_MASK_FOLDERS, *MASK_FOLDERS, *MORE_MASK_FOLDERS)


def files_below(side: Path) -> Files:
    """Return image files at any depth, by their paths below `side` without the ending."""
    files: Files = defaultdict(list)
    for path in images_in(side):
        files[path.relative_to(side).with_suffix("").as_posix()].append(path)
    return dict(files)


def without_masks(files: Sequence[Path]) -> list[Path]:
    """Return images without those that are called like a mask of another in the same folder."""
    stems = {(path.parent, path.stem) for path in files}

    def is_mask(path: Path) -> bool:
        match = MASK_STEM.match(path.stem)
        return match is not None and (path.parent, match[1]) in stems

    return [path for path in files if not is_mask(path)]


def like_masks(files: Sequence[Path]) -> bool:
    """Return whether all of some image files hold few values or colours, as masks do."""
    some = files[:: max(1, len(files) // LOOKED_AT)][:LOOKED_AT]
    return bool(some) and all(_has_few(file) for file in some)


def _has_few(file: Path) -> bool:
    try:
        with Image.open(file) as image:
            if image.mode == "1":
                return True
            pixels = np.asarray(
                image if image.mode in ("L", "P", "I;16") else image.convert("RGB")
            )
    except Exception:  # a damaged file: the reader judges it
        return False
    if pixels.ndim == 3:
        pixels = pixels.astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
    return len(np.unique(pixels)) <= min(FEW, pixels.size // 4)


def _pools(root: Path, mask_name: str | None) -> list[Pool]:
    """Return the pools of a folder that is no source with parts."""
    kinds: tuple[Callable[[], list[Pool]], ...] = (
        lambda: [_pool(root, sides) for sides in (_named(root), _by_pixels(root)) if sides][:1],
        lambda: _by_patient(root),
        lambda: beside(root, mask_name),
    )
    return next((pools for kind in kinds if (pools := kind())), [])


def _pool(root: Path, sides: tuple[Path, Path]) -> Pool:
    return Pool(root, sides, files_below(sides[0]), files_below(sides[1]))


def _named(root: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and of masks, by their names."""
    children = {_plain(child.name): child for child in root.iterdir() if child.is_dir()}

    def first(*names: str) -> Path | None:
        return next((children[name] for name in names if name in children), None)

    images, more = first(*IMAGE_FOLDERS), first(*IMAGE_FOLDERS, *MORE_IMAGE_FOLDERS)
    manual = first(*FIRST_MASK_FOLDERS)
    masks = manual or first(*MASK_FOLDERS)
    if images and masks:
        return images, masks
    masks = masks or first(*MORE_MASK_FOLDERS)
    if (
        more
        and masks
        and (_plain(more.name) in UNMISTAKABLE or rules_of(files_below(more), files_below(masks)))
    ):
        return more, masks
    return None


def _by_pixels(root: Path) -> tuple[Path, Path] | None:
    """Return two folders of equal stems, where one of them alone holds masks by its pixels."""
    children = subfolders(root)
    if len(children) != 2:
        return None
    files = [files_below(child) for child in children]
    if not all(files):
        return None
    masks = [like_masks([paths[0] for paths in side.values()]) for side in files]
    if masks[0] == masks[1]:
        return None
    image, mask = (0, 1) if masks[1] else (1, 0)
    single = [{key: paths[0] for key, paths in side.items()} for side in files]
    try:
        _, chosen = choose(single[image], single[mask], root, None)
    except DataError:
        return None
    pairs = sum(path is not None for path in chosen)
    enough = pairs >= ALIKE * len(files[0]) and pairs >= ALIKE * len(files[1])
    return (children[image], children[mask]) if enough else None


def _by_patient(root: Path) -> list[Pool]:
    """Return one pool of all folders in a folder, where each has images/ and masks/."""
    children = subfolders(root)
    sides = [_named(child) for child in children]
    if len(children) < 2 or None in sides:
        return []
    images: Files = {}
    masks: Files = {}
    for child, pair in zip(children, sides, strict=True):
        for files, side in zip((images, masks), pair or (), strict=True):
            files |= {f"{child.name}/{key}": paths for key, paths in files_below(side).items()}
    return [Pool(root, (root, root), images, masks)] if images and masks else []


def beside(root: Path, mask_name: str | None) -> list[Pool]:
    """Return one pool of a folder whose images have their masks beside them."""
    files = files_below(root)
    rule = mask_name if mask_name is not None else _rule_beside(files)
    if rule is None or rule == SAME:
        return []
    made = {rule.replace(SAME, key.rpartition("/")[2]) for key in files}
    masks = {key: paths for key, paths in files.items() if key.rpartition("/")[2] in made}
    plain = {*without_masks([path for paths in files.values() for path in paths])}
    images = {
        key: paths for key, paths in files.items() if key not in masks and plain.issuperset(paths)
    }
    return [Pool(root, (root, root), images, masks, rule=rule)] if images and masks else []


def _rule_beside(files: Mapping[str, list[Path]]) -> str | None:
    """Return what masks add to the names of the images that they lie beside, if any do."""
    votes = Counter(rule for key in files for rule in _additions(key, files))
    if not votes:
        return None
    rule, count = votes.most_common(1)[0]
    if re.search(rf"(?i)(?:^|[^a-z]){MASK_WORD}(?:[^a-z]|$)", rule):
        return rule if 3 * count >= len(files) else None  # `x_mask_1` may lie there too
    if 2 * count != len(files):
        return None
    made = {rule.replace(SAME, key.rpartition("/")[2]) for key in files}
    sides: tuple[list[Path], list[Path]] = ([], [])
    for key, paths in sorted(files.items()):
        sides[key.rpartition("/")[2] in made].append(paths[0])
    return rule if like_masks(sides[1]) and not like_masks(sides[0]) else None


def _additions(key: str, files: Mapping[str, list[Path]]) -> Iterator[str]:
    """Yield what a file's stem adds to those of others in its folder."""
    parent, slash, stem = key.rpartition("/")
    for cut in range(1, len(stem)):
        head, tail = stem[:cut], stem[cut:]
        # An addition is text, not digits: 1 is no part of 12.
        if not tail[0].isdigit() and not tail.isdigit() and f"{parent}{slash}{head}" in files:
            yield f"{SAME}{tail}"
        if not head[-1].isdigit() and not head.isdigit() and f"{parent}{slash}{tail}" in files:
            yield f"{head}{SAME}"


def _divided(pools: list[Pool], folder: Path) -> tuple[list[Pool], list[str]]:
    """Return one pool for each part that both of its folders hold, or the pools as they are."""
    if len(pools) != 1 or pools[0].sides[0] == pools[0].root:
        return pools, []
    images, masks = pools[0].sides
    if _plain(images.name) == "imagestr":
        below = {
            name: (folder / f"{images.name[:-2]}{end}", folder / f"{masks.name[:-2]}{end}")
            for name, end in (("train", images.name[-2:]), ("test", "Ts"))
        }
        held = {name: sides for name, sides in below.items() if sides[0].is_dir()}
    else:
        held = {name: (root, masks / root.name) for name, root in part_folders(images).items()}
    both = {name: sides for name, sides in held.items() if sides[1].is_dir()}
    notes = [
        f"{sides[0].relative_to(folder)}/ has no masks and was left out "
        f"({len(images_in(sides[0]))} images)"
        for name, sides in held.items()
        if name not in both
    ]
    if "train" not in both:
        return pools, []
    if len(both) == 1 and _plain(images.name) == "imagestr":
        return pools, notes
    return [replace(_pool(folder, sides), part=name) for name, sides in both.items()], notes


def _voc(folder: Path) -> list[Pool]:
    """Return the parts of Pascal VOC's layout by its lists of names; images of others are many."""
    sides = folder / "JPEGImages", folder / "SegmentationClass"
    if not all(side.is_dir() for side in sides):
        return []
    pool = replace(_pool(folder, sides), every=False)
    lists = folder / "ImageSets" / "Segmentation"
    parts = {name: lists / f"{name}.txt" for name in ("train", "val", "test")}
    pools = []
    for name, file in parts.items():
        if file.is_file():
            listed = {*file.read_text(encoding="utf-8", errors="replace").split()}
            images = {key: paths for key, paths in pool.images.items() if key in listed}
            masks = {key: paths for key, paths in pool.masks.items() if key in listed}
            if masks:
                pools.append(replace(pool, part=name, images=images, masks=masks))
    return pools if any(pool.part == "train" for pool in pools) else [pool]


def _left_out(folder: Path, parts: Mapping[str, Path], pools: Mapping[str, object]) -> list[str]:
    """Note on images that are in no pair.

    Raises:
        DataError: If a part has images and something else that may be their masks.
    """
    if not pools:
        return []
    notes = []
    for name, part in parts.items():
        count = 0 if name in pools else len(images_in(part))
        if not count:
            continue
        inside = next(walk(part))[1]
        if any(
            not is_image_side(child) and any(files for _, _, files in walk(part / child))
            for child in inside
        ):
            raise DataError(
                f"{part}: found {listing([f'{child}/' for child in inside])}, expected images in "
                f"one of {listing(IMAGE_FOLDERS)} and masks in one of {listing(MASK_FOLDERS, 9)}; "
                f"rename the folders, or move {part.name}/ elsewhere to do without it"
            )
        notes.append(f"{part.name}/ has no masks and was left out ({count} images)")
    beside = {
        name: len(images_in(folder / name))
        for name in next(walk(folder))[1]
        if folder / name not in parts.values()
    }
    if shown := [f"{name}/ ({count} images)" for name, count in beside.items() if count]:
        notes.append(f"left out beside the parts: {listing(shown)}")
    return notes


def _plain(name: str) -> str:
    """Return a folder's name without case, spaces and strokes."""
    return re.sub(r"[\s_.-]+", "", name.lower())
