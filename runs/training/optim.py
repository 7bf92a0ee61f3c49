"""Optimizers, schedules per step, batches, precision, and the pace of batch statistics."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.blocks.hosts import PatchBatchNorm

# Smith and Topin, "Super-Convergence" (arXiv:1708.07120): the rate starts at a 25th of its peak,
# peaks after 30% of the steps, and ends far below the start.
ONECYCLE_START = 1 / 25
ONECYCLE_RISE = 0.3
ONECYCLE_END = ONECYCLE_START * 1e-4

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
OLDER_THAN_AN_EPOCH = 0.05  # largest share of running statistics


class Diverged(AttnsearchError):
    """The loss is no longer a finite number."""


class TrainError(AttnsearchError, ValueError):
    """A training cannot be set up as its config asks."""


def parameter_groups(
    network: nn.Module, weight_decay: float, *, every: bool = False
) -> list[dict[str, Any]]:
    """Return two groups: decayed, and not decayed.

    Unless `every` parameter is to decay, only tensors of two or more dimensions do. Biases, scales
    and shifts of normalisations, and scalar gates do not: decaying a scale that a normalisation
    follows changes nothing but the effective learning rate, and decaying a gate towards 0 would
    remove the very block that is under test. Goyal et al., arXiv:1706.02677, section 5.1; He et
    al., arXiv:1812.01187, section 3.1.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    least = 0 if every else 2
    return [
        {"params": [p for p in parameters if p.ndim >= least], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < least], "weight_decay": 0.0},
    ]


def make_optimizer(
    network: nn.Module, train: Mapping[str, Any], *, on_device: bool = False
) -> torch.optim.Optimizer:
    """Return the optimizer that `train` asks for, over the network's parameter groups.

    Args:
        network: Its trainable parameters are optimized.
        train: The config's `train` section: `optimizer` ("sgd" or "adamw"), `lr`,
            `weight_decay`, and for SGD `momentum` and `nesterov`.
        on_device: Keep the learning rate on the parameters' device, as a CUDA graph must find it.
    """
    every = train.get("decay") == "all"
    groups = parameter_groups(network, train["weight_decay"], every=every)
    optimizer: torch.optim.Optimizer
    if train["optimizer"] == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=train["lr"], fused=True, capturable=on_device)
    else:
        optimizer = torch.optim.SGD(
            groups,
            lr=train["lr"],
            momentum=train["momentum"],
            # Nesterov's step looks ahead along the momentum; without momentum it is plain SGD.
            nesterov=train["nesterov"] and train["momentum"] > 0,
            fused=True,
        )
    if on_device:
        # Not before: an optimizer reads the rate that it is made with.
        rate = torch.tensor(train["lr"], device=next(network.parameters()).device)
        for group in optimizer.param_groups:
            group["lr"] = rate
    return optimizer


