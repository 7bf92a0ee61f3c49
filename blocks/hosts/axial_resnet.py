"""The axial ResNet for classification: a ResNet whose 3x3 convolutions are axial attention.

Wang et al.: Axial-DeepLab, ECCV 2020, https://arxiv.org/abs/2003.07853
(names as in csrhddlam/axial-deeplab; its 26 and 50 layers and its widths s, m and l)

The published code has the position tables of 224 pixels alone; here they are built for the maps
of the images at hand, and equal the published ones at 224. Other sizes at run time are an error.

Initialisation: convolutions normal by fan-out, the attention's transform and tables as
`AxialAttention` has them, and zero for the scale of each block's last normalisation, so
that every block starts as its shortcut.
"""

from torch import nn

from attnsearch.blocks import checks
from attnsearch.blocks.hosts.axial_block import AxialBlock
from attnsearch.blocks.hosts.backbones import HEADS, Backbone
from attnsearch.blocks.hosts.resnet import ResNet, shortcut
from attnsearch.blocks.hosts.sizes import Size


class AxialResNet(ResNet):
    """A ResNet of axial blocks; arguments as of `ResNet`.

    Widths 1, 1.5 and 2, or ``s``, ``m`` and ``l``, are published; any multiple of 0.25 is valid.
    """

    def _block(
        self, backbone: Backbone, site: str, channels: int, planes: int, stride: int, size: Size
    ) -> nn.Module:
        downsample = shortcut(backbone, channels, planes * backbone.expansion, stride)
        block = AxialBlock(channels, planes, stride, downsample, HEADS, size, site=site)
        checks.kaiming_convolutions(block)
        nn.init.zeros_(block.bn2.weight)
        return block
