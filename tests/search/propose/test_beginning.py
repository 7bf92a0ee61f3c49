"""Proposals that begin with configs and trials from elsewhere."""

from typing import Any

import pytest
from optuna.trial import TrialState

from attnsearch.search.propose.proposals import ProposalResult, Proposals
from tests.search.propose.test_proposals import DECISIONS, PLAIN, SAMPLERS, ask, score

STARTS = [
    ("mine", {"a.block": "y", "size": 20, "train.lr": 0.2}),
    ("x, published", {"a.block": "x", "a.x.kernels": [7, 9], "size": 10, "train.lr": 0.1}),
]


def finished(values: dict[str, Any]) -> ProposalResult:
    return ProposalResult("finished", [(1, 0.0), (2, score(values))], [score(values)])


LEARNT = [
    (
        {"a.block": block, "size": size, "train.lr": 0.1},
        finished({"a.block": block, "train.lr": 0.1}),
    )
    for block in ("none", "y")
    for size in (10, 20, 30, 40)
]


def begun(sampler: str = "tpe", learnt: Any = (), **options: Any) -> Proposals:
    options = {"trials": 30, "objectives": {"val_accuracy": "max"}, "first": [PLAIN], **options}
    bridge = Proposals(DECISIONS, ask, sampler=sampler, **options)
    bridge.begin_with(STARTS, learnt)
    return bridge


@pytest.mark.parametrize(
    ("sampler", "learnt"), [*((sampler, []) for sampler in SAMPLERS), ("tpe", LEARNT)]
)
def test_they_come_first_in_their_order_and_a_restart_changes_nothing(
    sampler: str, learnt: Any
) -> None:
    def search(restart: int | None) -> list[Any]:
        bridge, history = begun(sampler, learnt), []
        for index in range(7):
            if index == restart:
                bridge = begun(sampler, learnt)
                for values, how in history:
                    bridge.adopt(values, finished(values), how)
            proposal = bridge.ask()
            assert proposal is not None and proposal.number == len(learnt) + index
            bridge.tell(proposal.number, finished(proposal.values))
            history.append((proposal.values, proposal.how))
            if index < 3:
                assert proposal.origin == ["", "mine", "x, published"][index]
        return history

    through = search(None)
    assert [how for _, how in through[:4]] == ["given", "first", "first", "sampler"]
    assert [values for values, _ in through[1:3]] == [values for _, values in STARTS]
    for restart in (1, 2, 5):
        assert search(restart) == through


def test_a_study_that_began_without_them_goes_on_without() -> None:
    old = Proposals(DECISIONS, ask, objectives={"val_accuracy": "max"}, first=[PLAIN], trials=30)
    history = []
    for _ in range(3):
        proposal = old.ask()
        assert proposal is not None
        old.tell(proposal.number, finished(proposal.values))
        history.append(proposal)
    now = begun()
    for proposal in history:
        now.adopt(proposal.values, finished(proposal.values), proposal.how)
    following, as_before = now.ask(), old.ask()
    assert following is not None and as_before is not None
    assert (following.how, following.values) == ("sampler", as_before.values)


def test_trials_from_elsewhere_are_told_as_they_were_and_guide_the_first_proposals() -> None:
    bridge = begun(
        learnt=[*LEARNT, ({**PLAIN, "size": 40}, ProposalResult("stopped", [(1, 0.2)]))]
    )
    states = [trial.state for trial in bridge.trials()]
    assert states == [TrialState.COMPLETE] * 8 + [TrialState.PRUNED]
    assert bridge.trials()[0].params["a.block"] == "none"
    bridge.forget()  # as after another driver's trial
    assert len(bridge.trials()) == bridge.count == 9


def test_they_have_the_best_settings_where_those_are_found_first() -> None:
    settings = [decision for decision in DECISIONS if decision.name == "train.lr"]
    bridge = begun(settings=settings, trials=8)
    hows, values = [], []
    for _ in range(5):
        proposal = bridge.ask()
        assert proposal is not None
        bridge.tell(proposal.number, finished(proposal.values))
        hows.append(proposal.how)
        values.append(proposal.values)
    assert hows == ["given", "probe", "probe", "first", "first"]
    assert {v["train.lr"] for v in values[3:]} == {0.1}  # of PLAIN, where the score is best
    assert values[3]["a.block"] == "y"


def test_a_grid_has_them_first_and_once() -> None:
    grid = [{"a.block": "y", "size": size, "train.lr": 0.2} for size in (10, 20, 30)]
    bridge = begun("grid", grid=lambda: iter(grid), first=[])
    seen = []
    while (proposal := bridge.ask()) is not None:
        bridge.tell(proposal.number, finished(proposal.values))
        seen.append(proposal.values)
    assert seen[:2] == [values for _, values in STARTS]
    assert len(seen) == 4
