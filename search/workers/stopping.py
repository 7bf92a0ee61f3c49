"""Early stopping: which of the trials that run are not worth their full schedule.

Each scheduler of `search.scheduler` is one function of plain data, the curves of the trials so
far. Nothing is kept between two questions, so a study that was interrupted decides as if it had
not been: its curves stand in the ledger.

A new scheduler is its function here with a line in `SCHEDULERS`, and its settings in
`spaces/keys/search.py`, under the names of the function's own keyword arguments.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from attnsearch.spaces.keys import default_grace

TrialCurve = Mapping[int, float]
"""The values of one trial by epoch, oldest first."""

StoppingRule = Callable[..., bool]
"""Whether to stop a trial: its number, all curves by number, the epochs, then the settings.

The higher value is the better one.
"""


def should_stop(
    scheduler: str | Mapping[str, Any],
    number: int,
    curves: Mapping[int, TrialCurve],
    *,
    goal: str,
    epochs: int,
) -> bool:
    """Return whether a trial is to be stopped after the last epoch of its curve.

    Args:
        scheduler: As `search.scheduler` of a resolved space: a name, or a mapping with one name
            to its settings.
        number: The trial's number.
        curves: All trials' values of the metric that decides, its own among them, by number.
        goal: "max" or "min".
        epochs: Of the full schedule.
    """
    if not curves.get(number):
        return False
    name = scheduler_name(scheduler)
    settings = {} if isinstance(scheduler, str) else scheduler[name]
    if goal == "min":
        curves = {
            other: {epoch: -value for epoch, value in curve.items()}
            for other, curve in curves.items()
        }
    return SCHEDULERS[name](number, curves, epochs, **settings)


def scheduler_name(scheduler: str | Mapping[str, Any]) -> str:
    """Return the name in `search.scheduler`, which may carry settings."""
    if isinstance(scheduler, str):
        return scheduler
    return next(name for name, settings in scheduler.items() if settings is not None)


def asha(
    number: int,
    curves: Mapping[int, TrialCurve],
    epochs: int,
    *,
    grace: int | None = None,
    reduction: int = 3,
) -> bool:
    """Stop by asynchronous successive halving (Li et al. 2020, arXiv 1810.05934), without pausing.

    Args:
        number: The trial's number.
        curves: All trials' values by epoch, by number.
        epochs: Of the full schedule.
        grace: The epoch of the first rung; by default a third of the schedule.
        reduction: One in so many goes on from a rung; the next is so many times as far.
    """
    rungs = [grace or default_grace(epochs)]
    while rungs[-1] < epochs:
        rungs.append(rungs[-1] * reduction)
    return _halved(number, curves, rungs[:-1], reduction)


def hyperband(
    number: int, curves: Mapping[int, TrialCurve], epochs: int, *, reduction: int = 3
) -> bool:
    """Stop by asynchronous Hyperband: ASHA in several brackets (Li et al. 2020, section 3).

    Brackets differ in how early their trials may be stopped, and a trial is compared within its
    own. The brackets take turns by the trials' numbers: the one that stops earliest and holds
    most trials first, the one that stops none last, as large as Hyperband makes them (Li et al.
    2018, arXiv 1603.06560).

    Args:
        number: The trial's number.
        curves: All trials' values by epoch, by number.
        epochs: Of the full schedule.
        reduction: One in so many goes on from a rung; the next is so many times as far.
    """
    turns = _bracket_turns(epochs, reduction)
    bracket = turns[number % len(turns)]
    peers = {
        other: curve for other, curve in curves.items() if turns[other % len(turns)] == bracket
    }
    rungs = [epochs // reduction**times for times in range(bracket, 0, -1)]
    return _halved(number, peers, rungs, reduction)


def median(
    number: int,
    curves: Mapping[int, TrialCurve],
    epochs: int,
    *,
    grace: int | None = None,
    min_samples: int = 3,
) -> bool:
    """Stop a trial whose best value is below the median of the others since the epoch `grace`.

    At that epoch itself half of the trials are, so this one stops early and often; `patient` is
    the rule as Golovin et al. (2017) state it.

    Args:
        number: The trial's number.
        curves: All trials' values by epoch, by number.
        epochs: Of the full schedule.
        grace: The first epoch that a trial may be stopped after; by default a third of the
            schedule.
        min_samples: Trials to compare with before any is stopped.
    """
    first = grace or default_grace(epochs)
    return _below_median(number, curves, first, since=first, min_samples=min_samples)


def patient(
    number: int,
    curves: Mapping[int, TrialCurve],
    epochs: int,
    *,
    grace: int | None = None,
    min_samples: int = 3,
) -> bool:
    """Stop a trial whose best value is below the others' median (Golovin et al. 2017).

    The median is that of the running means from the first epoch on. Scores rise, so the means lag
    behind, and only what has long been weaker than most is below them.

    Args:
        number: The trial's number.
        curves: All trials' values by epoch, by number.
        epochs: Of the full schedule.
        grace: The first epoch that a trial may be stopped after; by default a third of the
            schedule and at least 2, since a mean of one value does not lag.
        min_samples: Trials to compare with before any is stopped.
    """
    first = grace or max(2, default_grace(epochs))
    return _below_median(number, curves, first, since=1, min_samples=min_samples)


def none(number: int, curves: Mapping[int, TrialCurve], epochs: int) -> bool:
    """Stop nothing."""
    return False


SCHEDULERS: dict[str, StoppingRule] = {
    "asha": asha,
    "hyperband": hyperband,
    "median": median,
    "none": none,
    "patient": patient,
}


def _below_median(
    number: int, curves: Mapping[int, TrialCurve], first: int, *, since: int, min_samples: int
) -> bool:
    """Return whether a trial's best is below the median of the others' running means.

    The means are of all trials that have come as far, each from the epoch `since` to this one.
    """
    curve = curves[number]
    now = max(curve)
    if now < first:
        return False
    means = [
        np.mean([value for epoch, value in other.items() if since <= epoch <= now] or [np.nan])
        for place, other in curves.items()
        if place != number and other and max(other) >= now
    ]
    finite = [mean for mean in means if np.isfinite(mean)]
    return len(finite) >= min_samples and max(curve.values()) < np.median(finite)


def _halved(
    number: int, curves: Mapping[int, TrialCurve], rungs: Sequence[int], reduction: int
) -> bool:
    """Return whether a trial stands on a rung and below the best of those that have been there.

    The best are one in `reduction`; a trial is compared with those that came before it.
    """
    now = max(curves[number])
    if now not in rungs:
        return False
    others = [curve[now] for other, curve in curves.items() if other != number and now in curve]
    if not others:
        return False
    cutoff = np.nanpercentile(others, (1 - 1 / reduction) * 100)
    return bool(curves[number][now] < cutoff)


def _bracket_turns(epochs: int, reduction: int) -> list[int]:
    """Return how often each trial of a round is halved: one bracket's trials after the other's.

    A bracket is the number of halvings. Of epochs 9 and reduction 3: nine trials halved twice,
    after epochs 1 and 3; five once, after epoch 3; three never.
    """
    most = 0
    while reduction ** (most + 1) <= epochs:
        most += 1
    return [
        halvings
        for halvings in range(most, -1, -1)
        for _ in range(-(-(most + 1) * reduction**halvings // (halvings + 1)))
    ]
