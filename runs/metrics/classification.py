"""Classification metrics, equal to scikit-learn's and cheap enough for every epoch.

scikit-learn checks and converts its input in every function; here the confusion matrix is counted
once and every AUROC is one sort: 1 ms for 400 images of 10 classes instead of 20.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]


def classification_metrics(logits: "Tensor", labels: "Tensor") -> dict[str, float]:
    """Return loss, accuracy, balanced accuracy, macro F1 and AUROC of one set of predictions.

    The loss is the plain mean cross-entropy in nats, without label smoothing and class weights,
    so that trainings which differ in those stay comparable.

    Args:
        logits: (N, K), N > 0.
        labels: (N,), class indices.

    Returns:
        `loss`, `accuracy`, `balanced_accuracy`, `f1`, `auroc`.
    """
    import torch  # here, so that reports, which take the functions below, start without it

    logits, labels = logits.detach().float().cpu(), labels.cpu()
    classes = logits.shape[1]
    truth = labels.numpy()
    confusion = confusion_matrix(logits.argmax(1).numpy(), truth, classes)
    return {
        "loss": float(torch.nn.functional.cross_entropy(logits.double(), labels)),
        "accuracy": float(confusion.trace() / confusion.sum()),
        "balanced_accuracy": balanced_accuracy(confusion),
        "f1": macro_f1(confusion),
        "auroc": auroc(logits.softmax(1).numpy(), truth),
    }


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
    classes = probabilities.shape[1]
    columns = [1] if classes == 2 else range(classes)
    areas = [_area(probabilities[:, k], labels == k) for k in columns]
    defined = [area for area in areas if not math.isnan(area)]
    return float(np.mean(defined)) if defined else math.nan


def _area(scores: Floats, positive: NDArray[np.bool_]) -> float:
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return math.nan
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(ties) - (ties - 1) / 2  # tied scores share their mean rank, counted from 1
    rank_sum = float(rank[place][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
