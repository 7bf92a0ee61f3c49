"""Which example goes where: deterministic, stratified, and never one group in two parts.

Without groups every class is dealt out separately, so all parts have the classes' shares to
within one example a class. With groups (patients, most often) whole groups are dealt out, and
a search keeps the classes' shares as even as the groups allow.

A split that the source comes with is kept. A part that it lacks is taken from its training part,
in the ratio that `data.splits` gives to the two. With `data.folds` the source's training and
validation parts, or all of a source without a split, are dealt into disjoint folds: fold i is the
test part of fold i, and the validation part is taken from the other folds in the ratio of
`data.splits`. The source's own test part then stays outside of all folds and is not used.

`data.development` takes a share of the data out before the folds are dealt. Without `data.fold`
that share is the data set: training and validation, in the ratio of `data.splits`, and no test
part. With `data.fold` it belongs to no part, so that nothing which exploring saw enters a result.
"""

from collections.abc import Sequence

import numpy as np

from attnsearch.runs.data.dealing import Indices, deal, deal_folds
from attnsearch.runs.readers import NO_PART, PARTS, DataError, listing

TRAIN, VAL, TEST = range(3)
DEVELOPMENT = 3  # in the keys of draws


def assign_parts(
    own: Indices,
    labels: Indices,
    class_names: Sequence[str],
    groups: Sequence[str] | None,
    seed: int,
    fractions: Sequence[float],
    folds: int | None = None,
    fold: int | None = None,
    development: float | None = None,
) -> tuple[Indices, list[str]]:
    """Return the part of each example, from the source's own split and the config.

    Args:
        own: (N,) the source's own parts, see `Source.parts`.
        labels: (N,).
        class_names: For messages.
        groups: One per example; a group is in one part only.
        seed: `data.seed`, fixes every draw.
        fractions: `data.splits`, the shares of train, val and test.
        folds: `data.folds`; None for one split.
        fold: `data.fold`; None is fold 0, or with `development` that part.
        development: `data.development`, its share of the data.

    Returns:
        (N,) of indices into `PARTS`, `NO_PART` where an example is not used, and notes.

    Raises:
        DataError: If there are too few examples or groups, or the source's own split has a group
            in two parts.
    """
    numbers = None if groups is None else np.unique(groups, return_inverse=True)[1]
    developing = folds is not None and development is not None and fold is None
    if folds is None:
        parts, notes = _complete(own, labels, class_names, numbers, seed, fractions)
    else:
        pool, kept_out, notes = _pool(own, labels, class_names, numbers, seed, development)
        rows = kept_out if developing else pool
        if developing:
            inner, said = _develop(labels[rows], class_names, _of(numbers, rows), seed, fractions)
        else:
            inner, said = _nest(
                labels[rows], class_names, _of(numbers, rows), seed, fractions, folds, fold or 0
            )
        parts = np.full(len(own), NO_PART)
        parts[rows] = inner
        notes = said + notes
    for number, part in enumerate(PARTS):
        if not (parts == number).any() and not (part == "test" and developing):
            raise DataError(
                f"the {part} part has no images: {len(parts)} images"
                + (f" in {len(set(groups))} groups" if groups is not None else "")
                + " are too few, since train needs every class; leave out the classes with the "
                "fewest groups, or change data.folds"
            )
    if groups is not None:
        _check_groups(parts, groups)
    return parts, notes


def _complete(
    own: Indices,
    labels: Indices,
    class_names: Sequence[str],
    groups: Indices | None,
    seed: int,
    fractions: Sequence[float],
) -> tuple[Indices, list[str]]:
    """Return the source's own parts, and those it lacks taken from its training part."""
    parts = np.where(own == NO_PART, TRAIN, own)
    missing = [part for part in (VAL, TEST) if not (parts == part).any()]
    if not missing:
        return parts, []
    pool = np.flatnonzero(parts == TRAIN)
    kept = None if groups is None else groups[pool]
    words = "train, val and test" if len(missing) == 2 else f"train and {PARTS[missing[0]]}"
    _check_enough(labels[pool], class_names, kept, len(missing) + 1, f"a split in {words}")
    targets = np.array([TRAIN, *missing])
    shares = [fractions[part] for part in targets]
    parts[pool] = targets[deal(labels[pool], shares, (seed, VAL), kept)]
    if len(missing) == 1:
        return parts, [f"no {PARTS[missing[0]]} part: taken from train by data.seed {seed}"]
    return parts, [f"split in train, val and test by data.seed {seed}"]


def _of(groups: Indices | None, rows: Indices) -> Indices | None:
    return None if groups is None else groups[rows]


def _pool(
    own: Indices,
    labels: Indices,
    class_names: Sequence[str],
    groups: Indices | None,
    seed: int,
    development: float | None,
) -> tuple[Indices, Indices, list[str]]:
    """Return the examples that are dealt into folds, and those that are developed on."""
    pool = np.flatnonzero(own != TEST)
    notes = []
    if len(pool) < len(own):
        notes.append(f"the source's own test part is outside of the folds: {len(own) - len(pool)}")
    if development is None:
        return pool, pool[:0], notes
    kept = _of(groups, pool)
    _check_enough(labels[pool], class_names, kept, 2, "a development part beside the folds")
    taken = deal(labels[pool], [1 - development, development], (seed, DEVELOPMENT), kept) == 1
    return pool[~taken], pool[taken], notes


def _develop(
    labels: Indices,
    class_names: Sequence[str],
    groups: Indices | None,
    seed: int,
    fractions: Sequence[float],
) -> tuple[Indices, list[str]]:
    """Return training and validation within the development part; it has no test part."""
    _check_enough(labels, class_names, groups, 2, "train and val in the development part")
    parts = deal(labels, [fractions[TRAIN], fractions[VAL]], (seed, DEVELOPMENT, VAL), groups)
    told = f"development part: {len(labels)} images outside of all folds (by data.seed {seed})"
    return parts, [told]


def _nest(
    labels: Indices,
    class_names: Sequence[str],
    groups: Indices | None,
    seed: int,
    fractions: Sequence[float],
    folds: int,
    fold: int,
) -> tuple[Indices, list[str]]:
    """Return one fold as the test part, and the validation part from the other folds."""
    if not 0 <= fold < folds:
        raise DataError(f"data.fold: {fold} is not one of 0..{folds - 1} (data.folds: {folds})")
    _check_enough(labels, class_names, groups, folds, f"{folds} folds")
    numbers = deal_folds(labels, folds, (seed, TEST), groups)
    outer = np.flatnonzero(numbers != fold)
    kept = _of(groups, outer)
    _check_enough(labels[outer], class_names, kept, 2, f"train and val beside fold {fold}")
    shares = [fractions[TRAIN], fractions[VAL]]
    parts = np.full(len(labels), TEST)
    parts[outer] = deal(labels[outer], shares, (seed, VAL, fold), kept)
    return parts, [f"fold {fold} of {folds} is the test part (folds by data.seed {seed})"]


def _check_enough(
    labels: Indices,
    class_names: Sequence[str],
    groups: Indices | None,
    least: int,
    purpose: str,
) -> None:
    if groups is not None and (count := len(np.unique(groups))) < least:
        raise DataError(f"data.groups: {purpose} needs at least {least} groups, found {count}")
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
