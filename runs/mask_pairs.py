"""Which mask belongs to which image, by their names.

    source/images/001.jpg          source/masks/001.png          the same stem
    source/images/001.jpg          source/masks/001_mask.png     the stem and what all masks add
    source/train/images/a/7.png    source/train/masks/a/7.PNG    in parts, in folders

What masks add to the stem, before or after it, is found by itself: the one rule that gives every
image exactly one mask. Where several do (two annotators, `_1stHO` and `_2ndHO`) the choice is the
user's, by `data.mask_name: "{}_1stHO"`.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from attnsearch.runs.folders import PART_NAMES
from attnsearch.runs.images import SUFFIXES
from attnsearch.runs.source import NO_PART, PARTS, DataError, listing

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "labelcol", "gt")
SAME = "{}"
VOTERS = 50  # images that are asked which rule may hold; it is then tried on all


@dataclass(frozen=True)
class Pair:
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
    """Whether a folder holds images/ and masks/, itself or in its parts."""
    return any(_sides(root) is not None for root in (folder, *_part_folders(folder).values()))


def find_pairs(folder: Path, mask_name: str | None = None) -> tuple[list[Pair], list[str]]:
    """The images of a folder with their masks, in the order of their names.

    Args:
        folder: Holds images/ and masks/, or train/, val/ and test/ that do.
        mask_name: How a mask's stem is made of its image's, `{}` for that; None finds out.

    Returns:
        The pairs, and notes on what was found.

    Raises:
        DataError: If the layout is not understood, a folder is empty, or an image has no mask or
            more than one.
    """
    parts = _part_folders(folder)
    roots = {name: root for name, root in parts.items() if _sides(root) is not None}
    if not roots:
        roots = {"": folder}
    elif "train" not in roots:
        raise DataError(
            f"{folder}: found {listing([f'{name}/' for name in roots])} with images and masks but "
            f"no train/; add it, or put images/ and masks/ directly into {folder.name}/"
        )
    pairs: list[Pair] = []
    notes: list[str] = []
    for name, root in roots.items():
        sides = _sides(root)
        if sides is None:
            raise DataError(
                f"{root}: expected the folders images/ and masks/, themselves or in train/, val/ "
                f"and test/; found {listing(sorted(p.name for p in root.iterdir())) or 'nothing'}"
            )
        images, masks = (_files(side) for side in sides)
        for side, files in zip(sides, (images, masks), strict=True):
            if not files:
                raise DataError(
                    f"{side}: no images; expected files that end in {' '.join(sorted(SUFFIXES))}"
                )
        matched, said = match_masks(images, masks, root, mask_name)
        part = PARTS.index(PART_NAMES[root.name.lower()]) if name else NO_PART
        pairs += [
            Pair(image.relative_to(folder).as_posix(), image, mask, part)
            for image, mask in matched
        ]
        notes += [note for note in said if note not in notes]
    return sorted(pairs, key=lambda pair: pair.name), notes


def match_masks(
    images: Mapping[str, Path], masks: Mapping[str, Path], root: Path, mask_name: str | None
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Each image with its mask, and notes.

    Args:
        images: Files by their paths below the image folder, without the ending.
        masks: Likewise below the mask folder.
        root: For messages.
        mask_name: As in `find_pairs`.

    Raises:
        DataError: If an image has no mask, or more than one.
    """
    rules = [mask_name] if mask_name is not None else _rules(images, masks)
    if not rules:
        raise DataError(
            f"{root}: no mask's name contains the name of an image: images such as "
            f"{listing(sorted(images), 2)}, masks such as {listing(sorted(masks), 2)}; rename the "
            f'masks, or say how they are called by data.mask_name: "{{}}_mask"'
        )
    folded = {key.lower(): path for key, path in masks.items()}
    found = {rule: [folded.get(_mask_key(key, rule)) for key in images] for rule in rules}
    counts = {rule: sum(mask is not None for mask in found[rule]) for rule in rules}
    best = [rule for rule in rules if counts[rule] == max(counts.values())]
    rule = SAME if SAME in best else min(best, key=len)
    others = [name for name in best if found[name] != found[rule]]
    if others and rule != SAME:
        raise DataError(
            f"{root}: {counts[rule]} of {len(images)} images have {len(others) + 1} masks each, "
            f"named {listing([_shown(name) for name in (rule, *others)])}; choose one by "
            f'data.mask_name: "{rule}"'
        )
    pairs = [
        (image, mask) for image, mask in zip(images.values(), found[rule], strict=True) if mask
    ]
    if len(pairs) < len(images):
        missing = [p.name for p, m in zip(images.values(), found[rule], strict=True) if not m]
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


def _rules(images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[str]:
    """How masks may be named, the most frequent first: what stands around an image's stem."""
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
    """A rule as text: `img_{}_image -> {}_mask` where images have affixes of their own."""
    own = f"{before}{SAME}{after}"
    return f"{left}{SAME}{right}" if own == SAME else f"{own} -> {left}{SAME}{right}"


def _image_affixes(stems: Sequence[str]) -> list[tuple[str, str]]:
    """What all images' stems begin and end with, letters and separators only, or nothing."""
    lowered = [stem.lower() for stem in stems]
    before = _common_start(lowered)
    after = _common_start([stem[::-1] for stem in lowered])[::-1]
    if len(lowered) == 1:
        return [("", "")]
    before = before.rstrip("0123456789")
    after = after.lstrip("0123456789")
    whole = min(map(len, lowered))
    if len(before) + len(after) >= whole:
        return [("", "")]
    return list(dict.fromkeys([("", ""), ("", after), (before, ""), (before, after)]))


def _common_start(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)
    same = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    )
    return first[:same]


def _mask_key(key: str, rule: str) -> str:
    parent, slash, stem = key.lower().rpartition("/")
    own, arrow, made = rule.rpartition(" -> ")
    if arrow:
        before, _, after = own.partition(SAME)
        stem = stem[len(before) : len(stem) - len(after)]
    return f"{parent}{slash}{made.replace(SAME, stem).lower()}"


def _shown(rule: str) -> str:
    return rule.replace(SAME, "<name>")


def _part_folders(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for child in sorted(p for p in folder.iterdir() if p.is_dir()):
        part = PART_NAMES.get(child.name.lower())
        if part is None:
            continue
        if part in found:
            raise DataError(
                f"{folder}: both {found[part].name}/ and {child.name}/ look like the {part} part; "
                f"keep one of them"
            )
        found[part] = child
    return found


def _sides(root: Path) -> tuple[Path, Path] | None:
    """The folders of images and of masks."""
    children = {child.name.lower(): child for child in root.iterdir() if child.is_dir()}
    image = next((children[name] for name in IMAGE_FOLDERS if name in children), None)
    mask = next((children[name] for name in MASK_FOLDERS if name in children), None)
    return None if image is None or mask is None else (image, mask)


def _files(side: Path) -> dict[str, Path]:
    """Image files at any depth, by their paths below `side` without the ending."""
    found: dict[str, Path] = {}
    for place, folders, files in os.walk(side):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for file in sorted(files):
            path = Path(place) / file
            if file.startswith(".") or path.suffix.lower() not in SUFFIXES:
                continue
            key = path.relative_to(side).with_suffix("").as_posix()
            if key in found:
                raise DataError(
                    f"{side}: {found[key].name} and {path.name} have the same stem; keep one"
                )
            found[key] = path
    return found
