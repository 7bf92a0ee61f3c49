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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnsearch.runs.data.dealing import Indices, Names, class_counts, deal, deal_folds
from attnsearch.runs.readers import NO_PART, PARTS, DataError, listing

TRAIN, VAL, TEST = range(3)
DEVELOPMENT = 3  # in the keys of draws


@dataclass(frozen=True)
class Examples:
    """What is dealt out, and by which draws.

    Attributes:
        labels: (N,), or of any number of classes an image (N, K) of 0 and 1.
        class_names: For messages.
        groups: (N,) the name of each example's group, or None; a group is in one part only.
        seed: `data.seed`, fixes every draw.
        fractions: `data.splits`, the shares of train, val and test.
    """

    labels: Indices
    class_names: Sequence[str]
    groups: Names | None
    seed: int
    fractions: Sequence[float]

    def at(self, rows: Indices) -> "Examples":
        """Return some of the examples."""
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, labels=self.labels[rows], groups=groups)

    def deal(self, shares: Mapping[int, float], key: Sequence[int], purpose: str) -> Indices:
        """Return the part (N,) of each example.

        Args:
            shares: How much each part gets; they need not add to 1.
            key: Tells the draw from others of the seed.
            purpose: What the parts are, for messages.

        Raises:
            DataError: If there are too few examples of a class, or too few groups.
        """
        self.check_enough(len(shares), purpose)
        dealt = deal(self.labels, list(shares.values()), (self.seed, *key), self.groups)
        return np.array(list(shares))[dealt]

    def check_enough(self, least: int, purpose: str) -> None:
        """See that there are so many groups, and so many examples of each class.

        Raises:
            DataError: If there are not.
        """
        groups = least if self.groups is None else len(np.unique(self.groups))
        if groups < least:
            raise DataError(
                f"data.groups: {purpose} needs at least {least} groups, found {groups}"
            )
        counts = class_counts(self.labels, len(self.class_names))
        few = np.flatnonzero(counts < least).tolist()
        if few:
            shown = listing([f"{self.class_names[label]} ({counts[label]})" for label in few])
            raise DataError(
                f"too few images: {purpose} needs at least {least} of each class; add images or "
                f"leave these classes out: {shown}"
            )


def assign_parts(
    own: Indices,
    examples: Examples,
    folds: int | None = None,
    fold: int | None = None,
    development: float | None = None,
) -> tuple[Indices, list[str]]:
    """Return the part of each example, from the source's own split and the config.

    Args:
        own: (N,) the source's own parts, see `Source.parts`.
        examples: All N examples.
        folds: `data.folds`; None for one split.
        fold: `data.fold`; None is fold 0, or with `development` that part.
        development: `data.development`, its share of the data.

    Returns:
        (N,) of indices into `PARTS`, `NO_PART` where an example is not used, and notes.

    Raises:
        DataError: If there are too few examples or groups, or the source's own split has a group
            in two parts.
    """
    developing = folds is not None and development is not None and fold is None
    if folds is None:
        parts, notes = _complete(own, examples)
    else:
        pool, kept_out, outside = _pool(own, examples, development)
        rows = kept_out if developing else pool
        used = examples.at(rows)
        inner, notes = _develop(used) if developing else _nest(used, folds, fold or 0)
        parts = np.full(len(own), NO_PART)
        parts[rows] = inner
        notes += outside
    for number, part in enumerate(PARTS):
        if not (parts == number).any() and not (part == "test" and developing):
            groups = "" if examples.groups is None else f" in {len({*examples.groups})} groups"
            raise DataError(
                f"the {part} part has no images: {len(parts)} images{groups} are too few, since "
                f"train needs every class; leave out the classes with the fewest groups, or "
                f"change data.folds"
            )
    if examples.groups is not None:
        _check_groups(parts, examples.groups.tolist())
    return parts, notes


def _complete(own: Indices, examples: Examples) -> tuple[Indices, list[str]]:
    """Return the source's own parts, and those it lacks taken from its training part."""
    parts = np.where(own == NO_PART, TRAIN, own)
    missing = [part for part in (VAL, TEST) if not (parts == part).any()]
    if not missing:
        return parts, []
    pool = np.flatnonzero(parts == TRAIN)
    words = "train, val and test" if len(missing) == 2 else f"train and {PARTS[missing[0]]}"
    shares = {part: examples.fractions[part] for part in (TRAIN, *missing)}
    parts[pool] = examples.at(pool).deal(shares, (VAL,), f"a split in {words}")
    by_seed = f"by data.seed {examples.seed}"
    if len(missing) == 1:
        return parts, [f"no {PARTS[missing[0]]} part: taken from train {by_seed}"]
    return parts, [f"split in train, val and test {by_seed}"]


def _pool(
    own: Indices, examples: Examples, development: float | None
) -> tuple[Indices, Indices, list[str]]:
    """Return the examples that are dealt into folds, and those that are developed on."""
    pool = np.flatnonzero(own != TEST)
    notes = []
    if len(pool) < len(own):
        notes.append(f"the source's own test part is outside of the folds: {len(own) - len(pool)}")
    if development is None:
        return pool, pool[:0], notes
    shares = {0: 1 - development, 1: development}
    purpose = "a development part beside the folds"
    taken = examples.at(pool).deal(shares, (DEVELOPMENT,), purpose) == 1
    return pool[~taken], pool[taken], notes


def _develop(examples: Examples) -> tuple[Indices, list[str]]:
    """Return training and validation within the development part; it has no test part."""
    shares = {part: examples.fractions[part] for part in (TRAIN, VAL)}
    parts = examples.deal(shares, (DEVELOPMENT, VAL), "train and val in the development part")
    return parts, [
        f"development part: {len(parts)} images outside of all folds (by data.seed "
        f"{examples.seed})"
    ]


def _nest(examples: Examples, folds: int, fold: int) -> tuple[Indices, list[str]]:
    """Return one fold as the test part, and the validation part from the other folds."""
    if not 0 <= fold < folds:
        raise DataError(f"data.fold: {fold} is not one of 0..{folds - 1} (data.folds: {folds})")
    examples.check_enough(folds, f"{folds} folds")
    numbers = deal_folds(examples.labels, folds, (examples.seed, TEST), examples.groups)
    outer = np.flatnonzero(numbers != fold)
    shares = {part: examples.fractions[part] for part in (TRAIN, VAL)}
    parts = np.full(len(numbers), TEST)
    parts[outer] = examples.at(outer).deal(
        shares, (VAL, fold), f"train and val beside fold {fold}"
    )
    return parts, [f"fold {fold} of {folds} is the test part (folds by data.seed {examples.seed})"]


def _check_groups(parts: Indices, groups: Sequence[str]) -> None:
    """See that no group of the source's own split is in two parts."""
    places: dict[str, set[int]] = {}
    for part, group in zip(parts.tolist(), groups, strict=True):
        if part != NO_PART:
            places.setdefault(group, set()).add(part)
    if torn := [group for group, held in places.items() if len(held) > 1]:
        words = " and ".join(PARTS[part] for part in sorted(places[torn[0]]))
        raise DataError(
            f"data.groups: {len(torn)} groups are in more than one part of the source's own split "
            f"({torn[0]} in {words}); move their images, or use data.folds, which deals whole "
            f"groups"
        )
