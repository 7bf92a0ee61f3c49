"""How the spread between seeds is read from a ledger, and what is said of it."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.search.outlook.acts import (
    Pilot,
    cost_sentence,
    outlook,
    pilot_runs,
    reach_sentence,
)
from attnsearch.spaces import Space, load_space


def ledger_of(scores: np.ndarray[Any, Any], **row: Any) -> Ledger:
    """A ledger with one study: scores (arms, seeds) of one act."""
    rows = [
        SimpleNamespace(
            **{
                "role": "confirm", "state": "finished", "arm": f"arm {arm}", "fold": None,
                "seed": seed, "metrics": {"val_accuracy": score}, **row,
            }
        )
        for arm, seeds in enumerate(scores.tolist())
        for seed, score in enumerate(seeds)
    ]  # fmt: skip
    study = SimpleNamespace(id=1, fingerprint="data")
    return cast(Ledger, SimpleNamespace(studies=lambda: [study], trials=lambda _: rows))


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_spread_and_correlation_come_from_within_arms_alone(correlation: float) -> None:
    random = np.random.default_rng(1)
    common = random.normal(0, np.sqrt(correlation), (1, 400))
    own = random.normal(0, np.sqrt(1 - correlation), (5, 400))
    levels = np.array([[0.5], [0.7], [0.9], [0.2], [0.1]])  # differences of arms do not matter
    found = pilot_runs(ledger_of(levels + 0.01 * (common + own)), "data", "accuracy")
    assert found is not None
    assert found.spread == pytest.approx(0.01, rel=0.05)
    assert found.correlation == pytest.approx(correlation, abs=0.06)
    assert (found.arms, found.runs) == (5, 2000)


def test_exploring_other_data_and_single_runs_are_no_pilot() -> None:
    scores = np.array([[0.5, 0.6, 0.7]])
    assert pilot_runs(ledger_of(scores), "other", "accuracy") is None
    assert pilot_runs(ledger_of(scores), "data", "f1") is None
    assert pilot_runs(ledger_of(scores, role="trial"), "data", "accuracy") is None
    assert pilot_runs(ledger_of(scores[:, :1]), "data", "accuracy") is None


def test_power_is_told_for_the_smallest_effect(tmp_path: Any) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "name: x\ntask: classification\nsmallest_effect: 0.01\n"
        "data: {source: null, channels: 1, classes: 10}\n"
        "network: {backbone: resnet20, width: 0.25}\n"
        "insert: [{at: layer3, block: {choice: [none, gc]}}]\n"
        "confirm: {seeds: 5, controls: [baseline]}\n"
    )
    space: Space = load_space(file)
    told = outlook(space, None, 1, Pilot(0.006, 0.5, 4, 20)).power
    # Two-sided paired t with 5 pairs, sd of differences 0.006, level 0.05, power 80 %.
    assert told[0].startswith(
        "power: with 5 seeds you would see a difference of 1.0 points, with 8 seeds 0.7 "
        "(accuracy, spread between seeds 0.6 points, "
    )
    assert "from 20 confirmed runs of 4 arms" in told[0]
    assert told[1].startswith("smallest_effect, 1 points, is found by 5 seeds with a power of ")
    assert 0.7 < float(told[1].split("power of ")[1].split(" %")[0]) / 100 < 0.85


def test_seeds_that_stop_early_are_told_with_what_they_cost(tmp_path: Any) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "name: x\ntask: classification\n"
        "data: {source: null, channels: 1, classes: 10}\n"
        "network: {backbone: resnet20, width: 0.25}\n"
        "insert: [{at: layer3, block: {choice: [none, gc]}}]\n"
        "confirm: {seeds: {min: 5, max: 20}, controls: [baseline]}\n"
    )
    foreseen = outlook(load_space(file), None, 1, Pilot(0.006, 0.5, 4, 20))
    assert (foreseen.acts[0].arms, foreseen.acts[0].runs) == (2, 40)
    stops, power = foreseen.power
    assert "an arm stops at 5 to 20 seeds" in stops
    assert "at least 10 and at most 40 runs; a comparison takes 14.2 seeds" in stops
    # Fewer than a fixed plan of 20 finds, since its last analysis has 41 % of alpha.
    assert power.startswith("power: with 20 seeds you would see a difference of 0.5 points")


def test_what_so_many_trials_find_is_told_as_it_is_for_random_draws() -> None:
    generator = np.random.default_rng(0)
    best = generator.random((100_000, 16)).min(axis=1)  # 0: the best network of all
    told = reach_sentence(3600, 16, "tpe")
    share = float(told.split("(")[1].split(" %")[0]) / 100
    assert np.mean(best < share) == pytest.approx(0.95, abs=0.005)
    assert "among the best 615 (17 %)" in told
    assert "tpe looks on" in told
    assert reach_sentence(12, 16, "tpe") == "16 trials: as many as there are networks"


def test_the_cost_of_a_study_is_that_of_all_its_acts(tmp_path: Any) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "name: x\ntask: classification\n"
        "data: {source: null, channels: 1, classes: 10}\n"
        "network: {backbone: resnet20, width: 0.25}\n"
        "train: {epochs: 10}\n"
        "insert: [{at: layer3, block: {choice: [none, gc]}}]\n"
        "confirm: {top: 1, seeds: 5, controls: [baseline]}\n"
    )
    space = load_space(file)
    # 7 trials, 2 at a time: 4 x 10 epochs; confirm: 10 runs, 5 x 10 epochs.
    told = cost_sentence(space, 6.0, 7, 2)
    assert told.startswith(
        "training takes at most about 4 min 0 s, 9 min 0 s with all that follows, by a few"
    )
    alone = cost_sentence(space, 6.0, 7, 2, follows=False)
    assert alone.startswith("training takes at most about 4 min 0 s, by a few")
    assert cost_sentence(space, 6.0, 0, 2) == cost_sentence(space, None, 0, 2) == ""
    assert cost_sentence(space, None, 7, 2).endswith("before, by `attnsearch check`")
