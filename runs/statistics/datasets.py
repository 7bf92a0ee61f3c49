"""Several data sets, one claim: which arms rank before others, and one effect out of many.

Arms are ranked by autorank's rules (Herbold, JOSS 5, 2020) after Demšar (JMLR 7, 2006), effects
pooled by a random-effects meta-analysis. Pure functions of numbers; more in docs/statistics.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import scipy
from numpy.typing import NDArray

from attnsearch.runs.statistics.families import holm
from attnsearch.runs.statistics.measured import Interval
from attnsearch.runs.statistics.verdicts import (
    LEAST_DECIDED,
    LEAST_TESTED,
    NO_VERDICT,
    Evidence,
    decide,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """Arms over data sets, and whether they can be told apart.

    Attributes:
        ranks: (sets, arms), 1 is best; equals share their ranks.
        means: (arms,), mean ranks.
        wins: (arms,), data sets on which an arm is first, alone or with others.
        test: Of all arms at once; empty where none is made.
        statistic: Its value.
        p: Its p.
        post_hoc: Which test tells pairs of arms apart; empty where none is made.
        centres: (arms,), what that test compares: mean ranks, or mean scores.
        critical: Two centres so far apart differ; None without a post-hoc test.
        groups: Arms by number, the best first, that cannot be told apart; overlapping.
        why: Why this test, or why none.
    """

    ranks: Floats
    means: Floats
    wins: tuple[int, ...]
    test: str
    statistic: float | None
    p: float | None
    post_hoc: str
    centres: Floats
    critical: float | None
    groups: tuple[tuple[int, ...], ...]
    why: str


@dataclass(frozen=True)
class Pooled:
    """One effect out of those on several data sets, in metric units.

    Attributes:
        effects: On each data set.
        errors: Their standard errors.
        weights: Shares of the data sets in the estimate; empty where there is none.
        estimate: Mean over data sets like these, with its interval; None where there is none.
        error: Its standard error.
        p: Of no effect, unadjusted; None below three data sets.
        p_adjusted: After Holm in its family.
        tau: Standard deviation of the true effects between data sets.
        q: Cochran's Q.
        q_p: p of its test for homogeneity.
        i2: Share of the scatter that is no chance.
        next_set: Where the true effect on one more such data set lies; None below three.
        wins: Data sets on which the effect is for the better.
        verdict: One of the words of `verdicts`.
        reason: A phrase that says why.
        favours: `better` or `worse` where the adjusted p is at most alpha.
    """

    effects: tuple[float, ...]
    errors: tuple[float, ...]
    wins: int
    weights: tuple[float, ...] = ()
    estimate: Interval | None = None
    error: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    tau: float | None = None
    q: float | None = None
    q_p: float | None = None
    i2: float | None = None
    next_set: tuple[float, float] | None = None
    verdict: str = NO_VERDICT
    reason: str = ""
    favours: str | None = None


def rank_arms(scores: Floats, *, higher_is_better: bool, alpha: float) -> Ranking:
    """Rank arms over data sets and test whether they differ, by autorank's rules.

    Two arms: a paired t where both are normal, else Wilcoxon's signed ranks. More: a
    repeated-measures ANOVA with Tukey's HSD where all are normal and vary alike, else Friedman's
    test, as F after Iman and Davenport, with Nemenyi's. Pairs are only told apart where the test
    of all arms finds a difference.

    Args:
        scores: (sets, arms), an arm's mean on a data set.
        higher_is_better: Direction of the metric.
        alpha: Level of the tests.
    """
    sets, arms = scores.shape
    ranks = scipy.stats.rankdata(-scores if higher_is_better else scores, axis=1)
    # The best of a data set may be several: equals share a rank that is no whole number.
    wins = tuple(int(n) for n in (ranks == ranks.min(axis=1, keepdims=True)).sum(axis=0))
    means = ranks.mean(axis=0)
    everything = (tuple(int(arm) for arm in np.argsort(means, kind="stable")),)
    untested = Ranking(ranks, means, wins, "", None, None, "", means, None, everything, "")
    if sets < LEAST_DECIDED:
        why = f"no test of ranks: {sets} data sets, and {LEAST_DECIDED} are the least"
        return replace(untested, why=why)
    if np.all(scores == scores[:, :1]):
        return replace(untested, why="no test: the arms' scores are the same")
    normal = all(_is_normal(arm, alpha / arms) for arm in scores.T)
    shape = "all arms' scores pass" if normal else "not all arms' scores pass"
    why = f"{shape} Shapiro and Wilk's test for normality (Bonferroni)"
    if arms == 2:
        found = _two(scores, normal, why, untested)
    elif normal and float(scipy.stats.bartlett(*scores.T).pvalue) > alpha:
        found = _by_means(scores, alpha, f"{why} and Bartlett's for equal variances", untested)
    else:
        unequal = " but not Bartlett's for equal variances" if normal else ""
        found = _by_ranks(scores, alpha, why + unequal, untested)
    assert found.p is not None, "a test was made"
    if found.p > alpha:
        return replace(found, groups=everything)
    by_rank = found.post_hoc != "Tukey"
    best_first = found.centres if by_rank or not higher_is_better else -found.centres
    order = np.argsort(best_first, kind="stable")
    return replace(found, groups=_groups(found.centres, order, found.critical or 0.0))


def _two(scores: Floats, normal: bool, why: str, plain: Ranking) -> Ranking:
    first, second = scores.T
    if normal:
        result = scipy.stats.ttest_rel(first, second)
        test = "paired t"
    else:
        result = scipy.stats.wilcoxon(first, second)
        test = "Wilcoxon's signed ranks"
        least = 2.0 ** (1 - np.count_nonzero(first != second))
        why += f"; the smallest p that these data sets allow is {least:.2g}"
    return replace(
        plain, test=test, statistic=float(result.statistic), p=float(result.pvalue), why=why
    )


def _by_means(scores: Floats, alpha: float, why: str, plain: Ranking) -> Ranking:
    """Compare means: what is left after arms and data sets is the error."""
    sets, arms = scores.shape
    centred = scores - scores.mean(axis=1, keepdims=True)
    means = centred.mean(axis=0)
    df = (sets - 1) * (arms - 1)
    error = float(((centred - means) ** 2).sum()) / df
    with np.errstate(divide="ignore"):
        statistic = float(sets * np.square(means).sum() / (arms - 1) / np.float64(error))
    return replace(
        plain,
        test="repeated-measures ANOVA",
        statistic=statistic,
        p=float(scipy.stats.f.sf(statistic, arms - 1, df)),
        post_hoc="Tukey",
        centres=scores.mean(axis=0),
        critical=_range_quantile(alpha, arms, df) * (error / sets) ** 0.5,
        why=why,
    )


def _by_ranks(scores: Floats, alpha: float, why: str, plain: Ranking) -> Ranking:
    sets, arms = scores.shape
    chi = float(scipy.stats.friedmanchisquare(*plain.ranks.T).statistic)
    most = sets * (arms - 1)
    if chi < most * (1 - 1e-9):
        statistic = (sets - 1) * chi / (most - chi)
        p = float(scipy.stats.f.sf(statistic, arms - 1, (arms - 1) * (sets - 1)))
    else:  # all data sets agree, F is infinite
        statistic, p = chi, float(scipy.stats.chi2.sf(chi, arms - 1))
    return replace(
        plain,
        test="Friedman",
        statistic=statistic,
        p=p,
        post_hoc="Nemenyi",
        why=why,
        critical=nemenyi_difference(sets, arms, alpha),
    )


def nemenyi_difference(sets: int, arms: int, alpha: float) -> float:
    """Return the difference of two mean ranks that Nemenyi's test needs at a level."""
    q = _range_quantile(alpha, arms, np.inf) / 2**0.5
    return q * math.sqrt(arms * (arms + 1) / (6 * sets))


