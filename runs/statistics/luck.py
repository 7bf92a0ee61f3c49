"""The winner's curse: how much of a selected score is the luck of its one seed.

The best of many noisy scores is too high, and the more so the less the candidates differ. How much
follows from the noise of a seed and from the other scores: a leader far above them is hardly
lucky, the first of a crowd is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST_FREEDOM = 4
"""Degrees of freedom, five runs of one arm, below which the noise counts as unknown."""

_POINTS = 50  # of the grid on which true means are looked for
_STEPS = 100  # of expectation and maximisation


@dataclass(frozen=True)
class SeedNoise:
    """How much a score varies where nothing but the seed does.

    Attributes:
        sd: Standard deviation of a run, pooled over arms.
        arms: How many there are.
        runs: Of all of them.
    """

    sd: float
    arms: int
    runs: int


def seed_noise(arms: Sequence[Sequence[float]]) -> SeedNoise | None:
    """Measure the noise of a seed; None where there are too few runs for it.

    Args:
        arms: The scores of each arm's runs.
    """
    repeated = [np.asarray(scores, dtype=float) for scores in arms if len(scores) > 1]
    runs = sum(len(scores) for scores in repeated)
    freedom = runs - len(repeated)
    if freedom < LEAST_FREEDOM:
        return None
    squares = sum(float(((scores - scores.mean()) ** 2).sum()) for scores in repeated)
    return SeedNoise((squares / freedom) ** 0.5, len(repeated), runs)


def expected_luck(scores: Sequence[float], sd: float) -> float:
    """Return by how much the best score is expected to exceed the mean of its own fresh seeds.

    Empirical Bayes: the distribution of the true means is estimated from all scores, of whatever
    shape it is (nonparametric maximum likelihood on a grid, Kiefer & Wolfowitz 1956, by EM as in
    Laird 1978), and the best score's expected true mean follows by Bayes' rule. A normal
    distribution in its place would take a few failures at the lower end for real differences at
    the upper one.

    Args:
        scores: Of all that were chosen among, one seed each; the highest is the best.
        sd: Between seeds, of one run.
    """
    values = np.asarray(scores, dtype=float)
    best = float(values.max())
    if sd == 0 or len(values) < 2:
        return 0.0
    means = np.linspace(values.min(), best, _POINTS)
    # Divided by each row's highest, so that scores far from all others do not underflow.
    distance = -0.5 * ((values[:, None] - means) / sd) ** 2
    likelihood: Floats = np.exp(distance - distance.max(axis=1, keepdims=True))
    weights = np.full(_POINTS, 1 / _POINTS)
    for _ in range(_STEPS):
        shares = likelihood * weights
        shares /= shares.sum(axis=1, keepdims=True)
        weights = shares.mean(axis=0)
    share = likelihood[values.argmax()] * weights
    return best - float(share @ means / share.sum())
