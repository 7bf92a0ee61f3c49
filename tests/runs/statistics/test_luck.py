"""The winner's curse: what is told of a best score is what its fresh seeds lose."""

from collections.abc import Callable

import numpy as np
import pytest

from attnsearch.runs.statistics import expected_luck, seed_noise

TRIALS, STUDIES = 24, 60


def one_winner(random: np.random.Generator) -> np.ndarray:
    return 6.0 * (np.arange(TRIALS) == 0)


def failures(random: np.random.Generator) -> np.ndarray:
    return -8.0 * (random.random(TRIALS) < 0.3)


@pytest.mark.parametrize(
    ("truth", "low", "high"),
    [
        (lambda random: np.zeros(TRIALS), 0.7, 1.05),
        (lambda random: random.standard_normal(TRIALS), 0.8, 1.25),
        (lambda random: 3 * random.standard_normal(TRIALS), 0.6, 1.5),
        (failures, 0.7, 1.05),
    ],
    ids=["none", "some", "large", "failures"],
)
def test_what_is_told_is_what_is_lost(
    truth: Callable[[np.random.Generator], np.ndarray], low: float, high: float
) -> None:
    """Over simulated studies, of the true drop from the best score to its own true mean."""
    random = np.random.default_rng(0)
    told, real = [], []
    for _ in range(STUDIES):
        means = truth(random)
        scores = means + random.standard_normal(TRIALS)
        noise = seed_noise(random.standard_normal((3, 5)).tolist())
        assert noise is not None
        told.append(expected_luck(scores.tolist(), noise.sd))
        real.append(scores.max() - means[scores.argmax()])
    assert low < np.mean(told) / np.mean(real) < high


def test_a_leader_far_ahead_is_hardly_lucky() -> None:
    """Its score is as likely below its mean as above, while a crowd's first is lucky."""
    random = np.random.default_rng(0)
    ahead, crowd = [], []
    for _ in range(50):
        noise = random.standard_normal(TRIALS)
        ahead.append(expected_luck((one_winner(random) + noise).tolist(), 1.0))
        crowd.append(expected_luck(noise.tolist(), 1.0))
    assert abs(np.mean(ahead)) < 0.3 < 1.2 < np.mean(crowd)


def test_luck_has_the_scale_of_the_scores() -> None:
    scores = [0.81, 0.83, 0.84, 0.8, 0.87]
    luck = expected_luck(scores, 0.02)
    assert 0 < luck < 0.07
    assert expected_luck([100 * score + 5 for score in scores], 2.0) == pytest.approx(100 * luck)


@pytest.mark.parametrize(
    ("scores", "sd"),
    [([0.8], 0.1), ([0.8, 0.9], 0.0), ([0.8, 0.8, 0.8], 0.1), ([-1e6, 0.8], 0.01)],
    ids=["one trial", "no noise", "equal", "far"],
)
def test_where_nothing_is_chosen_by_luck_there_is_none(scores: list[float], sd: float) -> None:
    assert expected_luck(scores, sd) == pytest.approx(0.0, abs=1e-6)


def test_noise_is_pooled_within_arms() -> None:
    """Differences between arms are none of it; single runs tell nothing."""
    noise = seed_noise([[1.0, 2.0, 3.0], [11.0, 12.0, 13.0], [100.0]])
    assert noise is not None
    assert (noise.sd, noise.arms, noise.runs) == (1.0, 2, 6)
    assert seed_noise([[1.0, 2.0, 3.0, 4.0]]) is None  # three degrees of freedom
    assert seed_noise([[1.0, 2.0, 3.0, 4.0, 5.0]]) is not None
    assert seed_noise([]) is None
