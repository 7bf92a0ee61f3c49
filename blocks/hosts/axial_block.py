"""The residual block of axial networks: attention along both axes between 1x1 convolutions.

Wang et al.: Axial-DeepLab, ECCV 2020, https://arxiv.org/abs/2003.07853
Valanarasu et al.: Medical Transformer, MICCAI 2021, https://arxiv.org/abs/2102.10662
(names as in csrhddlam/axial-deeplab and jeya-maria-jose/Medical-Transformer)

    h = relu(BN(conv1x1(x)))                                  p channels
    y = relu(BN(conv1x1(relu(pool(axial_W(axial_H(h)))))) + shortcut(x))      2 planes channels

with p = int(planes * base_width / 64). The attention is `attnsearch.blocks.AxialAttention`;
a stride is an average pooling after it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks import checks
from attnsearch.blocks.evaluating import evaluating
from attnsearch.blocks.hosts.host import NOTHING, HostBlock, Inserted
from attnsearch.blocks.hosts.patches import Folding, PatchAxialAttention, PatchBatchNorm, join
from attnsearch.blocks.mechanisms import AxialAttention, received_along_both

NEVER_RUN = "is in published checkpoints, but the published forward pass never runs it"


class AxialBlock(HostBlock):
    """A residual block with axial attention in place of its 3x3 convolution.

    Args:
        channels: Input channels.
        planes: Half of the output channels.
        stride: Side of the average pooling after the attention; windows at the edge may be
            incomplete, so that odd sizes round up as the shortcut's do.
        downsample: Shortcut where the shape changes; None for the identity.
        heads: Number of heads.
        size: Height and width of the map that the position tables are built for, or one number.
        base_width: Channels of the attention over the planes, in 64ths.
        gated: Whether the position terms have gates.
        position: Whether there are position terms. Without them there is, as in the published
            code, a 1x1 convolution ``conv1`` with bias that nothing runs.
        learn_gates: Whether the gates are trained.
        folding: What the normalisations share where patches in the batch are to be normalised
            one after another, see `patches.py`; None for ordinary ones.
        rows: Patches along each side of an image, where the input is patches; 1 for images.
        site: Name of the block in the network, with ``_`` for dots: ``layer1_0``.
    """

    expansion: ClassVar[int] = 2
    dead_parameters: ClassVar[Mapping[str, str]] = {
        "conv1.weight": NEVER_RUN,
        "conv1.bias": NEVER_RUN,
    }

    def __init__(
        self,
        channels: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        heads: int = 8,
        size: int | tuple[int, int] = 56,
        base_width: int = 64,
        gated: bool = False,
        position: bool = True,
        learn_gates: bool = False,
        folding: Folding | None = None,
        rows: int = 1,
        site: str = "",
    ) -> None:
        super().__init__()
        height, width = (size, size) if isinstance(size, int) else checks.map_size("axial", size)
        self.stride = checks.integer("axial", "stride", stride)
        self.site = site
        self.rows = rows
        inner = int(planes * (base_width / 64))
        out_channels = self.expansion * planes

        def attention(span: int, axis: str) -> AxialAttention:
            if folding is not None:
                return PatchAxialAttention(inner, inner, heads, span, axis, position, folding)
            gates: dict[str, Any] = {"gated": gated, "learn_gates": learn_gates}
            return AxialAttention(inner, inner, heads, span, axis=axis, position=position, **gates)

        self.conv_down = nn.Conv2d(channels, inner, kernel_size=1, bias=False)
        if not position:
            self.conv1 = nn.Conv2d(inner, inner, kernel_size=1)
        self.bn1 = normalisation(inner, folding)
        # The published attribute is spelt so, and checkpoints hold it.
        self.hight_block = attention(height, "height")
        self.width_block = attention(width, "width")
        self.conv_up = nn.Conv2d(inner, out_channels, kernel_size=1, bias=False)
        self.bn2 = normalisation(out_channels, folding)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor, inserted: Inserted = NOTHING) -> Tensor:
        """Return (B, channels, H, W) to (B, 2 planes, H / stride, W / stride), rounded up."""
        y = self.width_block(self.hight_block(self._narrow(x, inserted)))
        if self.stride > 1:
            y = F.avg_pool2d(y, self.stride, ceil_mode=True)
        y = self.relu(y)
        y = inserted.at(f"{self.site}_after_conv2", y)
        y = inserted.at(f"{self.site}_after_conv3", self.bn2(self.conv_up(y)))
        return self.add_shortcut(y, x, inserted)

    @torch.no_grad()
    def attention_map(self, x: Tensor, inserted: Inserted = NOTHING) -> Tensor:
        """Return how much attention each position receives, (B, H, W), 1 in sum.

        As of `attnsearch.blocks.Axial`. Of patches, the map of the whole image: every patch
        receives as much.

        Args:
            x: The input (B, channels, H, W), or (B P, channels, h, w) of patches.
            inserted: As for `forward`.
        """
        with evaluating(self):
            y = self._narrow(x, inserted)
            gained = received_along_both(self.hight_block, self.width_block, y)
        return join(gained.unsqueeze(1), self.rows).squeeze(1) / self.rows**2

    def _narrow(self, x: Tensor, inserted: Inserted) -> Tensor:
        """Return what the attention is given, (B, p, H, W)."""
        y = self.relu(self.bn1(self.conv_down(x)))
        return inserted.at(f"{self.site}_after_conv1", y)


def normalisation(channels: int, folding: Folding | None = None) -> nn.BatchNorm2d:
    """Return batch normalisation, that of folded patches where there are several.

    Args:
        channels: Channels of the map.
        folding: Of patches that are folded into the batch; None for whole images.
    """
    return nn.BatchNorm2d(channels) if folding is None else PatchBatchNorm(channels, folding)


def projection(
    channels: int, out_channels: int, stride: int, folding: Folding | None = None
) -> nn.Sequential | None:
    """Return the shortcut of an axial block; None where the shape stays.

    Args:
        channels: Input channels.
        out_channels: Output channels.
        stride: Of the block.
        folding: As for `normalisation`.
    """
    if stride == 1 and channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, kernel_size=1, stride=stride, bias=False),
        normalisation(out_channels, folding),
    )
