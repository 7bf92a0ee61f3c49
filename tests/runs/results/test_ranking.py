"""Which runs are best: full schedule, within the limits, a number for every objective."""

from pathlib import Path
from typing import Any

import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.records import TrialRow
from attnsearch.runs.ledger.requests import Ending, Place, Request
from attnsearch.runs.results.ranking import best, listed, pareto_front, ranked

OBJECTIVES = {"val_accuracy": "max", "latency_ms": "min"}
LIMITS = {"latency_ms": 10}


class Study:
    """A study of trials that are recorded as they are given."""

    def __init__(self, ledger: Ledger, name: str, limits: dict[str, float]) -> None:
        document = {"search": {"objectives": OBJECTIVES}, "limits": limits}
        self.ledger = ledger
        self.id = ledger.open_study(name, "", document, "data", {}).id

    def trial(self, number: int, accuracy: float, latency: float, **more: Any) -> int:
        request = Request(str(number), config={}, seed=0, epochs=2, study_id=self.id)
        claim = self.ledger.claim(request)
        place = Place(number=number, role=more.get("role", "trial"))
        self.ledger.attach(self.id, claim.run_id, place)
        for epoch in range(1, more.get("epochs", 2) + 1):
            self.ledger.record_epoch(claim.run_id, epoch, {"val_accuracy": accuracy})
        ending = Ending(
            more.get("state", "finished"),
            metrics={"val_accuracy": accuracy},
            costs={"latency_ms": latency},
        )
        self.ledger.finish(claim.run_id, ending)
        return claim.run_id

    def trials(self) -> list[TrialRow]:
        return self.ledger.trials(self.id)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "attnsearch.db")


def numbers(trials: list[TrialRow]) -> list[int]:
    return [trial.number for trial in trials]


def test_a_run_measured_above_a_limit_is_never_the_best(ledger: Ledger) -> None:
    study = Study(ledger, "limited", LIMITS)
    study.trial(0, 0.5, 5.0, role="plain")
    study.trial(1, 0.9, 12.0)
    study.trial(2, 0.7, 8.0)
    trials = study.trials()
    assert numbers(ranked(trials, OBJECTIVES)) == [2, 0]
    winner = best(trials, "val_accuracy", "max")
    assert winner is not None
    assert winner.number == 2
    assert numbers(listed(trials, OBJECTIVES)) == [2, 0, 1]


def test_the_baseline_above_a_limit_is_no_winner(ledger: Ledger) -> None:
    study = Study(ledger, "limited", LIMITS)
    study.trial(0, 0.5, 12.0, role="plain")
    assert best(study.trials(), "val_accuracy", "max") is None


def test_a_result_taken_over_is_judged_by_the_limits_of_the_study_it_stands_in(
    ledger: Ledger,
) -> None:
    free, limited = Study(ledger, "free", {}), Study(ledger, "limited", LIMITS)
    run_id = free.trial(1, 0.9, 12.0)
    ledger.attach(limited.id, run_id, Place(number=1, role="trial"))
    assert numbers(ranked(free.trials(), OBJECTIVES)) == [1]
    assert ranked(limited.trials(), OBJECTIVES) == []


def test_a_cost_can_decide_and_what_was_not_measured_does_not_count(ledger: Ledger) -> None:
    study = Study(ledger, "fast", {})
    study.trial(0, 0.5, 9.0)
    study.trial(1, 0.9, 3.0)
    study.trial(2, 0.9, float("nan"))
    cheapest = best(study.trials(), "latency_ms", "min")
    assert cheapest is not None
    assert cheapest.number == 1
    assert numbers(ranked(study.trials(), OBJECTIVES)) == [1, 0]


def test_runs_are_listed_by_state_and_those_stopped_later_first(ledger: Ledger) -> None:
    study = Study(ledger, "all", LIMITS)
    study.trial(0, 0.9, 5.0, state="failed")
    study.trial(1, 0.9, 5.0, state="stopped", epochs=1)
    study.trial(2, 0.2, 5.0, state="stopped", epochs=2)
    study.trial(3, float("nan"), 5.0)
    study.trial(4, 0.8, 11.0)
    study.trial(5, 0.3, 5.0)
    study.trial(6, 0.3, 5.0)
    assert numbers(listed(study.trials(), OBJECTIVES)) == [5, 6, 3, 2, 1, 0, 4]


@pytest.mark.parametrize(
    ("points", "goal", "front"),
    [
        ([(1, 0.5), (2, 0.7), (3, 0.6)], "max", [0, 1]),
        ([(1, 0.5), (2, 0.7), (3, 0.4)], "min", [0, 2]),
        ([(1, 0.5), (1, 0.5), (1, 0.4)], "max", [0, 1]),
        ([(2, 0.5), (1, 0.5)], "max", [1]),
        ([], "max", []),
    ],
)
def test_the_front_holds_what_nothing_beats(
    points: list[tuple[float, float]], goal: str, front: list[int]
) -> None:
    values = dict(enumerate(points))
    assert pareto_front(values, {"params": "min", "score": goal}) == front
