"""Simulated data sets with known truth: does what `attnsearch combine` says hold?

    python -m benchmarks.combined [--studies 2000]

prints the table of docs/statistics.md, in about two minutes on one core. Every data set has five
seeds; the noise of its differences is drawn anew between half and twice 0.6 points.
"""

import argparse
import warnings

import numpy as np

from attnsearch.runs.statistics import pool, rank_arms

SEEDS, NOISE = 5, 0.6
ALPHA = 0.05


def pooled_row(rng: np.random.Generator, studies: int, sets: int, tau: float) -> list[str]:
    """Return how often the pooled interval and that of the next data set hold the truth, in %."""
    held = ahead = better = 0
    for _ in range(studies):
        noise = NOISE * 2 ** rng.uniform(-1, 1, sets)
        true = rng.normal(0, tau, sets) if tau else np.zeros(sets)
        seeds = true[:, None] + noise[:, None] * rng.normal(size=(sets, SEEDS))
        errors = seeds.std(axis=1, ddof=1) / SEEDS**0.5
        result = pool(seeds.mean(axis=1).tolist(), errors.tolist(), alpha=ALPHA)
        assert result.estimate is not None and result.next_set is not None
        held += result.estimate.low <= 0 <= result.estimate.high
        better += result.estimate.low > 0
        ahead += result.next_set[0] <= rng.normal(0, tau) <= result.next_set[1]
    return [f"{100 * count / studies:.1f}" for count in (held, better, ahead)]


def ranked(rng: np.random.Generator, studies: int, sets: int, arms: int, tail: bool) -> str:
    """Return how often arms without a difference are told apart, in %."""
    told = 0
    for _ in range(studies):
        level = rng.uniform(60, 95, (sets, 1))
        noise = rng.exponential(size=(sets, arms)) if tail else rng.normal(size=(sets, arms))
        result = rank_arms(level + noise, higher_is_better=True, alpha=ALPHA)
        told += result.p is not None and result.p <= ALPHA
    return f"{100 * told / studies:.1f}"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000)
    studies = parser.parse_args().studies
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    print(
        "| data sets | tau (points) | holds the mean | better, without a difference | next set |"
    )
    print("| --- | --- | --- | --- | --- |")
    for sets in (3, 5, 8, 12):
        for tau in (0.0, 0.3, 1.0):
            print(f"| {sets} | {tau} | {' | '.join(pooled_row(rng, studies, sets, tau))} |")
    print("\n| data sets | 2 arms | 4 arms | 8 arms |\n| --- | --- | --- | --- |")
    for sets in (5, 8, 12):
        cells = [
            ", ".join(ranked(rng, studies, sets, arms, tail) for tail in (False, True))
            for arms in (2, 4, 8)
        ]
        print(f"| {sets} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
