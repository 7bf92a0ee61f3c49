"""A moving average of a network's weights, which is evaluated and exported in their place.

With decay d, step t = 1, 2, ... moves the average of every parameter, and of the running
statistics of batch normalisation, to m + (1 - d_t) (w - m), with d_t = min(d, (1 + t) / (10 + t)),
so that short trainings, too, forget what they began with. Other buffers, such as banks of
prototypes, are those of the network as it stands. Polyak and Juditsky 1992
(https://doi.org/10.1137/0330046); the warm-up of the decay is that of TensorFlow's
ExponentialMovingAverage.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attnsearch.runs.training.progress import copied


class Averages:
    """The average of a network's weights over its steps.

    Args:
        network: On its device.
        decay: `train.ema`.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay, self._steps = network, decay, 0
        # Under all its names: loading a state sets what is shared once for each of them.
        self._weights = dict(network.named_parameters(remove_duplicate=False)) | {
            f"{name}.{kind}".lstrip("."): getattr(module, kind)
            for name, module in network.named_modules(remove_duplicate=False)
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
            for kind in ("running_mean", "running_var")
        }
        self._means = {name: weight.detach().clone() for name, weight in self._weights.items()}

    def update(self) -> None:
        """Take in the weights after a step; nothing waits for the device."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self._means.values()), list(self._weights.values()), 1 - decay
            )

    def network_state(self) -> dict[str, Any]:
        """Return the network's state dict with the averages in it; its own before any step."""
        return self._network.state_dict() | (self._means if self._steps else {})

    def state(self) -> dict[str, Any]:
        """Return what `load` takes, as plain containers."""
        return {"steps": self._steps, "means": copied(self._means)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of another training's averages."""
        self._steps = state["steps"]
        for name, mean in self._means.items():
            mean.copy_(state["means"][name])


@contextmanager
def lent(network: nn.Module, state: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Give a network other weights, and its own back afterwards; None leaves it as it is."""
    if state is None:
        yield
        return
    current = copied(network.state_dict())
    network.load_state_dict(state)
    try:
        yield
    finally:
        network.load_state_dict(current)
