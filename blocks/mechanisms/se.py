"""Squeeze-and-excitation.

Hu, Shen, Sun: Squeeze-and-Excitation Networks, CVPR 2018, https://arxiv.org/abs/1709.01507

    s = mean of x over H and W                  (B, C)
    y = x * sigmoid(W2 relu(W1 s + b1) + b2)    W1: C/r x C, W2: C x C/r

Both layers have biases, as in the authors' published networks. Names as in torchvision.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.blocks import checks


class SqueezeGate(nn.Module):
    """One gate for each channel, computed from the means of all channels.

    Args:
        channels: Channels C.
        hidden: Width of the hidden layer.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, kernel_size=1)
        self.fc2 = nn.Conv2d(hidden, channels, kernel_size=1)

    def forward(self, means: Tensor) -> Tensor:
        """Return the gates in (0, 1) of the means (B, C, 1, 1)."""
        return torch.sigmoid(self.fc2(F.relu(self.fc1(means))))


class SE(SqueezeGate):
    """Scales every channel by a gate computed from the means of all channels.

    Args:
        channels: Channels of the input.
        reduction: Divisor r of the hidden width; `channels // reduction` must not be 0.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        checks.integer("se", "channels", channels)
        super().__init__(channels, checks.reduced("se", channels, reduction))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map (B, C, H, W)."""
        return x * super().forward(x.mean((2, 3), keepdim=True))
