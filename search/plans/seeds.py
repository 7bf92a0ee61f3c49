"""Seeds that no act shares with another.

Exploring trains with `train.seed`. Every other act draws from a range of its own, far above what
people write as a seed, so that no run that decides something is also a run that reports it:

| act | seeds |
| --- | --- |
| exploring | `train.seed` |
| tuning a baseline, or an ablation's arms | from 1,000,000,000 |
| confirm | from 1,100,000,000 |
| ablation | from 1,200,000,000 |

Within a range the file's `train.seed` chooses a block of 1,000 numbers (modulo 100,000 blocks), so
that the same file with another `train.seed` is a repetition on other seeds throughout. All arms of
an act get the same seeds. More seeds continue the sequence: 5 seeds begin with the 3 that were
there.
"""

from collections.abc import Mapping
from typing import Literal

from attnsearch.search.plans.arms import PlanError

Purpose = Literal["tuning", "confirm", "ablation"]

RANGES: dict[Purpose, int] = {
    "tuning": 1_000_000_000,
    "confirm": 1_100_000_000,
    "ablation": 1_200_000_000,
}
BLOCK = 1_000
BLOCKS = 100_000


def most_seeds(seeds: int | Mapping[str, int]) -> int:
    """Return how many seeds `confirm.seeds` gives an arm at most."""
    return seeds if isinstance(seeds, int) else seeds["max"]


def fresh_seeds(exploring: int, purpose: Purpose, count: int) -> tuple[int, ...]:
    """Return the seeds of an act, the same for all of its arms.

    Args:
        exploring: The seed of the exploring runs, `train.seed`.
        purpose: The act.
        count: How many.

    Raises:
        PlanError: More are asked for than a block holds.
    """
    if count >= BLOCK:
        raise PlanError(f"{count} seeds are more than the {BLOCK - 1} that an act can have")
    start = RANGES[purpose] + BLOCK * (exploring % BLOCKS)
    seeds = [seed for seed in range(start, start + count + 1) if seed != exploring][:count]
    assert exploring not in seeds, "a seed of exploring enters a result"
    return tuple(seeds)
