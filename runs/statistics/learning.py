"""Whether a network has learned anything at all, before it is compared with others."""

from collections.abc import Sequence

import numpy as np

from attnsearch.runs.statistics.measured import Measured, side_of, t_interval, variance_factor
from attnsearch.runs.statistics.plan import Plan

PERFECT = 1 - 1e-9  # of a share: where the constant answer earns this, it can tell nothing


def constant_of(plan: Plan, runs: Sequence[Measured]) -> float | None:
    """Return the mean score of the constant answer on what some runs were scored on.

    None where it is unknown, or where it is perfect: images without any foreground, or recall.
    """
    constants = [run.constant for run in runs if run.score is not None]
    known = [constant for constant in constants if constant is not None]
    if not known or len(known) < len(constants):
        return None
    mean = float(np.mean(known))
    perfect = mean >= PERFECT if plan.direction == "max" else mean <= 1 - PERFECT
    return None if perfect else mean


def has_learned(
    plan: Plan, runs: Sequence[Measured], *, test_to_train: float | None = None
) -> bool:
    """Return whether an arm is better than the constant answer, as far as its runs can tell.

    It has not learned where its mean is no better, or, from three seeds or folds on, where the
    interval of the mean at 1 - alpha reaches down to it.

    Args:
        plan: Whose arm it is.
        runs: Its runs.
        test_to_train: As in `comparison.compare`.
    """
    constant = constant_of(plan, runs)
    values = np.array(list(side_of(plan, runs).scores.values()))
    if constant is None or not len(values):
        return True
    sign = 1.0 if plan.direction == "max" else -1.0
    above = t_interval(
        sign * (values - constant), variance_factor(plan, test_to_train), plan.alpha
    )
    return above.value > 0 and not above.low <= 0
