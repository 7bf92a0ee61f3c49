"""A residual bottleneck of two pointwise convolutions, a control of added capacity.

    y = x + W2 relu(W1 x) at every position,   W1: r x C,  W2: C x r

The shape of the transform of a global context block (Cao et al. 2019,
https://arxiv.org/abs/1904.11492) without its context: no position sees another. Its 2 C r
parameters can be chosen in steps of 2 C, which makes a host as large as one with some other block.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks import checks


class Bottleneck1x1(nn.Module):
    """Adds what two 1x1 convolutions with a ReLU between make of each position.

    The first one starts as a residual network's convolutions do (He et al. 2015,
    https://arxiv.org/abs/1502.01852), the second one at zero: at first the block is the identity.

    Args:
        channels: Channels of the input and the output.
        hidden: Channels between the two convolutions.
    """

    def __init__(self, channels: int, hidden: int = 16) -> None:
        super().__init__()
        checks.counts("bottleneck1x1", channels=channels, hidden=hidden)
        self.reduce = nn.Conv2d(channels, hidden, kernel_size=1, bias=False)
        self.expand = nn.Conv2d(hidden, channels, kernel_size=1, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        nn.init.kaiming_normal_(self.reduce.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.expand.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with the bottleneck's output added, (B, C, H, W)."""
        y: Tensor = x + self.expand(F.relu(self.reduce(x)))
        return y
