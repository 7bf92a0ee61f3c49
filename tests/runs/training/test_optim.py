import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from attnsearch.blocks.hosts.patches import Folding, PatchBatchNorm
from attnsearch.runs.training.optim import (
    TrainError,
    epoch_order,
    make_optimizer,
    make_schedule,
    parameter_groups,
    quicken_statistics,
    set_learning_rate,
)

STEPS = 10  # steps per epoch


def train(**changes: Any) -> dict[str, Any]:
    return {
        "epochs": 6,
        "optimizer": "sgd",
        "lr": 0.2,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "warmup_epochs": 0,
        "step_epochs": 2,
        "step_factor": 0.1,
    } | changes


def rates(**changes: Any) -> list[float]:
    schedule = make_schedule(train(**changes), STEPS)
    return [schedule(step) for step in range(6 * STEPS)]


def test_cosine_is_torch_s_own() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6 * STEPS)
    for rate in rates():
        assert rate == pytest.approx(reference.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        reference.step()


def test_warm_up_rises_linearly_to_the_full_rate_and_then_the_cosine_starts() -> None:
    found = rates(warmup_epochs=2)
    assert found[:20] == pytest.approx([0.2 * (t + 1) / 20 for t in range(20)])
    assert found[20] == pytest.approx(0.2)
    assert found[40] == pytest.approx(0.1)  # half way through the 40 steps after the warm-up
    assert found[59] == pytest.approx(0.2 * (1 + math.cos(math.pi * 39 / 40)) / 2)


def test_step_drops_by_its_factor_every_step_epochs() -> None:
    found = rates(schedule="step", step_epochs=2, step_factor=0.5)
    assert found == pytest.approx([0.2] * 20 + [0.1] * 20 + [0.05] * 20)


def test_warm_up_does_not_delay_the_drops_of_step() -> None:
    found = rates(schedule="step", step_epochs=2, step_factor=0.5, warmup_epochs=1)
    assert found[4] == pytest.approx(0.1)
    assert found[10:20] == pytest.approx([0.2] * 10)
    assert found[20] == pytest.approx(0.1)


def test_constant_stays() -> None:
    assert rates(schedule="constant") == [0.2] * 60
    assert rates(schedule="constant", warmup_epochs=1)[9:] == [0.2] * 51


@pytest.mark.parametrize("warmup", [0, 3])
def test_onecycle_rises_to_its_peak_and_falls_below_its_start(warmup: int) -> None:
    found = rates(schedule="onecycle", warmup_epochs=warmup)  # it has its own warm-up
    peak = 18
    assert found[0] == pytest.approx(0.2 / 25)
    assert found[peak] == pytest.approx(max(found)) == pytest.approx(0.2)
    assert found[peak // 2] == pytest.approx(0.2 * (1 + 1 / 25) / 2)
    assert found[-1] == pytest.approx(0.2 / 25 * 1e-4)
    assert all(a < b for a, b in pairwise(found[: peak + 1]))
    assert all(a > b for a, b in pairwise(found[peak:]))


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "step", "constant"])
def test_a_training_of_one_step_moves(schedule: str) -> None:
    rate = make_schedule(train(schedule=schedule, epochs=1), 1)(0)
    assert 0 < rate <= 0.2


def test_a_warm_up_as_long_as_the_training_is_refused() -> None:
    with pytest.raises(TrainError, match="warmup_epochs: 6 must be smaller"):
        make_schedule(train(warmup_epochs=6), STEPS)


def test_warm_up_by_steps_is_that_of_as_many_steps_in_epochs() -> None:
    assert rates(warmup_steps=20) == rates(warmup_epochs=2)
    found = rates(warmup_steps=7, schedule="constant")
    assert found[:7] == pytest.approx([0.2 * (t + 1) / 7 for t in range(7)])
    assert set(found[7:]) == {0.2}
    with pytest.raises(TrainError, match=r"train.warmup_steps: 60 .* the 60 steps"):
        rates(warmup_steps=60)


def test_a_balanced_epoch_has_each_class_and_image_of_it_as_often() -> None:
    classes = np.repeat([3, 0, 7], [900, 90, 10])
    np.random.default_rng(0).shuffle(classes)
    draws = torch.Generator().manual_seed(1)
    order = torch.cat([epoch_order(1000, draws, classes) for _ in range(30)])
    _, drawn = np.unique(classes[order], return_counts=True)
    # A class's share is binomial: 10,000 of 30,000, with a deviation of 82.
    assert np.abs(drawn - 10_000).max() < 5 * 82
    times = torch.bincount(order, minlength=1000)[classes == 7]
    assert 1000 - 5 * 32 < int(times.min()) <= int(times.max()) < 1000 + 5 * 32
    again = epoch_order(1000, torch.Generator().manual_seed(1), classes)
    assert torch.equal(order[:1000], again)


