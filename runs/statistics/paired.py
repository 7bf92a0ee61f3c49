"""Tests and intervals for paired differences: Student's t, two one-sided tests, sign flips.

Everything takes differences (..., n) and works along the last axis, so that thousands of simulated
studies go through the same lines as a real one.
"""

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDING = 1e-12  # differences this small beside the scores they come from are rounding


@dataclass(frozen=True)
class PairedT:
    """Student's t for the mean of paired differences, or for many such means at once.

    Attributes:
        difference: (...), mean of the pairs' differences.
        sd: (...), their standard deviation.
        error: (...), standard error of the mean.
        df: Degrees of freedom.
    """

    difference: Floats
    sd: Floats
    error: Floats
    df: float

    def interval(self, level: float) -> tuple[Floats, Floats]:
        """End of the two-sided interval, (...) each, at a confidence level such as 0.95."""
        half = scipy.stats.t.isf((1 - level) / 2, self.df) * self.error
        return self.difference - half, self.difference + half

    def p(self) -> Floats:
        """Return (...), two-sided p of no difference; NaN where the pairs do not vary."""
        return np.asarray(2 * scipy.stats.t.sf(np.abs(self._t(self.difference)), self.df))

    def equivalence_p(self, margin: float) -> Floats:
        """Return (...), p of a difference of `margin` or more, either way; NaN without variance.

        The larger of two one-sided p-values (Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987).
        """
        above = scipy.stats.t.sf(self._t(self.difference + margin), self.df)
        below = scipy.stats.t.cdf(self._t(self.difference - margin), self.df)
        return np.asarray(np.maximum(above, below))

    def _t(self, distance: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.error > 0, distance / self.error, np.nan)


def paired_t(differences: Floats, variance_factor: float | None = None) -> PairedT:
    """Return Student's t over paired differences.

    Args:
        differences: (..., n), n > 1.
        variance_factor: Variance of the mean in units of the pairs' variance; None for 1 / n,
            that is for independent pairs.

    Returns:
        The mean of the differences, with n - 1 degrees of freedom.
    """
    n = differences.shape[-1]
    sd = np.std(differences, axis=-1, ddof=1)
    factor = 1 / n if variance_factor is None else variance_factor
    return PairedT(np.mean(differences, axis=-1), sd, sd * np.sqrt(factor), n - 1)


def varies(differences: Floats, scale: float) -> bool:
    """Return whether differences (n,) of scores of size `scale` vary by more than rounding."""
    return bool(np.ptp(differences) > ROUNDING * scale)


def sign_flip_p(differences: Floats) -> float:
    """Return two-sided p of the exact sign-flip permutation test of the mean (Fisher, 1935).

    All 2^n assignments of signs are equally likely under the null hypothesis that every difference
    is symmetric about zero, so no p lies below 2^(1-n). From 17 pairs on, 2^16 random assignments
    stand for all of them.

    Args:
        differences: (n,).
    """
    result = scipy.stats.permutation_test(
        (differences,),
        lambda sample, axis: np.mean(sample, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**16,
        batch=2**12,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def sign_flip_is_informative(n: int, level: float) -> bool:
    """Tell whether the smallest p of sign flips of n pairs, 2^(1-n), is at most `level`."""
    return 2.0 ** (1 - n) <= level
