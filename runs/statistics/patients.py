"""The scope of new patients: what would hold for other patients, and for other seeds.

The design is that of multi-reader studies, every seed "reads" every patient: seeds and patients
are crossed random effects on the patients' pseudo-values (Dorfman, Berbaum and Metz, Investigative
Radiology 27, 1992).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from attnsearch.runs.metrics import THRESHOLD, balanced_accuracy, f1_of, image_losses, macro_f1

Floats = NDArray[np.float64]
Integers = NDArray[np.integer]
Numbers = NDArray[Any]

LEAST_PATIENTS = 10  # below, their variance is a guess


def new_patients_interval(
    differences: Floats, level: float
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return interval of the mean difference over new seeds and new patients.

    With the mean squares S of n seeds, C of p patients and E of what is left, the variance of the
    mean is (S + max(C - E, 0)) / (n p), never below that over seeds alone, and its degrees of
    freedom are Satterthwaite's (Biometrics Bulletin 2, 1946), but never below the n - 1 over
    seeds alone: where C is just above E and S is small they fall towards 0, and the interval
    would be of any length.

    Args:
        differences: (..., n, p), arm less reference, of every seed on every patient; n, p > 1.
        level: Confidence level, such as 0.95.

    Returns:
        Mean, lower end, upper end and degrees of freedom, (...) each.
    """
    n, p = differences.shape[-2:]
    mean = differences.mean((-2, -1))
    seeds, patients = differences.mean(-1), differences.mean(-2)
    rest = differences - seeds[..., :, None] - patients[..., None, :] + mean[..., None, None]
    s = p * seeds.var(-1, ddof=1)
    c = n * patients.var(-1, ddof=1)
    e = (rest**2).sum((-2, -1)) / ((n - 1) * (p - 1))
    crossed = c > e
    total = s + np.where(crossed, c - e, 0)
    spread = s**2 / (n - 1) + np.where(crossed, c**2 / (p - 1) + e**2 / ((n - 1) * (p - 1)), 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.maximum(np.where(spread > 0, total**2 / spread, n - 1), n - 1)
    half = scipy.stats.t.isf((1 - level) / 2, df) * np.sqrt(total / (n * p))
    return mean, mean - half, mean + half, df


def case_values(
    metric: str, probabilities: Floats, labels: Integers, groups: Sequence[object] | None = None
) -> Floats | None:
    """Return jackknife pseudo-values of a classification metric, one a patient.

    With the metric T on all P patients and T_k on all but the k-th, they are P T - (P - 1) T_k,
    shifted so that their mean is T. For accuracy, one image a patient, these are just 0 and 1.

    Args:
        metric: `accuracy`, `balanced_accuracy`, `f1`, `auroc`, `loss` or `nll`; of any number of
            classes an image `map`, `f1`, `micro_f1`, `auroc`, `exact_match`, `label_accuracy`,
            `loss`.
        probabilities: (N, K).
        labels: (N,), or (N, K) of 0 and 1.
        groups: N patients' names; None takes every image for a patient.

    Returns:
        (P,), patients in the sorted order of their names (images in theirs). None for another
        metric, with fewer than `LEAST_PATIENTS`, or where the metric is undefined or another one
        without some patient, as where a class is one patient's only.
    """
    owner = _owners(len(labels), groups)
    if owner is None:
        return None
    if labels.ndim == 2:
        found = _of_labels(metric, probabilities, labels, owner)
        return found if found is not None and np.isfinite(found).all() else None
    images = np.arange(len(labels))
    if metric == "accuracy":
        return _of_mean(probabilities.argmax(1) == labels, owner)
    if metric in ("loss", "nll"):
        taken = np.clip(probabilities[images, labels], np.finfo(float).tiny, None)
        return _of_mean(-np.log(taken), owner)
    if metric in ("balanced_accuracy", "f1"):
        values = _of_confusion(metric, probabilities, labels, owner)
    elif metric == "auroc":
        values = _of_auroc(probabilities, labels, owner)
    else:
        return None
    return values if np.isfinite(values).all() else None


def mean_case_values(values: Floats, groups: Sequence[object] | None = None) -> Floats | None:
    """Return pseudo-values of a mean over images, such as a mean Dice, one a patient.

    Args:
        values: (N,), one an image.
        groups: N patients' names; None takes every image for a patient.

    Returns:
        (P,), in the order of `case_values`; their mean is that of `values`. None with fewer than
        `LEAST_PATIENTS`, or where a value is not finite.
    """
    owner = _owners(len(values), groups)
    if owner is None or not np.isfinite(values).all():
        return None
    return _of_mean(values, owner)


def _owners(images: int, groups: Sequence[object] | None) -> Integers | None:
    """Return each image's patient, (N,) as 0..P-1; None where they are too few."""
    owner = np.arange(images)
    if groups is not None:
        owner = np.unique([str(group) for group in groups], return_inverse=True)[1]
    return owner if len(np.unique(owner)) >= LEAST_PATIENTS else None


def _of_mean(values: NDArray[np.generic], owner: Integers) -> Floats:
    numbers = values.astype(np.float64)
    sums, counts = np.bincount(owner, weights=numbers), np.bincount(owner)
    without = (numbers.sum() - sums) / (len(numbers) - counts)
    return _pseudo(float(numbers.mean()), without)


def _pseudo(whole: float, without: Floats) -> Floats:
    values = len(without) * whole - (len(without) - 1) * without
    return np.asarray(values - values.mean() + whole)


def _of_confusion(metric: str, probabilities: Floats, labels: Integers, owner: Integers) -> Floats:
    """Return pseudo-values of what follows from a confusion matrix."""
    classes = probabilities.shape[1]
    cell = labels.astype(np.int64) * classes + probabilities.argmax(1)
    counts = np.bincount(cell, minlength=classes**2).reshape(classes, classes)
    kept = counts.sum(1)[None] - np.bincount(
        owner * classes + labels, minlength=(int(owner.max()) + 1) * classes
    ).reshape(-1, classes)
    if (kept[:, counts.sum(1) > 0] == 0).any():  # a class that only one patient has
        return np.full(len(kept), math.nan)
    function = balanced_accuracy if metric == "balanced_accuracy" else macro_f1
    order = np.argsort(owner, kind="stable")
    by_patient = np.split(cell[order], np.cumsum(np.bincount(owner))[:-1])
    without = np.empty(len(by_patient))
    values: dict[bytes, float] = {}  # patients of one image share a few values
    for patient, cells in enumerate(by_patient):
        key = np.sort(cells).tobytes()
        if key not in values:
            own = np.bincount(cells, minlength=classes**2).reshape(classes, classes)
            values[key] = function(counts - own)
        without[patient] = values[key]
    return _pseudo(function(counts), without)


def _of_auroc(probabilities: Floats, labels: Integers, owner: Integers) -> Floats:
    """Return pseudo-values of the AUROC; beyond two classes the mean of one against the rest."""
    classes = probabilities.shape[1]
    columns = [1] if classes == 2 else [k for k in range(classes) if (labels == k).any()]
    values = [_of_area(probabilities[:, k], labels == k, owner) for k in columns]
    return np.asarray(np.mean(values, axis=0))


def _of_labels(
    metric: str, probabilities: Floats, labels: Integers, owner: Integers
) -> Floats | None:
    """Return pseudo-values of a metric of any number of classes an image; None of another."""
    shown, said = labels == 1, probabilities >= THRESHOLD
    if metric in ("exact_match", "label_accuracy"):
        right = shown == said
        return _of_mean(right.all(1) if metric == "exact_match" else right.mean(1), owner)
    if metric == "loss":
        return _of_mean(image_losses(probabilities, labels), owner)
    if metric in ("f1", "micro_f1"):
        counts = np.stack([2 * (shown & said), shown.astype(int) + said])  # (2, N, K)
        counts = counts.sum(2, keepdims=True) if metric == "micro_f1" else counts
        own = np.stack([_sums(of.astype(np.float64), owner) for of in counts])
        whole = counts.sum(1)
        there = whole[1] > 0
        return _pseudo_means(f1_of(whole)[there], f1_of(whole[:, None] - own)[:, there])
    if metric not in ("auroc", "map"):
        return None
    columns = shown.any(0) if metric == "map" else shown.any(0) & ~shown.all(0)
    function = _of_area if metric == "auroc" else _of_precision
    values = [function(probabilities[:, k], shown[:, k], owner) for k in np.flatnonzero(columns)]
    return np.asarray(np.mean(values, axis=0)) if values else None


def _sums(values: Floats, owner: Integers) -> Floats:
    """Return each patient's sums (P, K) of values (N, K)."""
    return np.stack([np.bincount(owner, weights=column) for column in values.T], axis=1)


def _pseudo_means(whole: Floats, without: Floats) -> Floats:
    """Return pseudo-values of a mean over classes, of all (K,) and without each patient (P, K)."""
    return _pseudo(float(whole.mean()), without.mean(1))


def _of_precision(scores: Floats, positive: NDArray[np.bool_], owner: Integers) -> Floats:
    """Return pseudo-values of one average precision.

    It is the sum over thresholds of p t / n, over all positives, with the p positives that a
    threshold adds, t positives and n images from it on. Without one image of threshold k, n is
    one less from k on; without a positive one t too, and p at k. Patients of several images are
    left out one by one.
    """
    _, place = np.unique(-scores, return_inverse=True)
    steps = int(place.max()) + 1
    images, added = (np.bincount(place, own, steps) for own in (np.ones(len(scores)), positive))
    n, t = images.cumsum(), added.cumsum()
    fewer = np.maximum(n - 1, 1)
    before = np.cumsum(added * t / n) - added * t / n
    without_negative = before + np.cumsum((added * t / fewer)[::-1])[::-1]
    later = added * (t - 1) / fewer
    at = (added - 1) * (t - 1) / fewer
    without_positive = before + at + np.cumsum(later[::-1])[::-1] - later
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.where(
            positive, without_positive[place] / (t[-1] - 1), without_negative[place] / t[-1]
        )
    order = np.argsort(owner, kind="stable")
    without = left[order][np.cumsum(np.bincount(owner)) - 1]
    for patient, rows in enumerate(np.split(order, np.cumsum(np.bincount(owner))[:-1])):
        if len(rows) > 1:
            lacking, found = images.copy(), added.copy()
            np.subtract.at(lacking, place[rows], 1)
            np.subtract.at(found, place[rows], positive[rows])
            without[patient] = _precision(lacking, found)
    return _pseudo(_precision(images, added), without)


def _precision(images: Numbers, added: Numbers) -> float:
    """Return average precision from the images and the positives that each threshold adds."""
    found = added.cumsum()
    if not found[-1]:
        return math.nan
    return float((added * found / np.maximum(images.cumsum(), 1)).sum() / found[-1])


def _of_area(scores: Floats, positive: NDArray[np.bool_], owner: Integers) -> Floats:
    """Return pseudo-values of one area, from the placements in the other class (DeLong, 1988)."""
    patients = int(owner.max()) + 1
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return np.full(patients, math.nan)
    _, place = np.unique(scores, return_inverse=True)
    won = np.where(
        positive,
        _placement(place, ~positive),
        positives - _placement(place, positive),
    )
    total = won[positive].sum()
    own_positive = np.bincount(owner, weights=positive, minlength=patients)
    own_negative = np.bincount(owner, weights=~positive, minlength=patients)
    left = total - np.bincount(owner, weights=won, minlength=patients)
    for patient in np.flatnonzero((own_positive > 0) & (own_negative > 0)):
        own = owner == patient  # pairs within one patient were taken away twice
        gap = np.sign(place[own & positive][:, None] - place[own & ~positive][None, :])
        left[patient] += ((gap + 1) / 2).sum()
    left_positive, left_negative = positives - own_positive, negatives - own_negative
    with np.errstate(divide="ignore", invalid="ignore"):
        without = left / (left_positive * left_negative)
    return _pseudo(float(total / (positives * negatives)), without)


def _placement(place: Integers, among: NDArray[np.bool_]) -> Floats:
    """Return how many of `among` score less than each image, ties counting half."""
    counts = np.bincount(place[among], minlength=int(place.max()) + 1)
    below = np.cumsum(counts) - counts
    return np.asarray((below + counts / 2)[place])
