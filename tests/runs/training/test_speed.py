import json
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from attnsearch.runs.training import TrainError, speed as speed_file
from attnsearch.runs.training.speed import (
    NEVER_BELOW,
    Speed,
    choose_speed,
    has_bf16,
    named,
    trial_batches,
)
from tests.runs.training.test_train import make_config, make_data, trained

OPEN = {"speed": "auto", "precision": "auto", "channels_last": None, "compile": None}
PLAIN, LAST = "fp32", "fp32 channels_last"
HALF, BOTH = "bf16", "bf16 channels_last"
EQUAL = [2.3, 2.2, 2.1, 2.0, 1.9, 1.8]
Racers = dict[tuple[str, str], tuple[float, list[float]]]


@pytest.fixture
def racers(monkeypatch: pytest.MonkeyPatch) -> Racers:
    """Seconds of a step and losses, by backbone and arithmetic; a second and `EQUAL` by default.

    The device has bfloat16 units.
    """
    settings: Racers = {}

    def steps(
        config: Mapping[str, Any], arm: Mapping[str, Any], data: Any, device: str
    ) -> Iterator[tuple[float, float]]:
        found = settings.get((config["network"]["backbone"], named(arm)), (1.0, EQUAL))
        for loss in found[1]:
            yield found[0], loss

    monkeypatch.setattr(speed_file, "_steps", steps)
    monkeypatch.setattr(speed_file, "has_bf16", lambda device: True)
    return settings


def choose(
    *backbones: str, steps: float = 5e3, inputs: Mapping[str, str] | None = None, **train: Any
) -> Speed:
    configs = []
    for backbone in backbones or ("resnet20",):
        config = make_config()
        configs.append({**config, "network": {**config["network"], "backbone": backbone}})
    settings = {**configs[0]["train"], **OPEN, **train}
    lengths: dict[str, Any] = {"steps": steps, "run_steps": 100, "inputs": inputs}
    return choose_speed(configs, settings, make_data(), "cpu", 1, **lengths)


def test_the_fastest_is_chosen_and_says_what_it_gains(racers: Racers) -> None:
    racers |= {("resnet20", LAST): (0.7, EQUAL), ("resnet20", BOTH): (0.4, EQUAL)}
    speed = choose()
    assert speed.arithmetic == {"precision": "bf16", "channels_last": True, "compile": False}
    assert speed.gain == pytest.approx(2.5)
    assert speed.tried == pytest.approx({LAST: 1 / 0.7, HALF: 1.0, BOTH: 2.5})
    assert str(speed) == (
        "bf16 channels_last, 2.50 times as fast as plain steps "
        "(also tried: fp32 channels_last 1.43, bf16 1.00)"
    )


@pytest.mark.parametrize("seconds", [0.99, 1.0, 1.5])
def test_what_gains_nothing_stays_plain(racers: Racers, seconds: float) -> None:
    racers |= {("resnet20", name): (seconds, EQUAL) for name in (LAST, HALF, BOTH)}
    speed = choose()
    assert named(speed.arithmetic) == PLAIN
    assert speed.gain == 1.0
    assert str(speed).startswith(f"plain steps (fp32); tried: {LAST} {1 / seconds:.2f}, bf16 ")


def test_what_is_slower_in_one_network_is_not_chosen(racers: Racers) -> None:
    racers |= {("resnet20", LAST): (0.5, EQUAL), ("resnet18", LAST): (1.1, EQUAL)}
    racers |= {(net, HALF): (0.9, EQUAL) for net in ("resnet20", "resnet18")}
    speed = choose("resnet20", "resnet18")
    assert named(speed.arithmetic) == HALF
    assert f"not {LAST}: slower in one of the networks" in str(speed)
    assert named(choose("resnet20").arithmetic) == LAST


