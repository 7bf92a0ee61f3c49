"""Dealing examples out to parts of given sizes: stratified by class, whole groups together.

Images of any number of classes are dealt class by class, the rarest first, each image to the part
that lacks most of the class (iterative stratification, Sechidis et al., ECML 2011).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.words import plural

Indices = NDArray[np.int64]
Names = NDArray[np.str_]
Floats = NDArray[np.float64]
SEARCHES = 16  # side by side, each from a start of its own; the best end counts
PASSES = 3  # through the groups
MOST_GROUPS = 1000  # moved in a pass; of more groups a random start is nearly even already
LACKING_FIRST = 100.0  # the cost of a class that is not in the first part: it is not trained
EMPTY = 10.0  # the cost of a part without any group
ROUNDING = 1e-9  # of summed shares: no move for less


def deal(
    labels: Indices, shares: Sequence[float], key: Sequence[int], groups: Names | None = None
) -> Indices:
    """Return the part (N,) of each example, so that each part has its share of each class.

    Without groups the shares are met to within one example a class, except that each part gets at
    least one example of a class that has enough. With groups they are met as the groups allow.

    Args:
        labels: (N,), or of any number of classes an image (N, K) of 0 and 1.
        shares: One per part; they need not add to 1.
        key: Whole numbers that fix the draw.
        groups: (N,) the name of each example's group; a group is in one part.
    """
    wanted = np.array(shares) / sum(shares)
    if groups is not None:
        return _deal_groups(labels, wanted, key, groups)
    if labels.ndim == 2:
        return _deal_labels(labels, wanted, key)
    _, label = np.unique(labels, return_inverse=True)
    parts = np.empty(len(labels), dtype=np.int64)
    for members in _shuffled_classes(label, key):
        parts[members] = np.repeat(np.arange(len(wanted)), _counts(len(members), wanted))
    return parts


def deal_folds(
    labels: Indices, folds: int, key: Sequence[int], groups: Names | None = None
) -> Indices:
    """Return the fold (N,) of each example, 0 to folds - 1.

    Without groups folds differ by at most one example, in all and in each class.

    Args:
        labels: (N,), or of any number of classes an image (N, K) of 0 and 1.
        folds: How many.
        key: Whole numbers that fix the draw.
        groups: (N,) the name of each example's group; a group is in one fold.
    """
    if groups is not None or labels.ndim == 2:
        return deal(labels, [1] * folds, key, groups)
    parts = np.empty(len(labels), dtype=np.int64)
    dealt = 0
    for members in _shuffled_classes(labels, key):
        # The next class goes on where the last one stopped.
        parts[members] = (dealt + np.arange(len(members))) % folds
        dealt += len(members)
    return parts


def _shuffled_classes(labels: Indices, key: Sequence[int]) -> list[Indices]:
    """Return the examples of each class in random order.

    From `RandomState`, whose stream is frozen: a seed is the same split in every version of numpy.
    """
    return [
        np.random.RandomState([*key, label]).permutation(np.flatnonzero(labels == label))
        for label in np.unique(labels)
    ]


def _counts(total: int, shares: Floats) -> Indices:
    """Return whole numbers that add to `total`, near its shares, none 0 where `total` allows."""
    exact = total * shares
    counts = np.floor(exact).astype(np.int64)
    rest = np.argsort(counts - exact, kind="stable")  # the largest remainder first
    counts[rest[: total - counts.sum()]] += 1
    for part in np.flatnonzero(counts == 0):
        if counts.max() > 1:
            counts[counts.argmax()] -= 1
            counts[part] += 1
    return counts


def class_counts(labels: Indices, classes: int) -> Indices:
    """Return how many images (K,) are of each class, from labels (N,), or (N, K) of 0 and 1."""
    if labels.ndim == 2:
        return np.asarray(labels.sum(0))
    return np.bincount(labels, minlength=classes)


def balance_text(counts: Indices, names: Sequence[str]) -> str:
    """Say how many training images the classes have, from their counts (K,)."""
    least, most = int(counts.argmin()), int(counts.argmax())
    if counts[least] == counts[most]:
        return f"each class has {plural(int(counts[most]), 'training image')}"
    ends = [f"{counts[one]:,} ({names[one]})" for one in (least, most)]
    return f"training images of a class: from {ends[0]} to {ends[1]}"


def _deal_labels(labels: Indices, wanted: Floats, key: Sequence[int]) -> Indices:
    """Return parts by iterative stratification; images of no class fill up what is left."""
    order = np.random.RandomState(list(key)).permutation(len(labels))
    parts = np.full(len(labels), -1)
    room = _counts(len(labels), wanted)  # images that a part still takes
    lacking = np.stack([_counts(count, wanted) for count in labels.sum(0)])  # (K, parts)
    left = labels.sum(0)
    while left.any():
        rarest = np.where(left > 0, left, len(labels) + 1).argmin()
        for row in order[(labels[order, rarest] == 1) & (parts[order] < 0)].tolist():
            part = max(range(len(wanted)), key=lambda p: (lacking[rarest, p], room[p]))
            parts[row] = part
            room[part] -= 1
            lacking[:, part] -= labels[row]
            left -= labels[row]
    rest = order[parts[order] < 0]
    parts[rest] = np.repeat(np.arange(len(wanted)), _filled(len(rest), room))
    return parts


def _filled(count: int, room: Indices) -> Indices:
    """Return how many of some images each part takes: as its room allows, none less than 0."""
    taken = np.maximum(room, 0)
    return _counts(count, taken / taken.sum()) if count and taken.any() else taken * 0


def _deal_groups(labels: Indices, wanted: Floats, key: Sequence[int], groups: Names) -> Indices:
    """Return local search: a group moves to another part where that lowers the cost most.

    scikit-learn's `StratifiedGroupKFold` makes equal folds only. Taking some of them as a part
    left 1 part in 15 without a class that had patients enough (patients of one class, and of 1 to
    30 images).
    """
    names, group = np.unique(groups, return_inverse=True)
    if labels.ndim == 2:  # what shows no class is dealt evenly too
        shown = np.column_stack([labels, np.ones_like(labels[:, 0])])
        images = np.zeros((len(names), shown.shape[1]))
        np.add.at(images, group, shown)
        images = images[:, images.any(0)]
    else:
        label = np.unique(labels, return_inverse=True)[1]
        images = np.zeros((len(names), label.max() + 1))
        np.add.at(images, (group, label), 1)
    shares = images / images.sum(0)
    draws = np.random.RandomState(list(key))
    rows = np.arange(SEARCHES)
    places = (np.arange(len(names)) + 0.5) / len(names)
    start = np.searchsorted(np.cumsum(wanted)[:-1], places, side="right")
    parts = np.stack([start[draws.permutation(len(names))] for _ in rows])
    orders = [
        np.stack([draws.permutation(len(names))[:MOST_GROUPS] for _ in rows], 1)
        for _ in range(PASSES)
    ]
    # (searches, parts, classes): how much of each class each part has.
    held = np.zeros((SEARCHES, len(wanted), shares.shape[1]))
    for searched, part in zip(held, parts, strict=True):
        np.add.at(searched, part, shares)
    lacking = np.ones(len(wanted))
    lacking[0] = LACKING_FIRST

    def cost(held: Floats) -> Floats:
        deviation = (held - wanted[:, None]) ** 2 / wanted[:, None]
        absent = held < ROUNDING
        costs = deviation + lacking[:, None] * absent
        return np.asarray(costs.sum(2) + EMPTY * absent.all(2))

    for moved in np.concatenate(orders):
        share = shares[moved][:, None, :]
        home = parts[rows, moved]
        now, without, beside = cost(held), cost(held - share), cost(held + share)
        change = (without - now)[rows, home][:, None] + beside - now
        change[rows, home] = 0
        target = change.argmin(1)
        better = rows[change.min(1) < -ROUNDING]
        held[better, home[better]] -= share[better, 0]
        held[better, target[better]] += share[better, 0]
        parts[better, moved[better]] = target[better]
    best = cost(held).sum(1).argmin()
    return np.asarray(parts[best][group], dtype=np.int64)
