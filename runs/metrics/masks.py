"""Overlap and distance of predicted and true masks, per image and pooled.

With TP, FP and FN the pixels of a class that both masks have, only the prediction, only the truth:

    Dice = 2 TP / (2 TP + FP + FN)    IoU = TP / (TP + FP + FN)
    precision = TP / (TP + FP)        recall = TP / (TP + FN)

*Per image* figures are means over the images, *pooled* ones count the pixels of all images
together. With two classes only the second one counts, else all but one called `background`.

Where an image has a class in neither mask there is nothing to find, and nothing was found: with
two classes this counts as 1 (and as a distance of 0); with more, the class is left out of that
image's mean, since otherwise rare classes would look easy. A class in one mask only counts as 0,
and as a distance of the image's diagonal. Precision where nothing was predicted, and recall where
nothing is there, follow the same rule.

HD95, the Hausdorff distance in pixels of the original image, is the larger of two 95th
percentiles: of the distances from one mask's border pixels to the other's nearest, and the other
way round. Borders and distances are scipy's (`binary_erosion`, `distance_transform_edt`).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.metrics.classification import confusion_matrix
from attnsearch.runs.readers import IGNORED, class_key, scored_classes
from attnsearch.spaces.keys import METRICS

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

OF_MASKS: dict[str, Callable[[Floats, Counts, Counts], Floats]] = {
    "dice": lambda both, true, predicted: 2 * both / (true + predicted),
    "iou": lambda both, true, predicted: both / (true + predicted - both),
    "precision": lambda both, true, predicted: np.where(predicted > 0, both / predicted, 0.0),
    "recall": lambda both, true, predicted: np.where(true > 0, both / true, 0.0),
}
"""What computes a share from the pixels of a class in both masks, the true and the predicted one,
(...,) each, by its name in `METRICS` of `spaces`."""


def confusion(predicted: NDArray[np.integer], truth: NDArray[np.integer], classes: int) -> Counts:
    """Count pixels (K, K) by true class (row) and predicted class (column), ignored ones not."""
    counted = truth != IGNORED
    return confusion_matrix(predicted[counted], truth[counted], classes)


def shares(counts: Counts) -> dict[str, Floats]:
    """Return each of `OF_MASKS` of each class, (..., K), from confusions (..., K, K).

    NaN where a class is in neither mask.
    """
    both = counts.diagonal(axis1=-2, axis2=-1).astype(np.float64)
    true, predicted = counts.sum(-1), counts.sum(-2)
    present = true + predicted > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            name: np.where(present, share(both, true, predicted), np.nan)
            for name, share in OF_MASKS.items()
        }


def per_image(counts: Counts, class_names: Sequence[str]) -> dict[str, Floats]:
    """Return each share of each image, (N,), the mean over classes that count; NaN without any.

    With two classes an image has one unless all of its pixels are ignored.

    Args:
        counts: Confusions (N, K, K).
        class_names: One per class.
    """
    scored = scored_classes(class_names)
    figures = {}
    for name, values in shares(counts).items():
        chosen = values[:, scored]
        if len(class_names) == 2:
            empty = np.isnan(chosen) & (counts.sum((-2, -1)) > 0)[:, None]
            chosen = np.where(empty, 1.0, chosen)
        figures[name] = _mean(chosen, axis=1)
    return figures


def summary(counts: Counts, class_names: Sequence[str]) -> dict[str, float]:
    """Return the figures of a part of the data.

    Args:
        counts: Confusions (N, K, K), one per image.
        class_names: One per class.

    Returns:
        Each of `OF_MASKS` per image; `dice_pooled` and `iou_pooled`; `accuracy`,
        the share of pixels that are right, pooled; with more than two classes `dice_<class>` and
        `iou_<class>` per image, over the images that have the class in either mask.
    """
    figures = {
        name: float(_mean(values, axis=0))
        for name, values in per_image(counts, class_names).items()
    }
    pooled, total = shares(counts.sum(0)), counts.sum()
    scored = scored_classes(class_names)
    for name in OF_MASKS:
        if f"{name}_pooled" not in METRICS:
            continue
        value = float(_mean(pooled[name][scored], axis=0))
        empty = math.isnan(value) and len(class_names) == 2 and total > 0
        figures[f"{name}_pooled"] = 1.0 if empty else value
    figures["accuracy"] = float(counts.sum(0).trace() / total) if total else math.nan
    if len(class_names) > 2:
        each = shares(counts)
        for k in scored:
            key = class_key(class_names[k])
            for name, values in each.items():
                if METRICS[name].by_class:
                    figures[f"{name}_{key}"] = float(_mean(values[:, k], axis=0))
    return figures


def hd95(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8], class_names: Sequence[str]
) -> float:
    """Return the Hausdorff distance of one image in pixels, the mean over the classes that count.

    Ignored pixels belong to no class. NaN where no pixel counts, and, with more than two classes,
    where no class that counts is in either mask.

    Args:
        predicted: (h, w), the class of each pixel.
        truth: (h, w).
        class_names: One per class.
    """
    counted = truth != IGNORED
    distances = []
    for k in scored_classes(class_names):
        ours, theirs = (predicted == k) & counted, truth == k
        if not ours.any() and not theirs.any():
            if len(class_names) == 2 and counted.any():
                distances.append(0.0)
        elif not ours.any() or not theirs.any():
            distances.append(math.hypot(*truth.shape))
        else:
            distances.append(_border_distance(ours, theirs))
    return float(np.mean(distances)) if distances else math.nan


OF_MASK = {"hd95": hd95}
"""What computes a metric of one image that takes too long for every epoch, by its name."""


def _border_distance(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    from scipy.ndimage import binary_erosion, distance_transform_edt

    borders = [mask & ~binary_erosion(mask) for mask in _cropped(ours, theirs)]
    to_border = [distance_transform_edt(~border) for border in borders]
    ways = (to_border[1][borders[0]], to_border[0][borders[1]])
    return float(max(np.percentile(way, 95) for way in ways))


def _cropped(*masks: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Cut the part out of masks that holds all their pixels, with one around it."""
    rows, columns = (np.flatnonzero(np.logical_or(*masks).any(axis)) for axis in (1, 0))
    box = tuple(slice(max(0, where[0] - 1), where[-1] + 2) for where in (rows, columns))
    return [np.ascontiguousarray(mask[box]) for mask in masks]


def _mean(values: Floats, axis: int) -> Any:
    """Return the mean of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(values)
    count = defined.sum(axis)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(axis) / np.where(count > 0, count, np.nan)
