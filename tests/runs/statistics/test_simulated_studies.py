"""Studies with known truth, fewer than `benchmarks/simulated_studies.py` prints.

Seeds are fixed, so a figure is the same at every run. Bounds are those of the full tables;
where few studies are drawn they leave room for chance.
"""

import numpy as np
import pytest

from attnsearch.runs.statistics.comparison import compare
from attnsearch.runs.statistics.measured import Measured
from attnsearch.runs.statistics.paired import paired_t
from benchmarks import simulated_studies as simulated


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


@pytest.mark.parametrize("n", [3, 5, 8])
@pytest.mark.parametrize("shape", ["normal", "skewed", "unequal", "both, mild"])
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_primary_intervals_cover(
    rng: np.random.Generator, n: int, shape: str, correlation: float
) -> None:
    assert 0.93 <= simulated.coverage(rng, 20_000, n, shape, correlation).share <= 0.97


@pytest.mark.parametrize("n", [3, 5, 8])
@pytest.mark.parametrize("shape", ["normal", "skewed", "unequal"])
def test_families_hold_their_level(rng: np.random.Generator, n: int, shape: str) -> None:
    assert simulated.family_error(rng, 4_000, n, 4, shape, 0.5).share < 0.06


def test_families_hold_their_level_beside_true_effects(rng: np.random.Generator) -> None:
    assert simulated.family_error(rng, 4_000, 5, 4, "normal", 0.0, true_effects=2).share < 0.06
    on_the_margin = simulated.family_error(rng, 4_000, 8, 4, "normal", 0.0, 2, margin=0.054)
    assert on_the_margin.share < 0.06


@pytest.mark.parametrize("n", [5, 8])
def test_an_arm_like_the_baseline_is_seldom_better(rng: np.random.Generator, n: int) -> None:
    scores = simulated.arm_scores(rng, 20_000, 2, n)
    result = paired_t(scores[:, 1] - scores[:, 0])
    better = (result.p() <= 0.05) & (result.difference > 0)
    assert better.mean() <= 0.03
    some = np.concatenate([np.flatnonzero(better)[:20], np.flatnonzero(~better)[:20]])
    plan = simulated.study_plan(["A/A"], n)
    for study in some:  # the report's verdicts are these
        measured = {
            arm.label: [Measured(None, seed, 0.9 + row[seed]) for seed in plan.seeds]
            for arm, row in zip(plan.arms, scores[study], strict=True)
        }
        verdict = compare(plan, measured, confirmatory=True, look=1)[0].verdict
        assert (verdict == "better") == better[study]


def test_planted_arms_get_their_verdicts(rng: np.random.Generator) -> None:
    share = {f.setting: f.share for f in simulated.planted(rng, 250, 5)}
    assert share["n 5, good arm: better"] >= 0.73
    assert share["n 5, bad arm: worse"] >= 0.73
    assert share["n 5, null arm: not distinguishable"] >= 0.92
    assert share["n 5, good arm: worse"] == share["n 5, bad arm: better"] == 0


def test_folds_cover_where_the_plain_t_does_not(rng: np.random.Generator) -> None:
    assert simulated.folds_of_learners(rng, 800, 10, corrected=True).share >= 0.93
    assert simulated.folds_of_learners(rng, 800, 10, corrected=False).share < 0.92


@pytest.mark.parametrize("n", [3, 5, 8])
def test_new_patients_are_covered(rng: np.random.Generator, n: int) -> None:
    assert simulated.patients_components(rng, 2_000, n, 60, (1.0, 5.0, 5.0)).holds


def test_new_patients_are_covered_for_accuracy_and_auroc(rng: np.random.Generator) -> None:
    assert simulated.patients_accuracy(rng, 120, 5, 80).share >= 0.9
    assert simulated.patients_auroc(rng, 120, 5, 80).share >= 0.9
    assert simulated.patients_auroc(rng, 120, 5, 80, "this test set").share < 0.85
