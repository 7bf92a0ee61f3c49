"""Self-calibrated convolution.

Liu et al.: Improving Convolutional Networks with Self-Calibrated Convolutions, CVPR 2020,
https://mftp.mmcheng.net/Papers/20cvprSCNet.pdf (names as in https://github.com/MCG-NKU/SCNet)

    k2(x) = BN(conv3x3(avgpool_r(x))),  k3 = BN o conv3x3,  k4 = BN o conv3x3 with the stride
    y     = k4(k3(x) * sigmoid(x + up(k2(x))))         up: to the size of x;  * elementwise

Where paper and published code differ, this is the code:

* `up` repeats the nearest value; the paper says bilinear (2.5 % relative difference when tried);
  `mode` chooses;
* the pooling drops what does not fill a window: a 7x7 map at r = 4 is calibrated by its upper
  left 4x4 alone; `ceil_mode=True` pools the incomplete windows too, as no published network does.

The input of a self-calibrated convolution has as many channels as its output, since x is added.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.blocks import checks
from attnsearch.blocks.errors import BlockError

MODES = ("nearest", "bilinear")


class SCConv(nn.Module):
    """A 3x3 convolution whose input is gated by a look at a coarser scale.

    Args:
        channels: Channels C of the input.
        out_channels: Channels of the output; must equal `channels`, as `None` does.
        stride: Step of the last convolution.
        padding: Padding of the convolutions; must equal `dilation` so that sizes are kept.
        dilation: Dilation of the convolutions.
        groups: Group count of the convolutions; must divide `channels`.
        pooling_ratio: Side length r of the pooling window; the map may not be smaller.
        mode: Interpolation of the coarse map, `nearest` (published) or `bilinear`.
        ceil_mode: Whether incomplete windows at the lower and right edge are pooled too.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
        groups: int = 1,
        pooling_ratio: int = 4,
        mode: str = "nearest",
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        checks.integer("scconv", "channels", channels)
        if out_channels is not None and out_channels != channels:
            raise BlockError(
                f"scconv: out_channels={out_channels} must equal channels={channels}, since the "
                f"input is added to its calibration; choose a convolution that keeps its channels"
            )
        checks.integer("scconv", "stride", stride)
        checks.integer("scconv", "dilation", dilation)
        if padding != dilation:
            raise BlockError(
                f"scconv: padding={padding!r} must equal dilation={dilation}, so that the 3x3 "
                f"convolutions keep the size; the nearest valid value is {dilation}"
            )
        checks.integer("scconv", "groups", groups)
        if channels % groups:
            raise BlockError(
                f"scconv: groups={groups} must divide channels={channels}; the nearest valid "
                f"value is {checks.nearest(groups, checks.divisors(channels))}"
            )
        self.pooling_ratio = checks.integer("scconv", "pooling_ratio", pooling_ratio)
        self.mode = checks.one_of("scconv", "mode", mode, MODES)
        self.ceil_mode = checks.boolean("scconv", "ceil_mode", ceil_mode)

        def convolution(stride: int = 1) -> list[nn.Module]:
            shape = (channels, channels, 3, stride, padding, dilation, groups)
            conv = nn.Conv2d(*shape, bias=False)
            return [conv, nn.BatchNorm2d(channels)]

        self.k2 = nn.Sequential(
            nn.AvgPool2d(pooling_ratio, pooling_ratio, ceil_mode=ceil_mode), *convolution()
        )
        self.k3 = nn.Sequential(*convolution())
        self.k4 = nn.Sequential(*convolution(stride))

    def start_as_convolution(self) -> None:
        """Draw the weights anew as SCNet does: normal, with variance 2 / fan out."""
        checks.kaiming_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved map (B, C, ceil(H / stride), ceil(W / stride)).

        Raises:
            BlockError: The map is smaller than the pooling window, or a training batch of one
                image leaves one pooled position.
        """
        B, _, H, W = x.shape
        r = self.pooling_ratio
        if min(H, W) < r and not self.ceil_mode:
            raise BlockError(
                f"scconv: a {H}x{W} map is smaller than pooling_ratio={r}; the nearest valid "
                f"value is {min(H, W)}, or ceil_mode=True pools incomplete windows"
            )
        if self.training:
            pooled = (-(-H // r), -(-W // r)) if self.ceil_mode else (H // r, W // r)
            checks.enough_for_statistics("scconv", B, *pooled, f"the {H}x{W} map pooled by {r}")
        coarse = F.interpolate(self.k2(x), size=(H, W), mode=self.mode)
        y: Tensor = self.k4(self.k3(x) * torch.sigmoid(x + coarse))
        return y
