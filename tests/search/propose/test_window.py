"""A long search shows TPE its best trials and some others, the same ones however it came about."""

import random

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from attnsearch.runs.ledger import State
from attnsearch.search.propose import ProposalResult, window
from attnsearch.search.propose.window import Window
from tests.search.propose.test_proposals import proposals, score


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "BEST", 5)
    monkeypatch.setattr(window, "OTHERS", 10)


def whole(storage: Window, study: optuna.Study) -> list[FrozenTrial]:
    return storage.whole(storage.get_study_id_from_name(study.study_name), deepcopy=False)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_best_are_shown_and_some_from_all_of_the_search(direction: str) -> None:
    chance = random.Random(0)
    sign = 1 if direction == "maximize" else -1
    storage = Window(StudyDirection[direction.upper()])
    study = optuna.create_study(storage=storage, direction=direction)
    scores: dict[int, float] = {}
    for number in range(200):
        trial = study.ask()
        if number % 7 == 3:
            study.tell(trial, state=TrialState.FAIL)
        elif number % 7 == 5:
            trial.set_constraint("limits.params", 1.0)
            trial.report(10.0 * sign, 1)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            scores[number] = chance.random()
            study.tell(trial, scores[number])
    running = study.ask().number
    best = sorted(scores, key=lambda n: sign * scores[n])[-5:]
    *shown, last = (t.number for t in study.get_trials())
    others = sorted(set(shown) - set(best))
    assert (last, shown) == (running, sorted([*best, *others])) and len(others) == 10
    assert others[0] < 70 and others[-1] > 130  # neither the first nor the last alone
    assert len(whole(storage, study)) == 201


def test_trials_of_an_earlier_session_are_shown_alike() -> None:
    chance = random.Random(1)
    asked, added = (Window(StudyDirection.MAXIMIZE) for _ in range(2))
    study, later = (optuna.create_study(storage=w, direction="maximize") for w in (asked, added))
    waiting = []
    for _ in range(100):  # three side by side, which end in any order
        waiting.append(study.ask())
        if len(waiting) == 3:
            study.tell(waiting.pop(chance.randrange(3)), chance.random())
    while waiting:
        study.tell(waiting.pop(), chance.random())
    for trial in whole(asked, study):
        later.add_trial(create_trial(values=trial.values))
    assert [t.number for t in study.trials] == [t.number for t in later.trials]
    assert len(study.trials) == 15


def test_a_long_search_goes_on_as_if_it_had_not_been_interrupted() -> None:
    whole = proposals("tpe", trials=60)
    made, results = [], []
    for _ in range(60):
        asked = whole.ask()
        assert asked is not None
        made.append(asked.values)
        results.append(ProposalResult(State.FINISHED, scores=(score(asked.values),)))
        whole.tell(asked.number, results[-1])
    assert (whole.count, len(whole.trials())) == (60, 60)
    again = proposals("tpe", trials=60)
    for values, result in zip(made[:40], results[:40], strict=True):
        again.adopt(values, result)
    for values, result in zip(made[40:], results[40:], strict=True):
        asked = again.ask()
        assert asked is not None and asked.values == values
        again.tell(asked.number, result)
