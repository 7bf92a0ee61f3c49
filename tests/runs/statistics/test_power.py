import numpy as np
import pytest
from scipy import integrate, stats
from statsmodels.stats.power import TTestPower

from attnsearch.runs.statistics.paired import paired_t
from attnsearch.runs.statistics.power import (
    achieved_power,
    detectable,
    pair_sd,
    power_sentence,
    seeds_needed,
)


@pytest.mark.parametrize(("n", "m"), [(3, 1), (5, 1), (5, 3), (8, 1), (8, 3)])
def test_detectable_is_statsmodels(n: int, m: int) -> None:
    expected = TTestPower().solve_power(nobs=n, alpha=0.05 / m, power=0.8)
    assert detectable(n, 2.0, m) == pytest.approx(2 * expected, rel=1e-4)


@pytest.mark.parametrize("df", [1, 2, 4, 19, 99])
@pytest.mark.parametrize("level", [0.05, 0.05 / 30, 1e-6])
def test_power_is_that_of_the_noncentral_t_of_scipy(df: int, level: float) -> None:
    critical = stats.t.isf(level / 2, df)
    for effect in (0.0, 0.3, 2.0, 8.0, 50.0):
        expected = stats.nct.sf(critical, df, effect) + stats.nct.sf(critical, df, -effect)
        n = df + 1
        power = achieved_power(n, effect / np.sqrt(n), 1.0, alpha=level)
        assert power == pytest.approx(expected, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize(("n", "m"), [(2, 1), (2, 4), (3, 3), (3, 8), (5, 40)])
def test_power_far_out_is_the_integral_over_the_spread(n: int, m: int) -> None:
    """Where the solver of statsmodels goes astray: at n = 3, m = 3 it says 4.3 for 5.7."""
    df, effect = n - 1, detectable(n, 1.0, m)
    critical = stats.t.isf(0.025 / m, df)

    def given(spread: float) -> float:
        above = stats.norm.sf(critical * spread - effect * np.sqrt(n))
        below = stats.norm.cdf(-critical * spread - effect * np.sqrt(n))
        return float((above + below) * stats.chi.pdf(spread, df, scale=df**-0.5))

    assert integrate.quad(given, 0, 6, limit=500)[0] == pytest.approx(0.8, abs=1e-4)


def test_power_is_what_simulation_finds() -> None:
    sd = pair_sd(0.006, 0.5)
    differences = np.random.default_rng(0).normal(0.01, sd, (20_000, 5))
    found = np.mean(paired_t(differences).p() <= 0.05 / 3)
    assert found == pytest.approx(achieved_power(5, 0.01, sd, 3), abs=0.01)


def test_folds_detect_less() -> None:
    assert detectable(5, 1, variance_factor=0.45) == pytest.approx(
        detectable(5, 1) * np.sqrt(0.45 / 0.2)
    )


def test_correlated_pairs_and_interactions() -> None:
    a, b = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 100_000).T
    assert np.std(a - b) == pytest.approx(pair_sd(1, 0.6), rel=0.01)
    assert pair_sd(1, arms=4) == 2


def test_seeds_needed_is_the_first_number_that_suffices() -> None:
    n = seeds_needed(0.01, 0.008, m=2)
    assert n is not None
    assert achieved_power(n, 0.01, 0.008, 2) >= 0.8 > achieved_power(n - 1, 0.01, 0.008, 2)
    assert seeds_needed(0.001, 0.008, most=20) is None


def test_the_sentence() -> None:
    assert power_sentence(0.006) == (
        "with 3 seeds you would see a difference of 2.8 points, with 8 seeds 1.0"
    )
