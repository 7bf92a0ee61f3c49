"""A data set as training needs it: 8-bit images in memory or not, split and described.

`load_data` reads the source, applies the split that the config asks for, and checks the result.
Everything about reading is in `attnsearch.runs.readers`, about splitting in `splits`.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.blocks.hosts import size_name
from attnsearch.runs.data.dealing import class_counts
from attnsearch.runs.data.groups import read_groups
from attnsearch.runs.data.splits import Examples, assign_parts
from attnsearch.runs.keeping import Anywhere, Kept, count_values, pieces, take_rows
from attnsearch.runs.readers import (
    NO_PART,
    PARTS,
    Crop,
    DataError,
    Masks,
    Source,
    for_evaluation,
    listing,
    read_source,
    scored_classes,
)

SPLITS = (0.7, 0.15, 0.15)
SUM_BYTES = 2**22  # pixels summed at a time: they are widened first


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """One part of a data set. Its arrays are read-only, as Ray hands them to workers.

    Of tiled images, `images` are the N tiles, and labels, names and groups those of the M images.

    Attributes:
        images: (N, H, W, C) of uint8, C-contiguous; where they are not in memory, made when they
            are asked for.
        labels: (N,) of int64; of any number of classes an image (N, K) of 0 and 1; for
            segmentation (M,) zeros.
        names: One per example: the file's path in the source with `/`, or `train/000123`, its
            place in the source's arrays (also where the config moved it to another part).
        groups: One per example, or None if the config has no `data.groups`.
        masks: For segmentation. Of the training part at the network's size only.
    """

    images: Anywhere
    labels: NDArray[np.int64]
    names: list[str]
    groups: list[str] | None = None
    masks: Masks | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"<Split: {len(self):,} images>"


@dataclass(frozen=True, eq=False, repr=False)
class DataSet:
    """Images, labels and split of one source.

    Attributes:
        name: What a person calls the source: a file's or folder's name, or `digits`.
        train: The training part.
        val: The validation part.
        test: The test part. Exploring has no use for it; a development part has none.
        class_names: One per class, in the order of the labels.
        channels: 1 or 3.
        image_size: (H, W) of the training part, which networks are built for.
        mean: Of the training part, per channel, of pixels in 0..1.
        std: Likewise; 0 for a constant channel.
        fingerprint: SHA-256 of all pixels, labels and parts. It does not depend on paths.
        test_fingerprint: SHA-256 of the test examples and their labels as the source has them,
            whatever their order and whatever size or channels the config asks for.
        notes: What was skipped, converted or decided, one line each.
        task: "classification", "segmentation" or "multilabel".
        kept: Where the images lie, with the figures; None for a built-in set.
        eval_crop: How validation and test images are cut from the middle, see `data.eval_crop`;
            None where they are whole.
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
    task: str = "classification"
    kept: Kept | None = None
    eval_crop: Crop | None = None

    @property
    def eval_size(self) -> tuple[int, int]:
        """(H, W) of the validation and test parts, and of what a trained network is given."""
        _, height, width, _ = self.val.images.shape
        return height, width

    def __repr__(self) -> str:
        return f"<DataSet {self.describe()}>"

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    def where_kept(self, gpus: float) -> str:
        """Say where the images lie, for trials with so many cards; empty for a built-in set."""
        size = self.train.images.nbytes + self.val.images.nbytes
        return "" if self.kept is None else self.kept.told(size, gpus)

    def describe(self) -> str:
        """Return one line: what a person wants to know of a data set."""
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
        task: "classification", "segmentation" or "multilabel".

    Raises:
        DataError: If the data cannot be used as asked; the message says where and what to do.
    """
    source, evaluated = read_source(config, task), for_evaluation(config)
    if evaluated is None:
        return split_source(source, config, task)
    keep = {} if source.kept is None else {"keep": source.kept.how}
    shown = read_source({**evaluated, **keep}, task)
    if shown.names != source.names or shown.digests != source.digests:
        raise DataError(f"{source.name}: was changed while it was read; start again")
    return split_source(source, config, task, shown)


def split_source(
    source: Source, config: Mapping[str, Any], task: str, shown: Source | None = None
) -> DataSet:
    """Split and check what was read, as `load_data`.

    Args:
        source: As it is trained on.
        config: The `data` section of a resolved config.
        task: As for `load_data`.
        shown: As validation and tests see it; None for the same.
    """
    class_names = (
        _name_classes(source, config.get("classes"))
        if source.masks is None
        else list(source.class_names or ())
    )
    groups, notes = None, list(source.notes)
    if config.get("groups"):
        groups, said = read_groups(config["groups"], source.names)
        notes += said
    examples = Examples(
        source.labels,
        class_names if source.masks is None else ["image"],
        None if groups is None else np.array(groups),
        config.get("seed", 0),
        config.get("splits") or SPLITS,
    )
    dealing = [config.get(key) for key in ("folds", "fold", "development")]
    parts, said = assign_parts(source.parts, examples, *dealing)
    notes += said
    if source.masks is None:
        notes += _check_classes(parts, source, class_names)
    notes += _repeated(parts, source)
    if shown is not None:
        notes.append(_as_evaluated(shown, config.get("eval_crop")))
    splits = [
        _split(
            np.flatnonzero(parts == i),
            source if shown is None or part == "train" else shown,
            groups,
            whole_masks=part != "train",
        )
        for i, part in enumerate(PARTS)
    ]
    if source.masks is not None:
        notes += _check_pixels(splits, source.name, class_names)
    mean, std = _statistics(splits[0])
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
        task=task,
        kept=source.kept,
        eval_crop=config.get("eval_crop"),
    )


def _as_evaluated(shown: Source, crop: Crop | None) -> str:
    """Say what validation and tests see."""
    words = f"validation and test images are {size_name(shown.images.shape[1:3])} pixels"
    if crop is None:
        return words
    share = f"{crop:g} of the shorter side" if crop <= 1 else f"{crop} pixels on the shorter side"
    return f"{words}, the middle of images that keep their ratio: {share}"


def _name_classes(source: Source, classes: int | Sequence[str] | None) -> list[str]:
    """Return one name per class; labels outside of them are an error."""
    several = source.labels.ndim == 2
    least = int(source.labels.min())
    most = source.labels.shape[1] - 1 if several else int(source.labels.max())
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
    if several and len(names) != most + 1:
        raise DataError(
            f"{source.name}: labels of {most + 1} classes, but {len(names)} names of classes: "
            f"{listing(names, 10)}; data.classes names each column of the labels, in their order"
        )
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
    """Return error for a class that is not trained, a note for one that is not in val or test."""
    notes = []
    for number, part in enumerate(PARTS):
        counts = class_counts(source.labels[parts == number], len(class_names))
        lacking = [class_names[label] for label in np.flatnonzero(counts == 0).tolist()]
        if lacking and part == "train":
            raise DataError(
                f"{source.name}: no training images of class {listing(lacking)}; add some, leave "
                f"the class out, or change data.seed or data.splits where they made the split"
            )
        if lacking and counts.any():
            notes.append(f"no {part} images of class {listing(lacking)}")
    return notes


def _repeated(parts: NDArray[np.int64], source: Source) -> list[str]:
    """Return a note if the same image is in two parts."""
    first: dict[bytes, int] = {}
    pairs = []
    for row in np.flatnonzero(parts != NO_PART).tolist():
        other = first.setdefault(source.digests[row], row)
        if parts[other] != parts[row]:
            pairs.append(f"{source.names[other]} = {source.names[row]}")
    return [f"the same image in two parts: {listing(pairs, 3)}"] if pairs else []


def _check_pixels(splits: Sequence[Split], name: str, class_names: Sequence[str]) -> list[str]:
    """Return error for a class without training pixels, a note for one that val or test lacks."""
    notes = []
    for part, split in zip(PARTS, splits, strict=True):
        if split.masks is None or not len(split):
            continue
        # At the images' size, where metrics count, but for train: small things may be lost before.
        shown = split.masks.resized if split.masks.flat is None else split.masks.flat
        counts = count_values(shown)
        lacking = [label for k, label in enumerate(class_names) if not counts[k]]
        if lacking and part == "train":
            raise DataError(
                f"{name}: no training mask has a pixel of class {listing(lacking)} (at "
                f"data.image_size); add images, or change data.classes, data.image_size, or "
                f"data.seed where it made the split"
            )
        scored = [class_names[k] for k in scored_classes(class_names)]
        if part == "val" and (
            not counts[: len(class_names)].any()
            or (len(class_names) > 2 and set(scored) <= set(lacking))
        ):
            raise DataError(
                f"{name}: no validation mask has a pixel that counts, of the classes "
                f"{listing(scored)}: nothing could be measured; change data.seed or data.splits, "
                f"or see data.ignore_index"
            )
        if lacking:
            notes.append(f"no pixels of class {listing(lacking)} in {part}")
    return notes


def _split(
    rows: NDArray[np.int64],
    source: Source,
    groups: Sequence[str] | None,
    *,
    whole_masks: bool,
) -> Split:
    """Return the examples of one part, in the order of the source."""
    masks = None
    if source.masks is None:
        images = take_rows(source.images, rows)
    else:
        images = take_rows(source.images, np.flatnonzero(np.isin(source.masks.image, rows)))
        masks = source.masks.take(rows, keep_original=whole_masks)
    labels = source.labels[rows]
    labels.flags.writeable = False
    return Split(
        images,
        labels,
        [source.names[row] for row in rows],
        None if groups is None else [groups[row] for row in rows],
        masks,
    )


def _statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel in 0..1, from exact sums of whole numbers."""
    images, channels = split.images, split.images.shape[3]
    # What a tile has beyond its image is 0 and adds nothing to the sums.
    whole = math.prod(images.shape[:3])
    count = int(whole if split.masks is None else split.masks.cut.prod(1).sum())
    sums = np.zeros((2, math.prod(images.shape[1:])), dtype=np.uint64)
    step = max(1, SUM_BYTES // sums.shape[1])
    for piece in pieces(images):
        flat = piece.reshape(len(piece), -1)  # summed over images first: long rows are fast
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
    digest = hashlib.sha256()
    for part, split in zip(PARTS, splits, strict=True):
        digest.update(f"{part} {split.images.shape}".encode())
        digest.update(split.labels.astype("<i8").tobytes())
        arrays: list[Anywhere | None] = [split.images]
        if split.masks is not None:
            arrays += [split.masks.resized, split.masks.flat]
        for array in arrays:
            for piece in () if array is None else pieces(array):
                digest.update(piece.data)
    return digest.hexdigest()


def label_bytes(label: Any) -> bytes:
    """Return the label of an image, or its K labels of 0 and 1, as text."""
    return b"".join(b"%d" % one for one in np.atleast_1d(label))


def _content(source: Source, rows: NDArray[np.int64]) -> str:
    examples = sorted(source.digests[row] + label_bytes(source.labels[row]) for row in rows)
    return hashlib.sha256(b"".join(examples)).hexdigest()
