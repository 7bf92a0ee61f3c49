"""Secondary metrics, from the stored predictions of single images."""

import math

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_curve

from attnsearch.runs.metrics.classification import (
    auroc,
    balanced_accuracy,
    confusion_matrix,
    macro_f1,
)

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

CALIBRATION_BINS = 15


def secondary_metrics(
    probabilities: Floats, labels: Integers, threshold: float | None = None
) -> dict[str, float]:
    """Return what is reported beside the primary metric, with an interval and without a p.

    Args:
        probabilities: (N, K), N > 0.
        labels: (N,), class indices.
        threshold: With two classes, the probability of class 1 from which on an image counts as
            positive, fixed on validation data by `choose_threshold`; adds the last three metrics.

    Returns:
        `accuracy`, `balanced_accuracy` (mean recall over the classes that occur), `f1` (macro),
        `auroc` and `auprc` (average precision; both one class against the rest, unweighted mean),
        `nll` (nats), `brier` (sum over the classes, 0..2), `calibration_error`, and with a
        threshold `sensitivity`, `specificity` and `f1_at_threshold`. NaN where undefined.
    """
    confusion = confusion_matrix(probabilities.argmax(1), labels, probabilities.shape[1])
    metrics = {
        "accuracy": float(confusion.trace() / confusion.sum()),
        "balanced_accuracy": balanced_accuracy(confusion),
        "f1": macro_f1(confusion),
        "auroc": auroc(probabilities, labels),
        "auprc": auprc(probabilities, labels),
        "nll": nll(probabilities, labels),
        "brier": brier(probabilities, labels),
        "calibration_error": calibration_error(probabilities, labels),
    }
    if threshold is not None and probabilities.shape[1] == 2:
        metrics |= _at_threshold(probabilities[:, 1] >= threshold, labels == 1)
    return metrics


def auprc(probabilities: Floats, labels: Integers) -> float:
    """Average precision of class 1, or with more classes the mean of each against the rest.

    Average precision is the step-wise sum over recall, without interpolation; a class that does
    not occur is left out.
    """
    classes = probabilities.shape[1]
    columns = [1] if classes == 2 else range(classes)
    present = [k for k in columns if (labels == k).any()]
    areas = [average_precision_score(labels == k, probabilities[:, k]) for k in present]
    return float(np.mean(areas)) if areas else math.nan


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
    positive = labels == 1
    if positive.all() or not positive.any():
        return math.nan
    false, true, thresholds = roc_curve(positive, probabilities[:, 1], drop_intermediate=False)
    return float(thresholds[1:][np.argmax((true - false)[1:])])


def _at_threshold(predicted: NDArray[np.bool_], positive: NDArray[np.bool_]) -> dict[str, float]:
    confusion = confusion_matrix(predicted.astype(np.int64), positive.astype(np.int64), 2)
    (true_negative, false_positive), (false_negative, true_positive) = confusion.tolist()

    def share(part: int, of: int) -> float:
        return part / of if of else math.nan

    return {
        "sensitivity": share(true_positive, true_positive + false_negative),
        "specificity": share(true_negative, true_negative + false_positive),
        "f1_at_threshold": share(
            2 * true_positive, 2 * true_positive + false_positive + false_negative
        ),
    }
