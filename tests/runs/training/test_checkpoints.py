"""Checkpoints: what is read back is what was written, and a training goes on from it exactly."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from attnsearch.blocks import BLOCKS
from attnsearch.runs.store import open_store
from attnsearch.runs.training import checkpoints
from attnsearch.runs.training.checkpoints import (
    KEPT,
    Checkpoint,
    kept_trainings,
    remove,
    sound,
)
from attnsearch.runs.training.train import Training
from tests.runs.training.test_segment import discs, train
from tests.runs.training.test_train import digest, dropping, make_config, make_data, trained

__all__ = ["discs", "dropping"]

EVERYWHERE = sorted(name for name in BLOCKS if name not in ("none",))


class Stop(Exception):
    pass


def begin(config: dict[str, Any]) -> Training:
    return trained(config, make_data(), 3, threads=1)


def finish(training: Training) -> str:
    while not training.done:
        training.run_epoch()
    return digest(training)


def stopped_at(training: Training, step: int, folder: Path) -> None:
    """Trains so many steps, of whatever epochs, and leaves a checkpoint."""
    steps = itertools.count(1)

    def between() -> None:
        if next(steps) == step:
            Checkpoint.of(training.state()).write(folder)
            raise Stop

    training.between = between
    with pytest.raises(Stop):
        finish(training)


def goes_on(training: Training, folder: Path) -> Training:
    torch.manual_seed(99)  # whatever the process did before
    training.load_state(next(sound(folder)).state())
    return training


@pytest.mark.parametrize("step", [1, 2, 3, 4, 7, 9])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_stopped_at_any_step_ends_bit_for_bit_alike(
    optimizer: str, step: int, dropping: str, tmp_path: Path
) -> None:
    config = make_config(("layer2", "ecrm"), ("layer1", dropping), optimizer=optimizer, lr=0.02)
    stopped_at(begin(config), step, tmp_path)
    resumed = goes_on(begin(config), tmp_path)
    assert resumed.epoch == (step - 1) // 3
    whole = begin(config)
    assert finish(resumed) == finish(whole)
    assert resumed.best_epoch == whole.best_epoch
    assert all(torch.equal(resumed.best_state[k], v) for k, v in whole.best_state.items())


@pytest.mark.parametrize("block", EVERYWHERE)
def test_every_block_goes_on_bit_for_bit(block: str, tmp_path: Path) -> None:
    at = {"psa": "layer3"}.get(block, "layer2")  # whose groups need 64 channels
    config = make_config((at, block), epochs=2)
    config["network"]["width"] = 1.0  # as some blocks want so many channels
    stopped_at(begin(config), 4, tmp_path)
    assert finish(goes_on(begin(config), tmp_path)) == finish(begin(config))


@pytest.mark.parametrize(
    "given",
    [
        {"precision": "bf16"},
        {"schedule": "step", "momentum": 0.0},
        {"schedule": "constant", "warmup_epochs": 1},
        {"schedule": "onecycle", "grad_clip": 0.5},
        {"channels_last": True, "label_smoothing": 0.1},
        {"class_weights": "balanced", "optimizer": "adamw", "precision": "bf16"},
        {"ema": 0.9, "warmup_steps": 2},
        {"accumulate": 2, "batch_size": 4, "sampler": "balanced"},
    ],
    ids=str,
)
def test_every_way_to_train_goes_on_bit_for_bit(given: dict[str, Any], tmp_path: Path) -> None:
    config = make_config(("layer3", "se"), **given)
    config["data"]["augment"] |= {"crop": 2, "rotate": 10} if "grad_clip" in given else {}
    if "ema" in given:
        config["data"]["augment"] |= {"resized_crop": 0.3, "policy": "randaugment", "mixup": 0.2}
    stopped_at(begin(config), 5, tmp_path)
    resumed, whole = goes_on(begin(config), tmp_path), begin(config)
    assert finish(resumed) == finish(whole)
    kept = whole.result_state()
    assert all(torch.equal(value, kept[name]) for name, value in resumed.result_state().items())


@pytest.mark.parametrize(
    "insert", ["[]", "[{at: layer3, block: ecrm}]", "[{at: decoder1, block: gc}]"]
)
def test_a_segmentation_goes_on_bit_for_bit(insert: str, discs: Path, tmp_path: Path) -> None:
    def begun() -> Training:
        return train(discs, tmp_path, epochs=2, insert=insert, data={"augment": "{flip: true}"})

    stopped_at(begun(), 3, tmp_path / "kept")
    assert finish(goes_on(begun(), tmp_path / "kept")) == finish(begun())


def test_what_a_block_keeps_out_of_the_state_dict_goes_on_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import torch
from torch import nn

class Memory(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels), persistent=False)

    def forward(self, x):
        out = x + self.mean[:, None, None]
        if self.training:
            self.mean = 0.5 * self.mean + 0.5 * x.detach().mean((0, 2, 3))
        return out
"""
    (tmp_path / "memory_block.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    config = make_config(("layer2", "memory_block:Memory"))
    stopped_at(begin(config), 5, tmp_path / "kept")
    assert finish(goes_on(begin(config), tmp_path / "kept")) == finish(begin(config))


def states(count: int) -> list[Checkpoint]:
    training = begin(make_config(epochs=count))
    made = []
    for _ in range(count):
        training.run_epoch()
        made.append(Checkpoint.of(training.state()))
    return made


def test_the_newest_ones_are_kept(tmp_path: Path) -> None:
    for checkpoint in states(3):
        checkpoint.write(tmp_path)
    assert [checkpoint.epoch for checkpoint in sound(tmp_path)] == [3, 2]
    assert len(list(tmp_path.iterdir())) == KEPT


@pytest.mark.parametrize("damage", ["truncated", "altered", "emptied"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: str) -> None:
    for checkpoint in states(2):
        checkpoint.write(tmp_path)
    newest = max(tmp_path.iterdir())
    content = bytearray(newest.read_bytes())
    if damage == "altered":
        content[len(content) // 2] ^= 1
    newest.write_bytes(content[: {"truncated": len(content) // 2, "emptied": 0}.get(damage)])
    (left,) = sound(tmp_path)
    assert left.epoch == 1
    assert goes_on(begin(make_config(epochs=2)), tmp_path).epoch == 1


def test_one_that_cannot_be_written_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = states(2)
    first.write(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=checkpoints.FREE_BYTES)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="256 MiB would be left"):
        second.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    monkeypatch.undo()
    monkeypatch.setattr(Path, "replace", lambda path, to: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        second.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_checkpoints_go_to_a_store_and_leave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNSEARCH_STORE", f"memory://{tmp_path}")
    folder = tmp_path / "checkpoints" / "k-1"
    training = begin(make_config(epochs=KEPT + 2))
    while not training.done:
        training.run_epoch()
        Checkpoint.of(training.state()).write(folder)
    assert not folder.exists()
    kept = list(sound(tmp_path / "another" / "machine" / "k-1"))
    assert [checkpoint.epoch for checkpoint in kept] == [KEPT + 2, KEPT + 1]
    store = open_store()
    assert store is not None
    store.put(f"checkpoints/k-1/{kept[0].name}", kept[0].content[:-1])
    assert next(sound(folder)).epoch == KEPT + 1, "one that was cut off is passed over"
    assert kept_trainings(folder.parent) == {"k-1"}
    remove(folder)
    assert list(sound(folder)) == [] and kept_trainings(folder.parent) == set()
