"""Optuna is told the truth, and asked in a way that can be repeated."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from optuna.trial import TrialState

from attnsearch.search.propose.probes import probe
from attnsearch.search.propose.proposals import ProposalResult, Proposals
from attnsearch.search.propose.samplers import ProposalError
from attnsearch.spaces.space.decisions import Decision

SAMPLERS = ["tpe", "random", "gp", "nsga2", "cmaes"]
X = ("a.block", frozenset({"x"}))
DECISIONS = (
    Decision("a.block", "choice", ("none", "x", "y")),
    Decision("a.x.kernels", "choice", ([3, 5], [7, 9]), parents=(X,)),
    Decision("size", "int", low=10, high=40, step=10),
    Decision("train.lr", "float", low=0.01, high=1.0, log=True),
)
PLAIN = {"a.block": "none", "size": 10, "train.lr": 0.1}


def ask(choose: Callable[[Decision], Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for decision in DECISIONS:
        if decision.active(values):
            values[decision.name] = choose(decision)
    return values


def grid() -> Iterator[dict[str, Any]]:
    for size in (10, 20, 30, 40):
        for block in ("none", "y"):
            yield {"a.block": block, "size": size, "train.lr": 0.1}


def proposals(sampler: str = "random", **options: Any) -> Proposals:
    options = {"trials": 30, "objectives": {"val_accuracy": "max"}, **options}
    return Proposals(DECISIONS, ask, sampler=sampler, **options)


def score(values: dict[str, Any]) -> float:
    return {"none": 0.1, "x": 0.5, "y": 0.3}[values["a.block"]] - abs(values["train.lr"] - 0.1)


def told(index: int, values: dict[str, Any], objectives: int = 1) -> ProposalResult:
    """All kinds of ends, by turns."""
    slack = {"limits.params": -0.2}
    if index % 5 == 4:
        return ProposalResult("stopped", [(1, score(values) - 0.2)], constraints=slack)
    if index % 7 == 6:
        return ProposalResult("infeasible", constraints={"limits.params": 0.4})
    if index % 11 == 10:
        return ProposalResult("failed")
    return ProposalResult(
        "finished", [(1, 0.0), (2, score(values))], [score(values)] * objectives, slack
    )


def search(sampler: str, count: int, restarts: tuple[int, ...] = (), **options: Any) -> list[Any]:
    """Proposes `count` times, rebuilding everything from its record at each restart."""
    bridge = proposals(sampler, first=[PLAIN], **options)
    history: list[tuple[dict[str, Any], ProposalResult, str]] = []
    for index in range(count):
        if index in restarts:
            bridge = proposals(sampler, first=[PLAIN], **options)
            for values, end, how in history:
                bridge.adopt(values, end, how)
        proposal = bridge.ask("random" if index % 9 == 8 else "sampler")
        assert proposal is not None
        assert proposal.number == index
        end = told(index, proposal.values, len(options.get("objectives", "1")))
        bridge.tell(proposal.number, end)
        history.append((proposal.values, end, proposal.how))
    return [values for values, _, _ in history]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_proposes_the_same_whatever_the_interruptions(sampler: str) -> None:
    straight = search(sampler, 20)
    assert search(sampler, 20, restarts=(1, 13, 19)) == straight
    assert search(sampler, 20, seed=1) != straight


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
def test_several_objectives_are_proposed_for_and_repeated(sampler: str) -> None:
    objectives = {"val_accuracy": "max", "params": "min"}
    straight = search(sampler, 14, objectives=objectives)
    assert search(sampler, 14, restarts=(11,), objectives=objectives) == straight


def test_optuna_is_told_what_happened() -> None:
    bridge = proposals()
    ends = [
        ProposalResult("finished", [(1, 0.2), (2, 0.7)], [0.7], {"limits.params": -0.5}),
        ProposalResult("stopped", [(1, 0.2)], None, {"limits.params": -0.1}),
        ProposalResult("failed", [(1, 0.2)]),
        ProposalResult("infeasible", (), None, {"limits.params": 0.25}),
    ]
    for end in ends:
        proposal = bridge.ask()
        assert proposal is not None
        bridge.tell(proposal.number, end)
    rebuilt = proposals()
    for trial, end in zip(bridge.trials(), ends, strict=True):
        values = {k: v for k, v in trial.params.items() if k != "a.x.kernels"}
        if "a.x.kernels" in trial.params:
            values["a.x.kernels"] = DECISIONS[1].decode(trial.params["a.x.kernels"])
        rebuilt.adopt(values, end)
    for trials in (bridge.trials(), rebuilt.trials()):
        finished, stopped, failed, infeasible = trials
        assert finished.state is TrialState.COMPLETE
        assert finished.value == 0.7
        assert finished.intermediate_values == {1: 0.2, 2: 0.7}
        assert stopped.state is TrialState.PRUNED
        assert stopped.intermediate_values == {1: 0.2}
        assert stopped.constraints == {"limits.params": -0.1}
        assert failed.state is TrialState.FAIL
        assert infeasible.state is TrialState.PRUNED
        assert infeasible.intermediate_values == {}
        assert infeasible.value is None
        assert infeasible.constraints == {"limits.params": 0.25}


def test_only_active_decisions_are_asked_under_their_own_names() -> None:
    bridge = proposals()
    seen = set()
    for _ in range(30):
        proposal = bridge.ask()
        assert proposal is not None
        kernels = proposal.values.get("a.x.kernels")
        assert (kernels is not None) == (proposal.values["a.block"] == "x")
        seen.add(str(kernels))
        bridge.tell(proposal.number, ProposalResult("failed"))
    assert seen == {"None", "[3, 5]", "[7, 9]"}
    names = {name for trial in bridge.trials() for name in trial.params}
    assert names == {decision.name for decision in DECISIONS}


def test_what_is_given_comes_first() -> None:
    bridge = proposals("tpe", first=[PLAIN, {**PLAIN, "size": 40}])
    first, second, third = (bridge.ask() for _ in range(3))
    assert first is not None and second is not None and third is not None
    assert (first.values, first.how) == (PLAIN, "given")
    assert second.values == {**PLAIN, "size": 40}
    assert third.how == "sampler"


def test_the_grid_is_gone_through_once_in_an_order_of_the_seed() -> None:
    orders = []
    for seed in (0, 0, 1):
        bridge = proposals("grid", seed=seed, grid=grid, first=[next(grid())])
        order = []
        while (proposal := bridge.ask()) is not None:
            order.append(proposal.values)
            bridge.tell(proposal.number, ProposalResult("failed"))
        orders.append(order)
        assert sorted(map(str, order)) == sorted(map(str, grid()))
    assert orders[0] == orders[1] != orders[2]


def test_the_grid_goes_on_after_a_restart() -> None:
    bridge = proposals("grid", grid=grid)
    whole = [bridge.ask() for _ in range(8)]
    again = proposals("grid", grid=grid)
    for proposal in whole[:5]:
        assert proposal is not None
        again.adopt(proposal.values, ProposalResult("failed"), proposal.how)
    following = again.ask()
    assert following is not None and whole[5] is not None
    assert following.values == whole[5].values


def test_tpe_learns_where_configs_are_infeasible() -> None:
    """A region that breaks a limit is left alone, though it never got a score."""

    def broken_late(sampler: str) -> int:
        bridge, broken = proposals(sampler, trials=60), 0
        for index in range(60):
            proposal = bridge.ask()
            assert proposal is not None
            bad = proposal.values["train.lr"] > 0.1
            broken += bad and index >= 30
            amount = proposal.values["train.lr"] / 0.1 - 1
            end = ProposalResult("finished", [(1, 0.5)], [0.5], {"limits.params": amount})
            bridge.tell(
                proposal.number,
                ProposalResult("infeasible", constraints={"limits.params": amount})
                if bad
                else end,
            )
        return broken

    assert broken_late("tpe") < 0.6 * broken_late("random")


def test_a_result_that_is_still_open_can_be_told_after_a_restart() -> None:
    bridge = proposals("tpe")
    number = bridge.adopt({**PLAIN, "size": 20}, None)
    assert bridge.trials()[number].state is TrialState.RUNNING
    bridge.tell(number, ProposalResult("finished", [(1, 0.5)], [0.5]))
    assert bridge.trials()[number].value == 0.5


def test_cmaes_says_what_it_cannot_do() -> None:
    with pytest.raises(ProposalError, match=r"one objective.*has 2.*tpe, gp or nsga2"):
        proposals("cmaes", objectives={"val_accuracy": "max", "params": "min"})
    with pytest.raises(ProposalError, match=r"no int or float decision"):
        Proposals(DECISIONS[:1], ask, {"val_accuracy": "max"}, sampler="cmaes")


def test_gp_and_cmaes_note_what_they_draw_at_random() -> None:
    assert "conditional" in proposals("gp").notes()[0]
    assert "choices" in proposals("cmaes").notes()[0]
    assert proposals("tpe").notes() == []


def test_a_range_with_steps_on_a_logarithmic_scale_is_kept() -> None:
    steps = Decision("n", "int", low=2, high=8, step=3, log=True)
    bridge = Proposals([steps], lambda choose: {"n": choose(steps)}, {"val_accuracy": "max"})
    found = {proposal.values["n"] for _ in range(30) if (proposal := bridge.ask())}
    assert found == {2, 5, 8}


SETTINGS = [DECISIONS[-1]]


def rated(values: dict[str, Any]) -> ProposalResult:
    """The best rate is 0.06; the plain network is the worst one."""
    off = abs(values["train.lr"] - 0.06)
    return ProposalResult(
        "finished", [], [{"none": 0.1, "x": 0.5, "y": 0.3}[values["a.block"]] - off]
    )


def probed(count: int, restarts: tuple[int, ...] = (), **options: Any) -> list[Any]:
    """Proposals, as they are made and after restarts, each with how it was made."""
    options = {"sampler": "tpe", "first": [PLAIN], "settings": SETTINGS, **options}
    bridge, history = proposals(**options), []
    for index in range(count):
        if index in restarts:
            bridge = proposals(**options)
            for values, how in history:
                bridge.adopt(values, rated(values), how)
        proposal = bridge.ask()
        assert proposal is not None
        bridge.tell(proposal.number, rated(proposal.values))
        history.append((proposal.values, proposal.how))
    return history


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_settings_are_tuned_on_the_first_network_and_had_by_all(sampler: str) -> None:
    history = probed(14, sampler=sampler)
    assert [how for _, how in history] == ["given", *["probe"] * 4, *["sampler"] * 9]
    tried = [values for values, _ in history[:5]]
    assert all({**values, "train.lr": 0.1} == PLAIN for values in tried)
    rates = sorted(values["train.lr"] for values in tried)
    assert all(above > 1.2 * below for below, above in itertools.pairwise(rates))
    best = min(rates, key=lambda rate: abs(rate - 0.06))
    assert {values["train.lr"] for values, _ in history[5:]} == {best}
    assert len({values["a.block"] for values, _ in history[5:]}) > 1
    assert probed(14, (2, 5, 9), sampler=sampler) == history


def test_a_search_that_began_without_probes_goes_on_so() -> None:
    bridge = proposals("tpe", first=[PLAIN], settings=SETTINGS)
    for values, _ in probed(7, settings=()):
        bridge.adopt(values, rated(values))
    later = [bridge.ask() for _ in range(8)]
    assert {each.how for each in later if each} == {"sampler"}
    assert len({each.values["train.lr"] for each in later if each}) == 8


def test_settings_of_which_nothing_is_known_are_drawn() -> None:
    bridge = proposals("random", first=[PLAIN], settings=SETTINGS)
    for _ in range(5):
        proposal = bridge.ask()
        assert proposal is not None
        bridge.tell(proposal.number, ProposalResult("failed"))
    later = [bridge.ask() for _ in range(6)]
    assert len({each.values["train.lr"] for each in later if each}) == 6


@pytest.mark.parametrize(("trials", "probes"), [(2, 0), (8, 2), (16, 4), (400, 4)])
def test_a_small_search_tries_few_settings(trials: int, probes: int) -> None:
    history = probed(min(trials, 8), trials=trials)
    assert [how for _, how in history].count("probe") == probes


def test_the_least_value_is_the_best_setting_where_less_is_better() -> None:
    bridge = proposals("random", first=[PLAIN], settings=SETTINGS, objectives={"val_loss": "min"})
    rates = []
    for number in range(5):
        proposal = bridge.ask()
        assert proposal is not None
        rates.append(proposal.values["train.lr"])
        bridge.tell(proposal.number, ProposalResult("finished", [], [abs(number - 3)]))
    proposal = bridge.ask()
    assert proposal is not None
    assert proposal.values["train.lr"] == rates[3]


@pytest.mark.parametrize(
    "decision",
    [
        Decision("train.momentum", "float", low=0.0, high=0.9, step=0.1),
        Decision("train.warmup_epochs", "int", low=0, high=3, step=1),
        Decision("train.batch_size", "int", low=8, high=256, step=1, log=True),
        Decision("train.optimizer", "choice", ("sgd", "adamw")),
        Decision("train.lr", "float", low=1e-4, high=1.0, log=True),
    ],
)
def test_probes_are_values_of_their_decisions(decision: Decision) -> None:
    tried = [probe([decision], number)[decision.name] for number in range(4)]
    assert all(decision.check(value) == value for value in tried)
    assert len(set(map(str, tried))) >= min(3, decision.count or 4)


def test_what_is_drawn_at_random_has_other_settings() -> None:
    bridge = proposals("tpe", first=[PLAIN], settings=SETTINGS)
    for values, how in probed(8):
        bridge.adopt(values, rated(values), how)
    drawn = [bridge.ask("random") for _ in range(6)]
    assert len({each.values["train.lr"] for each in drawn if each}) == 6