@lru_cache
def _range_quantile(alpha: float, arms: int, df: float) -> float:
    """Return the studentized range's, which scipy takes a second to find."""
    return float(scipy.stats.studentized_range.isf(alpha, arms, df))


def _is_normal(values: Floats, alpha: float) -> bool:
    return bool(np.ptp(values) > 0) and float(scipy.stats.shapiro(values).pvalue) > alpha


def _groups(
    centres: Floats, order: NDArray[np.intp], critical: float
) -> tuple[tuple[int, ...], ...]:
    """Return the longest runs of neighbours within the critical difference, singles included."""
    groups: list[tuple[int, ...]] = []
    for start, first in enumerate(order):
        run = tuple(
            int(arm) for arm in order[start:] if abs(centres[arm] - centres[first]) <= critical
        )
        if not groups or not set(run) <= set(groups[-1]):
            groups.append(run)
    return tuple(groups)


def pool(
    effects: Sequence[float],
    errors: Sequence[float],
    *,
    higher_is_better: bool = True,
    alpha: float = 0.05,
) -> Pooled:
    """Pool the effects on several data sets: a random-effects meta-analysis.

    The variance between data sets is Paule and Mandel's, the interval Hartung and Knapp's, which
    is never let narrower than without their factor, with a t of one degree less than data sets.

    Args:
        effects: One a data set.
        errors: Their standard errors; a 0 lets nothing be pooled.
        higher_is_better: Direction of the metric.
        alpha: 1 less the level of the intervals.
    """
    values, variances = np.array(effects, float), np.square(np.array(errors, float))
    count = len(values)
    sign = 1 if higher_is_better else -1
    plain = Pooled(tuple(effects), tuple(errors), wins=int(np.sum(sign * values > 0)))
    if count < 2 or not np.all(variances > 0):
        return plain
    # With pandas and all of scipy.stats it takes two seconds, which a study's start needs not.
    from statsmodels.stats.meta_analysis import combine_effects

    with np.errstate(divide="ignore"):  # its I² where no effect differs
        result = combine_effects(values, variances, method_re="pm")
    estimate, tau2 = float(result.mean_effect_re), max(float(result.tau2), 0.0)
    error = float(result.sd_eff_w_re) * max(1.0, float(result.scale_hksj_re)) ** 0.5
    half = float(scipy.stats.t.isf(alpha / 2, count - 1)) * error
    ahead = None
    if count >= LEAST_TESTED:
        wide = float(scipy.stats.t.isf(alpha / 2, count - 2)) * (tau2 + error**2) ** 0.5
        ahead = (estimate - wide, estimate + wide)
    q = float(result.q)
    return replace(
        plain,
        weights=tuple(np.asarray(result.weights_rel_re, float).tolist()),
        estimate=Interval(estimate, estimate - half, estimate + half, count - 1, count),
        error=error,
        p=float(2 * scipy.stats.t.sf(abs(estimate) / error, count - 1))
        if count >= LEAST_TESTED
        else None,
        tau=tau2**0.5,
        q=q,
        q_p=float(scipy.stats.chi2.sf(q, count - 1)),
        i2=max(0.0, 1 - (count - 1) / q) if q > 0 else 0.0,
        next_set=ahead,
    )


def judge(
    family: Sequence[Pooled], *, higher_is_better: bool, alpha: float, confirmatory: bool
) -> list[Pooled]:
    """Adjust the p-values of a family, and say of each pooled effect what may be said.

    Args:
        family: Effects whose p-values are adjusted together.
        higher_is_better: Direction of the metric.
        alpha: Level of the family.
        confirmatory: Whether all was planned before the test data was first opened.
    """
    judged = []
    for item, p in zip(family, holm([each.p for each in family]), strict=True):
        blocked = None if item.estimate else "on a data set all seeds differ by the same amount"
        evidence = Evidence(
            n=len(item.effects),
            unit="data set",
            failed=0,
            void=blocked,
            difference=item.estimate.value if item.estimate else 0.0,
            varies=True,
            higher_is_better=higher_is_better,
            alpha=alpha,
            p_adjusted=p,
            equivalence_p_adjusted=None,
            within_smallest=False,
            confirmatory=confirmatory,
            look=None,
        )
        verdict, reason = decide(evidence)
        judged.append(
            replace(item, p_adjusted=p, verdict=verdict, reason=reason, favours=evidence.favours)
        )
    return judged
