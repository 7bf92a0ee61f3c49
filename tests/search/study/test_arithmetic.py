import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from attnsearch.runs.data.data import load_data
from attnsearch.runs.ledger import Ledger, StudyRow, inputs as ledger_inputs
from attnsearch.runs.training import Speed
from attnsearch.search.plans.confirm import given_configs
from attnsearch.search.study import arithmetic
from attnsearch.search.study.arithmetic import Settling, known_packing, raced, settle_as, stand_ins
from attnsearch.search.workers import Cluster, Need, Packing, cluster as cluster_file
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


def test_a_study_from_before_the_default_of_today_goes_on_with_its_scheduler(
    ledger: Ledger, tmp_path: Path
) -> None:
    assert space(tmp_path).document["search"]["scheduler"] == "patient"
    first = space(tmp_path, "search.scheduler=asha")
    first.settle(BOTH)
    study = opened(ledger, first)
    again = space(tmp_path)
    assert settle_as(again, ledger.studies(), FINGERPRINT)
    assert again.document["search"]["scheduler"] == "asha"
    assert opened(ledger, again).id == study.id
    for named in ("patient", "none"):
        other = space(tmp_path, f"search.scheduler={named}")
        assert not settle_as(other, ledger.studies(), FINGERPRINT)
        assert other.document["search"]["scheduler"] == named


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


def settling(of: Space, notes: list[str], need: Need, running: Cluster | None = None) -> Settling:
    data = load_data(of.document["data"], of.task)

    def start() -> Cluster:
        raise AssertionError("no Ray is needed")

    return Settling(of, data, {}, need, running, start, 3, False, notes.append)


