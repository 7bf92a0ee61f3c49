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

from attnsearch.blocks.hosts.axial_block import AxialBlock
from attnsearch.blocks.hosts.backbones import HEADS, Backbone, Size, Width
from attnsearch.blocks.hosts.resnet import ResNet, shortcut


class AxialResNet(ResNet):
    """A ResNet of axial blocks.

    Args:
        backbone: Depths and widths.
        in_channels: Channels of the images.
        classes: Outputs.
        stem: A member of the backbone's stems; None for its default.
        width: 1, 1.5 and 2 or ``s``, ``m`` and ``l`` are published; any multiple of 0.25 is valid.
        size: Height and width of the images in pixels.
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
        super().__init__(backbone, in_channels, classes, stem, width, size)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, AxialBlock):
                nn.init.zeros_(module.bn2.weight)

    def _block(
        self, backbone: Backbone, site: str, channels: int, planes: int, stride: int, size: Size
    ) -> nn.Module:
        return AxialBlock(
            channels,
            planes,
            stride,
            shortcut(backbone, channels, planes * backbone.expansion, stride),
            HEADS,
            size,
            site=site,
        )
