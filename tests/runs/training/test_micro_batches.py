"""A batch in micro-batches has the losses and gradients of the whole one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks.mechanisms.ecrm import ECRM
from attnsearch.runs.training.evaluate import EVALUATION_BATCH
from attnsearch.runs.training.train import Training
from tests.runs.training.test_segment import discs, train
from tests.runs.training.test_train import make_config, make_data, trained

__all__ = ["discs"]

EXACT = {"rtol": 1e-4, "atol": 2e-6}


def classify(*insert: tuple[str, str], **given: Any) -> Training:
    config = make_config(*insert, **{"batch_size": 8, "momentum": 0.0, "epochs": 2, **given})
    return trained(config, make_data(), threads=1)


def without_statistics(training: Training) -> Training:
    """Has batch normalisation use its running statistics, so that images are independent."""
    for module in training.network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return training


def alike(whole: Training, split: Training) -> None:
    """Asserts that an epoch of both has the same losses, rates, weights and random draws."""
    metrics, other = whole.run_epoch(), split.run_epoch()
    assert other.pop("micro_batches") == split.micro_batches > 1
    for times in (metrics, other):
        del times["images_per_s"], times["epoch_s"]
    assert other == pytest.approx(metrics, rel=1e-4, abs=1e-5)
    weights = split.network.state_dict()
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(weights[name], value, **EXACT, msg=name)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_step_is_that_of_the_whole_batch(count: int) -> None:
    given = {"label_smoothing": 0.1, "class_weights": [1, 5, 2]}
    split = without_statistics(classify(**given))
    split.split(count)
    alike(without_statistics(classify(**given)), split)


@pytest.mark.parametrize(
    "loss",
    [
        {"loss": "dice"},
        {"class_weights": [1, 3], "boundary_weight": 5.0, "label_smoothing": 0.1},  # ce_dice
        {"loss": "focal"},
    ],
    ids=str,
)
def test_losses_that_are_no_means_over_images_are_those_of_the_batch_too(
    loss: dict[str, Any], discs: Path, tmp_path: Path
) -> None:
    def begun() -> Training:
        turned = {"augment": "{rotate: 90, flip: true}"}  # whose corners are ignored
        training = without_statistics(train(discs, tmp_path, train=loss, data=turned))
        training._rate = lambda step: 0.002  # without batch statistics more explodes
        return training

    split = begun()
    split.split(2)
    alike(begun(), split)


def test_side_outputs_of_blocks_have_their_gradients() -> None:
    """With ECRM's own loss, and a bank that has no say."""
    made = [without_statistics(classify(("layer3", "ecrm"))) for _ in range(2)]
    made[1].split(2)
    for training in made:
        (block,) = (m for m in training.network.modules() if isinstance(m, ECRM))
        nn.init.zeros_(block.rho[0].weight)
    alike(*made)


def test_a_small_rest_is_split_less_and_single_images_never() -> None:
    training = classify()
    for size, sizes in ((5, [3, 2]), (3, [3]), (8, [2, 2, 2, 2])):
        given = torch.zeros(size, 1, 8, 8), torch.zeros(size, dtype=torch.long)
        pieces = training._task.whole.micro_batches(
            4, *given, training.network, training._step._forward
        )
        assert [len(images) for images, _ in pieces] == sizes


class Draws(nn.Module):
    """Notes what it draws and how often it was called, in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[Tensor] = []
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.drawn.append(torch.rand(len(x)))
        return x


def test_both_passes_draw_alike_and_the_first_leaves_no_trace() -> None:
    training = classify()
    training.network.register_module("draws", Draws())
    training.network.register_forward_pre_hook(lambda net, given: (net.draws(given[0]),))
    training.split(2)
    given = torch.rand(8, 1, 8, 8), torch.zeros(8, dtype=torch.long)
    whole = training._task.whole
    for piece in whole.micro_batches(2, *given, training.network, training._step._forward):
        training._step._forward(*piece)
    drawn = training.network.draws.drawn
    assert [len(values) for values in drawn] == [4, 4, 4, 4]
    assert torch.equal(drawn[0], drawn[2]) and torch.equal(drawn[1], drawn[3])
    assert not torch.equal(drawn[0], drawn[1])
    assert training.network.draws.calls == 2


def test_running_statistics_forget_as_fast_as_with_whole_batches() -> None:
    training, split = classify(), classify()
    split.split(2)
    split.split(4)
    pairs = zip(training.network.modules(), split.network.modules(), strict=True)
    moments = [
        (one.momentum, other.momentum)
        for one, other in pairs
        if isinstance(one, nn.modules.batchnorm._BatchNorm)
    ]
    assert moments
    for one, other in moments:
        assert (1 - other) ** 4 == pytest.approx(1 - one)


def test_what_is_interrupted_goes_on_in_micro_batches() -> None:
    training = classify()
    training.split(2)
    training.run_epoch()
    resumed = classify()
    resumed.load_state(training.state())
    assert resumed.micro_batches == 2
    first, second = training.run_epoch(), resumed.run_epoch()
    assert first["val_loss"] == second["val_loss"]
    older = training.state()
    del older["micro_batches"]  # of an attnsearch before micro-batches
    classify().load_state(older)


def test_an_evaluation_out_of_memory_takes_smaller_batches() -> None:
    training, sizes = classify(), []

    def full(_: nn.Module, given: tuple[Tensor]) -> None:
        if not training.network.training:
            sizes.append(len(given[0]))
            if len(given[0]) > 5:
                raise MemoryError

    expected = classify().evaluate("val")[0]
    training.network.register_forward_pre_hook(full)
    metrics = training.run_epoch()
    assert metrics["smaller_batches"] == 64.0 and EVALUATION_BATCH // 64 == 4
    assert sizes[-8:] == [*[4] * 7, 2]
    again = classify()
    again.network.register_forward_pre_hook(lambda _, given: full(again.network, given))
    assert again.evaluate("val")[0] == pytest.approx(expected, rel=1e-5)


def test_an_evaluation_that_never_fits_fails() -> None:
    training = classify()

    def refuse(*_: Any) -> None:
        raise MemoryError

    training.network.register_forward_pre_hook(refuse)
    with pytest.raises(MemoryError):
        training.evaluate("val")
