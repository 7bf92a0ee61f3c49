"""ResNets with named sites.

Paper: Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385.

State-dict names and parameter counts of ResNet-18 to -152 are torchvision's, the stride of a
bottleneck on its 3x3 convolution included. ResNet-20 to -110 are the paper's CIFAR networks
(section 4.2) under the same names: ``conv1``, ``bn1``, ``layer1`` to ``layer3``, ``fc``. Their
shortcuts have no parameters (option A: every second pixel, new channels zero), which gives the
paper's counts, 0.27M to 1.7M.

Shapes are (B, C, H, W): batch, channels, height, width.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks.hosts.backbones import Backbone, find_stem
from attnsearch.blocks.hosts.decoders import Decoder
from attnsearch.blocks.hosts.host import Host, HostBlock, Inserted
from attnsearch.blocks.hosts.sizes import Size, Width, halved


class HostConv2d(nn.Conv2d):
    """A convolution as ResNets have it: same padding, no bias, normal weights by fan-out.

    Initialisation: He et al. 2015, https://arxiv.org/abs/1502.01852, as in torchvision.

    Args:
        channels: Input channels.
        out_channels: Output channels.
        kernel: Odd side of the kernel.
        stride: Step between outputs.
    """

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, out_channels, kernel, stride, kernel // 2, bias=False)

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")


class PaddedShortcut(nn.Module):
    """Option A of the paper: every second pixel, and zeros for the new channels.

    Args:
        channels: Input channels.
        out_channels: Output channels, at least as many.
        stride: Step between the pixels that are kept.
    """

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        before = (out_channels - channels) // 2
        self.padding = (0, 0, 0, 0, before, out_channels - channels - before)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) to (B, out_channels, H / stride, W / stride), rounded up."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


class ResidualBlock(HostBlock):
    """Convolutions ``conv1``, ``conv2``, ..., each with its normalisation, and a shortcut.

    Two 3x3 convolutions in a basic block; 1x1, 3x3 and 1x1 in a bottleneck.

    Args:
        backbone: Its `block` says which convolutions.
        site: Name of the block in the network, with ``_`` for dots: ``layer1_0``.
        channels: Input channels.
        planes: Width of the stage; a quarter of a bottleneck's output channels.
        stride: Of the block.
        downsample: Shortcut where the shape changes; None for the identity.
    """

    def __init__(
        self,
        backbone: Backbone,
        site: str,
        channels: int,
        planes: int,
        stride: int,
        downsample: nn.Module | None,
    ) -> None:
        super().__init__()
        self.site = site
        self.last = len(backbone.block.parts)
        for part, out_channels, step in backbone.convolutions(planes, stride):
            assert part.kernel is not None
            conv = HostConv2d(channels, out_channels, part.kernel, step)
            self.add_module(f"conv{part.number}", conv)
            self.add_module(f"bn{part.number}", nn.BatchNorm2d(out_channels))
            channels = out_channels
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor, inserted: Inserted) -> Tensor:
        """Return (B, channels, H, W) to (B, C', H / stride, W / stride), rounded up."""
        y = x
        for number in range(1, self.last + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = self.relu(y) if number < self.last else y
            y = inserted.at(f"{self.site}_after_conv{number}", y)
        return self.add_shortcut(y, x, inserted)


class ResNet(Host):
    """A residual network for classification, or with a decoder for segmentation.

    Args:
        backbone: Depths, widths and kind of block.
        in_channels: Channels of the images.
        classes: Outputs.
        stem: A member of the backbone's stems; None for its default.
        width: Multiplier of all widths, or one for each stage; for axial ResNets also ``s``,
            ``m`` or ``l``.
        size: Height and width of the images in pixels; blocks that are built for the size of
            their map need it.
    """

    def __init__(
        self,
        backbone: Backbone,
        in_channels: int = 3,
        classes: int = 1000,
        stem: str | None = None,
        width: Width = 1.0,
        size: Size = (224, 224),
    ) -> None:
        super().__init__()
        widths = backbone.widths(width)
        stem = find_stem(backbone, stem)
        channels = backbone.stem_width(width)
        size = backbone.stem_size(size, stem)
        self.conv1: nn.Module
        if stem == "deep":
            self.conv1 = deep_stem(in_channels, channels)
        else:
            self.conv1 = HostConv2d(
                in_channels, channels, *((3, 1) if stem == "small" else (7, 2))
            )
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.Identity() if stem == "small" else nn.MaxPool2d(3, 2, 1)
        self.stages = [f"layer{number}" for number in range(1, len(widths) + 1)]
        for stage, planes, depth in zip(self.stages, widths, backbone.depths, strict=True):
            stride = 1 if stage == "layer1" else 2
            blocks = nn.ModuleList()
            for index in range(depth):
                site = f"{stage}_{index}"
                blocks.append(self._block(backbone, site, channels, planes, stride, size))
                size = halved(size) if stride == 2 else size
                channels, stride = planes * backbone.expansion, 1
            self.add_module(stage, blocks)
        self.decoder: Decoder | None = None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Turn images (B, in_channels, H, W) into logits (B, classes), or with H and W too."""
        stem, maps = self.encode(x)
        if self.training:
            self.head_logits = {
                stage: self.auxiliary[f"head_{stage}"](level)
                for stage, level in zip(self.stages, maps, strict=True)
                if f"head_{stage}" in self.auxiliary
            }
        logits: Tensor
        if self.decoder is not None:
            logits = self.decoder(stem, maps, x.shape[2:], self.inserted)
        else:
            logits = self.fc(torch.flatten(self.avgpool(maps[-1]), 1))
        return logits

    def encode(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the stem's map before its pooling, and those after each stage, of images."""
        stem = self.relu(self.bn1(self.conv1(x)))
        y = self.inserted.at("stem", self.maxpool(stem))
        maps = []
        for stage in self.stages:
            for block in getattr(self, stage):
                y = block(y, self.inserted)
            y = self.inserted.at(stage, y)
            maps.append(y)
        return stem, maps

    def decode_with(self, decoder: Decoder, heads: Mapping[str, nn.Module]) -> None:
        """Give the network a decoder, in place of the pooling and the layer for classification.

        Args:
            decoder: The decoder.
            heads: By stage, what makes logits of its map for an auxiliary loss.
        """
        del self.avgpool, self.fc
        self.decoder = decoder
        self.segments = True
        for stage, head in heads.items():
            self.auxiliary[f"head_{stage}"] = head

    def _block(
        self, backbone: Backbone, site: str, channels: int, planes: int, stride: int, size: Size
    ) -> nn.Module:
        """Return a residual block; `size` is that of the map it gets."""
        downsample = shortcut(backbone, channels, planes * backbone.expansion, stride)
        return ResidualBlock(backbone, site, channels, planes, stride, downsample)


def deep_stem(in_channels: int, channels: int) -> nn.Sequential:
    """Return three 3x3 convolutions in place of the 7x7, the variants C and D of a ResNet.

    He et al. 2019, https://arxiv.org/abs/1812.01187, figure 2b. The normalisation and activation
    of the last one follow under the names of a plain stem's.

    Args:
        in_channels: Channels of the images.
        channels: Output channels; the first two convolutions have half of them.
    """
    half = max(1, channels // 2)
    return nn.Sequential(
        HostConv2d(in_channels, half, 3, 2),
        nn.BatchNorm2d(half),
        nn.ReLU(inplace=True),
        HostConv2d(half, half, 3),
        nn.BatchNorm2d(half),
        nn.ReLU(inplace=True),
        HostConv2d(half, channels, 3),
    )


def shortcut(
    backbone: Backbone, channels: int, out_channels: int, stride: int
) -> nn.Module | None:
    """Return a residual block's shortcut; None for the identity.

    Args:
        backbone: Its `shortcut` says which kind.
        channels: Input channels.
        out_channels: Output channels.
        stride: Of the block.
    """
    if stride == 1 and channels == out_channels:
        return None
    if backbone.shortcut == "padded":
        return PaddedShortcut(channels, out_channels, stride)
    if backbone.shortcut == "averaged":
        return nn.Sequential(
            nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False),
            HostConv2d(channels, out_channels, 1),
            nn.BatchNorm2d(out_channels),
        )
    return nn.Sequential(
        HostConv2d(channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels)
    )
