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


class SE(nn.Module):
    """Scales every channel by a gate computed from the means of all channels.

    Args:
        channels: Channels of the input.
        reduction: Divisor r of the hidden width; `channels // reduction` must not be 0.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        checks.integer("se", "channels", channels)
        hidden = checks.reduced("se", channels, reduction)
        self.fc1 = nn.Conv2d(channels, hidden, kernel_size=1)
        self.fc2 = nn.Conv2d(hidden, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map (B, C, H, W)."""
        squeezed = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(squeezed))))
