"""What a number of seeds can find, before a run is trained: power of the paired t.

From a spread that the user states or pilot runs showed, never from an observed effect: power
computed from that is the p-value in other units.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import scipy

_FAR = 9.0  # standard deviations, beyond which nothing of a normal distribution is left


def pair_sd(spread: float, correlation: float = 0.0, arms: int = 2) -> float:
    """Return standard deviation of the pairs' differences.

    Args:
        spread: Standard deviation of one arm's score over seeds.
        correlation: Between two arms' scores on the same seeds.
        arms: 2 for a difference, 4 for an interaction.
    """
    return spread * math.sqrt(arms * (1 - correlation))


def achieved_power(n: int, effect: float, sd: float, m: int = 1, alpha: float = 0.05) -> float:
    """Return probability that the two-sided paired t finds a true difference at alpha / m.

    alpha / m is the level that Holm asks of the smallest p in a family of m, so this is the power
    for one difference among m, whatever the others are. By the noncentral t (Cohen, "Statistical
    Power Analysis for the Behavioral Sciences", 1988).

    Args:
        n: Pairs, at least 2.
        effect: True difference, in metric units.
        sd: Standard deviation of the pairs' differences, above 0, in metric units.
        m: Tests in the family.
        alpha: Level of the family.
    """
    return _power(abs(effect) / (sd * math.sqrt(1 / n)), n - 1, alpha / m)


def detectable(
    n: int,
    sd: float,
    m: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
    variance_factor: float | None = None,
) -> float:
    """Return the smallest difference that a two-sided paired t finds with that power at alpha / m.

    Args:
        n: Pairs, at least 2.
        sd: Standard deviation of the pairs' differences, in metric units.
        m: Tests in the family.
        alpha: Level of the family.
        power: Wanted probability of finding it.
        variance_factor: As in `paired.paired_t`: None for 1 / n.
    """
    factor = 1 / n if variance_factor is None else variance_factor
    return _noncentrality(n - 1, alpha / m, power) * sd * math.sqrt(factor)


def seeds_needed(
    effect: float, sd: float, m: int = 1, alpha: float = 0.05, power: float = 0.8, most: int = 100
) -> int | None:
    """Return the smallest number of seeds, 2 to `most`, that finds `effect`; None if none does."""
    for n in range(2, most + 1):
        if achieved_power(n, effect, sd, m, alpha) >= power:
            return n
    return None


def power_sentence(
    spread: float,
    ns: Sequence[int] = (3, 8),
    correlation: float = 0.0,
    m: int = 1,
    alpha: float = 0.05,
    scale: float = 100,
    unit: str = "points",
) -> str:
    """Say what numbers of seeds detect with 80 % power.

    Args:
        spread: Standard deviation of one arm's score over seeds, in metric units.
        ns: Numbers of seeds, each at least 2.
        correlation: Between two arms' scores on the same seeds.
        m: Tests in the family.
        alpha: Level of the family.
        scale: Shown units in one metric unit: 100 shows a share in points.
        unit: Their name.

    Returns:
        Such as `with 3 seeds you would see a difference of 2.8 points, with 8 seeds 1.0`.
    """
    sizes = [detectable(n, pair_sd(spread, correlation), m, alpha) * scale for n in ns]
    first = f"with {ns[0]} seeds you would see a difference of {sizes[0]:.1f} {unit}"
    others = [f"with {n} seeds {size:.1f}" for n, size in zip(ns[1:], sizes[1:], strict=True)]
    return ", ".join([first, *others])


def _power(noncentrality: float, df: float, level: float) -> float:
    critical = -scipy.special.stdtrit(df, level / 2)
    return _beyond(critical, df, noncentrality) + _beyond(critical, df, -noncentrality)


def _beyond(critical: float, df: float, noncentrality: float) -> float:
    """Return probability that a noncentral t is above a positive value.

    By its definition: a normal z over the root of a chi-square, integrated over z. `scipy.stats`
    has it too and takes a second to load; `special.nctdtr` is NaN at one value in ten.
    """
    low = max(-_FAR, -noncentrality)
    if low >= _FAR:
        return 0.0
    nodes, weights = _quadrature()
    z = low + (_FAR - low) * (nodes + 1) / 2
    below = scipy.special.chdtr(df, df * ((z + noncentrality) / critical) ** 2)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float(weights @ (density * below) * (_FAR - low) / 2)


@lru_cache
def _quadrature() -> Any:
    return np.polynomial.legendre.leggauss(200)


@lru_cache(maxsize=1024)
def _noncentrality(df: float, level: float, power: float) -> float:
    """Return the noncentrality at which the test has that power; the same for every spread."""
    low, high = 0.0, 1.0
    while _power(high, df, level) < power:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _power(middle, df, level) < power else (low, middle)
    return high
