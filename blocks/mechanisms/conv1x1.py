"""A pointwise convolution, the plainest control of added capacity.

    y = W x at every position,   W: C' x C

A block that does not beat it adds parameters and not attention.
"""

from torch import Tensor, nn

from attnsearch.blocks import checks


class Conv1x1(nn.Module):
    """Mixes the channels of each position linearly, without bias.

    The weights start as those of a residual network's convolutions do: normal, with variance
    2 / fan out (He et al. 2015, https://arxiv.org/abs/1502.01852).

    Args:
        channels: Channels of the input.
        out_channels: Channels of the output; those of the input if `None`.
        stride: Step between the positions kept.
    """

    def __init__(self, channels: int, out_channels: int | None = None, stride: int = 1) -> None:
        super().__init__()
        out = channels if out_channels is None else out_channels
        checks.counts("conv1x1", channels=channels, out_channels=out, stride=stride)
        self.conv = nn.Conv2d(channels, out, kernel_size=1, stride=stride, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed channels (B, C', ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.conv(x)
        return y
