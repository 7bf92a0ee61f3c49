"""Metrics of class predictions, equal to scikit-learn's and cheap enough for every epoch.

scikit-learn checks and converts its input in every function; here the confusion matrix is counted
once and every AUROC is one sort: 1 ms for 400 images of 10 classes instead of 20.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attnsearch.spaces.keys import CLASSIFICATION, primary_metrics

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

CALIBRATION_BINS = 15


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network said of N > 0 images, and what they show.

    Attributes:
        probabilities: (N, K).
        labels: (N,), class indices.
        predicted: (N,), class indices.
        threshold: With two classes, the probability of class 1 from which on an image counts as
            positive.
    """

    probabilities: Floats
    labels: Integers
    predicted: Integers
    threshold: float = math.nan

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """(K, K), see `confusion_matrix`."""
        return confusion_matrix(self.predicted, self.labels, self.probabilities.shape[1])

    @cached_property
    def at_threshold(self) -> NDArray[np.int64]:
        """(2, 2), the confusion matrix at the threshold."""
        positive = self.probabilities[:, 1] >= self.threshold
        return confusion_matrix(positive.astype(np.int64), self.labels, 2)


OF_CLASSES: dict[str, Callable[[Answers], float]] = {
    "accuracy": lambda a: float(a.confusion.trace() / a.confusion.sum()),
    "balanced_accuracy": lambda a: balanced_accuracy(a.confusion),
    "f1": lambda a: macro_f1(a.confusion),
    "auroc": lambda a: auroc(a.probabilities, a.labels),
    "auprc": lambda a: auprc(a.probabilities, a.labels),
    "nll": lambda a: nll(a.probabilities, a.labels),
    "brier": lambda a: brier(a.probabilities, a.labels),
    "calibration_error": lambda a: calibration_error(a.probabilities, a.labels),
}
"""What computes a metric, by its name in `METRICS` of `spaces`."""

AT_THRESHOLD: dict[str, Callable[[Answers], float]] = {
    "sensitivity": lambda a: share_of(a.at_threshold[1, 1], a.at_threshold[1].sum()),
    "specificity": lambda a: share_of(a.at_threshold[0, 0], a.at_threshold[0].sum()),
    "f1_at_threshold": lambda a: share_of(
        2 * a.at_threshold[1, 1], a.at_threshold[1].sum() + a.at_threshold[:, 1].sum()
    ),
}
"""Those of two classes that need a threshold."""


def classification_metrics(logits: "Tensor", labels: "Tensor") -> dict[str, float]:
    """Return what every epoch measures: the loss, and the primary metrics of classification.

    The loss is the plain mean cross-entropy in nats, without label smoothing and class weights,
    so that trainings which differ in those stay comparable.

    Args:
        logits: (N, K), N > 0.
        labels: (N,), class indices.
    """
    import torch  # here, so that reports, which take the functions below, start without it

    logits, labels = logits.detach().float().cpu(), labels.cpu()
    loss = float(torch.nn.functional.cross_entropy(logits.double(), labels))
    answers = Answers(logits.softmax(1).numpy(), labels.numpy(), logits.argmax(1).numpy())
    names = [name for name in primary_metrics(CLASSIFICATION) if name in OF_CLASSES]
    return {"loss": loss, **{name: OF_CLASSES[name](answers) for name in names}}


def secondary_metrics(
    probabilities: Floats, labels: Integers, threshold: float | None = None
) -> dict[str, float]:
    """Return what is reported beside the primary metric, with an interval and without a p.

    Args:
        probabilities: (N, K), N > 0.
        labels: (N,), class indices.
        threshold: With two classes, the probability of class 1 from which on an image counts as
            positive, fixed on validation data by `choose_threshold`; adds `AT_THRESHOLD`.

    Returns:
        Each of `OF_CLASSES`; NaN where undefined.
    """
    answers = Answers(
        probabilities,
        labels,
        probabilities.argmax(1),
        math.nan if threshold is None else threshold,
    )
    functions = dict(OF_CLASSES)
    if threshold is not None and probabilities.shape[1] == 2:
        functions |= AT_THRESHOLD
    return {name: function(answers) for name, function in functions.items()}


