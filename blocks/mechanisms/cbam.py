"""Convolutional block attention module.

Woo et al.: CBAM, ECCV 2018, https://arxiv.org/abs/1807.06521
(names as in https://github.com/Jongchan/attention-module)

    z = x * sigmoid(mlp(mean over H, W) + mlp(max over H, W))           channel gate
    y = z * sigmoid(BN(conv_k([max over C; mean over C])))              spatial gate

The convolution has no bias; its normalisation has momentum 0.01. Both are the authors' choices.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from attnsearch.blocks import checks


class ChannelGate(nn.Module):
    """Scales every channel by a gate computed from all channels' means and maxima.

    Args:
        channels: Channels C of the input.
        hidden: Width of the hidden layer.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels, hidden),
            nn.ReLU(),
            nn.Linear(hidden, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map (B, C, H, W)."""
        # Not amax, whose gradient is shared by equal maxima; the published pooling takes one.
        pooled = torch.cat([x.mean((2, 3)), x.flatten(2).max(2).values])  # (2B, C)
        mean, peak = self.mlp(pooled).chunk(2)
        return x * torch.sigmoid(mean + peak)[:, :, None, None]


class SpatialGate(nn.Module):
    """Scales every position by a gate computed from the channels' maxima and means around it.

    Args:
        kernel: Odd side length of the convolution.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        bn = nn.BatchNorm2d(1, momentum=0.01)
        self.spatial = nn.Sequential(OrderedDict(conv=conv, bn=bn))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map (B, C, H, W)."""
        peak = x.max(1, keepdim=True).values
        pooled = torch.cat([peak, x.mean(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.spatial(pooled))


class CBAM(nn.Module):
    """Scales first the channels, then the positions of a map.

    Args:
        channels: Channels of the input.
        reduction: Divisor of the channel gate's hidden width; `channels // reduction` must not
            be 0.
        kernel: Odd side length of the spatial gate's convolution.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel: int = 7) -> None:
        super().__init__()
        checks.integer("cbam", "channels", channels)
        hidden = checks.reduced("cbam", channels, reduction)
        self.ChannelGate = ChannelGate(channels, hidden)
        self.SpatialGate = SpatialGate(checks.odd("cbam", "kernel", kernel))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map (B, C, H, W).

        Raises:
            BlockError: A training batch of one image with a map of one position.
        """
        if self.training:
            checks.enough_for_statistics("cbam", x.shape[0], x.shape[2], x.shape[3], "the map")
        y: Tensor = self.SpatialGate(self.ChannelGate(x))
        return y
