"""Which metrics a part of the data can give, before anything is trained.

A metric that compares classes has no value where the part holds one of them. Where no pixel of a
class to find is in any mask, overlap tells nothing: a network that finds nothing has all of it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.keeping import count_values
from attnsearch.runs.readers import Masks, listing, scored_classes

_OF_OVERLAP = ("dice", "iou", "precision", "recall")
_OF_CLASS_MEANS = ("balanced_accuracy", "f1", "auroc")
_OF_LABEL_MEANS = ("map", "f1", "auroc")


def why_undefined(
    metric: str, labels: NDArray[np.int64], masks: Masks | None, class_names: Sequence[str]
) -> str | None:
    """Return why a part of the data cannot give a metric, or None if it can.

    Args:
        metric: Without its part: `auroc`.
        labels: (M,) of the part; with several classes an image (M, K).
        masks: Of the part, for segmentation.
        class_names: One per class.
    """
    if masks is not None:
        return _of_masks(metric, masks, class_names)
    if not len(labels):
        return "it has no images"
    if labels.ndim == 2:
        return _of_labels(metric, labels)
    present = np.unique(labels)
    if metric == "auroc" and len(present) < 2:
        return f"its images are of one class, {class_names[present[0]]}, and AUROC ranks two"
    return None


def left_out(metric: str, labels: NDArray[np.int64], class_names: Sequence[str]) -> list[str]:
    """Return the classes without images, which a mean over classes therefore leaves out.

    Args:
        metric: Without its part.
        labels: (M,) of the part; with several classes an image (M, K).
        class_names: One per class.
    """
    if labels.ndim == 2:
        lacking = labels.sum(0) == 0
        if metric == "auroc":
            lacking |= labels.all(0)
        lacking &= metric in _OF_LABEL_MEANS
        return [class_names[k] for k in np.flatnonzero(lacking).tolist()]
    if metric not in _OF_CLASS_MEANS:
        return []
    counts = np.bincount(labels, minlength=len(class_names))
    return [class_names[label] for label in np.flatnonzero(counts == 0).tolist()]


def _of_labels(metric: str, labels: NDArray[np.int64]) -> str | None:
    shown = labels.sum(0)
    if metric in (*_OF_LABEL_MEANS, "micro_f1") and not shown.any():
        return "no image of it shows any class"
    if metric == "auroc" and not ((shown > 0) & (shown < len(labels))).any():
        return "every class is shown by none or all of its images, and AUROC ranks two kinds"
    return None


def _of_masks(metric: str, masks: Masks, class_names: Sequence[str]) -> str | None:
    # At the images' size, where metrics count.
    shown = masks.resized if masks.flat is None else masks.flat
    counts = count_values(shown)[: len(class_names)]
    if not counts.any():
        return "no pixel of its masks counts"
    scored = scored_classes(class_names)
    if metric.removesuffix("_pooled") in _OF_OVERLAP and not counts[scored].any():
        names = listing([class_names[k] for k in scored])
        return f"no mask has a pixel of {names}, so that a network which finds nothing is right"
    return None