@pytest.mark.parametrize(
    "losses",
    [
        pytest.param([2.4, *EQUAL[1:]], id="another first loss"),
        pytest.param([2.3, 2.6, 2.9, 3.5, 4, 5], id="losses that go away"),
        pytest.param([2.3, math.nan, 2.1, 2.0, 1.9, 1.8], id="nan"),
    ],
)
def test_bf16_that_leaves_fp32_is_refused_and_told(racers: Racers, losses: list[float]) -> None:
    racers |= {("resnet20", HALF): (0.1, losses), ("resnet20", BOTH): (0.1, losses)}
    racers |= {("resnet20", LAST): (0.8, EQUAL)}
    speed = choose()
    assert named(speed.arithmetic) == LAST
    assert "not bf16, bf16 channels_last: too far from fp32" in str(speed)


def test_rounding_is_no_reason_against_bf16(racers: Racers) -> None:
    losses = [loss * (1 + 0.01 * step) for step, loss in enumerate(EQUAL)]
    racers |= {("resnet20", BOTH): (0.4, losses)}
    assert named(choose().arithmetic) == BOTH


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"precision": "fp32"}, LAST),
        ({"channels_last": False}, HALF),
        ({"precision": "bf16", "channels_last": True}, BOTH),
        ({"speed": "plain"}, PLAIN),
        ({"speed": "exact"}, PLAIN),
        ({"speed": "plain", "channels_last": True}, LAST),
    ],
)
def test_what_the_file_gives_is_kept(racers: Racers, given: dict[str, Any], expected: str) -> None:
    racers |= {("resnet20", LAST): (0.7, EQUAL), ("resnet20", HALF): (0.7, EQUAL)}
    racers |= {("resnet20", BOTH): (0.4, EQUAL)}
    assert named(choose(**given).arithmetic) == expected


def test_what_is_searched_is_left_to_the_search(racers: Racers) -> None:
    racers |= {("resnet20", "channels_last"): (0.5, EQUAL)}
    speed = choose(precision={"choice": ["fp32", "bf16"]})
    assert "precision" not in speed.arithmetic
    assert speed.arithmetic["channels_last"] is True


def test_a_study_of_a_few_steps_is_not_worth_a_race(racers: Racers) -> None:
    racers |= {("resnet20", LAST): (0.1, EQUAL)}
    speed = choose(steps=100)
    assert named(speed.arithmetic) == PLAIN
    assert not speed.tried


def test_a_device_without_units_for_it_gets_no_bf16(
    racers: Racers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed_file, "has_bf16", lambda device: False)
    racers |= {("resnet20", BOTH): (0.1, EQUAL)}
    assert set(choose().tried) == {LAST}


def test_the_next_study_that_is_alike_need_not_race(
    racers: Racers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path))
    racers |= {("resnet20", LAST): (0.7, EQUAL)}
    first = choose()
    racers.clear()
    assert choose() == first
    changed = {"my_blocks:Mine": "another hash"}
    assert named(choose(inputs=changed).arithmetic) == PLAIN  # another source, same name
    assert named(choose("resnet18").arithmetic) == PLAIN  # another network
    (entry, *_) = sorted((tmp_path / "speed").iterdir(), key=lambda path: path.stat().st_mtime)
    entry.write_text("{")
    assert named(choose().arithmetic) == PLAIN  # raced again
    assert json.loads(entry.read_text())["arithmetic"]["channels_last"] is False


def test_compiling_is_tried_where_a_study_is_long_and_taken_where_a_run_is(
    racers: Racers,
) -> None:
    racers |= {("resnet20", "fp32 compile"): (0.5, EQUAL)}
    assert "fp32 compile" not in choose(steps=5000).tried  # 2 % of 5000 s is too little
    speed = choose(steps=1e5)
    assert speed.arithmetic["compile"]
    assert speed.gain == pytest.approx(2.0)
    racers |= {("resnet20", "fp32 compile"): (0.999, EQUAL)}
    assert not choose(steps=1e5).arithmetic["compile"]  # 100 steps do not earn back the first one


