"""Which runs are best, and in which order runs are listed: the one definition.

A run counts if it was trained for its full schedule, keeps the study's limits, and has a finite
value of every objective. All that shows a winner, a leaderboard or a Pareto front asks here.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from typing import TypeGuard, TypeVar

from attnsearch.runs.ledger import SEARCH_ROLES, RunRow, State, TrialRow
from attnsearch.runs.statistics import LEAST_TRIALS, importances
from attnsearch.runs.words import plural
from attnsearch.spaces.keys import COSTS, metric_name

_ORDER = list(State)

Key = TypeVar("Key", bound=Hashable)
Run = TypeVar("Run", bound=RunRow)


def objective_values(
    metrics: Mapping[str, float], costs: Mapping[str, float], objectives: Mapping[str, str]
) -> tuple[float, ...] | None:
    """Return the objectives' values in their order; None if one is missing or not finite."""
    values = [(costs if name in COSTS else metrics).get(name) for name in objectives]
    numbers = tuple(float(value) for value in values if _is_finite(value))
    return numbers if len(numbers) == len(values) else None


def value_of(run: RunRow, name: str) -> float | None:
    """Return a run's score or cost of that name; None if it is missing or not finite."""
    values = objective_values(run.metrics, run.costs, {name: ""})
    return values[0] if values else None


def rank(values: Mapping[Key, Sequence[float]], objectives: Mapping[str, str]) -> list[Key]:
    """Return the keys by the first objective, the best first; of equal ones the first key."""
    sign = _signs(objectives)[0]
    return sorted(values, key=lambda key: (-sign * values[key][0], key))


def pareto_front(
    values: Mapping[Key, Sequence[float]], objectives: Mapping[str, str]
) -> list[Key]:
    """Return the keys that no other beats: in nothing worse, in something better.

    Args:
        values: Key -> its values, one an objective. Of equal ones all are returned.
        objectives: Name -> ``max`` or ``min``.
    """
    signs = _signs(objectives)
    gains = {
        key: tuple(sign * value for sign, value in zip(signs, own, strict=True))
        for key, own in values.items()
    }
    return [
        key
        for key, own in gains.items()
        if not any(
            other != own and all(a >= b for a, b in zip(other, own, strict=True))
            for other in gains.values()
        )
    ]


def counting(runs: Sequence[Run], objectives: Mapping[str, str]) -> dict[int, tuple[float, ...]]:
    """Return place in `runs` -> values of the objectives, of the runs that count."""
    return {
        index: values
        for index, run in enumerate(runs)
        if run.state == State.FINISHED
        and not run.over
        and (values := objective_values(run.metrics, run.costs, objectives)) is not None
    }


def ranked(runs: Sequence[Run], objectives: Mapping[str, str]) -> list[Run]:
    """Return the runs that count by the first objective, the best first; the earlier of equals."""
    return [runs[index] for index in rank(counting(runs, objectives), objectives)]


def best(trials: Sequence[TrialRow], metric: str, goal: str) -> TrialRow | None:
    """Return the trial that counts with the best value; None where none does.

    Args:
        trials: The runs of a study; those that the search cannot choose are passed over.
        metric: A score or a cost.
        goal: ``max`` or ``min``.
    """
    chosen = [trial for trial in trials if trial.role in SEARCH_ROLES]
    return next(iter(ranked(chosen, {metric: goal})), None)


def importances_of(trials: Sequence[TrialRow], metric: str) -> dict[str, dict[str, float]]:
    """Return decision -> the fields of its `Importance` for a metric, of the trials that count."""
    chosen = [trial for trial in trials if trial.role in SEARCH_ROLES]
    scores = counting(chosen, {metric: ""})
    values = [chosen[index].values for index in scores]
    judged = importances(values, [score for (score,) in scores.values()])
    return {name: asdict(importance) for name, importance in judged.items()}


def importance_sentence(
    trials: Sequence[TrialRow], metric: str, judged: Mapping[str, Mapping[str, float]]
) -> str:
    """Say which decisions mattered for a metric, or why that cannot be said.

    Args:
        trials: The runs of a study.
        metric: A score or a cost.
        judged: As `importances_of` returns it.
    """
    counted = len(counting([t for t in trials if t.role in SEARCH_ROLES], {metric: ""}))
    what = f"What mattered for {metric_name(metric)}"
    if counted < LEAST_TRIALS:
        few = plural(counted, "trial")
        return f"{what}: {few} of the full schedule cannot tell; it takes {LEAST_TRIALS}."
    shares = ", ".join(
        f"{name} {each['share']:.0%} ({each['low']:.0%} to {each['high']:.0%})"
        for name, each in judged.items()
    )
    shares = shares or "no decision more than chance"
    return f"{what}, as a share of the variance with its 95 % interval: {shares}."


def listed(trials: Sequence[TrialRow], objectives: Mapping[str, str]) -> list[TrialRow]:
    """Return runs in the order in which they are listed.

    Those of the full schedule come first, as they are ranked and then those that do not count;
    then those stopped early, those trained longer before those trained shorter, since scores of
    unequal budgets are not compared; then the rest by state. What violates a limit is infeasible,
    also if that was measured only after its training.
    """
    counted = {trials[index].place_id for index in counting(trials, objectives)}
    metric = next(iter(objectives))
    sign = _signs(objectives)[0]

    def order(trial: TrialRow) -> tuple[float, ...]:
        value = value_of(trial, metric)
        budget = len(trial.epochs) if trial.state == State.STOPPED else 0
        loss = math.inf if value is None else -sign * value
        left_out = trial.place_id not in counted
        state = State.INFEASIBLE if trial.over else trial.state
        return (_ORDER.index(state), left_out, -budget, loss, trial.number)

    return sorted(trials, key=order)


def _signs(objectives: Mapping[str, str]) -> list[int]:
    return [1 if goal == "max" else -1 for goal in objectives.values()]


def _is_finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