def test_an_epoch_without_a_sampler_has_each_image_once() -> None:
    order = epoch_order(50, torch.Generator().manual_seed(0))
    assert torch.equal(order.sort().values, torch.arange(50))


def test_only_tensors_of_two_and_more_dimensions_decay() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    network.gate = nn.Parameter(torch.zeros(()))
    network[3].bias.requires_grad_(False)
    decayed, free = parameter_groups(network, 0.01)
    assert decayed["weight_decay"] == 0.01
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3, 3, 3), (2, 4)]
    assert free["weight_decay"] == 0
    assert sum(p.numel() for p in free["params"]) == 1 + 4 + 4 + 4


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_all_parameters_decay_where_asked(name: str) -> None:
    network = nn.BatchNorm1d(3)
    given = {"optimizer": name, "lr": 0.1, "momentum": 0.0, "weight_decay": 0.5}
    for decay, expected in (("all", 0.95), (None, 1.0)):
        nn.init.ones_(network.weight)
        optimizer = make_optimizer(network, train(**given, decay=decay))
        network.weight.grad = torch.zeros(3)
        optimizer.step()
        assert network.weight.tolist() == pytest.approx([expected] * 3)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_step_is_that_of_torch_s_plain_implementation(name: str) -> None:
    torch.manual_seed(0)
    start = torch.randn(5, 3)
    gradient = torch.randn(5, 3)
    network = nn.Linear(3, 5, bias=False)
    with torch.no_grad():
        network.weight.copy_(start)
    ours = make_optimizer(network, train(optimizer=name, lr=0.1, weight_decay=0.1))
    reference = nn.Parameter(start.clone())
    plain = (
        torch.optim.SGD([reference], 0.1, 0.9, nesterov=True, weight_decay=0.1, foreach=False)
        if name == "sgd"
        else torch.optim.AdamW([reference], 0.1, weight_decay=0.1, foreach=False)
    )
    for step in range(4):
        network.weight.grad = gradient * (step + 1)
        reference.grad = gradient * (step + 1)
        ours.step()
        plain.step()
    torch.testing.assert_close(network.weight, reference, rtol=1e-6, atol=1e-6)


def test_nesterov_without_momentum_is_plain_gradient_descent() -> None:
    network = nn.Linear(2, 1, bias=False)
    start = network.weight.detach().clone()
    optimizer = make_optimizer(network, train(momentum=0.0, weight_decay=0.0))
    network.weight.grad = torch.ones(1, 2)
    optimizer.step()
    torch.testing.assert_close(network.weight.detach(), start - 0.2)


@pytest.mark.parametrize("steps", [1, 4, 28])
def test_short_epochs_leave_little_of_older_statistics(steps: int) -> None:
    layer = nn.BatchNorm1d(1)
    network = nn.Sequential(nn.Sequential(layer))
    quicken_statistics(network, steps)
    for _ in range(steps):  # one epoch of zeros after a history of mean 1
        layer.running_mean = (
            torch.ones(1) if layer.num_batches_tracked == 0 else layer.running_mean
        )
        network(torch.tensor([[-1.0], [1.0]]))
    assert float(layer.running_mean) == pytest.approx(0.05, rel=1e-4)


def test_long_epochs_and_quicker_layers_keep_their_statistics() -> None:
    network = nn.Sequential(
        nn.BatchNorm2d(1), nn.BatchNorm2d(1, momentum=0.9), nn.BatchNorm2d(1, momentum=None)
    )
    quicken_statistics(network, 29)
    assert [layer.momentum for layer in network] == [0.1, 0.9, None]
    quicken_statistics(network, 4)
    assert network[0].momentum > 0.5
    assert [layer.momentum for layer in network[1:]] == [0.9, None]


def test_of_patches_the_statistics_are_not_those_of_the_last_one() -> None:
    folding = Folding(16)
    layer = PatchBatchNorm(1, folding)
    quicken_statistics(layer, 2)
    patches = torch.arange(16.0).view(16, 1, 1, 1).expand(16, 1, 4, 4)
    for _ in range(2):
        folding.start()
        layer(patches.repeat(3, 1, 1, 1))
        folding.finish()
    assert 7.5 <= float(layer.running_mean) < 11  # their mean is 7.5, the last is 15


def test_the_rate_is_set_in_every_group() -> None:
    network = nn.Linear(2, 1)
    optimizer = make_optimizer(network, train(momentum=0.0, weight_decay=0.0))
    before = [p.detach().clone() for p in network.parameters()]
    set_learning_rate(optimizer, 0.5)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for old, new in zip(before, network.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old - 0.5)
