import dataclasses
from typing import Any

import numpy as np
import pytest

from attnsearch.runs.statistics.claim import Conclusion, judge_claim
from attnsearch.runs.statistics.comparison import compare
from attnsearch.runs.statistics.measured import Measured
from tests.runs.statistics.claim_plans import CONTROLS, claim_plan


def claimed(gains: dict[str, float], n: int = 8, **settings: Any) -> Conclusion:
    """The claim on `gc`, better than each control by so much."""
    plan = claim_plan(tuple(gains), n, **settings)
    random = np.random.default_rng(1)
    scores = {"gc": [Measured(None, s, 0.95 + 0.002 * random.normal()) for s in plan.seeds]}
    for name, gain in gains.items():
        scores[name] = [
            Measured(None, s, 0.95 - gain + 0.002 * random.normal()) for s in plan.seeds
        ]
    return judge_claim(compare(plan, scores, confirmatory=True, look=1), "gc")


def test_it_helps_when_it_beats_all_three() -> None:
    found = claimed({"baseline": 0.05, "tuned": 0.04, "wide": 0.04})
    assert (found.state, len(found.beaten), found.open, found.missing) == ("it helps", 3, (), ())
    assert found.sentence == (
        "gc helps: better than the baseline, the tuned baseline and the baseline of equal "
        "capacity, each after Holm's adjustment."
    )


@pytest.mark.parametrize("control", list(CONTROLS))
def test_one_control_that_is_not_beaten_is_enough_to_show_nothing(control: str) -> None:
    found = claimed({**dict.fromkeys(CONTROLS, 0.05), control: 0.0})
    assert found.state == "not shown"
    assert [c.name for c in found.open] == [f"gc - {control}"]
    assert found.sentence.startswith("It is not shown that gc helps: against ")


def test_a_control_that_was_never_planned() -> None:
    found = claimed({"baseline": 0.05, "wide": 0.05})
    assert (found.state, found.missing) == ("not shown", ("tuned_baseline",))
    assert "never compared with the tuned baseline" in found.sentence


def test_three_seeds_suggest() -> None:
    found = claimed(dict.fromkeys(CONTROLS, 0.05), n=3)
    assert found.state == "suggestive"
    assert found.sentence == (
        "gc may help: against the baseline, the tuned baseline and the baseline of equal capacity "
        "the differences are suggestive (better, but 3 seeds only)."
    )


def test_a_negligible_gain_and_an_arm_without_verdict() -> None:
    assert claimed(dict.fromkeys(CONTROLS, 0.02), margin=0.1).state == "it helps, but negligibly"
    assert claimed(dict.fromkeys(CONTROLS, 0.02), n=1).state == "no verdict"


def test_a_loss_is_no_help() -> None:
    found = claimed(dict.fromkeys(CONTROLS, -0.05))
    assert (found.state, found.beaten) == ("not shown", ())
    assert "worse" in found.sentence


def test_another_arms_comparisons_are_not_the_winners() -> None:
    found = judge_claim([], "psa")
    assert (found.state, found.missing) == ("not shown", tuple(CONTROLS.values()))
    only = claimed(dict.fromkeys(CONTROLS, 0.05)).beaten
    other = [dataclasses.replace(c, plus=("psa",)) for c in only]
    assert judge_claim(other, "gc").state == "not shown"
