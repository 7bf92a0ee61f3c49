"""Trainings on a card: captured and eager, with every block, of each task; a card that is full."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks.mechanisms.table import BLOCKS
from attnsearch.runs.training.memory import free_memory, out_of_memory
from attnsearch.runs.training.seeding import generator
from attnsearch.runs.training.train import Training
from tests.runs.training.test_segment import discs, train
from tests.runs.training.test_train import make_config, make_data

__all__ = ["discs"]

pytestmark = pytest.mark.gpu


def on_cuda(config: dict[str, Any], images: int, **train: Any) -> Training:
    """Train some epochs on the card that is there."""
    config = {**config, "train": {**config["train"], **train}}
    training = Training(config, make_data(images), "cuda")
    while not training.done:
        training.run_epoch()
    return training


def alike(one: Training, other: Training, **tolerance: float) -> None:
    """Assert that two trainings went the same way, but for rounding."""
    for ours, theirs in zip(one.history, other.history, strict=True):
        for name in ("train_loss", "val_loss", "lr"):
            assert ours[name] == pytest.approx(theirs[name], **tolerance), name


@contextmanager
def never_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def waits_in_no_step(training: Training, batch: int) -> None:
    """Assert that the host waits neither for a batch nor for its step, captured or not."""
    draws = generator(0, "augment", 0)
    index = torch.arange(batch, device="cuda")
    training.batch(index, draws)  # puts mean and deviation there
    with never_waiting():
        for some in (index, index[: batch // 2]):
            training._step(*training.batch(some, draws), 0.01)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("block", ["none", *BLOCKS])
def test_with_each_block_a_step_is_captured_and_goes_as_it_does_eagerly(
    block: str, precision: str
) -> None:
    inserted = [] if block == "none" else [("layer2", block)]
    config = make_config(*inserted, precision=precision, lr=0.02, grad_clip=1.0, ema=0.9)
    config["network"] |= {"width": 2.0}
    eager, graphed = (on_cuda(config, 72, speed=speed) for speed in ("plain", "auto"))
    assert eager._step._captured is None
    assert graphed._step._captured is not None
    alike(graphed, eager, rel=1e-3 if precision == "fp32" else 0.02)
    waits_in_no_step(graphed, 16)


@pytest.mark.parametrize(
    "given",
    [
        {"optimizer": "adamw", "lr": 1e-3, "channels_last": True},
        {"compile": True, "lr": 0.02},
        {"class_weights": [1, 5, 2], "label_smoothing": 0.1, "lr": 0.02},
    ],
    ids=str,
)
def test_each_way_to_train_is_captured_and_goes_as_it_does_eagerly(given: dict[str, Any]) -> None:
    config = make_config(**given) | {"data": {"augment": {"policy": "randaugment", "mixup": 0.2}}}
    eager, graphed = (on_cuda(config, 72, speed=speed) for speed in ("plain", "auto"))
    assert graphed._step._captured is not None
    alike(graphed, eager, rel=1e-2)
    waits_in_no_step(graphed, 16)
    state = graphed.state()
    again = Training(graphed.config, graphed.data, "cuda")
    again.load_state(state)
    for name, value in again.state()["network"].items():
        assert torch.equal(value, state["network"][name]), name


@pytest.mark.parametrize("speed", ["auto", "exact"])
def test_masks_are_trained_on_a_card_without_waiting_and_repeat(
    speed: str, discs: Path, tmp_path: Path
) -> None:
    told = {"speed": speed, "precision": "fp32", "channels_last": "false", "compile": "false"}
    trainings = [
        train(
            discs,
            tmp_path,
            epochs=4,
            insert="[{at: layer3, block: ecrm}, {at: decoder1, block: axial}]",
            data={"augment": "{flip: true, rotate: 20, elastic: 0.02}"},
            train=given,
            device="cuda",
        )
        for given in (told, {**told, "speed": "plain"} if speed == "auto" else told)
    ]
    for training in trainings:
        while not training.done:
            training.run_epoch()
    assert (trainings[0]._step._captured is not None) == (speed == "auto")
    alike(*trainings, rel=1e-2 if speed == "auto" else 0.0)
    if speed == "auto":
        waits_in_no_step(trainings[0], 4)


def test_a_card_that_is_full_takes_the_step_in_smaller_pieces() -> None:
    config = make_config(batch_size=3840, epochs=1)
    torch.cuda.reset_peak_memory_stats()
    on_cuda(config, 3840)
    total = torch.cuda.get_device_properties(0).total_memory
    free_memory()
    torch.cuda.set_per_process_memory_fraction(0.6 * torch.cuda.max_memory_allocated() / total)
    try:
        with pytest.raises(RuntimeError) as raised:
            on_cuda(config, 3840)
        assert out_of_memory(raised.value)
        del raised
        free_memory()
        training = Training(config, make_data(3840), "cuda")
        training.split(16)
        assert training.run_epoch()["micro_batches"] == 16
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_what_waits_is_taken_eagerly_and_leaves_the_card_as_it_was() -> None:
    config = make_config(epochs=2)
    config["insert"] = [{"at": "layer1", "block": f"{__name__}:Asks", "params": {}}]
    training = on_cuda(config, 72, speed="auto")
    assert training._step._captured is None
    assert not training._step._captures
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert torch.cuda.get_sync_debug_mode() == 0
    alike(training, on_cuda(config, 72, speed="plain"), rel=1e-3)


class Asks(nn.Dropout):
    """A block that reads a number, and draws."""

    def __init__(self, channels: int) -> None:
        super().__init__(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.detach().sum()) else x
