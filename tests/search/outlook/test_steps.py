import dataclasses
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from attnsearch.runs.statistics.comparison import compare
from attnsearch.runs.statistics.measured import Measured
from attnsearch.runs.statistics.power import seeds_needed
from attnsearch.search.cli import cli
from attnsearch.search.outlook.steps import Step, next_steps
from tests.runs.statistics.claim_plans import CONTROLS, claim_plan

AGAIN = ["attnsearch", "run", "my space.yaml", "--set", "train.lr=0.1"]
DOCUMENT = {
    "network": {"backbone": "resnet18"},
    "train": {"seed": 3, "epochs": 6},
    "confirm": {"seeds": 5},
    "smallest_effect": None,
}


def study(**document: Any) -> Any:
    return SimpleNamespace(
        name="digits", number=2, label="digits/2", document={**DOCUMENT, **document}
    )


def confirmed(gain: float, n: int = 8, sd: float = 0.01, **settings: Any) -> Any:
    """A confirmation in which `gc` is so much better than each control."""
    controls = settings.pop("controls", tuple(CONTROLS))
    plan = claim_plan(controls, n, **settings)
    scatter = np.random.default_rng(1).normal(size=n)
    scatter = sd * (scatter - scatter.mean()) / scatter.std(ddof=1)
    scores = {name: [Measured(None, s, 0.8) for s in plan.seeds] for name in controls}
    scores["gc"] = [Measured(None, s, 0.8 + gain + scatter[s]) for s in plan.seeds]
    comparisons = compare(plan, scores, confirmatory=True, look=1)
    return SimpleNamespace(
        plan=plan, winner="gc", comparisons=comparisons, complete=True, unlearned=None
    )


def one(*acts: Any, again: list[str] | None = AGAIN, **document: Any) -> Step:
    (step,) = next_steps(study(**document), acts, again)
    return step


def test_what_helps_is_taken_scored_and_taken_apart() -> None:
    first, second = next_steps(study(), [confirmed(0.05)], AGAIN)
    assert first.commands == (
        "attnsearch export digits/2 --to best",
        "attnsearch evaluate best DATA",
    )
    assert second.commands == ("attnsearch ablate digits/2",)
    ablation = SimpleNamespace(plan=SimpleNamespace(act="ablation"))
    assert len(next_steps(study(), [confirmed(0.05), ablation], AGAIN)) == 1


@pytest.mark.parametrize(
    ("gain", "margin", "word"), [(-0.05, None, "worse"), (0.0, 0.05, "no better")]
)
def test_what_does_not_help_sends_to_other_blocks_and_places(
    gain: float, margin: float | None, word: str
) -> None:
    step = one(confirmed(gain, margin=margin))
    assert word in step.why and "keep the baseline" in step.why
    assert step.commands == ("attnsearch blocks", "attnsearch sites resnet18")


@pytest.mark.parametrize("matters", [None, 0.005, 0.02])
def test_what_is_open_says_how_many_seeds_would_settle_it(matters: float | None) -> None:
    step = one(confirmed(0.0, n=5, sd=0.015), smallest_effect=matters)
    wanted = max(seeds_needed(matters or 0.01, 0.015, 2) or 0, 5)
    size = {None: "1 point", 0.005: "0.5 points, your smallest_effect,", 0.02: "2 points"}[matters]
    assert f"a difference of {size}" in step.why and f"by {wanted} seeds" in step.why
    assert "exploratory" in step.why
    export, run = step.commands
    assert export == "attnsearch export digits/2 --to best"
    assert run == (
        f"attnsearch run best/config.yaml --set train.seed=4 --set confirm.seeds={wanted}"
    )


def test_three_seeds_that_suggest_want_five() -> None:
    step = one(confirmed(0.05, n=3, sd=0.001))
    assert "by 5 seeds" in step.why and step.commands[1].endswith("confirm.seeds=5")


def test_enough_seeds_that_found_nothing_lead_to_a_margin() -> None:
    step = one(confirmed(0.0, n=40, sd=0.01))
    assert "margin" in step.why and not step.commands


def test_scatter_that_no_seeds_overcome_is_told() -> None:
    step = one(confirmed(0.0, n=5, sd=0.2))
    assert "even 100 seeds" in step.why and not step.commands


def test_a_control_that_is_missing_is_asked_for() -> None:
    step = one(confirmed(0.05, controls=("baseline",)))
    assert "never compared with the tuned baseline and the baseline of equal" in step.why
    assert "Not settled" not in step.why
    assert "'confirm.controls=[baseline,tuned_baseline,capacity]'" in step.commands[1]


def test_failed_runs_send_to_their_reasons() -> None:
    act = confirmed(0.05)
    act.comparisons = [
        dataclasses.replace(c, failed=1, verdict="no verdict") for c in act.comparisons
    ]
    assert one(act).commands == ("attnsearch show digits/2",)


def test_exploring_alone_goes_on_to_confirm() -> None:
    assert one().commands == ("attnsearch run 'my space.yaml' --set train.lr=0.1",)
    assert one(confirm=None).commands[0].endswith("--set confirm.seeds=5")
    assert next_steps(study(), [], None) == []


def test_what_has_not_learned_trains_longer() -> None:
    act = confirmed(0.0)
    act.unlearned = "the baseline is no better than a constant answer"
    assert one(act).commands[0].endswith("--set train.epochs=12")
    assert "train.epochs: 12" in one(act, again=None).why
    set_before = ["attnsearch", "run", "x.yaml", "--set", "train.epochs=6", "--set", "name=a"]
    assert one(act, again=set_before).commands == (
        "attnsearch run x.yaml --set name=a --set train.epochs=12",
    )


@pytest.mark.parametrize("state", ["complete", "winner"])
def test_a_study_that_goes_on_has_no_step_yet(state: str) -> None:
    act = confirmed(0.05)
    setattr(act, state, None)
    assert next_steps(study(), [act], AGAIN) == []


def test_commands_of_steps_are_those_of_the_program() -> None:
    """Each begins with a command that there is, and has no option that it lacks."""
    acts = [confirmed(gain) for gain in (0.05, -0.05, 0.0)] + [
        confirmed(0.05, controls=("baseline",))
    ]
    lines = {
        line for act in acts for s in next_steps(study(), [act], AGAIN) for line in s.commands
    }
    assert len(lines) > 5
    for line in lines:
        words = line.split()
        known = cli.commands[words[1]]
        options = {name for item in known.params for name in item.opts}
        assert set(re.findall(r"--\w+", line)) <= options
