"""One contrast's pairs, and everything that follows from them alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.statistics.measured import (
    Interval,
    Side,
    Unit,
    VarianceFactor,
    is_folded,
    t_interval,
)
from attnsearch.runs.statistics.paired import (
    ROUNDING,
    PairedT,
    paired_t,
    sign_flip_is_informative,
    sign_flip_p,
    varies,
)
from attnsearch.runs.statistics.patients import new_patients_interval
from attnsearch.runs.statistics.plan import Contrast, Plan
from attnsearch.runs.statistics.verdicts import LEAST_TESTED

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Differences:
    """One contrast, before the others of its family are known.

    Attributes:
        plan: Whose contrast it is.
        contrast: What is added and what is subtracted.
        sides: Label of every arm of the plan -> its scores.
        factor: Variance of a mean over n pairs.
        void: Why the plan allows no verdict at all; None where it does.
        share: What part of alpha is spent on this analysis: a p counts as p / share.
    """

    plan: Plan
    contrast: Contrast
    sides: Mapping[str, Side]
    factor: VarianceFactor
    void: str | None
    share: float = 1.0

    @cached_property
    def plus(self) -> Floats:
        """(n,), the added arms' scores."""
        return self._sum(self.contrast.plus, self._scores)

    @cached_property
    def minus(self) -> Floats:
        """(n,), the subtracted arms' scores."""
        return self._sum(self.contrast.minus, self._scores)

    @cached_property
    def values(self) -> Floats:
        """(n,), plus less minus, with what is rounding set to zero."""
        values = self.plus - self.minus
        return np.where(np.abs(values) <= ROUNDING * self._scale, 0.0, values)

    @cached_property
    def failed(self) -> int:
        """Runs that are not there; an arm that equals another one counts once."""
        labels = {self.plan.arm(label).equals or label for label in self._labels}
        return sum(self.sides[label].failed for label in labels)

    @cached_property
    def varies(self) -> bool:
        """Whether there are pairs that differ from one another."""
        return len(self.values) > 1 and varies(self.values, self._scale)

    @cached_property
    def result(self) -> PairedT | None:
        """The t, where there are enough pairs for an interval."""
        n = len(self.values)
        return paired_t(self.values, self.factor(n)) if n >= LEAST_TESTED else None

    @property
    def is_tested(self) -> bool:
        """Whether the contrast gets a p."""
        return not self.failed and self.void is None and self.varies and self.result is not None

    @property
    def p(self) -> float | None:
        """Of a difference."""
        if self.result is None or not self.is_tested:
            return None
        return min(float(self.result.p()) / self.share, 1.0)

    @property
    def equivalence_p(self) -> float | None:
        """Of a difference within the margin."""
        if self.result is None or not self.is_tested or self.plan.margin is None:
            return None
        return min(float(self.result.equivalence_p(self.plan.margin)) / self.share, 1.0)

    def ends(self, alpha: float) -> tuple[float, float] | tuple[None, None]:
        """End of the interval at 1 - alpha; None below three pairs."""
        if self.result is None:
            return None, None
        low, high = self.result.interval(1 - alpha)
        return float(low), float(high)

    def permutation_p(self, level: float) -> float | None:
        """Return p of the sign-flip test, where it can reach that level on independent pairs."""
        n = len(self.values)
        if is_folded(self.plan) or self.plan.interim is not None:
            return None
        if not self.is_tested or not sign_flip_is_informative(n, level):
            return None
        return sign_flip_p(self.values)

    def correlation(self) -> float | None:
        """Return between the two sides; None below three pairs or without variance."""
        if len(self.values) < LEAST_TESTED:
            return None
        if not (varies(self.plus, self._scale) and varies(self.minus, self._scale)):
            return None
        return float(np.corrcoef(self.plus, self.minus)[0, 1])

    def new_patients(self) -> Interval | None:
        """Return the interval over new seeds and new patients, where every run has cases."""
        if len(self._units) < LEAST_TESTED:
            return None
        cases = {label: self.sides[label].cases for label in self._labels}
        if not all(unit in own for own in cases.values() for unit in self._units):
            return None
        sizes = {len(own[unit]) for own in cases.values() for unit in self._units}
        if len(sizes) > 1:
            raise ValueError(
                f"cases of {', '.join(self._labels)}: {sorted(sizes)} of them; runs that are "
                f"compared need values of the same patients, in the same order"
            )
        difference = self._sum(self.contrast.plus, cases) - self._sum(self.contrast.minus, cases)
        value, low, high, df = new_patients_interval(difference, 1 - self.plan.alpha)
        return Interval(float(value), float(low), float(high), float(df), sizes.pop())

    def secondary(self) -> dict[str, Interval]:
        """Return differences of the metrics that every arm has."""
        first, *others = (self.sides[label].secondary for label in self._labels)
        signs = [1] * len(self.contrast.plus) + [-1] * len(self.contrast.minus)
        intervals = {}
        for name in first:
            if all(name in other for other in others):
                own = [self.sides[label].secondary[name] for label in self._labels]
                units = [unit for unit in own[0] if all(unit in scores for scores in own)]
                rows = np.array([[scores[unit] for unit in units] for scores in own])
                intervals[name] = t_interval(signs @ rows, self.factor, self.plan.alpha)
        return intervals

    @property
    def _labels(self) -> tuple[str, ...]:
        return self.contrast.plus + self.contrast.minus

    @cached_property
    def _units(self) -> list[Unit]:
        """Seeds, or folds, that every arm has a score of."""
        first, *others = self._scores.values()
        return [unit for unit in first if all(unit in other for other in others)]

    @cached_property
    def _scale(self) -> float:
        scores = self._scores.values()
        return max((abs(own[unit]) for own in scores for unit in self._units), default=0.0)

    @cached_property
    def _scores(self) -> dict[str, Mapping[Unit, float]]:
        return {label: self.sides[label].scores for label in self._labels}

    def _sum(self, labels: Sequence[str], values: Mapping[str, Mapping[Unit, Any]]) -> Floats:
        """Return the sum over arms of what each has in every unit, (n,) or (n, P)."""
        rows = [[values[label][unit] for unit in self._units] for label in labels]
        return np.asarray(np.sum(np.array(rows, dtype=np.float64), axis=0))
