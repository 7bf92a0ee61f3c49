"""What a study says of its decisions: nothing of few trials, and no share that is chance."""

from typing import Any

import numpy as np

from attnsearch.runs.results.ranking import importance_sentence, importances_of


class Trial:
    """As much of a `TrialRow` as counts here."""

    def __init__(self, number: int, values: dict[str, Any], score: float, **more: Any) -> None:
        self.number, self.values, self.metrics = number, values, {"val_accuracy": score}
        self.role, self.state, self.over, self.costs = "trial", "finished", "", dict[str, float]()
        vars(self).update(more)


def trials(count: int, effect: float) -> list[Any]:
    random = np.random.default_rng(0)
    blocks = [str(random.choice(["none", "gc"])) for _ in range(count)]
    return [
        Trial(n, {"layer4.block": block}, effect * (block == "gc") + random.normal() / 10)
        for n, block in enumerate(blocks)
    ]


def test_few_trials_are_said_to_be_few() -> None:
    few = trials(8, 1.0)
    assert importances_of(few, "val_accuracy") == {}
    assert importance_sentence(few, "val_accuracy", {}) == (
        "What mattered for validation accuracy: 8 trials of the full schedule cannot tell; "
        "it takes 20."
    )


def test_what_decides_is_told_with_its_interval() -> None:
    many = trials(40, 1.0)
    judged = importances_of(many, "val_accuracy")
    words = importance_sentence(many, "val_accuracy", judged)
    assert list(judged) == ["layer4.block"] and judged["layer4.block"]["p"] == 0.001
    assert "layer4.block 7" in words and " to " in words


def test_noise_is_no_more_than_chance() -> None:
    noise = trials(40, 0.0)
    words = importance_sentence(noise, "val_accuracy", importances_of(noise, "val_accuracy"))
    assert words.endswith("no decision more than chance.")


def test_trials_that_do_not_count_are_left_out() -> None:
    """Stopped trials have scores of a shorter schedule, and those over a limit cannot win."""
    many = trials(60, 0.0)
    for number, trial in enumerate(many[:20]):
        trial.values = {"layer4.block": "psa"}
        trial.metrics = {"val_accuracy": 5.0}
        trial.state, trial.over = ("stopped", "") if number % 2 else ("finished", "over params")
    assert importances_of(many, "val_accuracy") == {}
