"""When a plan is analysed before its last seed: group-sequential analyses, fixed with the plan.

Each analysis may spend a share of alpha, so a p of analysis k counts as p / share, and an interval
of it has the level 1 - alpha * share. However many analyses there are, and whatever stops an arm,
by Bonferroni's inequality over the analyses no error rate grows. How much that saves, and what it
costs: docs/statistics.md.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from attnsearch.runs.statistics.paired import PairedT, paired_t
from attnsearch.runs.statistics.power import detectable

RATIO = math.sqrt(2)  # of seeds from one analysis to the next, nearly
POWER = 1.5  # of the share of seeds, to which alpha is spent (Kim and DeMets, 1987)
HOPELESS = 0.2  # chance of a verdict, by the last seed, below which a contrast is futile


@dataclass(frozen=True)
class Interim:
    """The analyses of a plan.

    Attributes:
        sizes: Seeds of each analysis, ascending; the last one has all.
        shares: What part of alpha each analysis spends; they add up to 1.
        futility: The conditional power below which a contrast is futile.
    """

    sizes: tuple[int, ...]
    shares: tuple[float, ...]
    futility: float = HOPELESS

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Interim":
        """Return the analyses that a plan's document holds."""
        return cls(tuple(document["sizes"]), tuple(document["shares"]), document["futility"])

    def is_hopeless(
        self, result: PairedT, level: float, smallest: float | None, margin: float | None
    ) -> NDArray[np.bool_]:
        """Tell whether going on to the last seed is unlikely to bring a verdict.

        That is so where the conditional power is below `futility`: to find a difference, if the
        true one is what matters and lies in the direction seen; and to find equivalence, if there
        is none. Nothing rests on it, as no test is easier because others may be given up.

        Args:
            result: Of an analysis but the last.
            level: Of one test of the family: alpha / tests.
            smallest: The smallest difference that matters. A smaller one than the last analysis
                finds with a power of 80 % is replaced by that.
            margin: Of equivalence; None where that is not tested.
        """
        n, most, last = result.df + 1, self.sizes[-1], level * self.shares[-1]
        unit = result.sd / math.sqrt(most)
        sd = result.sd * math.sqrt(most - n) / most  # of the final mean, given the pairs so far
        so_far = n * np.abs(result.difference) / most
        effect = np.maximum(detectable(most, 1.0, alpha=last) * result.sd, smallest or 0.0)
        needed = scipy.stats.t.isf(last / 2, most - 1) * unit
        chance = scipy.stats.norm.sf((needed - so_far - (1 - n / most) * effect) / sd)
        if margin is not None:
            room = np.maximum(margin - scipy.stats.t.isf(last, most - 1) * unit, 0.0)
            within = scipy.stats.norm.cdf((room - so_far) / sd) - scipy.stats.norm.cdf(
                (-room - so_far) / sd
            )
            chance = np.maximum(chance, within)
        return np.asarray(chance < self.futility)


def expected_seeds(interim: Interim, level: float, effect: float) -> float:
    """Return how many seeds a contrast takes on average, simulated.

    Args:
        interim: The analyses.
        level: Of its test.
        effect: True difference, in standard deviations of the pairs.
    """
    draws = np.random.default_rng(0).normal(effect, 1, (4000, interim.sizes[-1]))
    going, seeds = np.ones(len(draws), bool), np.zeros(len(draws))
    for size, share in zip(interim.sizes, interim.shares, strict=True):
        result = paired_t(draws[:, :size])
        ends = result.p() <= level * share
        if size == interim.sizes[-1]:
            ends[:] = True
        else:
            ends |= interim.is_hopeless(result, level, None, None)
        seeds[going & ends] = size
        going &= ~ends
    return float(seeds.mean())


def interim_analyses(least: int, most: int) -> Interim:
    """Return the analyses of a plan with at least and at most so many seeds.

    Their sizes grow by a factor of about `RATIO`, and by the share t of the seeds, t ** `POWER`
    of alpha is spent.
    """
    steps = max(1, round(math.log(most / least) / math.log(RATIO)))
    sizes = sorted({round(least * (most / least) ** (step / steps)) for step in range(steps + 1)})
    spent = [round((size / most) ** POWER, 4) for size in sizes]
    shares = [round(b - a, 4) for a, b in zip([0.0, *spent], spent, strict=False)]
    return Interim(tuple(sizes), tuple(shares))
