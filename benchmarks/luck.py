"""Simulate studies with known truth: is the luck that is told of the best score the real one?

    python -m benchmarks.luck [--studies 400]

A study has trials with true means, each scored once with noise of standard deviation 1, and arms
with five seeds each that measure this noise. `real` is by how much the best score exceeds its own
true mean, `told` what `expected_luck` says of it, both averaged over the studies that could tell.

    none      no trial differs from another
    half      true means are normal with standard deviation 0.5
    one       the same with 1
    two       the same with 2
    winner    one trial is 3 above all others, which are equal
    failures  three of ten are 8 below the others, which are equal

The last rows are searches replayed on the recorded table (see `search.py`), on scores of one seed:
the other seeds of the leaders and of the plain network measure the noise, and judge the best.
"""

import argparse
import statistics
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from attnsearch.runs.statistics import expected_luck, seed_noise
from benchmarks.search import HERE, Table, others, replay, searched

Floats = np.ndarray
TRUTHS: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "none": lambda random, trials: np.zeros(trials),
    "half": lambda random, trials: 0.5 * random.standard_normal(trials),
    "one": lambda random, trials: random.standard_normal(trials),
    "two": lambda random, trials: 2 * random.standard_normal(trials),
    "winner": lambda random, trials: 3.0 * (np.arange(trials) == 0),
    "failures": lambda random, trials: -8.0 * (random.random(trials) < 0.3),
}
LEADERS = 3


def simulated(truth: str, trials: int, arms: int, studies: int) -> Iterator[tuple[float, float]]:
    """Yield the luck that is told and the real one, study by study."""
    random = np.random.default_rng(0)
    for _ in range(studies):
        means = TRUTHS[truth](random, trials)
        scores = means + random.standard_normal(trials)
        noise = seed_noise(random.standard_normal((arms, 5)).tolist())
        assert noise is not None
        best = int(scores.argmax())
        yield expected_luck(scores.tolist(), noise.sd), float(scores[best] - means[best])


def recorded(settings: str, studies: int) -> Iterator[tuple[float, float]]:
    """Yield the same of searches on the recorded table."""
    space = searched(24, {"sampler": "tpe", "scheduler": "none", "settings": settings})
    table = Table(HERE / "search_table.csv", space)
    for number in range(studies):
        seed = table.seeds[number % len(table.seeds)]
        done = replay(space, table, seed, number, baseline=True)
        scores = {config: table.curves[config][seed][-1] for config in done.begun}
        leaders = sorted(scores, key=lambda config: -scores[config])
        plain = next(config for config in done.begun if config[:-1] == table.plain)
        arms = dict.fromkeys([*leaders[:LEADERS], plain, leaders[LEADERS]])
        noise = seed_noise(
            [[table.curves[config][other][-1] for other in others(table, seed)] for config in arms]
        )
        assert noise is not None
        real = scores[leaders[0]] - table.mean(leaders[0], others(table, seed))
        yield expected_luck(list(scores.values()), noise.sd), real


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=400)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    print("| true differences | trials | arms that measure | told | real |")
    for truth in TRUTHS:
        for trials, arms in ((12, 3), (24, 1), (24, 3), (48, 3)):
            pairs = list(simulated(truth, trials, arms, given.studies))
            told, real = (statistics.fmean(column) for column in zip(*pairs, strict=True))
            print(f"| {truth} | {trials} | {arms} | {told:.2f} | {real:.2f} |", flush=True)
    for settings in ("together", "first"):
        pairs = list(recorded(settings, given.studies // 10))
        told, real = (statistics.fmean(column) for column in zip(*pairs, strict=True))
        print(f"| recorded, {settings} | 24 | 4 | {told:.4f} | {real:.4f} |", flush=True)
