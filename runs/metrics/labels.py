"""Metrics of any number of classes an image: what a network says of each class by itself.

    mAP           mean over classes of average precision, sum of (R_n - R_n-1) P_n over thresholds
    AUROC         mean over classes of the area under the ROC curve
    macro F1      mean over classes of 2 TP / (2 TP + FP + FN)
    micro F1      the same of all classes' counts together
    exact match   share of the images of which every class is right
    accuracy over labels   share of all answers that are right, one for each image and class

What is counted as said has a probability of at least `THRESHOLD`. A class without what a metric
needs (positives for average precision; negatives too for AUROC; for F1 an image that shows it or
is said to) is left out of its mean. So all are equal to scikit-learn's over the other classes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.metrics.classification import area_under_curve, share_of
from attnsearch.runs.readers import class_key

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class LabelAnswers:
    """What a network said of each class of N > 0 images, and which of them they show.

    Attributes:
        probabilities: (N, K), each class by itself.
        labels: (N, K) of 0 and 1.
    """

    probabilities: Floats
    labels: Integers

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """(N, K), whether a class is said where it is shown, and not elsewhere."""
        right: NDArray[np.bool_] = (self.probabilities >= THRESHOLD) == (self.labels == 1)
        return right

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(2, K): twice the true positives, and the sum of all that are shown and all said."""
        shown, said = self.labels == 1, self.probabilities >= THRESHOLD
        return np.stack([2 * (shown & said).sum(0), shown.sum(0) + said.sum(0)])

    def by_class(self, metric: str) -> NDArray[np.float64]:
        """Return one of `OF_LABEL` of each class (K,); NaN where undefined."""
        if metric == "f1":
            return f1_of(self.counts)
        pairs = zip(self.probabilities.T, self.labels.T == 1, strict=True)
        return np.array([OF_LABEL[metric](scores, shown) for scores, shown in pairs])


def average_precision(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Return average precision, without interpolation; NaN without positives."""
    if not positive.any():
        return math.nan
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    found = np.cumsum(positive[order])[ends]
    return float((np.diff(found, prepend=0) * found / (ends + 1)).sum() / found[-1])


def f1_of(counts: Integers) -> NDArray[np.float64]:
    """Return F1 (...,) of counts (2, ...), see `LabelAnswers.counts`; NaN where nothing is."""
    with np.errstate(invalid="ignore"):
        return np.asarray(counts[0] / np.where(counts[1] > 0, counts[1], np.nan))


OF_LABEL: dict[str, Callable[[Floats, NDArray[np.bool_]], float]] = {
    "ap": average_precision,
    "auroc": area_under_curve,
}
"""What computes a metric of one class from scores and truth (N,) each."""

OF_LABELS: dict[str, Callable[[LabelAnswers], float]] = {
    "map": lambda a: _mean(a.by_class("ap")),
    "f1": lambda a: _mean(a.by_class("f1")),
    "micro_f1": lambda a: share_of(*a.counts.sum(1)),
    "auroc": lambda a: _mean(a.by_class("auroc")),
    "exact_match": lambda a: float(a.right.all(1).mean()),
    "label_accuracy": lambda a: float(a.right.mean()),
    "loss": lambda a: label_loss(a.probabilities, a.labels),
}
"""What computes a metric, by its name in `METRICS` of `spaces`."""


def label_metrics(
    logits: "Tensor", labels: Integers, class_names: Sequence[str], *, every: bool = False
) -> dict[str, float]:
    """Return what every epoch measures.

    The loss is the plain mean of binary cross-entropies in nats, whatever the training's is.

    Args:
        logits: (N, K), N > 0.
        labels: (N, K) of 0 and 1.
        class_names: One per class.
        every: Also AUROC and F1 of each class.

    Returns:
        Each of `OF_LABELS`, NaN where undefined, and `ap_<class>` of the classes that have one.
    """
    from torch import from_numpy  # here, so that reports start without torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    logits = logits.detach().double().cpu()
    answers = LabelAnswers(logits.float().sigmoid().numpy(), labels)
    values = {name: function(answers) for name, function in OF_LABELS.items()}
    truth = from_numpy(np.array(labels)).double()
    values["loss"] = float(binary_cross_entropy_with_logits(logits, truth))
    return values | of_each_class(
        answers, class_names, ("ap", "auroc", "f1") if every else ("ap",)
    )


def of_each_class(
    answers: LabelAnswers, class_names: Sequence[str], metrics: Sequence[str]
) -> dict[str, float]:
    """Return metrics of each class that has them: `ap_<class>`, `auroc_<class>`, `f1_<class>`."""
    return {
        f"{metric}_{class_key(name)}": float(value)
        for metric in metrics
        for name, value in zip(class_names, answers.by_class(metric), strict=True)
        if not math.isnan(value)
    }


def secondary_labels(probabilities: Floats, labels: Integers) -> dict[str, float]:
    """Return each of `OF_LABELS` of stored predictions (N, K); NaN where undefined."""
    answers = LabelAnswers(probabilities, labels)
    return {name: function(answers) for name, function in OF_LABELS.items()}


def label_loss(probabilities: Floats, labels: Integers) -> float:
    """Return mean binary cross-entropy over images and classes, in nats."""
    return float(image_losses(probabilities, labels).mean())


def image_losses(probabilities: Floats, labels: Integers) -> NDArray[np.float64]:
    """Return each image's mean binary cross-entropy over classes (N,), in nats."""
    of_truth = np.where(labels == 1, probabilities, 1 - probabilities.astype(np.float64))
    least = np.finfo(np.float32).tiny
    return np.asarray(-np.log(np.clip(of_truth.astype(np.float64), least, None)).mean(1))


def _mean(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan
