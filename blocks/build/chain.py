"""The blocks that are added at one site, and how they can start as the identity.

    y = x + gate * (block(x) - x),   gate: one number a channel, 0 at first

With `pretrained_safe` a block is mixed in by such a gate, so that a pretrained host gives its own
outputs at step 0, in training as in evaluation, whatever normalisation or dropout the block holds.
The gate is a LayerScale (Touvron et al. 2021, https://arxiv.org/abs/2103.17239) that starts at 0,
as ReZero's does (Bachlechner et al. 2020, https://arxiv.org/abs/2003.04887): at step 0 it alone
gets a gradient, and the block from step 1 on. A block that starts as the identity by itself, such
as GC with its last convolution at 0, gets no gate: with two factors of 0 in a product neither
would ever get a gradient.

The gate stands beside the block and not around it, so the block's state-dict names stay.
"""

import torch
from torch import Tensor, nn

from attnsearch.blocks.build.initialise import isolated_rng

IDENTITY = 1e-6
"""Largest difference to the input, relative to its largest value, of what counts as identity."""


class Chain(nn.Sequential):
    """Blocks run in order, each possibly behind a gate.

    Attributes:
        gate_<index>: Gate (C,) of the block at this index, where it has one.
    """

    def add(self, block: nn.Module, gated: int | None = None) -> None:
        """Append a block.

        Args:
            block: The block.
            gated: Channels of its map, to put it behind a gate; None for no gate.
        """
        index = len(self)
        self.add_module(str(index), block)
        if gated is not None:
            self.register_parameter(f"gate_{index}", nn.Parameter(torch.zeros(gated)))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) to (B, C, H, W)."""
        for index, block in enumerate(self):
            y = block(x)
            gate = self._parameters.get(f"gate_{index}")
            x = y if gate is None else x + gate.to(y.dtype).view(-1, 1, 1) * (y - x)
        return x


def starts_as_identity(block: nn.Module, channels: int, size: tuple[int, int]) -> bool:
    """Return whether a new block gives its input back, in training and in evaluation mode.

    Args:
        block: On the CPU; its buffers may change.
        channels: Channels C of its map.
        size: (H, W) of its map.
    """
    with isolated_rng(), torch.no_grad():
        x = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))
        largest = IDENTITY * float(x.abs().max())
        for training in (True, False):
            y = block.train(training)(x.clone())
            if not float((y - x).abs().max()) <= largest:
                return False
    return True
