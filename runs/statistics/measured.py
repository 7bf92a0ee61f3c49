"""What runs of an arm scored, seed by seed or fold by fold, and an arm's own summary."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.statistics.fold_variance import nadeau_bengio_factor
from attnsearch.runs.statistics.paired import paired_t
from attnsearch.runs.statistics.plan import Plan
from attnsearch.runs.statistics.verdicts import LEAST_TESTED

Floats = NDArray[np.float64]
Place = tuple[int | None, int]  # fold and seed of a run
Unit = int | None  # what is paired: a seed, or a fold
VarianceFactor = Callable[[int], float]  # see `variance_factor`


@dataclass(frozen=True)
class Interval:
    """A difference, or a mean, with its confidence interval, in metric units.

    Attributes:
        value: The estimate in the middle.
        low: Lower end.
        high: Upper end.
        df: Degrees of freedom of the t that made it.
        cases: How many patients or images it generalises over; None where it does not.
    """

    value: float
    low: float
    high: float
    df: float
    cases: int | None = None


@dataclass(frozen=True)
class Measured:
    """The scores of one run of an arm.

    Attributes:
        fold: None where the data is not folded.
        seed: The run's seed; runs of two arms are paired by fold and seed.
        score: The primary metric; None where the run failed.
        cases: (P,) jackknife pseudo-values of the primary metric, one a patient (or image), from
            `patients.case_values`, in the same order for every arm and seed; None
            leaves the scope of new patients out.
        secondary: Other metrics of the same predictions, by name.
        constant: What the best answer that looks at no image scores; None where that is unknown.
    """

    fold: int | None
    seed: int
    score: float | None
    cases: NDArray[np.float64] | None = None
    secondary: Mapping[str, float] = field(default_factory=dict)
    constant: float | None = None


@dataclass(frozen=True)
class ArmSummary:
    """An arm by itself.

    Attributes:
        label: The arm's.
        n: Runs that finished; with folds, the folds that have a score of every seed.
        failed: Runs that failed, or are not there.
        mean: Of the finished runs; None where there is none.
        sd: Over the seeds, or over the folds' means; None below two.
        interval: At 1 - alpha; None below three.
        secondary: Mean and interval of the other metrics; ends are NaN below three.
    """

    label: str
    n: int
    failed: int
    mean: float | None
    sd: float | None
    interval: Interval | None
    secondary: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Side:
    """An arm's scores in the units that are paired: one a seed, or one a fold, its seeds averaged.

    Attributes:
        scores: Of the primary metric; a fold that lacks a seed has none.
        secondary: Of the other metrics, where they are finite.
        cases: (P,) pseudo-values of each seed; empty with folds.
        failed: Planned runs that failed or are not there.
    """

    scores: Mapping[Unit, float]
    secondary: Mapping[str, Mapping[Unit, float]]
    cases: Mapping[Unit, Floats]
    failed: int


def variance_factor(plan: Plan, test_to_train: float | None) -> VarianceFactor:
    """Return the variance of a mean over n pairs, in units of the pairs' variance, by n.

    Args:
        plan: Whose pairs are seeds, independent of each other, or folds.
        test_to_train: n_test / n_train of folds, for Nadeau's and Bengio's factor.

    Raises:
        ValueError: The data is folded and `test_to_train` is missing.
    """
    if not is_folded(plan):
        return lambda n: 1 / n
    if test_to_train is None:
        raise ValueError(
            f"test_to_train: None, but plan {plan.name} has {len(plan.folds)} folds; the "
            f"variance over folds needs n_test / n_train"
        )
    return lambda n: nadeau_bengio_factor(n, test_to_train)


def is_folded(plan: Plan) -> bool:
    """Return whether pairs are folds, and not seeds."""
    return plan.folds != (None,)


def side_of(plan: Plan, measured: Sequence[Measured]) -> Side:
    """Return an arm's runs as scores of seeds or folds."""
    runs = {(m.fold, m.seed): m for m in measured if m.score is not None}
    secondary: dict[str, dict[Place, float]] = {}
    for place, run in runs.items():
        for name, value in run.secondary.items():
            units = secondary.setdefault(name, {})
            if math.isfinite(value):
                units[place] = value
    return Side(
        scores=_by_unit(plan, {p: m.score for p, m in runs.items() if m.score is not None}),
        secondary={name: _by_unit(plan, values) for name, values in secondary.items()},
        cases={}
        if is_folded(plan)
        else {seed: m.cases for (_, seed), m in runs.items() if m.cases is not None},
        failed=sum(place not in runs for place in plan.repeats()),
    )


def t_interval(values: Floats, factor: VarianceFactor, alpha: float) -> Interval:
    """Return Student's interval of the mean of values (n,); its ends are NaN below three."""
    mean = float(values.mean()) if len(values) else math.nan
    if len(values) < LEAST_TESTED:
        return Interval(mean, math.nan, math.nan, max(len(values) - 1, 0))
    result = paired_t(values, factor(len(values)))
    low, high = result.interval(1 - alpha)
    return Interval(mean, float(low), float(high), result.df)


def summarise(
    plan: Plan, label: str, measured: Sequence[Measured], *, test_to_train: float | None = None
) -> ArmSummary:
    """Return mean, spread and interval of one arm.

    Args:
        plan: Whose arm it is.
        label: The arm's.
        measured: Its runs.
        test_to_train: As in `comparison.compare`.

    Raises:
        ValueError: The data is folded and `test_to_train` is missing.
    """
    factor = variance_factor(plan, test_to_train)
    side = side_of(plan, measured)
    values = np.array(list(side.scores.values()))
    return ArmSummary(
        label=label,
        n=len(values),
        failed=side.failed,
        mean=float(values.mean()) if len(values) else None,
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        interval=t_interval(values, factor, plan.alpha) if len(values) >= LEAST_TESTED else None,
        secondary={
            name: t_interval(np.array(list(units.values())), factor, plan.alpha)
            for name, units in side.secondary.items()
        },
    )


def _by_unit(plan: Plan, values: Mapping[Place, float]) -> dict[Unit, float]:
    """Return mean over the planned runs of each seed or fold, for those that have all of them."""
    planned: dict[Unit, list[Place]] = {}
    for fold, seed in plan.repeats():
        planned.setdefault(fold if is_folded(plan) else seed, []).append((fold, seed))
    return {
        unit: float(np.mean([values[place] for place in places]))
        for unit, places in planned.items()
        if all(place in values for place in places)
    }
