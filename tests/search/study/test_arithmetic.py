from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnsearch.runs.data.data import load_data
from attnsearch.runs.ledger import Ledger, StudyRow
from attnsearch.runs.training import Speed
from attnsearch.search.plans.confirm import given_configs
from attnsearch.search.study import arithmetic
from attnsearch.search.study.arithmetic import settle, settle_as, stand_ins
from attnsearch.search.workers import Need
from attnsearch.spaces import Space, canonical_text, load_space
from attnsearch.spaces.keys import open_arithmetic

TEXT = """
name: one
task: classification
data: {source: digits}
network: {backbone: resnet18, width: 0.125}
insert:
  - {at: layer3, block: {choice: [none, se, gc]}}
  - {at: layer4, block: {choice: [none, eca]}}
train: {epochs: 2, batch_size: 32}
search: {trials: 3}
"""
FINGERPRINT = "f" * 64
BOTH = {"precision": "bf16", "channels_last": True, "compile": False}
PLAIN = {"precision": "fp32", "channels_last": False, "compile": False}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        yield ledger


def space(tmp_path: Path, *changes: str) -> Space:
    path = tmp_path / "one.yaml"
    path.write_text(TEXT)
    return load_space(path, changes)


def opened(ledger: Ledger, of: Space, document: dict[str, Any] | None = None) -> StudyRow:
    return ledger.open_study(of.name, of.text, document or of.document, FINGERPRINT, {})


def test_a_file_that_says_nothing_leaves_the_arithmetic_open(tmp_path: Path) -> None:
    assert open_arithmetic(space(tmp_path).document["train"]) == (
        "precision",
        "channels_last",
        "compile",
    )
    config = space(tmp_path).resolve(space(tmp_path).defaults())
    assert open_arithmetic(config["train"]) == ()
    assert {key: config["train"].get(key, False) for key in PLAIN} == PLAIN


def test_what_is_settled_stands_in_every_config(tmp_path: Path) -> None:
    one = space(tmp_path, "train.precision=fp32")
    one.settle(BOTH)
    config = one.resolve(one.defaults())
    assert config["train"]["precision"] == "fp32"
    assert config["train"]["channels_last"] is True
    assert canonical_text(config) != canonical_text(space(tmp_path).resolve(one.defaults()))


def test_speed_itself_is_in_no_key_but_exact(tmp_path: Path) -> None:
    texts = {
        speed: canonical_text(
            space(tmp_path, f"train.speed={speed}").resolve(space(tmp_path).defaults())
        )
        for speed in ("auto", "plain", "exact")
    }
    assert texts["auto"] == texts["plain"] != texts["exact"]


def test_a_study_goes_on_in_its_own_arithmetic(ledger: Ledger, tmp_path: Path) -> None:
    first = space(tmp_path)
    first.settle(BOTH)
    study = opened(ledger, first)
    again = space(tmp_path)
    assert settle_as(again, ledger.studies(), FINGERPRINT)
    assert opened(ledger, again).id == study.id
    assert again.document["train"]["precision"] == "bf16"
    assert not settle_as(space(tmp_path), ledger.studies(), "other data")
    assert not settle_as(space(tmp_path, "train.lr=0.3"), ledger.studies(), FINGERPRINT)


def test_a_study_from_before_these_keys_goes_on(ledger: Ledger, tmp_path: Path) -> None:
    first = space(tmp_path)
    train = {**first.document["train"], "precision": "fp32", "channels_last": False}
    del train["speed"], train["compile"]
    study = opened(ledger, first, {**first.document, "train": train})
    again = space(tmp_path)
    assert settle_as(again, ledger.studies(), FINGERPRINT)
    assert {key: again.document["train"].get(key, False) for key in PLAIN} == PLAIN
    assert opened(ledger, again).id == study.id


def test_another_arithmetic_in_the_file_begins_another_study(
    ledger: Ledger, tmp_path: Path
) -> None:
    first = space(tmp_path)
    first.settle(BOTH)
    study = opened(ledger, first)
    other = space(tmp_path, "train.precision=fp32", "train.channels_last=true")
    assert settle_as(other, ledger.studies(), FINGERPRINT)  # nothing is open
    assert opened(ledger, other).number == study.number + 1


def test_networks_with_each_block_stand_for_a_space(tmp_path: Path) -> None:
    blocks = [
        sorted({entry["block"] for entry in config["insert"]} - {"none"})
        for config in stand_ins(space(tmp_path))
    ]
    assert blocks == [[], ["se"], ["gc"], ["eca"]]


def test_what_the_race_chose_is_settled_told_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def choose(*arguments: Any, **lengths: float) -> Speed:
        asked.append((arguments, lengths))
        return Speed(BOTH, gain=2.0, tried={"bf16 channels_last": 2.0})

    monkeypatch.setattr(arithmetic, "choose_speed", choose)
    one, notes = space(tmp_path), []
    data = load_data(one.document["data"], one.task)
    record = settle(one, data, Need(cpus=2), 3, False, notes.append)
    assert one.document["train"]["channels_last"] is True
    assert record["gain"] == 2.0
    assert notes == [f"train.speed: {Speed(BOTH, gain=2.0, tried={'bf16 channels_last': 2.0})}"]
    ((arguments, lengths),) = asked
    assert arguments[4] == 2  # threads
    batches = -(-len(data.train.images) // 32)
    assert lengths == {"steps": 3 * 2 * batches, "run_steps": 2 * batches}


def test_configs_that_a_file_confirms_take_the_studys_arithmetic(tmp_path: Path) -> None:
    """Unless they say otherwise: a difference must not be one between two arithmetics."""
    for name, more in (("open", ""), ("closed", ", precision: fp32, channels_last: false")):
        (tmp_path / f"{name}.yaml").write_text(
            TEXT.replace("{choice: [none, se, gc]}", "se")
            .replace("{choice: [none, eca]}", "eca")
            .replace("batch_size: 32", f"batch_size: 32{more}")
        )
    files = [str(tmp_path / "open.yaml"), str(tmp_path / "closed.yaml")]
    one = space(tmp_path, f"confirm={{configs: {files}, seeds: 2}}")
    one.settle(BOTH)
    given = [replace(file).config["train"] for file in given_configs(one)]
    assert [train["precision"] for train in given] == ["bf16", "fp32"]
    assert [train["channels_last"] for train in given] == [True, False]
