"""What each example of a data set holds, so that a change can be told by the names of files."""

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np

from attnsearch.runs.data.data import DataSet, Split, label_bytes
from attnsearch.runs.keeping import pieces
from attnsearch.runs.readers import PARTS, listing

_BYTES = 6  # of a hash: it tells two states of one file apart, and nothing rests on it


def example_contents(data: DataSet) -> dict[str, str]:
    """Return what each example holds, by its name: its part and a hash of its pixels and label."""
    return {
        name: f"{part} {digest}"
        for part in PARTS
        for name, digest in zip(
            getattr(data, part).names, _digests(getattr(data, part)), strict=True
        )
    }


def content_changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say which examples were changed, moved to another part, added and removed."""
    both = before.keys() & now.keys()
    changed = {name for name in both if before[name].split()[1] != now[name].split()[1]}
    kinds = {
        "changed": changed,
        "in another part": {name for name in both - changed if before[name] != now[name]},
        "new": now.keys() - before.keys(),
        "gone": before.keys() - now.keys(),
    }
    return "; ".join(
        f"{kind}: {listing(sorted(names), 3)}" for kind, names in kinds.items() if names
    )


def _digests(split: Split) -> Iterator[str]:
    masks = split.masks
    order = None if masks is None else np.argsort(masks.image, kind="stable")
    bounds = None if masks is None else np.searchsorted(masks.image[order], range(len(split) + 1))
    rows = (row for piece in pieces(split.images) for row in piece)
    for index in range(len(split)):
        digest = hashlib.blake2b(label_bytes(split.labels[index]), digest_size=_BYTES)
        if masks is None or order is None or bounds is None:
            digest.update(next(rows).data)
        else:
            for row in order[bounds[index] : bounds[index + 1]]:
                digest.update(split.images[row].data)
                digest.update(masks.resized[row].data)
            if masks.flat is not None:
                digest.update(np.ascontiguousarray(masks.original(index)).data)
        yield digest.hexdigest()
