"""ResNets with named sites.

Paper: Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385.

State-dict names and parameter counts of ResNet-18 to -152 are torchvision's, the stride of a
bottleneck on its 3x3 convolution included. ResNet-20 to -110 are the paper's CIFAR networks
(section 4.2) under the same names: ``conv1``, ``bn1``, ``layer1`` to ``layer3``, ``fc``. Their
shortcuts have no parameters (option A: every second pixel, new channels zero), which gives the
paper's counts, 0.27M to 1.7M.

Inserted blocks belong to the network (`ResNet.inserted`), not to the residual blocks, so that no
name of the host changes. Shapes are (B, C, H, W): batch, channels, height, width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks.sites import Backbone, find_stem
from attnsearch.blocks.weights import WeightsReport


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


class Inserted(nn.ModuleDict):
    """The added blocks: for each site, by its name with ``_`` for dots, a chain run in order."""

    def at(self, site: str, x: Tensor) -> Tensor:
        """What the blocks at a site make of x; x itself where there are none."""
        y: Tensor = self[site](x) if site in self else x
        return y


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
        """(B, C, H, W) to (B, out_channels, H / stride, W / stride), rounded up."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Args:
        site: Name of the block in the network, with ``_`` for dots: ``layer1_0``.
        channels: Input channels.
        planes: Channels of both convolutions.
        stride: Of the first convolution.
        downsample: Shortcut where the shape changes; None for the identity.
    """

    def __init__(
        self, site: str, channels: int, planes: int, stride: int, downsample: nn.Module | None
    ) -> None:
        super().__init__()
        self.site = site
        self.conv1: nn.Module = HostConv2d(channels, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2: nn.Module = HostConv2d(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: Tensor, inserted: Inserted) -> Tensor:
        """(B, channels, H, W) to (B, planes, H / stride, W / stride), rounded up."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = inserted.at(f"{self.site}_after_conv1", y)
        y = self.bn2(self.conv2(y))
        y = inserted.at(f"{self.site}_after_conv2", y)
        y = inserted.at(f"{self.site}_residual", y)
        shortcut = x if self.downsample is None else self.downsample(x)
        # Not in place: an inserted block may need its output for the backward pass.
        y = self.relu(y + shortcut)
        return inserted.at(self.site, y)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; the last one widens fourfold.

    Args:
        site: Name of the block in the network, with ``_`` for dots: ``layer1_0``.
        channels: Input channels.
        planes: Channels of the 3x3 convolution.
        stride: Of the 3x3 convolution.
        downsample: Shortcut where the shape changes; None for the identity.
    """

    def __init__(
        self, site: str, channels: int, planes: int, stride: int, downsample: nn.Module | None
    ) -> None:
        super().__init__()
        self.site = site
        self.conv1: nn.Module = HostConv2d(channels, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2: nn.Module = HostConv2d(planes, planes, 3, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3: nn.Module = HostConv2d(planes, 4 * planes, 1)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor, inserted: Inserted) -> Tensor:
        """(B, channels, H, W) to (B, 4 planes, H / stride, W / stride), rounded up."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = inserted.at(f"{self.site}_after_conv1", y)
        y = self.relu(self.bn2(self.conv2(y)))
        y = inserted.at(f"{self.site}_after_conv2", y)
        y = self.bn3(self.conv3(y))
        y = inserted.at(f"{self.site}_after_conv3", y)
        y = inserted.at(f"{self.site}_residual", y)
        shortcut = x if self.downsample is None else self.downsample(x)
        # Not in place: an inserted block may need its output for the backward pass.
        y = self.relu(y + shortcut)
        return inserted.at(self.site, y)


class ResNet(nn.Module):
    """A residual network for classification.

    Args:
        backbone: Depths, widths and kind of block.
        in_channels: Channels of the images.
        classes: Outputs.
        stem: ``imagenet``, ``small``, or None for the backbone's default.
        width: Multiplier of all widths.

    Attributes:
        inserted: The added blocks; state-dict names ``inserted.<site, dots as _>.<index>.``
        auxiliary: Heads that training alone uses, one for each block with a side loss;
            state-dict names ``auxiliary.<site, dots as _>.<index>.``
        side_paths: For each of these blocks its site, its index there, and its module path.
        config: The resolved config that the network was built from.
        input_shape: (channels, height, width) of an image.
        weights_report: What was loaded from ``network.weights``; None without it.
    """

    config: dict[str, Any]
    input_shape: tuple[int, int, int]
    side_paths: list[tuple[str, int, str]]
    weights_report: WeightsReport | None

    def __init__(
        self,
        backbone: Backbone,
        in_channels: int = 3,
        classes: int = 1000,
        stem: str | None = None,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        widths = backbone.widths(width)
        small = find_stem(backbone, stem) == "small"
        self.conv1 = HostConv2d(in_channels, widths[0], 3 if small else 7, 1 if small else 2)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        channels = widths[0]
        self.stages = [f"layer{number}" for number in range(1, len(widths) + 1)]
        for stage, planes, depth in zip(self.stages, widths, backbone.depths, strict=True):
            stride = 1 if stage == "layer1" else 2
            blocks = nn.ModuleList()
            for index in range(depth):
                blocks.append(_block(backbone, f"{stage}_{index}", channels, planes, stride))
                channels, stride = planes * backbone.expansion, 1
            self.add_module(stage, blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)
        self.inserted = Inserted()
        self.auxiliary = nn.ModuleDict()
        self.side_paths = []
        self.weights_report = None

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_channels, H, W) to logits (B, classes)."""
        y = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        y = self.inserted.at("stem", y)
        for stage in self.stages:
            for block in getattr(self, stage):
                y = block(y, self.inserted)
            y = self.inserted.at(stage, y)
        logits: Tensor = self.fc(torch.flatten(self.avgpool(y), 1))
        return logits


def _block(backbone: Backbone, site: str, channels: int, planes: int, stride: int) -> nn.Module:
    """A residual block of this backbone, its shortcut a projection where the shape changes."""
    out_channels = planes * backbone.expansion
    downsample: nn.Module | None = None
    if stride != 1 or channels != out_channels:
        downsample = nn.Sequential(
            HostConv2d(channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels)
        )
        if backbone.shortcut == "padded":
            downsample = PaddedShortcut(channels, out_channels, stride)
    block = BasicBlock if backbone.block == "basic" else Bottleneck
    return block(site, channels, planes, stride, downsample)