def test_what_the_race_chose_is_settled_told_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def choose(*arguments: Any, **lengths: float) -> Speed:
        asked.append((arguments, lengths))
        return Speed(BOTH, gain=2.0, tried={"bf16 channels_last": 2.0})

    monkeypatch.setattr(arithmetic, "choose_speed", choose)
    one, notes = space(tmp_path), []
    settle = settling(one, notes, Need(cpus=2))
    record = settle([])
    assert one.document["train"]["channels_last"] is True
    assert record["speed"]["gain"] == 2.0
    assert set(record) == {"speed"}
    assert notes == [f"train.speed: {Speed(BOTH, gain=2.0, tried={'bf16 channels_last': 2.0})}"]
    ((arguments, lengths),) = asked
    assert arguments[4] == 2  # threads
    batches = -(-len(settle.data.train.images) // 32)
    assert lengths.pop("check") is settle.check
    assert lengths == {"steps": 3 * 2 * batches, "run_steps": 2 * batches, "inputs": {}}


@pytest.mark.parametrize(
    ("speed", "told"),
    [
        (Speed(BOTH, 2.0, {"bf16 channels_last": 2.0}), "bf16 channels_last, 2.00 times as fast"),
        (Speed(PLAIN, note="the race did not end: why"), "fp32; the race did not end: why"),
        (Speed(PLAIN), None),
    ],
)
def test_a_studys_record_says_what_was_chosen_and_why(
    tmp_path: Path, ledger: Ledger, speed: Speed, told: str | None
) -> None:
    one = space(tmp_path, *CLOSED)
    record = {"speed": {**asdict(speed), "text": str(speed)}}
    study = ledger.open_study(one.name, one.text, one.document, FINGERPRINT, record)
    assert study.speed is None if told is None else str(study.speed).startswith(told)


def test_what_another_driver_chose_meanwhile_is_this_ones_too(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that begin at once measure different times, and run one study all the same."""
    one, notes = space(tmp_path), []
    settle = settling(one, notes, Need())

    def choose(*arguments: Any, **lengths: float) -> Speed:
        other = space(tmp_path)
        other.settle(BOTH)
        ledger.open_study(
            other.name, other.text, other.document, settle.data.fingerprint, {}, shared=True
        )
        return Speed(PLAIN, tried={"bf16 channels_last": 1.01})

    monkeypatch.setattr(arithmetic, "choose_speed", choose)
    settle.meanwhile = ledger.studies
    assert settle(ledger.studies()) == {}
    assert notes == []
    assert one.document["train"]["channels_last"] is True
    joined = ledger.open_study(
        one.name, one.text, one.document, settle.data.fingerprint, {}, shared=True
    )
    assert joined.number == 1


def test_batches_of_the_largest_and_smallest_size_race_too(tmp_path: Path) -> None:
    def sizes(*changes: str) -> list[int]:
        return [config["train"]["batch_size"] for config in raced(space(tmp_path, *changes))]

    assert sizes() == [32] * 4
    assert sizes("train.batch_size={choice: [32, 128, 8, 64]}") == [32, 8, 128, 32, 32, 32]
    assert sizes("train.batch_size={int: [8, 64], prior: 64}") == [64, 8, 64, 64, 64]


OWN = """
import os
from torch import nn

class Mine(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        if os.getpid() != {driver} and {ends}:
            os._exit(1)
        return x + self.conv(x)
"""


@pytest.mark.slow  # two processes that import torch
@pytest.mark.parametrize("ends", [False, True])
def test_code_of_the_users_own_races_in_a_process_of_its_own(
    ray_cluster: Cluster, own_module: Callable[[str, str], Path], ends: bool
) -> None:
    """Which finds its module; where it ends that process, the study stays plain and says so."""
    folder = own_module("raced_block", OWN.format(ends=ends, driver=os.getpid()))
    one, notes = space(folder, "insert=[{at: layer3, block: 'raced_block:Mine'}]"), []
    settle = settling(one, notes, Need(), ray_cluster)
    settle.inputs, settle.trials = ledger_inputs(one.document), 200
    record = settle([])["speed"]
    assert notes == [f"train.speed: {record['text']}"]
    assert bool(record["tried"]) is not ends
    assert record["note"].startswith("the race did not end: ") is ends


def test_the_drivers_own_process_asks_nothing_of_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which would hold some of its memory from then on, and may be on another machine."""

    def asked(*arguments: Any) -> bool:
        raise AssertionError("a card is asked here")

    monkeypatch.setattr(arithmetic, "own_code", lambda inputs: True)
    monkeypatch.setattr(arithmetic, "pays", asked)
    monkeypatch.setattr(Settling, "_raced_apart", lambda *_: Speed(PLAIN))
    settle = settling(space(tmp_path), [], Need(gpus=1), Cluster(tmp_path, 1, {}))
    assert settle._choose() == Speed(PLAIN)


CLOSED = ("train.precision=fp32", "train.channels_last=false")
MEASURED = Packing(
    0.25, "NVIDIA H200", [[1, 1.0], [2, 1.9], [4, 3.1]], 900.0, 140_000.0, replicas=3, together=5.0
)


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A machine with 16 CPUs and a card on which trials are not really tried; who asked."""
    asked: list[Any] = []

    class Tried:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            asked.append(arguments)

        def close(self) -> None:
            asked.append("closed")

    for name, value in {"available_cpus": 16, "gpu_count": 1}.items():
        monkeypatch.setattr(cluster_file, name, lambda value=value: value)
    monkeypatch.setattr(
        arithmetic, "device_kind", lambda gpus, running: "NVIDIA H200" if gpus else "cpu"
    )
    monkeypatch.setattr(arithmetic, "RayCard", Tried)
    monkeypatch.setattr(arithmetic, "pack", lambda card, device, most, seeds: MEASURED)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return asked


def test_a_share_of_a_card_is_measured_once_and_the_studys_from_then_on(
    tmp_path: Path, ledger: Ledger, cards: list[Any]
) -> None:
    one, notes = space(tmp_path, "resources.gpus=auto", *CLOSED), []
    need = Need.of(one.document["resources"])
    running = Cluster(tmp_path, 16, {"CPU": 1, "GPU": need.gpus})
    settle = settling(one, notes, need, running)
    record = settle([])
    assert settle.need == Need(1, 0.25)
    assert settle.replicas == 3
    assert settle.running is not None
    assert settle.running.workers == 3  # of four that fit, since there are three trials
    assert one.document["resources"]["gpus"] == 0.25
    assert one.resolve(one.defaults())["resources"]["gpus"] == 0.25
    assert notes == [f"resources.gpus: {MEASURED}"]
    assert len(cards[0][0]) == 4  # the baseline and a network with each block
    assert cards[0][5] == 3  # no more than there are trials
    assert cards[-1] == "closed"
    study = ledger.open_study(one.name, one.text, one.document, settle.data.fingerprint, record)
    assert study.packing == {**record["packing"]}
    # The next session, or another driver, measures nothing, and shares cards as this one does.
    again = space(tmp_path, "resources.gpus=auto", *CLOSED)
    later = settling(again, notes, need)
    assert later([study]) == {}
    assert later.need == Need(1, 0.25)
    assert later.replicas == 3
    assert len(notes) == 1
    assert ledger.open_study(
        again.name, again.text, again.document, settle.data.fingerprint, {}, shared=True
    )


def test_another_card_another_file_or_another_study_is_measured_anew(
    tmp_path: Path, ledger: Ledger, cards: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = space(tmp_path, "resources.gpus=auto", *CLOSED)
    need = Need.of(one.document["resources"])
    running = Cluster(tmp_path, 16, {"CPU": 1, "GPU": need.gpus})
    settle = settling(one, [], need, running)
    record = settle([])
    study = ledger.open_study(one.name, one.text, one.document, settle.data.fingerprint, record)
    fingerprint = settle.data.fingerprint
    assert known_packing(one, [study], fingerprint) == MEASURED
    assert known_packing(one, [study], "other data") is None
    other = space(tmp_path, "resources.gpus=auto", "network.width=0.25", *CLOSED)
    assert known_packing(other, [study], fingerprint) is None
    monkeypatch.setattr(arithmetic, "device_kind", lambda gpus, running: "NVIDIA A100")
    assert known_packing(one, [study], fingerprint) is None


def test_auto_without_a_gpu_is_none_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster_file, "gpu_count", lambda: 0)
    one, notes = space(tmp_path, "resources.gpus=auto", *CLOSED), []
    settle = settling(one, notes, Need.of(one.document["resources"]))
    record = settle([])["packing"]
    assert settle.need == Need(1, 0)
    assert one.document["resources"]["gpus"] == 0
    assert record["text"] == "auto: no GPU here, so trials train on CPUs"
    assert notes == [f"resources.gpus: {record['text']}"]


def test_a_cluster_is_joined_for_its_cards_though_all_else_is_known(tmp_path: Path) -> None:
    one, joined = space(tmp_path, "resources.gpus=1", *CLOSED), Cluster(tmp_path, 3, {})
    need = Need.of({**one.document["resources"], "address": "head:6379"})
    settle = settling(one, [], need)
    settle.start = lambda: joined
    settle([])
    assert settle.running is joined, "the names of its cards are in the keys"
    without = settling(space(tmp_path, *CLOSED), [], Need(address="head:6379"))
    without([])
    assert without.running is None, "on CPUs nobody is asked before something is to be trained"


def test_a_cards_room_is_measured_with_the_largest_batches(
    tmp_path: Path, cards: list[Any]
) -> None:
    batches = "train.batch_size={choice: [32, 128, 64]}"
    one = space(tmp_path, "resources.gpus=auto", batches, *CLOSED)
    need = Need.of(one.document["resources"])
    settling(one, [], need, Cluster(tmp_path, 16, {"CPU": 1, "GPU": need.gpus}))([])
    assert {config["train"]["batch_size"] for config in cards[0][0]} == {128}


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
