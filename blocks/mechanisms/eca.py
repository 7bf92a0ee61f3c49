"""Efficient channel attention.

Wang et al.: ECA-Net, CVPR 2020, https://arxiv.org/abs/1910.03151
(names as in https://github.com/BangguWu/ECANet)

    s = mean of x over H and W                       (B, C)
    y = x * sigmoid(conv1d_k(s))                     along the channels, zero padded, no bias
    k = the odd number at or above int((log2 C + 1) / 2)

The paper's formula sets k where the authors' code leaves it to the caller.
"""

import math

import torch
from torch import Tensor, nn

from attnsearch.blocks import checks


class ECA(nn.Module):
    """Scales every channel by a gate computed from the means of its neighbours in order.

    Args:
        channels: Channels of the input.
        kernel: Odd number k of neighbouring channels; `None` takes the paper's formula.
    """

    def __init__(self, channels: int, kernel: int | None = None) -> None:
        super().__init__()
        checks.integer("eca", "channels", channels)
        if kernel is None:
            half = int((math.log2(channels) + 1) / 2)
            kernel = half if half % 2 else half + 1
        checks.odd("eca", "kernel", kernel)
        self.conv = nn.Conv1d(1, 1, kernel_size=kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map (B, C, H, W)."""
        B, C, _, _ = x.shape
        squeezed = x.mean((2, 3)).unsqueeze(1)  # (B, 1, C)
        return x * torch.sigmoid(self.conv(squeezed)).view(B, C, 1, 1)
