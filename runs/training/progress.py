"""How far a training has come within an epoch: all that its next step depends on."""

import random
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn


class Pass:
    """A pass over the training part, as far as it has come.

    Args:
        draws: Of the augmentations, at the start of the pass.
        device: Where it trains.
        state: From `state()` of a pass of the same epoch, to go on from there.

    Attributes:
        draws: The same, as far as they have been drawn.
        batches: How many are done.
        loss_sum: Of the examples so far.
        aux_sum: Of the auxiliary term; None where there is none.
        counts: Of the task, over the batches so far.
        started: By `time.perf_counter`, less what earlier processes spent on it.
    """

    def __init__(
        self, draws: Generator, device: torch.device, state: Mapping[str, Any] | None = None
    ) -> None:
        self.draws = draws
        self.batches = 0
        self.loss_sum = torch.zeros((), device=device, dtype=torch.float64)
        self.aux_sum: Tensor | None = None
        self.counts = torch.zeros((), device=device, dtype=torch.int64)
        self.started = time.perf_counter()
        self._device = device
        self._streams: Mapping[str, Any] = {}
        if state is not None:
            self.draws.set_state(state["draws"])
            self.batches = state["batches"]
            self.loss_sum = state["loss_sum"].to(device)
            self.aux_sum = None if state["aux_sum"] is None else state["aux_sum"].to(device)
            self.counts = state["counts"].to(device)
            self.started -= state["seconds"]
            self._streams = state["streams"]

    def add(self, examples: int, loss: Tensor, auxiliary: Tensor | None, counts: Tensor) -> None:
        """Take in a batch; nothing waits for the device."""
        self.batches += 1
        self.loss_sum += loss.detach() * examples
        self.counts = self.counts + counts
        if auxiliary is not None:
            before = torch.zeros_like(self.loss_sum) if self.aux_sum is None else self.aux_sum
            self.aux_sum = before + auxiliary.detach() * examples

    def state(self) -> dict[str, Any]:
        """Return it as plain containers, with the global random streams as they stand."""
        return {
            "draws": self.draws.get_state(),
            "batches": self.batches,
            "loss_sum": copied(self.loss_sum),
            "aux_sum": copied(self.aux_sum),
            "counts": copied(self.counts),
            "seconds": time.perf_counter() - self.started,
            "streams": streams(self._device),
        }

    def restore_streams(self) -> None:
        """Set the global random streams to where they stood; where they are keyed already."""
        if self._streams:
            set_streams(self._streams, self._device)


def streams(device: torch.device) -> dict[str, Any]:
    """Return the global random streams as they stand, as plain containers."""
    _, keys, position, has_gauss, gauss = np.random.get_state()
    found = {
        "torch": torch.get_rng_state(),
        "numpy": [torch.from_numpy(np.array(keys)), position, has_gauss, gauss],
        "python": random.getstate(),
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def set_streams(streams: Mapping[str, Any], device: torch.device) -> None:
    """Set the global random streams to what `streams` returned."""
    keys, *rest = streams["numpy"]
    torch.set_rng_state(streams["torch"])
    np.random.set_state(("MT19937", keys.numpy(), *rest))
    version, state, gauss = streams["python"]
    random.setstate((version, tuple(state), gauss))
    if device.type == "cuda":
        torch.cuda.set_rng_state(streams["cuda"], device)


def unsaved_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that a network's state dict leaves out."""
    kept = network.state_dict().keys()
    return {name: buffer for name, buffer in network.named_buffers() if name not in kept}


def copied(state: Any) -> Any:
    """Return a state dict's own copy on the CPU, whatever it nests."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(copied(value) for value in state)
    return state
