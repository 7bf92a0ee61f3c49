"""What a plot of score against cost marks."""

from attnsearch.runs.figures.cost import cost_of_trials
from attnsearch.runs.ledger.ledger import Ledger


def test_one_cost_is_no_plot(made_up: Ledger) -> None:
    trials = made_up.trials(made_up.find_study("digits").id)
    assert cost_of_trials(trials, "val_accuracy", "max", "params") is not None
    assert cost_of_trials(trials, "val_accuracy", "max", "macs") is None
    assert cost_of_trials(trials, "val_accuracy", "max", "latency_ms") is None
