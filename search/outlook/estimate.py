"""How long a study may take: a few measured training steps, multiplied out. Records nothing."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.blocks import build_network
from attnsearch.blocks.build import Images
from attnsearch.blocks.lean_torch import torch_threads
from attnsearch.runs.data import DataSet
from attnsearch.runs.ledger import inputs
from attnsearch.runs.training import AUTOCAST, Kept, auxiliary_loss
from attnsearch.spaces import Space
from attnsearch.spaces.keys import default_grace

_FRESH_SECONDS = 3600.0
_KNOWN_SECONDS = 86400.0
_PROBE_SECONDS = 1.0  # the longest batch that is timed
REPLAYED = {"median": 0.66, "patient": 0.83}
"""Shares of the epochs that were spent on the tables of docs/benchmarks.md, random and TPE.

The means of eight replays each; they went from 0.55 to 0.79, and from 0.71 to 0.94.
"""

# In the first step memory is laid out and kernels are chosen, so that there are two at least; more
# where they are short, since short ones vary most.
_LEAST, _ENOUGH_SECONDS = 2, 0.5


@dataclass(frozen=True)
class _Steps:
    """What steps took, an image; and when that was measured, in seconds since 1970."""

    train_s: float
    forward_s: float
    measured: float


def seconds_per_epoch(
    config: Mapping[str, Any], images: Images, training: int, validation: int
) -> float:
    """Estimate one epoch of training and validation on this machine, from a few steps.

    Random images stand for the real ones; augmentation is left out. What was measured stands for
    an hour, so that `init`, `check` and `run` say the same.

    Args:
        config: A resolved config.
        images: What its network is built for.
        training: Number of training images.
        validation: Number of validation images.

    Raises:
        AttnsearchError: The network cannot be built.
    """
    wants_gpu = config["resources"]["gpus"] > 0 and torch.cuda.is_available()
    device = torch.device("cuda" if wants_gpu else "cpu")
    threads = config["resources"]["cpus"]
    kept = _kept(config, images)
    known = kept.read(_Steps)
    if known is not None and time.time() - known.measured < _FRESH_SECONDS:
        return known.train_s * training + known.forward_s * validation
    with torch_threads(threads):
        network = build_network(config, images.channels, images.classes, images.size).to(device)
        whole = max(2, min(config["train"]["batch_size"], training))
        # A small batch first: a whole one of a large network could take minutes.
        first = min(whole, 4)
        inputs = torch.rand(first, images.channels, *images.size, device=device)
        step = _step_seconds(network, config, images.classes, inputs, most=2)
        batch = min(whole, max(first, int(first * _PROBE_SECONDS / max(step, 1e-6))))
        inputs = torch.rand(batch, images.channels, *images.size, device=device)
        step = _step_seconds(network, config, images.classes, inputs, most=4)
        network.eval()
        with torch.inference_mode():
            forward = _fastest(lambda: network(inputs), device, most=2)
    kept.write(_Steps(step / batch, forward / batch, time.time()))
    seconds: float = (step * training + forward * validation) / batch
    return seconds


def known_epoch(space: Space, data: DataSet) -> float | None:
    """Return the seconds of an epoch of a space's default network, as they were measured lately.

    Nothing is measured: a network that trains could harm the study's own process.

    Returns:
        None where neither `init` nor `check` measured it within a day.
    """
    config = space.resolve(space.defaults())
    images = Images(data.channels, data.image_size, data.classes)
    known = _kept(config, images).read(_Steps)
    if known is None or time.time() - known.measured > _KNOWN_SECONDS:
        return None
    return known.train_s * len(data.train) + known.forward_s * len(data.val)


def _kept(config: Mapping[str, Any], images: Images) -> Kept:
    device = "cuda" if config["resources"]["gpus"] else "cpu"
    shape = images.channels, images.size, images.classes
    threads, own = config["resources"]["cpus"], sorted(inputs(config).items())
    return Kept("steps", [config], [], shape, device, threads, own)


def budget_share(scheduler: str | Mapping[str, Any], epochs: int) -> float:
    """Return the share of all epochs that a scheduler spends, if it stops what it can.

    Args:
        scheduler: As in a resolved config.
        epochs: Of the full schedule.

    Returns:
        For rules by the scores of others what they spent in replays of recorded studies, and 1.0
        where nothing is known.
    """
    settings = scheduler if isinstance(scheduler, Mapping) else {scheduler: {}}
    for name, share in REPLAYED.items():
        if name in settings:
            return share
    if "asha" not in settings:
        return 1.0
    options = settings["asha"] or {}
    reached = options.get("grace") or default_grace(epochs)
    reduction = options.get("reduction") or 3
    spent, share = float(min(reached, epochs)), 1.0
    while reached < epochs:
        share /= reduction
        spent += share * (min(reached * reduction, epochs) - reached)
        reached *= reduction
    return spent / epochs


def _step_seconds(
    network: nn.Module, config: Mapping[str, Any], classes: int, inputs: Tensor, most: int
) -> float:
    """Return the fastest of a few training steps on a batch."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9)
    targets = torch.arange(len(inputs), device=inputs.device) % classes
    weights = config["train"].get("aux_weight") or {}
    if config["task"] == "segmentation":
        targets = targets[:, None, None].expand(-1, *inputs.shape[2:])
    precision = AUTOCAST[config["train"]["precision"]]
    network.train()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(inputs.device.type, precision, enabled=precision is not None):
            loss = F.cross_entropy(network(inputs), targets)
            # Of masks the side losses cost next to nothing.
            extra = (
                auxiliary_loss(network, targets, F.cross_entropy, weights)
                if targets.dim() == 1
                else None
            )
            total = loss if extra is None else loss + extra
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return _fastest(step, inputs.device, most)


def _fastest(call: Any, device: torch.device, most: int) -> float:
    times: list[float] = []
    while len(times) < _LEAST or (len(times) < most and sum(times) < _ENOUGH_SECONDS):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)
