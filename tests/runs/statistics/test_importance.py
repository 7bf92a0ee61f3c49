"""Which decisions matter: noise names none, what decides is named, few trials say nothing."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from attnsearch.runs.statistics.importance import LEAST_TRIALS, importances


def drawn(trials: int, random: np.random.Generator) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = []
    for _ in range(trials):
        value = {
            "layer4.block": str(random.choice(["none", "gc", "ecrm"])),
            "train.lr": float(np.exp(random.uniform(np.log(1e-3), np.log(1e-1)))),
            "psa.kernels": [3, 5, 7, 9] if random.random() < 0.5 else None,
        }
        if value["layer4.block"] == "gc":
            value["gc.ratio"] = float(random.choice([0.1, 0.2]))
        values.append(value)
    return values


@pytest.mark.slow  # half a minute: hundreds of simulated studies, each with its permutations
def test_noise_names_a_decision_in_about_one_study_of_twenty() -> None:
    """PED-ANOVA's shares sum to one, so 2 to 8 trials of noise gave one decision 97 %."""
    random = np.random.default_rng(0)
    wrong = [bool(importances(drawn(24, random), list(random.normal(size=24)))) for _ in range(50)]
    assert np.mean(wrong) < 0.15


@pytest.mark.parametrize("trials", [2, 8, LEAST_TRIALS - 1])
def test_few_trials_say_nothing_however_clear_they_look(trials: int) -> None:
    random = np.random.default_rng(1)
    values = drawn(trials, random)
    assert importances(values, [float(v["layer4.block"] == "gc") for v in values]) == {}


def test_what_decides_is_named_with_its_share_and_an_interval_around_it() -> None:
    random = np.random.default_rng(2)
    values = drawn(120, random)
    effect = np.array([3.0 * (value["layer4.block"] == "gc") for value in values])
    found = importances(values, list(effect + random.normal(size=120)))
    assert list(found) == ["layer4.block"]
    importance = found["layer4.block"]
    assert 0.4 < importance.low < importance.share < importance.high < 0.9
    assert importance.p == pytest.approx(
        4 / 1000
    )  # the least that 999 draws give, for four decisions


def test_equal_scores_count_alike_in_whatever_order_the_trials_came() -> None:
    random = np.random.default_rng(7)
    values = drawn(60, random)
    scores = [round(2.0 * (v["layer4.block"] == "gc") + random.normal(), 0) for v in values]
    forward = importances(values, scores)["layer4.block"].share
    backward = importances(values[::-1], scores[::-1])["layer4.block"].share
    assert forward == pytest.approx(backward, rel=1e-12)


def test_it_loads_no_statistics_that_it_does_not_use() -> None:
    """The end of every search and `show` would wait half a second for them."""
    script = (
        "import sys\n"
        "from attnsearch.runs.statistics.importance import importances\n"
        "found = importances([{'a': i % 2} for i in range(40)], [i % 2 for i in range(40)])\n"
        "print(list(found), [name for name in ('scipy', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "['a'] []", done.stderr


def test_a_rate_with_a_best_value_in_the_middle_is_found() -> None:
    random = np.random.default_rng(3)
    values = drawn(60, random)
    scores = [-abs(np.log10(value["train.lr"]) + 2) + random.normal() / 10 for value in values]
    assert next(iter(importances(values, scores))) == "train.lr"


def test_a_decision_of_some_trials_is_judged_among_those() -> None:
    """Trials that chose gc are the good ones; its ratio explains nothing of that."""
    random = np.random.default_rng(4)
    values = drawn(120, random)
    scores = [float(value["layer4.block"] == "gc") + random.normal() / 10 for value in values]
    assert "gc.ratio" not in importances(values, scores)


def test_equal_scores_and_single_values_are_nothing_to_explain() -> None:
    values = [{"a": 1, "b": index % 2} for index in range(40)]
    assert importances(values, [0.5] * 40) == {}
    found = importances(values, [float(index % 2) for index in range(40)])
    assert list(found) == ["b"]
    assert found["b"].share == pytest.approx(1.0)


def test_the_order_of_the_scores_counts_and_not_their_scale() -> None:
    random = np.random.default_rng(5)
    values = drawn(60, random)
    scores = random.normal(size=60) + [2.0 * (v["layer4.block"] == "gc") for v in values]
    assert importances(values, list(scores)) == importances(values, list(np.exp(scores)))
