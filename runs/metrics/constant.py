"""What answers that look at no image earn: the floor that a network has to rise above."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.metrics.classification import OF_CLASSES, Answers
from attnsearch.runs.metrics.labels import OF_LABELS, LabelAnswers
from attnsearch.runs.metrics.masks import Counts, summary
from attnsearch.spaces.keys import CLASSIFICATION, SEGMENTATION, primary_metrics


def constant_classes(labels: NDArray[np.integer], classes: int) -> dict[str, float]:
    """Return the scores of one answer for all images: each class as likely as it is frequent.

    Args:
        labels: (N,), N > 0.
        classes: How many there are.

    Returns:
        Each primary metric of classification; NaN where undefined.
    """
    shares = np.bincount(labels, minlength=classes) / len(labels)
    said = np.tile(shares, (len(labels), 1))
    answers = Answers(said, labels, said.argmax(1))
    names = primary_metrics(CLASSIFICATION)
    return {name: OF_CLASSES["nll" if name == "loss" else name](answers) for name in names}


def constant_labels(labels: NDArray[np.integer]) -> dict[str, float]:
    """Return the scores of one answer for all images: each class as likely as it is frequent.

    Args:
        labels: (N, K) of 0 and 1, N > 0.

    Returns:
        Each primary metric of several classes an image; NaN where undefined.
    """
    answers = LabelAnswers(np.broadcast_to(labels.mean(0), labels.shape), labels)
    return {name: function(answers) for name, function in OF_LABELS.items()}


def constant_masks(counts: Counts, class_names: Sequence[str]) -> dict[str, float]:
    """Return the best scores of masks that are one class everywhere, the same in all images.

    Args:
        counts: Confusions (N, K, K) of some predictions, one per image; only what is true counts.
        class_names: One per class.

    Returns:
        Each primary metric of masks; the loss is that of the classes' shares of all pixels.
    """
    true = counts.sum(-1)
    best: dict[str, float] = {}
    for k in range(len(class_names)):
        said = np.zeros_like(counts)
        said[..., k] = true
        for name, value in summary(said, class_names).items():
            if name in primary_metrics(SEGMENTATION) and value == value:
                best[name] = max(value, best.get(name, value))
    shares = true.sum(0) / max(1, true.sum())
    best["loss"] = float(-(shares * np.log(np.where(shares > 0, shares, 1))).sum())
    return best
