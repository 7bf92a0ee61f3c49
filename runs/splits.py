"""Which example goes where: deterministic, stratified, and never one group in two parts.

Without groups every class is dealt out separately, so all parts have the classes' shares to
within one example a class. With groups (patients, most often) whole groups are dealt out by
scikit-learn's `StratifiedGroupKFold`, which keeps the classes' shares as even as groups allow.

A split that the source comes with is kept. A part that it lacks is taken from its training part,
in the ratio that `data.splits` gives to the two. With `data.folds` the source's training and
validation parts, or all of a source without a split, are dealt into disjoint folds: fold i is the
test part of fold i, and the validation part is taken from the other folds in the ratio of
`data.splits`. The source's own test part then stays outside of all folds and is not loaded.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.source import NO_PART, PARTS, DataError, listing

Indices = NDArray[np.int64]
TRAIN, VAL, TEST = range(3)
MOST_GROUPED_FOLDS = 20
SHARE_TOLERANCE = 0.02


def assign_parts(
    own: Indices,
    labels: Indices,
    class_names: Sequence[str],
    groups: Sequence[str] | None,
    seed: int,
    fractions: Sequence[float],
    folds: int | None = None,
    fold: int | None = None,
) -> tuple[Indices, list[str]]:
    """The part of each example, from the source's own split and the config.

    Args:
        own: (N,) the source's own parts, see `Source.parts`.
        labels: (N,).
        class_names: For messages.
        groups: One per example; a group is in one part only.
        seed: `data.seed`, fixes every draw.
        fractions: `data.splits`, the shares of train, val and test.
        folds: `data.folds`; None for one split.
        fold: `data.fold`; None is fold 0.

    Returns:
        (N,) of indices into `PARTS`, `NO_PART` where an example is not used, and notes.

    Raises:
        DataError: If there are too few examples or groups, or the source's own split has a group
            in two parts.
    """
    if folds is None:
        parts, notes = _complete(own, labels, class_names, groups, seed, fractions)
    else:
        parts, notes = _nest(own, labels, class_names, groups, seed, fractions, folds, fold or 0)
    for number, part in enumerate(PARTS):
        if not (parts == number).any():
            raise DataError(
                f"the {part} part has no images: {len(parts)} images"
                + (f" in {len(set(groups))} groups" if groups is not None else "")
                + " are too few for this split; change data.splits, data.seed or data.folds"
            )
    if groups is not None:
        _check_groups(parts, groups)
    return parts, notes


def _complete(
    own: Indices,
    labels: Indices,
    class_names: Sequence[str],
    groups: Sequence[str] | None,
    seed: int,
    fractions: Sequence[float],
) -> tuple[Indices, list[str]]:
    """The source's own parts, and those it lacks taken from its training part."""
    parts = np.where(own == NO_PART, TRAIN, own)
    missing = [part for part in (TEST, VAL) if not (parts == part).any()]
    if not missing:
        return parts, []
    _check_enough(
        labels[parts == TRAIN],
        class_names,
        _pick(groups, np.flatnonzero(parts == TRAIN)),
        len(missing) + 1,
        f"a split into train, {' and '.join(PARTS[part] for part in reversed(missing))}",
    )
    notes = []
    remaining = fractions[TRAIN] + sum(fractions[part] for part in missing)
    for leave, part in zip((len(missing), 1), missing, strict=False):
        pool = np.flatnonzero(parts == TRAIN)
        share = fractions[part] / remaining
        chosen = take_out(labels[pool], share, (seed, part), _pick(groups, pool), leave)
        parts[pool[chosen]] = part
        remaining -= fractions[part]
    if len(missing) == 2:
        notes.append(f"split into train, val and test by data.seed {seed}")
    else:
        notes.append(f"no {PARTS[missing[0]]} part: taken from train by data.seed {seed}")
    return parts, notes


def _nest(
    own: Indices,
    labels: Indices,
    class_names: Sequence[str],
    groups: Sequence[str] | None,
    seed: int,
    fractions: Sequence[float],
    folds: int,
    fold: int,
) -> tuple[Indices, list[str]]:
    """One fold as the test part, and the validation part from the other folds."""
    if not 0 <= fold < folds:
        raise DataError(f"data.fold: {fold} is not one of 0..{folds - 1} (data.folds: {folds})")
    pool = np.flatnonzero(own != TEST)
    kept = _pick(groups, pool)
    _check_enough(labels[pool], class_names, kept, folds, f"{folds} folds")
    numbers = fold_numbers(labels[pool], folds, (seed, TEST), kept)
    outer = pool[numbers != fold]
    others = _pick(groups, outer)
    _check_enough(labels[outer], class_names, others, 2, f"train and val beside fold {fold}")
    share = fractions[VAL] / (fractions[TRAIN] + fractions[VAL])
    chosen = take_out(labels[outer], share, (seed, VAL, fold), others)
    parts = np.full(len(own), NO_PART)
    parts[pool] = TEST
    parts[outer] = np.where(chosen, VAL, TRAIN)
    notes = [f"fold {fold} of {folds} is the test part (folds by data.seed {seed})"]
    if len(pool) < len(own):
        notes.append(f"the source's own test part is outside of the folds: {len(own) - len(pool)}")
    return parts, notes


