import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from attnsearch.runs.statistics.families import holm
from attnsearch.runs.statistics.fold_variance import nadeau_bengio_factor
from attnsearch.runs.statistics.paired import (
    paired_t,
    sign_flip_is_informative,
    sign_flip_p,
    varies,
)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_paired_t_is_scipys(n: int) -> None:
    a, b = np.random.default_rng(n).normal(0.9, 0.01, (2, n))
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.99)
    found = paired_t(a - b)
    assert found.p() == pytest.approx(expected.pvalue)
    assert found.df == expected.df
    assert found.interval(0.99) == pytest.approx((interval.low, interval.high))


def test_many_studies_at_once_are_the_same_as_one_by_one() -> None:
    differences = np.random.default_rng(0).normal(size=(7, 4))
    together = paired_t(differences)
    assert together.p() == pytest.approx([float(paired_t(row).p()) for row in differences])
    assert together.interval(0.9)[0] == pytest.approx(
        [float(paired_t(row).interval(0.9)[0]) for row in differences]
    )


@pytest.mark.parametrize("shift", [0.0, 0.02, -0.2])
def test_equivalence_is_statsmodels_tost(shift: float) -> None:
    a, b = np.random.default_rng(1).normal(0.9, 0.01, (2, 6))
    expected = ttost_paired(a + shift, b, -0.03, 0.03)[0]
    assert paired_t(a + shift - b).equivalence_p(0.03) == pytest.approx(expected)


@pytest.mark.parametrize("n", [3, 6, 8])
def test_sign_flips_are_all_enumerated(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.5, 1, n)
    means = [np.mean(differences * signs) for signs in itertools.product((1, -1), repeat=n)]
    expected = np.mean(np.abs(means) >= abs(differences.mean()) - 1e-12)
    assert sign_flip_p(differences) == pytest.approx(expected)


def test_sign_flips_need_enough_pairs() -> None:
    assert sign_flip_p(np.ones(5)) == 2**-4
    assert [sign_flip_is_informative(n, 0.05) for n in (5, 6)] == [False, True]
    assert [sign_flip_is_informative(n, 0.05 / 4) for n in (7, 8)] == [False, True]


def test_folds_widen_the_interval_as_nadeau_and_bengio_say() -> None:
    differences = np.array([0.01, 0.03, 0.02, 0.00, 0.04])
    factor = nadeau_bengio_factor(5, 1 / 4)
    assert factor == pytest.approx(0.45)
    found = paired_t(differences, factor)
    statistic = 0.02 / np.sqrt(0.45 * 0.00025)  # by hand: mean 0.02, variance 2.5e-4
    assert found.p() == pytest.approx(2 * stats.t.sf(statistic, 4))
    low, high = found.interval(0.95)
    assert high - low == pytest.approx(2 * 2.7764451 * np.sqrt(0.45 * 0.00025))


def test_pairs_that_do_not_vary_have_no_p() -> None:
    same = np.full(5, 0.1)
    assert np.isnan(paired_t(same - same).p())
    assert not varies(same - np.full(5, 0.3), 0.3)
    assert not varies(np.array([0.9 - 0.8, 0.7 - 0.6]), 0.9)  # equal but for rounding
    assert varies(np.array([0.1, 0.1, 0.1 + 1e-6]), 0.9)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_statsmodels_to_the_last_bit(seed: int) -> None:
    """Which is not called: it collects garbage every time, 0.1 to 0.4 s of a driver."""
    draws = np.random.default_rng(seed)
    p_values = [*draws.uniform(size=9) ** 3, 0.5, 0.5, 0.0, 1.0]
    assert holm(p_values) == multipletests(p_values, method="holm")[1].tolist()


def test_a_test_that_could_not_be_made_stays_in_the_family() -> None:
    assert holm([0.02, None]) == [pytest.approx(0.04), None]
    assert holm([None, None]) == [None, None]