def test_compiling_is_taken_where_it_is_slower_in_no_network_of_the_race(
    racers: Racers, monkeypatch: pytest.MonkeyPatch
) -> None:
    racers |= {("resnet20", "fp32 compile"): (0.5, EQUAL)}
    racers |= {("resnet18", "fp32 compile"): (0.9, EQUAL)}
    speed = choose("resnet20", "resnet18", steps=1e5)
    assert speed.arithmetic["compile"]
    assert speed.gain == pytest.approx((2 / 0.9) ** 0.5)
    racers |= {("resnet18", "fp32 compile"): (1.05, EQUAL)}
    speed = choose("resnet20", "resnet18", steps=1e5)
    assert not speed.arithmetic["compile"]
    assert "not fp32 compile: slower in one of the networks" in str(speed)

    steps = speed_file._steps

    def refused(config: Mapping[str, Any], arm: Mapping[str, Any], *others: Any) -> Any:
        if config["network"]["backbone"] == "resnet18" and arm["compile"]:
            raise TrainError("beyond the compiler")
        return steps(config, arm, *others)

    monkeypatch.setattr(speed_file, "_steps", refused)
    speed = choose("resnet20", "resnet18", steps=1e5)
    assert not speed.arithmetic["compile"]
    assert "not compiled: a network is beyond the compiler" in str(speed)


def test_a_network_that_cannot_be_trained_is_no_reason_to_end_a_race(
    racers: Racers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code of the user's own may raise anything; its trials then say so."""
    steps = speed_file._steps

    def broken(config: Mapping[str, Any], *others: Any) -> Iterator[tuple[float, float]]:
        if config["network"]["backbone"] == "resnet18":
            raise TypeError("of a user's block")
        return steps(config, *others)

    monkeypatch.setattr(speed_file, "_steps", broken)
    racers |= {("resnet20", LAST): (0.7, EQUAL)}
    assert named(choose("resnet18", "resnet20").arithmetic) == LAST
    assert str(choose("resnet18")) == "fp32; no network could be raced"


def test_who_wants_an_end_waits_for_no_race(racers: Racers) -> None:
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise KeyboardInterrupt

    config = make_config()
    arguments = ([config], {**config["train"], **OPEN}, make_data(), "cpu", 1)
    with pytest.raises(KeyboardInterrupt):
        choose_speed(*arguments, steps=5e3, run_steps=100, check=check)


def test_a_real_race_tells_times_of_real_steps() -> None:
    config = make_config(("layer2", "gc"))
    threads = torch.get_num_threads()
    train = {**config["train"], **OPEN}
    speed = choose_speed([config], train, make_data(), "cpu", 1, steps=1e3, run_steps=9)
    assert LAST in speed.tried
    assert all(gain > 0 for gain in speed.tried.values())
    assert torch.get_num_threads() == threads
    assert (HALF in speed.tried) == has_bf16(torch.device("cpu"))


def test_trials_meet_the_last_batch_of_an_epoch_where_they_measure_memory() -> None:
    training = trained(make_config(), make_data(56))
    sizes = [len(batch) for batch in islice(trial_batches(training, 6)[0], 10)]
    assert sizes == [16] * 6 + [8] + [16] * 3
    assert {len(batch) for batch in islice(trial_batches(training)[0], 10)} == {16}


@pytest.mark.gpu
def test_a_card_races_all_that_it_can_and_keeps_what_is_not_slower() -> None:
    config = make_config(batch_size=128)
    settings = {**config["train"], **OPEN}
    lengths = {"steps": 1e5, "run_steps": 1e3}
    speed = choose_speed([config], settings, make_data(512), "cuda", 1, **lengths)
    assert has_bf16(torch.device("cuda"))
    assert {LAST, HALF, BOTH} <= set(speed.tried)
    assert speed.gain >= NEVER_BELOW
