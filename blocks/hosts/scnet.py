"""SCNet: bottlenecks with a self-calibrated path beside a plain one.

Liu et al.: Improving Convolutional Networks with Self-Calibrated Convolutions, CVPR 2020,
https://mftp.mmcheng.net/Papers/20cvprSCNet.pdf (names as in https://github.com/MCG-NKU/SCNet)

    a = relu(BN(conv3x3(relu(BN(conv1x1(x))))))          w channels, the stride on the 3x3
    b = relu(SCConv(relu(BN(conv1x1(x)))))               w channels, the stride on its last conv
    y = relu(BN(conv1x1([a; b])) + shortcut(x))          4 planes channels

with w = int(planes * bottleneck_width / 64) * cardinality. Both paths see all channels: each has
a 1x1 convolution of its own, and nothing is sliced. The variant ``v1d`` (He et al. 2019,
https://arxiv.org/abs/1812.01187) has a stem of three 3x3 convolutions, shortcuts that pool before
their 1x1 convolution, and where a bottleneck of stages 2 to 4 has a stride, an average pooling of
both paths after their activations in its place (``avd``).
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from attnsearch.blocks import checks
from attnsearch.blocks.errors import BlockError
from attnsearch.blocks.hosts.backbones import Backbone
from attnsearch.blocks.hosts.host import NOTHING, HostBlock, Inserted
from attnsearch.blocks.hosts.resnet import ResNet, shortcut
from attnsearch.blocks.hosts.sizes import Size
from attnsearch.blocks.mechanisms import SCConv


class SCBottleneck(HostBlock):
    """A bottleneck with two paths, one of them self-calibrated.

    Args:
        channels: Input channels.
        planes: A quarter of the output channels.
        stride: Of both paths.
        downsample: Shortcut where the shape changes; None for the identity.
        cardinality: Groups of the 3x3 convolutions.
        bottleneck_width: Width of a path over the planes, in 64ths, for each group.
        avd: Whether an average pooling after the paths takes their stride over.
        dilation: Of the 3x3 convolutions.
        is_first: Whether `avd` pools even where the stride is 1.
        site: Name of the block in the network, with ``_`` for dots: ``layer1_0``.

    Raises:
        BlockError: A path would have no channel.
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        channels: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        cardinality: int = 1,
        bottleneck_width: int = 32,
        avd: bool = False,
        dilation: int = 1,
        is_first: bool = False,
        site: str = "",
    ) -> None:
        super().__init__()
        checks.counts(
            "scnet", planes=planes, cardinality=cardinality, bottleneck_width=bottleneck_width
        )
        width = int(planes * (bottleneck_width / 64)) * cardinality
        if not width:
            raise BlockError(
                f"scnet: bottleneck_width={bottleneck_width} leaves no channel of planes={planes} "
                f"in a path; the nearest valid value is {-(-64 // planes)}"
            )
        self.site = site
        self.avd = avd and (stride > 1 or is_first)
        inside = 1 if self.avd else stride
        self.conv1_a = nn.Conv2d(channels, width, kernel_size=1, bias=False)
        self.bn1_a = nn.BatchNorm2d(width)
        self.conv1_b = nn.Conv2d(channels, width, kernel_size=1, bias=False)
        self.bn1_b = nn.BatchNorm2d(width)
        self.k1 = nn.Sequential(
            nn.Conv2d(width, width, 3, inside, dilation, dilation, groups=cardinality, bias=False),
            nn.BatchNorm2d(width),
        )
        self.scconv = SCConv(
            width, None, inside, padding=dilation, dilation=dilation, groups=cardinality
        )
        if self.avd:
            self.avd_layer = nn.AvgPool2d(3, stride, padding=1)
        self.conv3: nn.Module = nn.Conv2d(
            2 * width, self.expansion * planes, kernel_size=1, bias=False
        )
        self.bn3 = nn.BatchNorm2d(self.expansion * planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor, inserted: Inserted = NOTHING) -> Tensor:
        """Return (B, channels, H, W) to (B, 4 planes, H / stride, W / stride), rounded up."""
        a = self.k1(self.relu(self.bn1_a(self.conv1_a(x))))
        b = self.scconv(self.relu(self.bn1_b(self.conv1_b(x))))
        y = self.relu(torch.cat([a, b], dim=1))
        if self.avd:
            y = self.avd_layer(y)
        y = inserted.at(f"{self.site}_after_conv2", y)
        y = inserted.at(f"{self.site}_after_conv3", self.bn3(self.conv3(y)))
        return self.add_shortcut(y, x, inserted)


class SCNet(ResNet):
    """A ResNet of self-calibrated bottlenecks; arguments as of `ResNet`."""

    def _block(
        self, backbone: Backbone, site: str, channels: int, planes: int, stride: int, size: Size
    ) -> nn.Module:
        downsample = shortcut(backbone, channels, planes * backbone.expansion, stride)
        avd = backbone.shortcut == "averaged"
        block = SCBottleneck(channels, planes, stride, downsample, avd=avd, site=site)
        checks.kaiming_convolutions(block)
        return block
