"""Global context block.

Cao et al.: GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond, ICCVW 2019,
https://arxiv.org/abs/1904.11492 (names as in https://github.com/xvjiarui/GCNet)

    context = sum over positions of softmax(w . x + b) x     pooling "att";   (B, C)
            = mean of x over H and W                         pooling "avg"
    t(c)    = V2 relu(LN(V1 c + a1)) + a2                    V1: p x C, V2: C x p, p = int(C ratio)
    y       = x * sigmoid(t_mul(context)) + t_add(context)   either term only where `fusion` has it

The authors place it on the residual branch, after its last normalisation. The last convolution of
each t starts at 0: with "add" alone the block starts as the identity, with "mul" as y = x / 2.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from attnsearch.blocks import checks
from attnsearch.blocks.errors import BlockError

POOLINGS = ("att", "avg")
FUSIONS = ("add", "mul")


class GlobalContext(nn.Module):
    """Adds to every position, or scales it by, one transform of the whole map's context.

    Args:
        channels: Channels C of the input.
        ratio: Hidden width as a part of the channels; `int(channels * ratio)` must not be 0, and
            should not be 1, where the normalisation makes the transform independent of the input.
        pooling: `att` (attention over the positions) or `avg` (their mean).
        fusion: What the context does: `add`, `mul`, or a list of both.
    """

    dead_parameters: ClassVar[Mapping[str, str]] = {
        "conv_mask.bias": "adds the same to all logits, which the softmax cancels; kept for names",
    }

    def __init__(
        self,
        channels: int,
        ratio: float = 1 / 16,
        pooling: str = "att",
        fusion: str | Sequence[str] = ("add",),
    ) -> None:
        super().__init__()
        checks.integer("gc", "channels", channels)
        self.pooling = checks.one_of("gc", "pooling", pooling, POOLINGS)
        fusions = [fusion] if isinstance(fusion, str) else fusion
        if not isinstance(fusions, Sequence) or not fusions:
            raise BlockError(f"gc: fusion={fusion!r} must name at least one of 'add', 'mul'")
        for kind in fusions:
            checks.one_of("gc", "fusion", kind, FUSIONS)
        hidden = int(channels * checks.positive("gc", "ratio", ratio))
        if hidden == 0:
            raise BlockError(
                f"gc: ratio={ratio:g} leaves no channel of {channels}; int(channels * ratio) must "
                f"be at least 1; the nearest valid value is {_ratio(1, channels):g}"
            )
        if hidden == 1:
            warnings.warn(
                f"gc: ratio={ratio:g} leaves 1 channel of {channels}; its layer normalisation is "
                f"constant, so that the output ignores the context; use at least "
                f"{_ratio(2, channels):g}",
                stacklevel=2,
            )
        self.conv_mask = nn.Conv2d(channels, 1, kernel_size=1) if pooling == "att" else None
        self.channel_add_conv = _transform(channels, hidden) if "add" in fusions else None
        self.channel_mul_conv = _transform(channels, hidden) if "mul" in fusions else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the published start: Kaiming normal attention, last convolutions at 0."""
        if self.conv_mask is not None:
            nn.init.kaiming_normal_(self.conv_mask.weight, mode="fan_in", nonlinearity="relu")
            nn.init.zeros_(_bias(self.conv_mask))
        for transform in (self.channel_add_conv, self.channel_mul_conv):
            if transform is not None:
                for parameter in transform[3].parameters():
                    nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map fused with its context, (B, C, H, W)."""
        context = self._context(x)
        y = x
        if self.channel_mul_conv is not None:
            y = y * torch.sigmoid(self.channel_mul_conv(context))
        if self.channel_add_conv is not None:
            y = y + self.channel_add_conv(context)
        return y

    @torch.no_grad()
    def attention_map(self, x: Tensor) -> Tensor:
        """Return the weight of each position in the context, (B, H, W), 1 in sum.

        With `pooling="avg"` all weigh the same.

        Args:
            x: The input (B, C, H, W).
        """
        B, _, H, W = x.shape
        if self.conv_mask is None:
            return x.new_full((B, H, W), 1 / (H * W))
        logits: Tensor = self.conv_mask(x)
        return logits.float().flatten(1).softmax(1).view(B, H, W)

    def _context(self, x: Tensor) -> Tensor:
        """Pool the positions to (B, C, 1, 1)."""
        if self.conv_mask is None:
            return x.mean((2, 3), keepdim=True)
        B, C, _, _ = x.shape
        positions = x.flatten(2)  # (B, C, HW), a view in both memory formats
        # A convolution to one channel is a matrix-vector product, which runs faster as such.
        mask, bias = self.conv_mask.weight.view(1, C, 1), _bias(self.conv_mask).view(1, 1, 1)
        # With the map on one side, its gradients come in its own order, and need no copy.
        if checks.memory_format(x) == torch.channels_last:
            rows = positions.transpose(1, 2)  # (B, HW, C)
            weights = torch.baddbmm(bias, rows, mask.expand(B, C, 1)).softmax(1)
            context = torch.bmm(weights.transpose(1, 2), rows)
        else:
            weights = torch.baddbmm(bias, mask.view(1, 1, C).expand(B, 1, C), positions).softmax(2)
            context = torch.bmm(positions, weights.transpose(1, 2))
        return context.view(B, C, 1, 1)


def _transform(channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, hidden, kernel_size=1),
        nn.LayerNorm([hidden, 1, 1]),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, channels, kernel_size=1),
    )


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


def _ratio(hidden: int, channels: int) -> float:
    """Return the smallest ratio of six decimals that gives `hidden`."""
    return math.ceil(1e6 * hidden / channels) / 1e6
