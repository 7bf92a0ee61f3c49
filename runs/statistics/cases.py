"""One network's scores, and where they would be on other cases: patients, or else images.

A share of images that are right has Wilson's interval (JASA 22, 1927), with the effective number
of images where patients have several (Dean and Pagano, Journal of Survey Statistics and
Methodology 3, 2015). Other scores have the t interval of their jackknife pseudo-values, see
`patients`. Both are of this one network: what other seeds would score is no part of them.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

from attnsearch.runs.metrics import THRESHOLD
from attnsearch.runs.statistics.patients import case_values, mean_case_values

Floats = NDArray[np.float64]


def share_interval(
    right: NDArray[np.bool_], groups: Sequence[object] | None, level: float
) -> tuple[float, float] | None:
    """Return the interval of a share of images.

    Args:
        right: (N,), N > 0.
        groups: N patients' names; None takes every image for a patient.
        level: Confidence level, such as 0.95.

    Returns:
        Its ends; None with groups that are too few.
    """
    share, number = float(right.mean()), float(len(right))
    z = float(scipy.stats.norm.isf((1 - level) / 2))
    if groups is not None:
        values = mean_case_values(right.astype(np.float64), groups)
        if values is None:
            return None
        cases, spread = len(values), float(values.var(ddof=1))
        known = 0 < share < 1 and spread > 0
        number = min(number, share * (1 - share) * cases / spread if known else cases)
        number *= (z / float(scipy.stats.t.isf((1 - level) / 2, cases - 1))) ** 2
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = math.sqrt(share * (1 - share) / number + (z / (2 * number)) ** 2)
    half *= z / (1 + z**2 / number)
    return max(0.0, middle - half), min(1.0, middle + half)


def class_intervals(
    metrics: Sequence[str],
    probabilities: Floats,
    labels: NDArray[np.integer],
    groups: Sequence[object] | None,
    level: float,
) -> dict[str, tuple[float, float] | None]:
    """Return the interval of each metric of a classification; None where there is none.

    Args:
        metrics: Their names.
        probabilities: (N, K), N > 0.
        labels: (N,), or of any number of classes an image (N, K) of 0 and 1.
        groups: N patients' names; None takes every image for a patient.
        level: Confidence level.
    """
    several = labels.ndim == 2
    right = {} if several else {"accuracy": probabilities.argmax(1) == labels}
    if several:
        right = {"exact_match": ((probabilities >= THRESHOLD) == (labels == 1)).all(1)}
    return {
        metric: share_interval(right[metric], groups, level)
        if metric in right
        else _of_cases(case_values(metric, probabilities, labels, groups), level)
        for metric in metrics
    }


def mean_interval(
    values: Floats, groups: Sequence[object] | None, level: float
) -> tuple[float, float] | None:
    """Return the interval of a mean over images; those without a value, NaN, are left out.

    Args:
        values: (N,), one an image.
        groups: N patients' names; None takes every image for a patient.
        level: Confidence level.
    """
    there = np.isfinite(values)
    owners = None if groups is None else np.array(groups, dtype=object)[there].tolist()
    return _of_cases(mean_case_values(values[there], owners), level)


def _of_cases(values: Floats | None, level: float) -> tuple[float, float] | None:
    """Return the t interval of pseudo-values; None where none differ, which says nothing."""
    if values is None or not values.std() > 0:
        return None
    half = scipy.stats.t.isf((1 - level) / 2, len(values) - 1) * scipy.stats.sem(values)
    return float(values.mean() - half), float(values.mean() + half)
