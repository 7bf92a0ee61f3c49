"""Which mask belongs to which image, by their names.

    source/images/001.jpg          source/masks/001.png          the same stem
    source/images/001.jpg          source/masks/001_mask.png     the stem and what all masks add
    source/train/images/a/7.png    source/train/masks/a/7.PNG    in parts, in folders

What masks add to the stem, before or after it, is found by itself: the one rule that gives every
image exactly one mask. Where several do (two annotators, `_1stHO` and `_2ndHO`) the choice is the
user's, by `data.mask_name: "{}_1stHO"`.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path

from attnsearch.runs.readers.folders import images_in, part_folders, walk
from attnsearch.runs.readers.images import SUFFIXES
from attnsearch.runs.readers.source import NO_PART, PARTS, DataError, listing

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "labelcol", "gt")
SAME = "{}"
VOTERS = 50  # images that are asked which rule may hold; it is then tried on all


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
    """Return whether a folder holds images/ and masks/, itself or in its parts."""
    return any(_sides(root) is not None for root in (folder, *part_folders(folder).values()))


def find_pairs(folder: Path, mask_name: str | None = None) -> tuple[list[MaskPair], list[str]]:
    """Return the images of a folder with their masks, in the order of their names.

    Args:
        folder: Holds images/ and masks/, or train/, val/ and test/ that do.
        mask_name: How a mask's stem is made of its image's, `{}` for that; None finds out.

    Returns:
        The pairs, and notes on what was found.

    Raises:
        DataError: If the layout is not understood, a folder is empty, or an image has no mask or
            more than one.
    """
    parts = part_folders(folder)
    roots = {name: root for name, root in parts.items() if _sides(root) is not None}
    notes = _left_out(folder, parts, roots)
    if not roots:
        roots = {"": folder}
    elif "train" not in roots:
        raise DataError(
            f"{folder}: found {listing([f'{name}/' for name in roots])} with images and masks but "
            f"no train/; add it, or put images/ and masks/ directly into {folder.name}/"
        )
    pairs: list[MaskPair] = []
    for name, root in roots.items():
        sides = _sides(root)
        if sides is None:
            raise DataError(
                f"{root}: expected the folders images/ and masks/, themselves or in train/, val/ "
                f"and test/; found {listing(sorted(p.name for p in root.iterdir())) or 'nothing'}"
            )
        images, masks = (_single(side) for side in sides)
        for side, files in zip(sides, (images, masks), strict=True):
            if not files:
                raise DataError(
                    f"{side}: no images; expected files that end in {' '.join(sorted(SUFFIXES))}"
                )
        matched, remarks = match_masks(images, masks, root, mask_name)
        part = PARTS.index(name) if name else NO_PART
        pairs += [
            MaskPair(image.relative_to(folder).as_posix(), image, mask, part)
            for image, mask in matched
        ]
        notes += [note for note in remarks if note not in notes]
    return sorted(pairs, key=lambda pair: pair.name), notes


def match_masks(
    images: Mapping[str, Path], masks: Mapping[str, Path], root: Path, mask_name: str | None
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Return each image with its mask, and notes.

    Args:
        images: Files by their paths below the image folder, without the ending.
        masks: Likewise below the mask folder.
        root: For messages.
        mask_name: As in `find_pairs`.

    Raises:
        DataError: If an image has no mask, or more than one.
    """
    rule, chosen = _choose(images, masks, root, mask_name)
    both = list(zip(images.values(), chosen, strict=True))
    pairs = [(image, mask) for image, mask in both if mask]
    if len(pairs) < len(images):
        missing = [image.name for image, mask in both if not mask]
        ending = Path(rule).suffix.lower()
        if mask_name is not None and ending in SUFFIXES:
            raise DataError(
                f'data.mask_name: "{mask_name}" ends in {ending}; it is about names without their '
                f'ending: "{rule[: -len(ending)]}"'
            )
        raise DataError(
            f"{root}: {len(missing)} of {len(images)} images have no mask (looked for "
            f"{_shown(rule)}): {listing(missing)}; add the masks, remove the images, or say how "
            f"masks are called by data.mask_name"
        )
    notes = [] if rule == SAME else [f"masks are paired with images as {_shown(rule)}"]
    used = {mask for _, mask in pairs}
    if len(used) < len(pairs):
        twice = [mask.name for mask, count in Counter(m for _, m in pairs).items() if count > 1]
        raise DataError(f"{root}: masks that belong to several images: {listing(twice)}")
    if unused := sorted(path.name for path in masks.values() if path not in used):
        notes.append(f"masks without an image were left out ({len(unused)}): {listing(unused)}")
    return pairs, notes


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
    mask_side = _child(side.parent, MASK_FOLDERS)
    if mask_side is None:
        return {}
    images, masks = (
        {key: paths[0] for key, paths in _files(folder).items() if len(paths) == 1}
        for folder in (side, mask_side)
    )
    if not images or not masks:
        return {}
    _, chosen = _choose(images, masks, side.parent, mask_name)
    owners = Counter(chosen)
    return {
        key: mask
        for key, mask in zip(images, chosen, strict=True)
        if mask is not None and owners[mask] == 1
    }


