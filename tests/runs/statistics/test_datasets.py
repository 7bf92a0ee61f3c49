"""Several data sets: published examples, autorank's rules, and what few data sets cannot say."""

import math

import numpy as np
import pytest
from scipy import stats

from attnsearch.runs.statistics.datasets import Pooled, judge, nemenyi_difference, pool, rank_arms

# Demšar (JMLR 7, 2006), table 6: AUC of C4.5, with m, with cf, with both, on 14 data sets. Two
# values of `voting` are given a digit more, which the paper's ranks have and its table has not.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.9750],
        [0.957, 0.978, 0.946, 0.970],
    ]
)
# Trials of the BCG vaccine (Colditz et al., JAMA 271, 1994): cases and others, vaccinated and not.
BCG = [
    *((4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619)),
    *((33, 5036, 47, 5761), (180, 1361, 372, 1079), (8, 2537, 10, 619)),
    *((505, 87886, 499, 87892), (29, 7470, 45, 7232), (17, 1699, 65, 1600)),
    *((186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825)),
]


def test_demsars_example_has_his_ranks_and_his_verdict() -> None:
    # Autorank's rules would compare means here. A data set of another level changes no rank, and
    # is none that a normal distribution has.
    scores = DEMSAR - np.array([[9.0]] + [[0.0]] * 13)
    ranking = rank_arms(scores, higher_is_better=True, alpha=0.05)
    assert ranking.means == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert (ranking.test, ranking.post_hoc) == ("Friedman", "Nemenyi")
    # He does not correct for ties: chi² 9.28, F 3.69. Three ties of two and one of four.
    sets, arms = DEMSAR.shape
    ties = (3 * (2**3 - 2) + (4**3 - 4)) / (sets * arms * (arms**2 - 1))
    chi = 9.28 / (1 - ties)
    f = (sets - 1) * chi / (sets * (arms - 1) - chi)
    assert ranking.statistic == pytest.approx(f, abs=0.01)
    assert ranking.p is not None and ranking.p < 0.05
    # Nemenyi at 0.05 cannot tell any two apart, as he says; at 0.10 two, from C4.5 alone.
    assert ranking.critical == pytest.approx(1.25, abs=0.005)
    assert ranking.groups == ((3, 1, 2, 0),)
    assert nemenyi_difference(14, 4, 0.10) == pytest.approx(1.12, abs=0.005)
    loose = rank_arms(scores, higher_is_better=True, alpha=0.10)
    assert loose.groups == ((3, 1, 2), (2, 0))


def test_critical_values_are_demsars_table() -> None:
    table = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 10: 3.164}
    for arms, q in table.items():
        unit = math.sqrt(arms * (arms + 1) / 6)
        assert nemenyi_difference(1, arms, 0.05) / unit == pytest.approx(
            q, abs=1e-3
        )  # cut, not rounded


def test_a_published_meta_analysis_comes_out_as_published() -> None:
    effects, errors = [], []
    for a, b, c, d in BCG:
        effects.append(math.log(a / (a + b)) - math.log(c / (c + d)))
        errors.append(math.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)))
    pooled = pool(effects, errors, higher_is_better=False)
    # R's metafor, rma(method="PM", test="knha") of dat.bcg: Q 152.23, tau² 0.3181, -0.7150.
    assert pooled.q == pytest.approx(152.2330, abs=1e-3)
    assert pooled.tau is not None and pooled.tau**2 == pytest.approx(0.3181, abs=1e-4)
    assert pooled.estimate is not None and pooled.error is not None
    assert pooled.estimate.value == pytest.approx(-0.7150, abs=1e-4)
    assert pooled.error == pytest.approx(0.1809, abs=1e-4)
    half = stats.t.isf(0.025, 12) * pooled.error
    assert pooled.estimate.low == pytest.approx(pooled.estimate.value - half)
    assert sum(pooled.weights) == pytest.approx(1)
    assert pooled.wins == sum(effect < 0 for effect in effects)


def test_alike_effects_have_no_heterogeneity_and_no_narrower_interval() -> None:
    pooled = pool([0.01, 0.0101, 0.0099, 0.01], [0.004] * 4)
    assert pooled.tau == 0 and pooled.i2 == 0 and pooled.q_p == pytest.approx(1, abs=1e-3)
    assert pooled.error == pytest.approx(0.002)  # and not Hartung and Knapp's, a hundredth of it


def test_one_that_is_measured_sharply_weighs_more_until_they_differ() -> None:
    alike = pool([0.010, 0.012, 0.011], [0.001, 0.004, 0.004])
    apart = pool([0.010, 0.060, -0.030], [0.001, 0.004, 0.004])
    assert alike.weights[0] > 0.8
    assert apart.weights == pytest.approx([1 / 3] * 3, abs=0.01)
    assert apart.i2 is not None and apart.i2 > 0.95


