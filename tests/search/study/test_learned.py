"""Exploring says where nothing has learned."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from attnsearch.search.study.learned import unlearned_note


def stage(labels: list[int], classes: int, objective: dict[str, str]) -> Any:
    part = SimpleNamespace(masks=None, labels=np.array(labels))
    data = SimpleNamespace(val=part, class_names=[str(i) for i in range(classes)])
    return SimpleNamespace(
        objectives=SimpleNamespace(directions=objective), datasets={"data": data}
    )


def row(**metrics: float) -> Any:
    return SimpleNamespace(metrics=metrics, costs={})


@pytest.mark.parametrize(
    ("objective", "goal", "value", "words"),
    [
        ("val_accuracy", "max", 0.6, "val_accuracy 60"),
        ("val_accuracy", "max", 0.61, None),
        ("val_auroc", "max", 0.49, "image 50"),
        ("val_auroc", "max", 0.8, None),
        ("val_loss", "min", 0.69, "val_loss 0.69"),
        ("val_loss", "min", 0.3, None),
        ("params", "min", 10, None),
    ],
)
def test_the_best_trial_is_held_against_the_constant_answer(
    objective: str, goal: str, value: float, words: str | None
) -> None:
    surroundings = stage([0] * 6 + [1] * 4, 2, {objective: goal})
    note = unlearned_note(surroundings, [row(**{objective: value})])
    if words is None:
        assert note is None
    else:
        assert note is not None
        assert note.startswith("nothing has learned: the best trial has") and words in note


def test_where_nothing_has_ended_nothing_is_said() -> None:
    assert unlearned_note(stage([0, 1], 2, {"val_accuracy": "max"}), []) is None