def _choose(
    images: Mapping[str, Path], masks: Mapping[str, Path], root: Path, mask_name: str | None
) -> tuple[str, list[Path | None]]:
    """Return the rule that holds for most images, and each one's mask by it."""
    rules = [mask_name] if mask_name is not None else _rules(images, masks)
    if not rules:
        raise DataError(
            f"{root}: no mask's name contains the name of an image: images such as "
            f"{listing(sorted(images), 2)}, masks such as {listing(sorted(masks), 2)}; rename the "
            f'masks, or say how they are called by data.mask_name: "{{}}_mask"'
        )
    folded = {key.lower(): path for key, path in masks.items()}
    chosen = {rule: [folded.get(_mask_key(key, rule)) for key in images] for rule in rules}
    counts = {rule: sum(mask is not None for mask in chosen[rule]) for rule in rules}
    best = [rule for rule in rules if counts[rule] == max(counts.values())]
    rule = SAME if SAME in best else min(best, key=len)
    others = [name for name in best if chosen[name] != chosen[rule]]
    if others and rule != SAME:
        raise DataError(
            f"{root}: {counts[rule]} of {len(images)} images have {len(others) + 1} masks each, "
            f"named {listing([_shown(name) for name in (rule, *others)])}; choose one by "
            f'data.mask_name: "{rule}"'
        )
    return rule, chosen[rule]


def _rules(images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[str]:
    """Return how masks may be named, the most frequent first: what surrounds an image's stem."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for key in masks:
        parent, _, stem = key.lower().rpartition("/")
        by_folder[parent].append(stem)
    strips = _image_affixes([key.rpartition("/")[2] for key in images])
    votes: Counter[str] = Counter()
    every = sorted(images)
    for key in every[:: max(1, len(every) // VOTERS)]:
        parent, _, stem = key.lower().rpartition("/")
        for before, after in strips:
            core = stem[len(before) : len(stem) - len(after)]
            for other in by_folder[parent]:
                place = other.find(core)
                # A rule is text around the stem, not digits: 1 is no part of 12.
                while core and place >= 0:
                    left, right = other[:place], other[place + len(core) :]
                    if not left[-1:].isdigit() and not right[:1].isdigit():
                        votes[_rule(before, after, left, right)] += 1
                    place = other.find(core, place + 1)
    return [rule for rule, _ in votes.most_common(20)]


def _rule(before: str, after: str, left: str, right: str) -> str:
    """Return a rule as text: `img_{}_image -> {}_mask` where images have affixes of their own."""
    own = f"{before}{SAME}{after}"
    return f"{left}{SAME}{right}" if own == SAME else f"{own} -> {left}{SAME}{right}"


def _image_affixes(stems: Sequence[str]) -> list[tuple[str, str]]:
    """Return what all images' stems begin and end with, letters and separators only."""
    lowered = [stem.lower() for stem in stems]
    backwards = [stem[::-1] for stem in lowered]
    # RUF071 warns of paths cut within a name; these are names.
    before = commonprefix(lowered).rstrip("0123456789")  # noqa: RUF071
    after = commonprefix(backwards)[::-1].lstrip("0123456789")  # noqa: RUF071
    if len(lowered) == 1 or len(before) + len(after) >= min(map(len, lowered)):
        return [("", "")]
    return list(dict.fromkeys([("", ""), ("", after), (before, ""), (before, after)]))


def _mask_key(key: str, rule: str) -> str:
    parent, slash, stem = key.lower().rpartition("/")
    own, arrow, made = rule.rpartition(" -> ")
    if arrow:
        before, _, after = own.partition(SAME)
        stem = stem[len(before) : len(stem) - len(after)]
    return f"{parent}{slash}{made.replace(SAME, stem).lower()}"


def _shown(rule: str) -> str:
    return rule.replace(SAME, "<name>")


def _left_out(folder: Path, parts: Mapping[str, Path], roots: Mapping[str, Path]) -> list[str]:
    """Note on images that are in no pair.

    Raises:
        DataError: If a part has images and something else that may be their masks.
    """
    notes = []
    for name, part in parts.items():
        count = 0 if name in roots else len(images_in(part))
        if not count:
            continue
        inside = next(walk(part))[1]
        if any(
            child.lower() not in IMAGE_FOLDERS and any(files for _, _, files in walk(part / child))
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
        for name in (next(walk(folder))[1] if roots else ())
        if folder / name not in parts.values()
    }
    if shown := [f"{name}/ ({count} images)" for name, count in beside.items() if count]:
        notes.append(f"left out beside the parts: {listing(shown)}")
    return notes


def _sides(root: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and of masks."""
    image, mask = _child(root, IMAGE_FOLDERS), _child(root, MASK_FOLDERS)
    return None if image is None or mask is None else (image, mask)


def _child(root: Path, names: Sequence[str]) -> Path | None:
    """Return the folder with the first of some names, however capitalised."""
    children = {child.name.lower(): child for child in root.iterdir() if child.is_dir()}
    return next((children[name] for name in names if name in children), None)


def _single(side: Path) -> dict[str, Path]:
    """Return as `_files`, where no two differ in their endings only."""
    files = _files(side)
    if several := [paths for paths in files.values() if len(paths) > 1]:
        first, second = (path.name for path in several[0][:2])
        raise DataError(f"{side}: {first} and {second} have the same stem; keep one")
    return {key: paths[0] for key, paths in files.items()}


def _files(side: Path) -> dict[str, list[Path]]:
    """Return image files at any depth, by their paths below `side` without the ending."""
    files: dict[str, list[Path]] = defaultdict(list)
    for path in images_in(side):
        files[path.relative_to(side).with_suffix("").as_posix()].append(path)
    return files
