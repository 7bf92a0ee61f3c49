"""SimAM, attention without parameters.

Yang et al.: SimAM, ICML 2021, https://proceedings.mlr.press/v139/yang21o.html
(code consulted: https://github.com/ZjjConan/SimAM)

    d = (x - mean over H, W)^2,   v = sum of d over H, W / (H W - 1)
    y = x * sigmoid(d / (4 (v + lambda)) + 1/2)

The formula divides by zero on a map of one position; there v is 0 and y = x * sigmoid(1/2).
"""

import torch
from torch import Tensor, nn

from attnsearch.blocks import checks


class SimAM(nn.Module):
    """Scales every value by how far it stands out from its channel.

    Args:
        channels: Channels of the input; any number.
        e_lambda: The lambda added to the variance, above 0.
    """

    def __init__(self, channels: int, e_lambda: float = 1e-4) -> None:
        super().__init__()
        checks.integer("simam", "channels", channels)
        self.e_lambda = checks.positive("simam", "e_lambda", e_lambda)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map (B, C, H, W)."""
        others = max(1, x.shape[2] * x.shape[3] - 1)
        distance = (x - x.mean((2, 3), keepdim=True)).square()
        variance = distance.sum((2, 3), keepdim=True) / others
        return x * torch.sigmoid(distance / (4 * (variance + self.e_lambda)) + 0.5)
