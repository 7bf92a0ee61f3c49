"""Images that stand in two parts of a data set, exactly or nearly: what training saw is tested.

Each image is reduced to a difference hash with real values: the differences between neighbours in
its 8x8 grey thumbnail, across and down, scaled to length 1. Two images are near-duplicates where
the product of their hashes is at least `NEAR`. That finds copies which were compressed, resized,
brightened by a fifth or made noisy (they have 0.985 and more), and not those that were cropped,
turned or mirrored. Different images of the digits, the hardest case, reach 0.977, but for one pair
that looks equal. The binary difference hash has no such gap on small images with an even
background, whose bits are noise.

Where all images share a layout (black corners of an endoscope, the outline of a chest) that layout
makes up the hash, and different images pass. So a pair is looked at again, at twice the scale: the
finer hashes must agree too, and where others in the first part are as like, what these have in
common is taken off before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.data.data import DataSet, Split, load_data
from attnsearch.runs.keeping import Anywhere, pieces
from attnsearch.runs.readers import PARTS, for_evaluation, for_training, listing

SIDE = 8
NEAR = 0.98
_NEAR_FINE = 0.95  # at twice the scale, where noise counts for more
_NEAR_APART = 0.7  # of what is left without the common layout
_LAYOUT = 0.95  # likeness from which on images have a layout in common
_SHARING = (4, 32)  # how many others make it common, and how many are averaged at most
_AT_ONCE = 512  # images that are compared with all others in one go, or fewer
_LIKENESS_BYTES = 2**28
_FLAT = 1e-3  # length of the differences of an image without content: it is like no other

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Duplicate:
    """Two images of different parts that are the same, or nearly.

    Attributes:
        parts: Of the first and the second: `train` and `test`.
        names: Of the first and the second.
        exact: Whether all pixels are equal.
        same_class: Whether the labels are equal.
    """

    parts: tuple[str, str]
    names: tuple[str, str]
    exact: bool
    same_class: bool


def duplicates_in(data: DataSet, config: Mapping[str, Any], task: str) -> list[str]:
    """Describe images in two parts of a data set, of any fold where it has folds.

    Args:
        data: The data set.
        config: The `data` section that it was read by.
        task: As for `load_data`.

    Raises:
        DataError: A fold cannot be dealt.
    """
    sets = [data]
    if for_evaluation(config):  # a copy may be cut otherwise than what it is a copy of
        config = for_training(config)
        sets = [load_data(config, task)]
    if config["folds"] and config["fold"] is None:
        sets = [load_data({**config, "fold": fold}, task) for fold in range(config["folds"])]
    notes = [
        note
        for one in sets
        for note in duplicate_notes(find_duplicates({part: getattr(one, part) for part in PARTS}))
    ]
    return list(dict.fromkeys(notes))


def find_duplicates(splits: Mapping[str, Split]) -> list[Duplicate]:
    """Return the images that have a duplicate in an earlier part, each with the nearest one.

    Args:
        splits: By part: `train`, `val`, `test`; all of one size and number of channels.
    """
    parts = [part for part in PARTS if part in splits and len(splits[part])]
    hashes = {part: _hashes(splits[part]) for part in parts}
    couples = [(first, second) for i, second in enumerate(parts) for first in parts[:i]]
    return [pair for couple in couples for pair in _pairs(*couple, splits, hashes)]


def _hashes(split: Split) -> Floats:
    """Return the hashes of a part's examples; of a padded tile that of one without content."""
    hashes = hashes_of(split.images)
    if split.masks is not None:
        whole = (split.masks.cut == split.images.shape[1:3]).all(1)
        hashes[~whole] = 0
    return hashes


def duplicate_notes(pairs: Sequence[Duplicate]) -> list[str]:
    """Say how many images of each part are in another, and names some.

    Args:
        pairs: As `find_duplicates` gives them.
    """
    notes = []
    for exact in (True, False):
        for parts in dict.fromkeys(pair.parts for pair in pairs):
            alike = [pair for pair in pairs if pair.parts == parts and pair.exact == exact]
            if not alike:
                continue
            names = listing([f"{pair.names[1]} = {pair.names[0]}" for pair in alike], 3)
            is_like = "equal" if exact else "nearly equal"
            other = sum(1 for pair in alike if not pair.same_class)
            labels = f"; {other} of them with another label" if other else ""
            notes.append(
                f"{len(alike)} of the {parts[1]} images {is_like} an image of {parts[0]}{labels}: "
                f"{names if exact else names.replace(' = ', ' ~ ')}; {_advice(exact, other)}"
            )
    return notes


