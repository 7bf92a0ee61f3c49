"""What a study optimises: which values count, and which trials are best by them."""

import math
from collections.abc import Mapping, Sequence

from attnsearch.runs.ledger import State
from attnsearch.search.propose.proposals import Told
from attnsearch.spaces.file import COSTS


class Objectives:
    """The objectives of a study.

    Args:
        directions: Metric or cost name to "max" or "min", in the order of the space file.

    Attributes:
        names: Their names.
        followed: The one that early stopping follows: the first that every epoch measures. A
            cost is the same in every epoch and would stop trials before they can learn.
    """

    def __init__(self, directions: Mapping[str, str]) -> None:
        self.directions = dict(directions)
        self.names = tuple(directions)
        measured = [name for name in self.names if name not in COSTS]
        self.followed = measured[0] if measured else None

    def scores(
        self, metrics: Mapping[str, float], costs: Mapping[str, float]
    ) -> tuple[float, ...] | None:
        """Return the values of the objectives in order; None if one is missing or not finite."""
        found = [(costs if name in COSTS else metrics).get(name) for name in self.names]
        values = tuple(float(value) for value in found if value is not None)
        whole = len(values) == len(found) and all(math.isfinite(value) for value in values)
        return values if whole else None

    def ranked(self, finished: Mapping[int, tuple[float, ...]]) -> list[int]:
        """Return trials by the first objective, the best first, the earlier one of equals first.

        Args:
            finished: Number to scores.
        """
        sign = -1 if self.directions[self.names[0]] == "max" else 1
        return sorted(finished, key=lambda number: (sign * finished[number][0], number))

    def best(self, finished: Mapping[int, tuple[float, ...]]) -> list[int]:
        """Return the best trial; with several objectives the Pareto front, by number.

        Args:
            finished: Number to scores.
        """
        if len(self.names) == 1:
            return self.ranked(finished)[:1]
        return [
            number
            for number, scores in sorted(finished.items())
            if not any(self._dominates(other, scores) for other in finished.values())
        ]

    def told(
        self,
        state: State,
        epochs: Sequence[Mapping[str, float]],
        scores: tuple[float, ...] | None,
        constraints: Mapping[str, float],
    ) -> Told:
        """Return what Optuna is told of a trial.

        Args:
            state: Of the run.
            epochs: Its metrics by epoch, with the epoch's number as `epoch`.
            scores: Of a finished one.
            constraints: Name to amount, positive where violated.
        """
        if state == State.FINISHED and scores is None:
            state = State.FAILED  # the objective is not a number
        curve = [(epoch, value) for epoch, value in self.curve(epochs) if math.isfinite(value)]
        return Told(state, curve, scores, constraints)

    def curve(self, epochs: Sequence[Mapping[str, float]]) -> list[tuple[int, float]]:
        """Return (epoch, value) of the objective that early stopping follows, where measured.

        Args:
            epochs: Metrics by epoch, with the epoch's number as `epoch`.
        """
        name = self.followed or ""
        return [
            (int(metrics["epoch"]), float(metrics[name]))
            for metrics in epochs
            if name in metrics and not math.isnan(metrics[name])
        ]

    def _dominates(self, one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        signs = [1 if self.directions[name] == "max" else -1 for name in self.names]
        gains = [sign * (a - b) for sign, a, b in zip(signs, one, other, strict=True)]
        return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)