def confusion_matrix(predicted: Integers, labels: Integers, classes: int) -> NDArray[np.int64]:
    """Count (K, K): row = true class, column = predicted class."""
    cells = labels.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def balanced_accuracy(confusion: NDArray[np.int64]) -> float:
    """Return mean recall over the classes that occur in the labels."""
    images = confusion.sum(1)
    present = images > 0
    return float((confusion.diagonal()[present] / images[present]).mean())


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Return mean F1 over the classes that occur in the labels or in the predictions."""
    both = confusion.sum(0) + confusion.sum(1)
    present = both > 0
    return float((2 * confusion.diagonal()[present] / both[present]).mean())


def auroc(probabilities: Floats, labels: Integers) -> float:
    """Return area under the ROC curve, or of several the mean of one class against the rest.

    Each area is the normalised rank sum of Mann and Whitney, ties counting half. A class that is
    absent from the labels, or the only one there, has no area and is left out of the mean.

    Args:
        probabilities: (N, K). With K = 2 the column of class 1 is the score.
        labels: (N,).

    Returns:
        The area in 0..1; NaN where the labels hold fewer than two classes.
    """
    return _one_against_rest(area_under_curve, probabilities, labels)


def auprc(probabilities: Floats, labels: Integers) -> float:
    """Average precision of class 1, or with more classes the mean of each against the rest.

    Average precision is the step-wise sum over recall, without interpolation; a class that does
    not occur is left out.
    """
    from sklearn.metrics import average_precision_score  # a second that training does not need

    def area(scores: Floats, positive: NDArray[np.bool_]) -> float:
        return average_precision_score(positive, scores) if positive.any() else math.nan

    return _one_against_rest(area, probabilities, labels)


def nll(probabilities: Floats, labels: Integers) -> float:
    """Return mean negative log-likelihood, in nats."""
    taken = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(taken, np.finfo(np.float64).tiny, None)).mean())


def brier(probabilities: Floats, labels: Integers) -> float:
    """Return Brier's score (Monthly Weather Review 78, 1950): squared error over classes, 0..2."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities.astype(np.float64) - truth) ** 2).sum(1).mean())


def calibration_error(
    probabilities: Floats, labels: Integers, bins: int = CALIBRATION_BINS
) -> float:
    """Return expected calibration error of the predicted class (Guo et al., ICML 2017).

    Confidences fall in bins of equal width, (0, 1/15], ... (14/15, 1]; the error is the mean of
    |accuracy - confidence| over bins, weighted by their images. With few images it is biased
    upwards, so it compares arms on the same images and says little by itself.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def choose_threshold(probabilities: Floats, labels: Integers) -> float:
    """Return the probability of class 1 that maximises Youden's J, sensitivity + specificity - 1.

    Made for validation predictions; the threshold then stays as it is on the test data. Of equal
    ones the highest. Youden, Cancer 3, 1950.

    Args:
        probabilities: (N, 2).
        labels: (N,), 0 or 1.

    Returns:
        One of the probabilities of class 1; NaN where only one class occurs.
    """
    from sklearn.metrics import roc_curve

    positive = labels == 1
    if positive.all() or not positive.any():
        return math.nan
    false, true, thresholds = roc_curve(positive, probabilities[:, 1], drop_intermediate=False)
    return float(thresholds[1:][np.argmax((true - false)[1:])])


def _one_against_rest(
    area: Callable[[Floats, NDArray[np.bool_]], float], probabilities: Floats, labels: Integers
) -> float:
    """Return an area of class 1 of two, else the mean over the classes that have one, or NaN."""
    classes = probabilities.shape[1]
    columns = [1] if classes == 2 else range(classes)
    areas = [area(probabilities[:, k], labels == k) for k in columns]
    defined = [value for value in areas if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def area_under_curve(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Return the area under one ROC curve, from scores (N,); NaN where all are of one kind."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return math.nan
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(ties) - (ties - 1) / 2  # tied scores share their mean rank, counted from 1
    rank_sum = float(rank[place][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def share_of(part: np.integer, of: np.integer) -> float:
    """Return a ratio; NaN where nothing is counted."""
    return float(part / of) if of else math.nan
