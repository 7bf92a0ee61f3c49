"""A data set as training needs it: all images in memory as 8-bit arrays, split and described.

`load_data` reads the source, applies the split that the config asks for, and checks the result.
Everything about reading is in `digits`, `npz` and `folders`, about splitting in `splits`.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.digits import read_digits
from attnsearch.runs.folders import read_folder
from attnsearch.runs.groups import read_groups
from attnsearch.runs.npz import read_npz
from attnsearch.runs.source import NO_PART, PARTS, DataError, Source, listing
from attnsearch.runs.splits import assign_parts

__all__ = ["DataError", "DataSet", "Split", "load_data"]

SPLITS = (0.7, 0.15, 0.15)
SUM_BYTES = 2**22  # pixels summed at a time: they are widened first


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set. Its arrays are read-only, as Ray hands them to workers.

    Attributes:
        images: (N, H, W, C) of uint8, C-contiguous.
        labels: (N,) of int64.
        names: One per example: the file's path in the source with `/`, or `train/000123`, its
            place in the source's arrays (also where the config moved it to another part).
        groups: One per example, or None if the config has no `data.groups`.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: list[str]
    groups: list[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images, labels and split of one source.

    Attributes:
        name: What a person calls the source: a file's or folder's name, or `digits`.
        train: The training part.
        val: The validation part.
        test: The test part. Exploring has no use for it.
        class_names: One per class, in the order of the labels.
        channels: 1 or 3.
        image_size: (H, W).
        mean: Of the training part, per channel, of pixels in 0..1.
        std: Likewise; 0 for a constant channel.
        fingerprint: SHA-256 of all pixels, labels and parts. It does not depend on paths.
        test_fingerprint: SHA-256 of the test examples and their labels as the source has them,
            whatever their order and whatever size or channels the config asks for.
        notes: What was skipped, converted or decided, one line each.
    """

    name: str
    train: Split
    val: Split
    test: Split
    class_names: list[str]
    channels: int
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    test_fingerprint: str
    notes: list[str]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    def describe(self) -> str:
        """One line: what a person wants to know of a data set."""
        height, width = self.image_size
        sizes = " + ".join(f"{len(getattr(self, part)):,} {part}" for part in PARTS)
        colour = "grey" if self.channels == 1 else "colour"
        groups = sum(len(set(getattr(self, part).groups or ())) for part in PARTS)
        return (
            f"{self.name}: {self.classes} classes, {sizes}"
            + (f" in {groups:,} groups" if groups else "")
            + f", {height}x{width} {colour}"
        )


def load_data(config: Mapping[str, Any], task: str = "classification") -> DataSet:
    """Read, split and check a data set.

    Args:
        config: The `data` section of a resolved config. `source` and `image_size` are required.
        task: "classification".

    Raises:
        DataError: If the data cannot be used as asked; the message says where and what to do.
    """
    if task != "classification":
        raise DataError(f"task: {task!r} has no data reader; use classification")
    source = _read(config)
    class_names = _name_classes(source, config.get("classes"))
    groups, notes = None, list(source.notes)
    if config.get("groups"):
        groups, said = read_groups(config["groups"], source.names)
        notes += said
    seed = config.get("seed", 0)
    parts, said = assign_parts(
        source.parts,
        source.labels,
        class_names,
        groups,
        seed,
        config.get("splits") or SPLITS,
        config.get("folds"),
        config.get("fold"),
    )
    notes += said
    notes += _check_classes(parts, source, class_names)
    notes += _repeated(parts, source)
    splits = [_split(np.flatnonzero(parts == i), source, groups) for i in range(len(PARTS))]
    mean, std = _statistics(splits[0].images)
    _, height, width, channels = source.images.shape
    test = np.flatnonzero(parts == PARTS.index("test"))
    return DataSet(
        name=source.name,
        train=splits[0],
        val=splits[1],
        test=splits[2],
        class_names=class_names,
        channels=channels,
        image_size=(height, width),
        mean=mean,
        std=std,
        fingerprint=_fingerprint(splits),
        test_fingerprint=_content(source, test),
        notes=notes,
    )


def _read(config: Mapping[str, Any]) -> Source:
    """The source, by what `data.source` is."""
    given, size, channels = config["source"], config["image_size"], config.get("channels")
    seed, classes = config.get("seed", 0), config.get("classes")
    if given is None:
        raise DataError(
            "data.source is null: this network can be checked and built, but not trained; give "
            "digits or a path"
        )
    path = Path(given)
    if given == "digits":
        return read_digits(size, seed, channels)
    if path.is_dir():
        try:
            return read_folder(path, size, channels, None if isinstance(classes, int) else classes)
        except OSError as error:
            raise DataError(f"data.source: {path} cannot be read: {error}") from None
    if path.suffix.lower() == ".npz" and path.is_file():
        return read_npz(path, size, channels)
    if path.exists():
        raise DataError(f"data.source: {path} is neither an .npz file nor a folder")
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, [*siblings, "digits"], 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise DataError(
        f"data.source: {path} does not exist{hint} (a path is relative to the space file, from "
        f"--set to the current folder; `digits` is built in)"
    )


def _name_classes(source: Source, classes: int | Sequence[str] | None) -> list[str]:
    """One name per class; labels outside of them are an error."""
    least, most = int(source.labels.min()), int(source.labels.max())
    if isinstance(classes, int):
        names = source.class_names or [str(label) for label in range(classes)]
        if len(names) != classes:
            raise DataError(
                f"data.classes: {classes}, but {source.name} names {len(names)} classes: "
                f"{listing(names, 10)}"
            )
    else:
        names = list(classes or source.class_names or map(str, range(most + 1)))
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{source.name}: two classes are called {listing(doubled)}; rename one")
    if least < 0 or most >= len(names):
        wrong = least if least < 0 else most
        row = int(np.flatnonzero(source.labels == wrong)[0])
        raise DataError(
            f"{source.name}: label {wrong} of {source.names[row]} is out of range: "
            f"{len(names)} classes have labels 0..{len(names) - 1}"
        )
    if len(names) < 2:
        raise DataError(f"{source.name}: only one class ({listing(names)}); two are needed")
    return names


def _check_classes(
    parts: NDArray[np.int64], source: Source, class_names: Sequence[str]
) -> list[str]:
    """An error for a class that is not trained, a note for one that is not in val or test."""
    notes = []
    for number, part in enumerate(PARTS):
        counts = np.bincount(source.labels[parts == number], minlength=len(class_names))
        lacking = [class_names[label] for label in np.flatnonzero(counts == 0).tolist()]
        if lacking and part == "train":
            raise DataError(
                f"{source.name}: no training images of class {listing(lacking)}; add some, leave "
                f"the class out, or change data.seed or data.splits where they made the split"
            )
        if lacking:
            notes.append(f"no {part} images of class {listing(lacking)}")
    return notes


def _repeated(parts: NDArray[np.int64], source: Source) -> list[str]:
    """A note if the same image is in two parts."""
    first: dict[bytes, int] = {}
    pairs = []
    for row in np.flatnonzero(parts != NO_PART).tolist():
        other = first.setdefault(source.digests[row], row)
        if parts[other] != parts[row]:
            pairs.append(f"{source.names[other]} = {source.names[row]}")
    return [f"the same image in two parts: {listing(pairs, 3)}"] if pairs else []


def _split(rows: NDArray[np.int64], source: Source, groups: Sequence[str] | None) -> Split:
    """The examples of one part, in the order of the source."""
    start, stop = int(rows[0]), int(rows[-1]) + 1
    whole = stop - start == len(rows)  # a part that lies in one piece needs no copy
    images = source.images[start:stop] if whole else source.images[rows]
    labels = source.labels[rows]
    images.flags.writeable = labels.flags.writeable = False
    return Split(
        images,
        labels,
        [source.names[row] for row in rows],
        None if groups is None else [groups[row] for row in rows],
    )


def _statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel in 0..1, from exact sums of whole numbers."""
    count, channels = images[..., 0].size, images.shape[3]
    flat = images.reshape(len(images), -1)  # summed over images first: long rows are fast
    sums = np.zeros((2, flat.shape[1]), dtype=np.uint64)
    step = max(1, SUM_BYTES // flat.shape[1])
    for start in range(0, len(flat), step):
        pixels = flat[start : start + step].astype(np.uint16)
        sums[0] += pixels.sum(0, dtype=np.uint64)
        sums[1] += (pixels * pixels).sum(0, dtype=np.uint64)
    totals, squares = sums.reshape(2, -1, channels).sum(1).tolist()
    mean = tuple(total / count / 255 for total in totals)
    # Python's whole numbers are exact, so nothing cancels in this difference.
    variances = [count * square - total**2 for total, square in zip(totals, squares, strict=True)]
    return mean, tuple(math.sqrt(variance) / count / 255 for variance in variances)


def _fingerprint(splits: Sequence[Split]) -> str:
    found = hashlib.sha256()
    for part, split in zip(PARTS, splits, strict=True):
        found.update(f"{part} {split.images.shape}".encode())
        found.update(split.labels.astype("<i8").tobytes())
        found.update(split.images.data)
    return found.hexdigest()


def _content(source: Source, rows: NDArray[np.int64]) -> str:
    examples = sorted(source.digests[row] + b"%d" % source.labels[row] for row in rows)
    return hashlib.sha256(b"".join(examples)).hexdigest()