def _check_enough(
    labels: Indices,
    class_names: Sequence[str],
    groups: Sequence[str] | None,
    least: int,
    purpose: str,
) -> None:
    if groups is not None and (count := len(set(groups))) < least:
        raise DataError(
            f"data.groups: {purpose} needs at least {least} groups, found {count} "
            f"({listing(sorted(set(groups)))})"
        )
    counts = np.bincount(labels, minlength=len(class_names))
    if few := [f"{class_names[k]} ({counts[k]})" for k in np.flatnonzero(counts < least).tolist()]:
        raise DataError(
            f"too few images: {purpose} needs at least {least} of each class; add images or "
            f"leave these classes out: {listing(few)}"
        )


def _check_groups(parts: Indices, groups: Sequence[str]) -> None:
    found: dict[str, set[str]] = {}
    for part, group in zip(parts, groups, strict=True):
        if part != NO_PART:
            found.setdefault(group, set()).add(PARTS[part])
    if torn := [group for group, places in found.items() if len(places) > 1]:
        places = " and ".join(part for part in PARTS if part in found[torn[0]])
        raise DataError(
            f"data.groups: {len(torn)} groups are in more than one part of the source's own split "
            f"({torn[0]} in {places}); move their images, or use data.folds, which deals whole "
            f"groups"
        )


def take_out(
    labels: Indices,
    fraction: float,
    key: Sequence[int],
    groups: Sequence[str] | None = None,
    leave: int = 1,
) -> NDArray[np.bool_]:
    """Which examples to take out of a set so that about `fraction` of each class leaves it.

    Without groups at least one example of each class leaves.

    Args:
        labels: (N,) of the set.
        fraction: Between 0 and 1.
        key: Whole numbers that fix the draw.
        groups: One per example; a group leaves as a whole.
        leave: Without groups, at least so many of each class stay.

    Returns:
        (N,) of bool.
    """
    if groups is not None:
        most = min(len(set(groups)), int(np.bincount(labels).max()), MOST_GROUPED_FOLDS)
        folds, taken = _share(fraction, most)
        return fold_numbers(labels, folds, key, groups) < taken
    chosen = np.zeros(len(labels), dtype=bool)
    for members in _shuffled_classes(labels, key):
        count = min(max(round(fraction * len(members)), 1), len(members) - leave)
        chosen[members[:count]] = True
    return chosen


def fold_numbers(
    labels: Indices, folds: int, key: Sequence[int], groups: Sequence[str] | None = None
) -> Indices:
    """The fold (N,) of each example, 0 to folds - 1, stratified by class.

    Args:
        labels: (N,).
        folds: How many.
        key: Whole numbers that fix the draw.
        groups: One per example; a group is in one fold.
    """
    numbers = np.empty(len(labels), dtype=np.int64)
    if groups is None:
        dealt = 0
        for members in _shuffled_classes(labels, key):
            # The next class goes on where the last one stopped, so that folds differ by one.
            numbers[members] = (dealt + np.arange(len(members))) % folds
            dealt += len(members)
        return numbers
    from sklearn.model_selection import StratifiedGroupKFold

    # Its own shuffling broke the stratification in several of its versions. Shuffled numbers for
    # the groups, and for the folds that it makes, do the same from outside.
    draws = np.random.RandomState(list(key))
    _, group = np.unique(groups, return_inverse=True)
    shuffled = draws.permutation(group.max() + 1)[group]
    order = draws.permutation(folds)
    with warnings.catch_warnings():
        # Classes with fewer examples than folds: what that leads to is checked by the caller.
        warnings.simplefilter("ignore", UserWarning)
        splits = StratifiedGroupKFold(folds).split(labels, labels, shuffled)
        for number, (_, members) in zip(order, splits, strict=True):
            numbers[members] = number
    return numbers


def _shuffled_classes(labels: Indices, key: Sequence[int]) -> list[Indices]:
    """The examples of each class in random order.

    From `RandomState`, whose stream is frozen: a seed is the same split in every version of numpy.
    """
    return [
        np.random.RandomState([*key, label]).permutation(np.flatnonzero(labels == label))
        for label in np.unique(labels)
    ]


def _share(fraction: float, most: int) -> tuple[int, int]:
    """The fewest folds, at most `most`, and how many of them to take, that come near a fraction.

    Few folds of many groups are better stratified than many folds of few.
    """
    shares = [
        (folds, min(max(round(fraction * folds), 1), folds - 1))
        for folds in range(2, max(2, most) + 1)
    ]
    for folds, taken in shares:
        if abs(taken / folds - fraction) <= SHARE_TOLERANCE:
            return folds, taken
    return min(shares, key=lambda share: abs(share[1] / share[0] - fraction))


def _pick(groups: Sequence[str] | None, chosen: Indices) -> list[str] | None:
    return None if groups is None else [groups[i] for i in chosen]
