"""Whether a reference has learned anything."""

from dataclasses import replace
from typing import Any

import pytest

from attnsearch.runs.statistics.learning import constant_of, has_learned
from attnsearch.runs.statistics.measured import Measured
from tests.runs import made_studies as made


def runs(scores: list[float], constant: float | None) -> list[Measured]:
    return [Measured(None, 100 + i, score, constant=constant) for i, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "constant", "learned"),
    [
        ([0.131, 0.134, 0.129], 0.13, False),  # the Dice of all foreground
        ([0.13, 0.12, 0.11], 0.13, False),
        ([0.25, 0.27, 0.26], 0.13, True),
        ([0.9, 0.1, 0.1], 0.1, False),  # one of three; the interval reaches down
        ([0.2], 0.1, True),  # one run has no interval
        ([0.1], 0.1, False),
        ([0.1, 0.1, 0.1], None, True),  # of a ledger that does not tell
        ([1.0, 1.0, 1.0], 1.0, True),  # recall of all foreground: it can tell nothing
        ([], 0.1, True),
    ],
)
def test_the_mean_must_lie_above_the_constant_answer(
    scores: list[float], constant: float | None, learned: bool
) -> None:
    seeds = tuple(range(100, 100 + max(1, len(scores))))
    plan = replace(made.confirm_plan(), seeds=seeds)
    assert has_learned(plan, runs(scores, constant)) is learned


def test_a_loss_must_lie_below() -> None:
    changes: dict[str, Any] = {"metric": "loss", "direction": "min", "seeds": (100, 101, 102)}
    plan = replace(made.confirm_plan(), **changes)
    assert not has_learned(plan, runs([0.70, 0.69, 0.69], 0.69))
    assert has_learned(plan, runs([0.30, 0.31, 0.29], 0.69))
    assert constant_of(plan, runs([0.1], 0.0)) is None


def test_a_run_without_a_score_has_no_part_in_it() -> None:
    plan = replace(made.confirm_plan(), seeds=(100, 101))
    measured = [*runs([0.9], 0.1), Measured(None, 101, None)]
    assert constant_of(plan, measured) == 0.1
