"""Coordinate attention.

Hou, Zhou, Feng: Coordinate Attention for Efficient Mobile Network Design, CVPR 2021,
https://arxiv.org/abs/2103.02907 (names as in https://github.com/houqb/CoordAttention)

    p = [mean of x over W; mean of x over H]               (B, C, H + W)
    q = hardswish(BN(conv1 p)),  conv1: C -> m = max(8, C // r)
    y = x * sigmoid(conv_h q_H) * sigmoid(conv_w q_W)      one gate per row, one per column
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.blocks import checks


class CoordinateAttention(nn.Module):
    """Scales every value by a gate of its row and one of its column.

    Args:
        channels: Channels of the input.
        reduction: Divisor of the hidden width, which is never below 8.
    """

    dead_parameters: ClassVar[Mapping[str, str]] = {
        "conv1.bias": "the batch normalisation after it subtracts it; kept for published names",
    }

    def __init__(self, channels: int, reduction: int = 32) -> None:
        super().__init__()
        checks.integer("coordinate", "channels", channels)
        hidden = max(8, channels // checks.integer("coordinate", "reduction", reduction))
        self.conv1 = nn.Conv2d(channels, hidden, kernel_size=1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv_h = nn.Conv2d(hidden, channels, kernel_size=1)
        self.conv_w = nn.Conv2d(hidden, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map (B, C, H, W)."""
        H, W = x.shape[2:]
        rows = x.mean(3, keepdim=True)  # (B, C, H, 1)
        columns = x.mean(2, keepdim=True).transpose(2, 3)  # (B, C, W, 1)
        shared = F.hardswish(self.bn1(self.conv1(torch.cat([rows, columns], dim=2))))
        rows, columns = torch.split(shared, [H, W], dim=2)
        row_gate = torch.sigmoid(self.conv_h(rows))
        column_gate = torch.sigmoid(self.conv_w(columns.transpose(2, 3)))
        return x * column_gate * row_gate
