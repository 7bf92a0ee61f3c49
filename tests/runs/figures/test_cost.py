"""What a plot of score against cost marks."""

import pytest

from attnsearch.runs.figures.cost import cost_of_trials, pareto_front
from attnsearch.runs.ledger.ledger import Ledger


@pytest.mark.parametrize(
    ("points", "goal", "front"),
    [
        ([(1, 0.5), (2, 0.7), (3, 0.6)], "max", {0, 1}),
        ([(1, 0.5), (2, 0.7), (3, 0.4)], "min", {0, 2}),
        ([(1, 0.5), (1, 0.5), (1, 0.4)], "max", {0, 1}),
        ([(2, 0.5), (1, 0.5)], "max", {1}),
        ([], "max", set()),
    ],
)
def test_the_front_holds_what_nothing_beats(
    points: list[tuple[float, float]], goal: str, front: set[int]
) -> None:
    assert pareto_front(points, goal) == front


def test_one_cost_is_no_plot(made_up: Ledger) -> None:
    trials = made_up.trials(made_up.find_study("digits").id)
    assert cost_of_trials(trials, "val_accuracy", "max", "params") is not None
    assert cost_of_trials(trials, "val_accuracy", "max", "macs") is None
    assert cost_of_trials(trials, "val_accuracy", "max", "latency_ms") is None