def make_schedule(train: Mapping[str, Any], steps_per_epoch: int) -> Callable[[int], float]:
    """Return the learning rate as a function of the step, counted from 0 over the whole training.

    With T steps in all and W of warm-up, the factor on `train.lr` is, at step t:

    * warm-up, t < W: (t + 1) / W, then with u = (t - W) / (T - W):
    * `cosine`: (1 + cos(pi u)) / 2 (Loshchilov and Hutter, arXiv:1608.03983, without restarts)
    * `step`: `step_factor` to the power of the number of `step_epochs` passed since the start
    * `constant`: 1
    * `onecycle`: from 1/25 up to 1 over 30% of the steps, then down to 1/250000, both along a
      cosine. It has no other warm-up, and momentum stays as it is.

    Args:
        train: The config's `train` section.
        steps_per_epoch: Optimizer steps in one epoch.

    Raises:
        TrainError: For a warm-up as long as the training.
    """
    epochs, warmup_epochs, schedule = train["epochs"], train["warmup_epochs"], train["schedule"]
    if schedule != "onecycle" and warmup_epochs > 0 and warmup_epochs >= epochs:
        raise TrainError(
            f"train.warmup_epochs: {warmup_epochs} must be smaller than train.epochs: {epochs}"
        )
    total = epochs * steps_per_epoch
    warmup: int = train.get("warmup_steps") or round(warmup_epochs * steps_per_epoch)
    if schedule != "onecycle" and warmup >= total:
        raise TrainError(
            f"train.warmup_steps: {warmup} must be smaller than the {total} steps of all "
            f"{epochs} epochs (train.epochs); lower it, or train longer"
        )

    def factor(t: int) -> float:
        if schedule == "onecycle":
            return _onecycle(t, total)
        if t < warmup:
            return (t + 1) / warmup
        if schedule == "cosine":
            return _cosine(1, 0, (t - warmup) / (total - warmup))
        if schedule == "step":
            factor: float = train["step_factor"] ** (t // (train["step_epochs"] * steps_per_epoch))
            return factor
        return 1.0

    return lambda step: train["lr"] * factor(step)


def batch_sizes(images: int, batch_size: int) -> list[int]:
    """Return sizes of an epoch's batches: full ones, then the remainder.

    A remainder of one image joins the batch before it: batch normalisation has no variance for a
    single value per channel, and a step on one image would be as large as one on a whole batch.

    >>> batch_sizes(10, 4), batch_sizes(9, 4), batch_sizes(1, 4)
    ([4, 4, 2], [4, 5], [1])
    """
    full, rest = divmod(images, batch_size)
    sizes = [batch_size] * full
    if rest == 1 and full:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes


def epoch_order(
    count: int, draws: torch.Generator, classes: NDArray[np.integer[Any]] | None = None
) -> torch.Tensor:
    """Return which examples an epoch sees, in order, as indices (N,).

    Args:
        count: Of the examples, N.
        draws: For the order.
        classes: The class of each example, to draw with replacement so that each class that is
            there comes equally often, and within it each example; None for each example once.
    """
    if classes is None:
        return torch.randperm(count, generator=draws)
    _, sizes = np.unique(classes, return_counts=True)
    by_class = torch.from_numpy(np.argsort(classes, kind="stable"))
    size = torch.from_numpy(sizes)
    which = torch.randint(len(sizes), (count,), generator=draws)
    # Doubles, so that even the last of millions is drawn.
    within = torch.rand(count, generator=draws, dtype=torch.float64) * size[which]
    return by_class[(size.cumsum(0) - size)[which] + within.long()]


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the type that the forward pass computes in, None for fp32.

    Raises:
        TrainError: The device has no such arithmetic.
    """
    if precision == "fp16" and device.type != "cuda":
        raise TrainError(
            f"train.precision: fp16 needs CUDA, and this training is on {device.type}; use bf16, "
            f"or give trials a GPU (resources.gpus)"
        )
    return AUTOCAST[precision]


def diverged(what: str, optimizer: torch.optim.Optimizer) -> Diverged:
    """Return the error that says what is not finite, and what may keep it so."""
    return Diverged(
        f"{what}, at learning rate {optimizer.param_groups[0]['lr']:.3g}; a smaller train.lr, "
        f"a warm-up (train.warmup_epochs) or train.grad_clip may keep it finite"
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def quicken_statistics(network: nn.Module, steps_per_epoch: int) -> None:
    """Let the running statistics of batch normalisation keep up where epochs are short.

    With momentum m they forget all but (1 - m) of themselves in each step. At torch's m = 0.1 and
    4 steps an epoch, 66% of them are older than the last epoch, and evaluation would judge a
    network by statistics of weights long gone: a ResNet-18 on 240 digits that scores 0.89 with
    the statistics of its batches scores 0.10, as chance, with these. So m is raised until no more
    than 5% is older than an epoch. From 29 steps an epoch on, every layer keeps its own.

    Of patches that are normalised one after another each moves the statistics by itself, and a
    larger m would leave only those of the last ones, a corner of the image.

    Args:
        network: Its batch normalisations are changed in place.
        steps_per_epoch: Optimizer steps in one epoch.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
            patches = module.folding.patches if isinstance(module, PatchBatchNorm) else 1
            least = 1 - OLDER_THAN_AN_EPOCH ** (1 / (patches * steps_per_epoch))
            module.momentum = max(module.momentum, least)


def _cosine(start: float, end: float, share: float) -> float:
    """Return from `start` to `end` along half a cosine, `share` of the way."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _onecycle(t: int, total: int) -> float:
    peak = ONECYCLE_RISE * total
    if t < peak:
        return _cosine(ONECYCLE_START, 1, t / peak)
    return _cosine(1, ONECYCLE_END, (t - peak) / max(total - 1 - peak, 1))
