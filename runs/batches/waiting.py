"""How to move values between host and device without waiting for the device."""

import torch
from torch import Tensor

LOOK_EVERY = 50  # steps between copies of the loss to the host


def uploaded(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host on a device, without waiting for what runs there."""
    if device.type == "cuda":
        values = values.pin_memory()  # from pageable memory the copy would wait
    return values.to(device, non_blocking=True)


class LossWatch:
    """Tells the host the loss: of each step on the CPU, now and then, and later, from a card.

    Args:
        device: Where losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self._waits = device.type == "cuda"
        self._steps = 0
        self._known = 0.0

    def __call__(self, loss: Tensor) -> float:
        """Take in the loss of a step and return the latest that is known; 0 before the first."""
        if not self._waits:
            return float(loss)
        if self._steps == 0:
            self._copy = torch.zeros((), pin_memory=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        elif self._copied.query():  # type: ignore[no-untyped-call]
            self._known = float(self._copy)
        if self._steps % LOOK_EVERY == 0:
            self._copy.copy_(loss, non_blocking=True)
            self._copied.record()
        self._steps += 1
        return self._known