def _advice(exact: bool, other: int) -> str:
    """Say what to do about images in two parts.

    Args:
        exact: Whether all their pixels are equal.
        other: How many have another label.
    """
    if exact:
        first = "one label of each such pair is wrong, correct it; then " if other else ""
        return f"{first}leave them out, or keep what belongs together in one part with data.groups"
    if other:
        return (
            "look at these pairs first: they may only look alike, and are then right where they "
            "are; leave out what is a copy, or keep it in one part with data.groups"
        )
    return (
        "look at some: leave out copies, or keep what belongs together, such as frames of one "
        "patient, in one part with data.groups"
    )


def hashes_of(images: Anywhere, side: int = SIDE) -> Floats:
    """Return hash of each image, (N, 2 * 8 * 7), of length 1, or 0 for an image without content.

    Args:
        images: (N, H, W, C).
        side: Of the thumbnail.
    """
    _, height, width, channels = images.shape
    mean = np.full(channels, 1 / channels, dtype=np.float32)
    down, across = _averages(height, side), _averages(width, side)
    differences = np.empty((len(images), 2 * side * (side - 1)), dtype=np.float32)
    start = 0
    for piece in pieces(images):
        grey = piece.astype(np.float32) @ mean
        small = down @ grey @ across.T
        steps = [np.diff(small, axis=axis).reshape(len(small), -1) for axis in (1, 2)]
        differences[start : start + len(piece)] = np.concatenate(steps, 1)
        start += len(piece)
    lengths = np.linalg.norm(differences, axis=1, keepdims=True)
    return np.where(lengths > _FLAT, differences / np.maximum(lengths, _FLAT), 0).astype(
        np.float32
    )


def _averages(pixels: int, side: int) -> Floats:
    """Return (side, pixels): the weights that average a line of pixels down to so many."""
    edges = np.linspace(0, pixels, side + 1)
    lows, highs = np.maximum(edges[:-1, None], np.arange(pixels)), edges[1:, None]
    covered = np.clip(np.minimum(highs, np.arange(1, pixels + 1)) - lows, 0, None)
    weights: Floats = (covered / covered.sum(1, keepdims=True)).astype(np.float32)
    return weights


def _pairs(
    first: str, second: str, splits: Mapping[str, Split], hashes: Mapping[str, Floats]
) -> list[Duplicate]:
    """Return pairs of images; of several tiles of one image that are like others, the likest."""
    one, other = splits[first], splits[second]
    owners, others = _owners(one), _owners(other)
    likest: dict[int, tuple[bool, float, Duplicate]] = {}
    at_once = max(1, min(_AT_ONCE, _LIKENESS_BYTES // (4 * len(hashes[first]))))
    for start in range(0, len(hashes[second]), at_once):
        likeness = hashes[second][start : start + at_once] @ hashes[first].T
        for row in np.flatnonzero(likeness.max(1) >= NEAR).tolist():
            here = start + row
            there = _copied(other.images[here], one.images, likeness[row])
            if there is None:
                continue
            image, like = int(others[here]), int(owners[there])
            pair = Duplicate(
                (first, second),
                (one.names[like], other.names[image]),
                bool((one.images[there] == other.images[here]).all()),
                bool(np.array_equal(one.labels[like], other.labels[image])),
            )
            rank = (pair.exact, float(likeness[row, there]))
            if image not in likest or rank > likest[image][:2]:
                likest[image] = (*rank, pair)
    return [pair for _, _, pair in likest.values()]


def _copied(image: NDArray[np.uint8], others: Anywhere, likeness: Floats) -> int | None:
    """Return which of some images this one is a copy of, or None.

    Args:
        image: (H, W, C).
        others: (N, H, W, C).
        likeness: (N,) of their hashes with that of the image.
    """
    least, most = _SHARING
    likest = np.argsort(-likeness, kind="stable")[: most + 1]
    likest = likest[likeness[likest] >= _LAYOUT]
    for place in likest[likeness[likest] >= NEAR].tolist():
        if (others[place] == image).all():
            return int(place)
    side = min(2 * SIDE, *image.shape[:2])
    own, fine = hashes_of(image[None], side)[0], hashes_of(others[likest], side)
    alike = fine @ own
    if len(fine) > least:
        # Each against what the others have in common.
        common = (fine.sum(0) - fine) / (len(fine) - 1)
        ours, theirs = own - common, fine - common
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        apart = (ours * theirs).sum(1) >= _NEAR_APART * lengths
        alike = np.where(apart, alike, 0)
    nearest = int(alike.argmax())
    if alike[nearest] < _NEAR_FINE:
        return None
    return int(likest[nearest])


def _owners(split: Split) -> NDArray[np.int64]:
    """Return the image that each example of a part shows or is cut from."""
    return np.arange(len(split.images)) if split.masks is None else split.masks.image