@pytest.mark.parametrize("scale", [0.0, 0.02])
def test_which_test_follows_from_what_the_scores_look_like(scale: float) -> None:
    draw = np.random.default_rng(5)
    level = draw.normal(0.8, 0.05, (12, 1))
    normal = level + draw.normal(0, 0.004, (12, 3)) + np.array([0, 0, scale])
    by_means = rank_arms(normal, higher_is_better=True, alpha=0.05)
    assert (by_means.test, by_means.post_hoc) == ("repeated-measures ANOVA", "Tukey")
    groups = {frozenset(group) for group in by_means.groups}
    assert groups == ({frozenset({2}), frozenset({0, 1})} if scale else {frozenset({0, 1, 2})})
    odd = normal.copy()
    odd[0, 0] = 0.1  # one seed set that failed to learn
    assert rank_arms(odd, higher_is_better=True, alpha=0.05).test == "Friedman"
    uneven = normal + np.array([0, 0, 6]) * (normal[:, :1] - 0.8)
    assert rank_arms(uneven, higher_is_better=True, alpha=0.05).test == "Friedman"
    assert rank_arms(normal[:, :2], higher_is_better=True, alpha=0.05).test == "paired t"
    two = rank_arms(odd[:, :2], higher_is_better=True, alpha=0.05)
    assert two.test == "Wilcoxon's signed ranks" and two.critical is None


def test_anova_is_statsmodels() -> None:
    pd = pytest.importorskip("pandas")
    from statsmodels.stats.anova import AnovaRM

    scores = np.random.default_rng(2).normal(0.8, 0.02, (7, 4)) + np.arange(4) * 0.01
    ranking = rank_arms(scores, higher_is_better=True, alpha=0.05)
    rows = [(s, a, scores[s, a]) for s in range(7) for a in range(4)]
    frame = pd.DataFrame(rows, columns=["set", "arm", "score"])
    table = AnovaRM(frame, "score", "set", within=["arm"]).fit().anova_table
    assert ranking.statistic == pytest.approx(table["F Value"].iloc[0])
    assert ranking.p == pytest.approx(table["Pr > F"].iloc[0])


def test_few_data_sets_are_ranked_and_not_tested() -> None:
    ranking = rank_arms(DEMSAR[:4], higher_is_better=True, alpha=0.05)
    assert ranking.p is None and ranking.critical is None
    assert "4 data sets, and 5 are the least" in ranking.why
    same = rank_arms(np.full((6, 3), 0.5), higher_is_better=True, alpha=0.05)
    assert same.p is None and same.wins == (6, 6, 6)


def test_all_data_sets_that_agree_have_a_p_above_zero() -> None:
    scores = np.array([[0.1, 0.5, 0.9]] * 5) + np.array([[0], [0], [0], [0], [9]])
    ranking = rank_arms(scores, higher_is_better=True, alpha=0.05)
    assert ranking.test == "Friedman" and ranking.p == pytest.approx(math.exp(-5))
    assert ranking.means.tolist() == [3, 2, 1]
    worst_first = rank_arms(scores, higher_is_better=False, alpha=0.05)
    assert worst_first.means.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("sets", "verdict"), [(2, "descriptive"), (3, "suggestive"), (4, "suggestive"), (5, "better")]
)
def test_a_verdict_needs_five_data_sets(sets: int, verdict: str) -> None:
    pooled = pool([0.05, 0.051, 0.049, 0.05, 0.0505][:sets], [0.001] * sets)
    (judged,) = judge([pooled], higher_is_better=True, alpha=0.05, confirmatory=True)
    assert judged.verdict == verdict
    (lower,) = judge([pooled], higher_is_better=False, alpha=0.05, confirmatory=True)
    assert lower.verdict == {"better": "worse"}.get(verdict, verdict)
    (looked,) = judge([pooled], higher_is_better=True, alpha=0.05, confirmatory=False)
    assert looked.verdict != "better"


def test_what_cannot_be_pooled_gets_no_verdict_and_makes_others_no_easier() -> None:
    blocked = pool([0.05] * 5, [0.001, 0.001, 0.0, 0.001, 0.001])
    fine = pool([0.05, 0.01, 0.03, 0.04, 0.02], [0.001] * 5)
    both = judge([blocked, fine], higher_is_better=True, alpha=0.05, confirmatory=True)
    assert both[0].estimate is None and both[0].verdict == "no verdict"
    assert both[0].reason == "on a data set all seeds differ by the same amount"
    assert fine.p is not None and both[1].p_adjusted == pytest.approx(2 * fine.p)
    assert isinstance(both[1], Pooled)
