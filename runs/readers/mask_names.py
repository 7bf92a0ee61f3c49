"""How masks are named after their images: the one rule that gives each image exactly one mask.

A rule is `{}_mask`: what all masks add to the image's stem; or `{}_0000 -> {}`, where images have
an addition of their own. Paths count below the folders of images and of masks, without endings.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from os.path import commonprefix
from pathlib import Path

from attnsearch.runs.readers.images import SUFFIXES
from attnsearch.runs.readers.source import DataError, listing

SAME = "{}"
ARROW = " -> "
VOTERS = 50  # images that are asked which rule may hold; it is then tried on all
KNOWN = ("_labeltrainids", "_labelids")
"""Endings of class masks where there are others for the eye or of instances; the first counts."""


def match_masks(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    root: Path,
    mask_name: str | None,
    *,
    every: bool = True,
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Return each image with its mask, and notes.

    Args:
        images: Files by their paths below the image folder, without the ending.
        masks: Likewise below the mask folder.
        root: For messages.
        mask_name: The rule; None finds out.
        every: Whether each image must have a mask; else those without one are left out.

    Raises:
        DataError: If an image has no mask, or more than one.
    """
    rule, chosen = choose(images, masks, root, mask_name)
    both = list(zip(images.values(), chosen, strict=True))
    pairs = [(image, mask) for image, mask in both if mask]
    if not every or (mask_name is not None and ARROW in mask_name):
        own = rule.partition(ARROW)[0] if ARROW in rule else SAME
        both = [pair for key, pair in zip(images, both, strict=True) if every and _core(key, own)]
    missing = [image.name for image, mask in both if not mask]
    if missing:
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
    if len(pairs) < len(images):
        notes.append(f"images without a mask were left out: {len(images) - len(pairs)}")
    used = {mask for _, mask in pairs}
    if len(used) < len(pairs):
        twice = [mask.name for mask, count in Counter(m for _, m in pairs).items() if count > 1]
        raise DataError(f"{root}: masks that belong to several images: {listing(twice)}")
    if unused := sorted(path.name for path in masks.values() if path not in used):
        notes.append(f"masks without an image were left out ({len(unused)}): {listing(unused)}")
    return pairs, notes


def choose(
    images: Mapping[str, Path], masks: Mapping[str, Path], root: Path, mask_name: str | None
) -> tuple[str, list[Path | None]]:
    """Return the rule that holds for most images, and each one's mask by it."""
    rules = [mask_name] if mask_name is not None else rules_of(images, masks)
    if not rules:
        raise DataError(
            f"{root}: no mask's name contains the name of an image: images such as "
            f"{listing(sorted(images), 2)}, masks such as {listing(sorted(masks), 2)}; rename the "
            f'masks, or say how they are called by data.mask_name: "{_example(images)}"'
        )
    folded = {key.lower(): path for key, path in masks.items()}
    chosen = {rule: [folded.get(_mask_key(key, rule)) for key in images] for rule in rules}
    counts = {rule: sum(mask is not None for mask in chosen[rule]) for rule in rules}
    best = [rule for rule in rules if counts[rule] == max(counts.values())]
    rule = SAME if SAME in best else min(best, key=len)
    for ending in KNOWN:
        rule = next((name for name in best if name.endswith(ending)), rule)
        if rule.endswith(ending):
            return rule, chosen[rule]
    others = [name for name in best if chosen[name] != chosen[rule]]
    if others and rule != SAME:
        raise DataError(
            f"{root}: {counts[rule]} of {len(images)} images have {len(others) + 1} masks each, "
            f"named {listing([_shown(name) for name in (rule, *others)])}; choose one by "
            f'data.mask_name: "{rule}"'
        )
    return rule, chosen[rule]


def rules_of(images: Collection[str], masks: Collection[str]) -> list[str]:
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
    return f"{left}{SAME}{right}" if own == SAME else f"{own}{ARROW}{left}{SAME}{right}"


def _image_affixes(stems: Sequence[str]) -> list[tuple[str, str]]:
    """Return what all images' stems begin and end with, letters and separators only."""
    lowered = [stem.lower() for stem in stems]
    backwards = [stem[::-1] for stem in lowered]
    # RUF071 warns of paths cut within a name; these are names.
    before = commonprefix(lowered).rstrip("0123456789")  # noqa: RUF071
    after = commonprefix(backwards)[::-1].lstrip("0123456789")  # noqa: RUF071
    if len(lowered) < 2 or len(before) + len(after) >= min(map(len, lowered)):
        return [("", "")]
    return list(dict.fromkeys([("", ""), ("", after), (before, ""), (before, after)]))


def _example(images: Collection[str]) -> str:
    """Return a rule to show: of images of several channels, as nnU-Net has them, the first."""
    channels = all(re.search(r"_\d{4}$", key) for key in images)
    return "{}_0000 -> {}" if channels else "{}_mask"


def _mask_key(key: str, rule: str) -> str:
    """Return the key of an image's mask; no mask has it where the image does not fit the rule."""
    own, arrow, made = rule.rpartition(ARROW)
    stem = _core(key, own if arrow else SAME)
    parent, slash, _ = key.lower().rpartition("/")
    return f"{parent}{slash}{made.replace(SAME, stem).lower()}" if stem else ""


def _core(key: str, own: str) -> str:
    """Return an image's stem without what images add; empty where it does not add that."""
    before, _, after = own.lower().partition(SAME)
    stem = key.lower().rpartition("/")[2]
    fits = stem.startswith(before) and stem.endswith(after)
    return stem[len(before) : len(stem) - len(after)] if fits else ""


def _shown(rule: str) -> str:
    return rule.replace(SAME, "<name>")
