"""Several studies as one: which arms are the same, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from attnsearch.runs.results.combined import Combined, CombineError, combine_studies
from attnsearch.runs.results.model import MeasuredStudy
from tests.runs import made_studies as made


def refused(studies: Sequence[MeasuredStudy], **more: Any) -> str:
    with pytest.raises(CombineError) as error:
        combine_studies(studies, **more)
    return str(error.value)


def labels(combined: Combined) -> list[str]:
    return [arm.label for arm in combined.arms]


def test_the_same_arms_are_found_whatever_they_are_called() -> None:
    other = made.candidates_plan(("se@layer3", "gc@layer4"))
    named = tuple(replace(a, label=f"{a.label} (lr=0.1)") for a in other.arms[:2])
    contrasts = tuple(
        replace(c, plus=(f"{c.plus[0]} (lr=0.1)",), name=f"{c.name} again")
        for c in other.contrasts
    )
    other = replace(other, arms=(*named, other.arms[2]), contrasts=contrasts)
    means = {"gc@layer4 (lr=0.1)": 0.76, "se@layer3 (lr=0.1)": 0.72, "baseline": 0.70}
    combined = combine_studies(
        [made.measured_study("a"), made.measured_study("b", other, means=means)]
    )
    assert labels(combined) == ["gc@layer4", "se@layer3", "baseline"]
    assert combined.arms[0].means == pytest.approx([0.86, 0.76], abs=0.01)
    assert [effect.name for effect in combined.effects] == [
        "gc@layer4 - baseline",
        "se@layer3 - baseline",
    ]
    assert combined.effects[0].comparisons[1].name == "gc@layer4 - baseline again"
    assert combined.effects[0].pooled.effects == pytest.approx([0.06, 0.06], abs=0.01)


def test_other_places_and_other_hyperparameters_are_other_arms() -> None:
    moved = made.candidates_plan(("gc@layer3", "se@layer3"))
    combined = combine_studies([made.measured_study("a"), made.measured_study("b", moved)])
    assert labels(combined) == ["se@layer3", "baseline"]
    assert "left out: gc@layer4 of a" in combined.notes[0]
    entry = made.config(("gc", "layer4"))
    entry["insert"][0]["params"] = {"gc": {"ratio": 0.5}}
    tuned = made.candidates_plan()
    tuned = replace(tuned, arms=(replace(tuned.arms[0], config=entry), *tuned.arms[1:]))
    assert labels(
        combine_studies([made.measured_study("c"), made.measured_study("d", tuned)])
    ) == ["se@layer3", "baseline"]


def test_controls_of_a_candidate_are_the_same_whatever_their_width() -> None:
    studies = [made.measured_study(name, made.confirm_plan()) for name in "ab"]
    wider = made.confirm_plan()
    arms = [
        replace(a, config={**a.config, "network": {"backbone": "resnet18", "width": 0.9}})
        if a.kind == "capacity"
        else a
        for a in wider.arms
    ]
    studies.append(made.measured_study("c", replace(wider, arms=tuple(arms))))
    combined = combine_studies(studies)
    assert len(combined.arms) == 6 and not combined.notes
    assert [e.against for e in combined.effects].count("capacity") == 2
    assert {e.family for e in combined.effects} == {c.family for c in wider.contrasts}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 9}, "epochs: 6 in a, 9 in b (--allow epochs"),
        ({"part": "val"}, "metric: test_accuracy in a, val_accuracy in b"),
        ({"checkpoint": "best_val"}, "checkpoint: last in a, best_val in b"),
        ({"alpha": 0.01}, "alpha: 0.05 in a, 0.01 in b"),
    ],
)
def test_another_protocol_is_refused(changes: Any, words: str) -> None:
    assert words in refused(
        [made.measured_study("a"), made.measured_study("b", made.candidates_plan(**changes))]
    )


def test_another_network_is_refused_and_may_be_allowed() -> None:
    plan = made.candidates_plan()
    network = {"backbone": "resnet34", "width": 0.5}
    arms = tuple(replace(a, config={**a.config, "network": network}) for a in plan.arms)
    studies = [
        made.measured_study("a"),
        made.measured_study("b", replace(plan, arms=arms, epochs=9)),
    ]
    text = refused(studies)
    assert "backbone=resnet18" in text and "backbone=resnet34" in text and "epochs" in text
    assert "epochs" not in refused(studies, allow=["epochs"])
    assert len(combine_studies(studies, allow=["epochs", "network"]).sets) == 2


def test_another_task_and_the_same_data_are_refused() -> None:
    other = made.measured_study("b", document={"task": "segmentation"})
    assert "task: classification in a, segmentation in b" in refused(
        [made.measured_study("a"), other]
    )
    again = made.measured_study("again", data="a")
    assert "data: a and again have the same images" in refused([made.measured_study("a"), again])
    assert "name two or more" in refused([again])


def test_a_plan_that_is_not_there_or_allows_no_verdict_is_refused() -> None:
    assert "a has no plan loco; it has confirm" in refused(
        [made.measured_study("a"), made.measured_study("b")], plan="loco"
    )
    begun = made.measured_study("begun", ended=False)
    assert "begun allows no verdict" in refused([made.measured_study("c"), begun])
    assert "0 of 15 runs have ended" in refused([begun, made.measured_study("d")])
    why = "the baseline has not learned"
    assert why in refused([made.measured_study("c"), made.measured_study("d", unlearned=why)])
    folds = made.candidates_plan(nesting="not nested")
    assert "seen the test parts" in refused(
        [made.measured_study("c"), made.measured_study("d", folds)]
    )


def test_arms_that_cannot_be_told_apart_are_refused() -> None:
    plan = made.candidates_plan()
    twin = replace(plan.arms[0], label="gc@layer4 (lr=0.3)", config=made.config(("gc", "layer4")))
    twin.config["train"]["lr"] = 0.3  # type: ignore[index]
    assert "gc@layer4 and gc@layer4 (lr=0.3) have the same blocks" in refused(
        [
            made.measured_study("a"),
            made.measured_study("b", replace(plan, arms=(*plan.arms, twin))),
        ]
    )


def test_an_arm_that_failed_somewhere_is_left_out_and_said() -> None:
    combined = combine_studies(
        [made.measured_study("a"), made.measured_study("b", failed=["gc@layer4"])]
    )
    assert labels(combined) == ["se@layer3", "baseline"]
    assert "gc@layer4 is left out: runs failed on b." in combined.notes
    assert [effect.name for effect in combined.effects] == ["se@layer3 - baseline"]
    text = refused(
        [made.measured_study("a"), made.measured_study("b", failed=["baseline", "gc@layer4"])]
    )
    assert "share 1 arms; 2 are the least" in text


def test_training_that_differs_is_said() -> None:
    plan = made.candidates_plan()
    arms = tuple(
        replace(a, config={**a.config, "train": {"epochs": 6, "lr": 0.3}}) for a in plan.arms
    )
    combined = combine_studies(
        [made.measured_study("a"), made.measured_study("b", replace(plan, arms=arms))]
    )
    words = "Training settings differ between data sets: lr 0.1 (a), 0.3 (b)."
    assert combined.notes == (words,)
