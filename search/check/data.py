"""How much of each class a data set's parts hold: a part of `attnsearch check`."""

import numpy as np

from attnsearch.runs.data import DataSet, Split
from attnsearch.runs.readers import IGNORED, PARTS


def class_rows(data: DataSet) -> list[tuple[object, ...]]:
    """Return each class with its images in every part; of masks, its share of the pixels."""
    counted = _pixel_shares if data.task == "segmentation" else _class_counts
    columns = [counted(getattr(data, part), data.classes) for part in PARTS]
    return list(zip(data.class_names, *columns, strict=True))


def _class_counts(part: Split, classes: int) -> list[int]:
    return [int(count) for count in np.bincount(part.labels, minlength=classes)]


def _pixel_shares(part: Split, classes: int) -> list[str]:
    """Return the share of each class in the pixels that count, at the network's size."""
    if part.masks is None or not len(part):
        return ["-"] * classes
    counts = np.bincount(part.masks.resized.ravel(), minlength=IGNORED + 1)[:classes]
    return [f"{share:.1%}" for share in counts / max(1, counts.sum())]
