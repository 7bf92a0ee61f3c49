"""Which decisions of a search matter: shares of the scores' variance, held against chance.

A search of a few trials always has a decision that fits its noise best. So a share is an unbiased
estimate, has an interval, and is reported only where shuffled scores hardly ever reach it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.statistics.families import holm

Floats = NDArray[np.float64]

LEAST_TRIALS = 20
"""Fewer finished trials find a decision that moves scores by three standard deviations less than
one time in ten."""

_LEVEL = 0.05
_INTERVAL = (0.025, 0.975)
_DRAWS = 999
_PARTS = 4  # into which a decision's numbers are sorted, equally many trials in each


@dataclass(frozen=True)
class Importance:
    """How much of a search's scores goes with one decision.

    Attributes:
        share: Of the variance of the scores' ranks, in 0..1.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: That shuffled scores give such a share, adjusted over the decisions (Holm).
    """

    share: float
    low: float
    high: float
    p: float


def importances(
    values: Sequence[Mapping[str, Any]], scores: Sequence[float]
) -> dict[str, Importance]:
    """Estimate how much each decision matters for an objective.

    The share is epsilon squared of a one-way layout of the scores' ranks (Kelley 1935): it does
    not grow with the number of choices, and noise has zero on average. A decision that only some
    trials had, such as the ratio of a block that they chose, is judged among those. The p-value
    is that of a permutation test; the interval is from bootstrapped trials.

    Args:
        values: Decision to value, for each finished trial; all of one schedule.
        scores: Their objective, in the same order.

    Returns:
        The decisions that matter more than chance at 5 %, the most important first; empty with
        fewer than `LEAST_TRIALS` trials.
    """
    if len(scores) < LEAST_TRIALS:
        return {}
    # Equal scores share their mean rank. `scipy.stats` would take half a second to import.
    _, place, equal = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (equal.cumsum() - (equal - 1) / 2)[place]
    total = float(((ranks - ranks.mean()) ** 2).sum())
    names = sorted({name for trial in values for name in trial})
    judged: dict[str, Importance] = {}
    for name in names if total else ():
        active = np.array([name in trial for trial in values])
        groups = _groups([trial[name] for trial in values if name in trial])
        if active.sum() >= LEAST_TRIALS and groups.max() > 0:
            judged[name] = _judge(ranks[active], groups, total)
    adjusted = holm([importance.p for importance in judged.values()])
    found = {
        name: Importance(each.share, each.low, each.high, p)
        for (name, each), p in zip(judged.items(), adjusted, strict=True)
        if p is not None and p <= _LEVEL
    }
    return dict(sorted(found.items(), key=lambda item: -item[1].share))


def _judge(ranks: Floats, groups: np.ndarray, total: float) -> Importance:
    random = np.random.default_rng(0)
    layout = np.eye(groups.max() + 1)[groups]
    shuffled = random.permuted(np.tile(ranks, (_DRAWS, 1)), axis=1)
    once = np.ones_like(ranks)
    share = _shares(once, ranks, layout, total)
    by_chance = _shares(once, shuffled, layout, total)
    weights = random.multinomial(len(ranks), once / len(ranks), _DRAWS).astype(float)
    low, high = np.quantile(_shares(weights, ranks, layout, total), _INTERVAL)
    p = (1 + int((by_chance >= share - 1e-12).sum())) / (_DRAWS + 1)
    return Importance(float(share.clip(0)), float(max(low, 0)), float(max(high, 0)), p)


def _shares(weights: Floats, ranks: Floats, layout: Floats, total: float) -> Floats:
    """Return epsilon squared of trials (..., n) that count `weights` times each, (...)."""
    count = weights @ layout
    means = (weights * ranks) @ layout / np.maximum(count, 1)
    sizes = weights.sum(-1)
    grand = (weights * ranks).sum(-1) / sizes
    between = (count * (means - grand[..., None]) ** 2).sum(-1)
    within = (weights * ranks**2).sum(-1) - sizes * grand**2 - between
    filled = (count > 0).sum(-1)
    noise = (filled - 1) * within / np.maximum(sizes - filled, 1)
    return np.asarray((between - noise) / total)


def _groups(values: Sequence[Any]) -> np.ndarray:
    """Return the group of each value: equal ones, or quarters of many numbers."""
    numbers = all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )
    if numbers and len(set(values)) > _PARTS:
        edges = np.quantile(values, np.arange(1, _PARTS) / _PARTS)
        return np.unique(np.searchsorted(edges, values), return_inverse=True)[1]
    return np.unique([repr(value) for value in values], return_inverse=True)[1]
