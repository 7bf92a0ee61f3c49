"""The identity, a control: a network with it inserted anywhere is the baseline."""

from torch import Tensor, nn

from attnsearch.blocks import checks


class Identity(nn.Module):
    """Returns its input unchanged.

    It separates what a block does from what inserting anything does: results with it equal those
    of the baseline bit for bit.

    Args:
        channels: Channels of the input; any number.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        checks.integer("identity", "channels", channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (B, C, H, W) itself."""
        return x
