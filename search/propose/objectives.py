"""What a study optimises: which values count, and which trials are best by them."""

import math
from collections.abc import Iterable, Mapping

from attnsearch.runs.ledger import State
from attnsearch.runs.results import objective_values, pareto_front, rank
from attnsearch.search.propose.proposals import ProposalResult
from attnsearch.spaces.keys import COSTS


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
        return objective_values(metrics, costs, self.directions)

    def ranked(self, finished: Mapping[int, tuple[float, ...]]) -> list[int]:
        """Return trials by the first objective, the best first, the earlier one of equals first.

        Args:
            finished: Number to scores.
        """
        return rank(finished, self.directions)

    def best(self, finished: Mapping[int, tuple[float, ...]]) -> list[int]:
        """Return the best trial; with several objectives the Pareto front, by number.

        Args:
            finished: Number to scores.
        """
        if len(self.names) == 1:
            return self.ranked(finished)[:1]
        return pareto_front(dict(sorted(finished.items())), self.directions)

    def told(
        self,
        state: State,
        curve: Mapping[int, float],
        metrics: Mapping[str, float],
        costs: Mapping[str, float],
        constraints: Mapping[str, float],
    ) -> ProposalResult:
        """Return what Optuna is told of a trial.

        Args:
            state: Of the run.
            curve: As `curve` returns it.
            metrics: Those that count.
            costs: As far as they were measured.
            constraints: Name to amount, positive where violated.
        """
        scores = self.scores(metrics, costs) if state == State.FINISHED else None
        if state == State.FINISHED and scores is None:
            state = State.FAILED  # the objective is not a number
        finite = [point for point in curve.items() if math.isfinite(point[1])]
        return ProposalResult(state, finite, scores, constraints)

    def curve(self, epochs: Iterable[Mapping[str, float]]) -> dict[int, float]:
        """Return epoch -> value of the objective that early stopping follows, where measured.

        Args:
            epochs: Metrics by epoch, with the epoch's number as `epoch`.
        """
        name = self.followed or ""
        return {
            int(metrics["epoch"]): float(metrics[name])
            for metrics in epochs
            if name in metrics and not math.isnan(metrics[name])
        }
