"""Non-local block.

Wang et al.: Non-local Neural Networks, CVPR 2018, https://arxiv.org/abs/1711.07971
(names as in https://github.com/AlexHex7/Non-local_pytorch)

    theta, phi, g: 1x1 convolutions C -> C/r with bias;  i, j: positions, N = H W of them
    embedded_gaussian:  y_i = sum_j softmax_j(theta_i . phi_j) g_j
    dot:                y_i = 1/N sum_j (theta_i . phi_j) g_j
    z = x + BN(W y),    the normalisation's scale and shift start at 0, so that z = x

There is no 1/sqrt(d) in the paper's softmax. `dot` is linear, so that the products are taken in
the order theta (phi^T g), which needs no N x N matrix.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.blocks import checks

MODES = ("embedded_gaussian", "dot")


class NonLocal(nn.Module):
    """Adds to every position a mean of all positions, weighted by similarity.

    It is the identity until the first step of training.

    Args:
        channels: Channels of the input.
        mode: `embedded_gaussian` (a softmax over the similarities) or `dot` (the similarities
            divided by their number).
        reduction: Divisor r of the inner width; `channels // reduction` must not be 0.
    """

    dead_parameters: ClassVar[Mapping[str, str]] = {
        "phi.bias": "adds the same to all similarities of a position, which the softmax cancels",
        "g.bias": "adds the same to all positions, which the batch normalisation subtracts",
        "W.0.bias": "the batch normalisation after it subtracts it; kept for published names",
    }

    def __init__(self, channels: int, mode: str = "embedded_gaussian", reduction: int = 2) -> None:
        super().__init__()
        checks.integer("nonlocal", "channels", channels)
        self.mode = checks.one_of("nonlocal", "mode", mode, MODES)
        inner = checks.reduced("nonlocal", channels, reduction)
        self.g = nn.Conv2d(channels, inner, kernel_size=1)
        self.theta = nn.Conv2d(channels, inner, kernel_size=1)
        self.phi = nn.Conv2d(channels, inner, kernel_size=1)
        self.W = nn.Sequential(nn.Conv2d(inner, channels, kernel_size=1), nn.BatchNorm2d(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Make the block the identity: its last normalisation starts with scale and shift 0."""
        for parameter in self.W[1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with the weighted means added, (B, C, H, W).

        Raises:
            BlockError: A training batch of one image with a map of one position.
        """
        B, _, H, W = x.shape
        if self.training:
            checks.enough_for_statistics("nonlocal", B, H, W, "the map")
        # (B, N, C/r) each; the fused attention wants the channels next to each other.
        theta, phi, g = (
            conv(x).flatten(2).transpose(1, 2).contiguous()
            for conv in (self.theta, self.phi, self.g)
        )
        if self.mode == "dot":
            y = theta @ (phi.transpose(1, 2) @ g) / (H * W)
        else:
            y = F.scaled_dot_product_attention(
                theta.unsqueeze(1), phi.unsqueeze(1), g.unsqueeze(1), scale=1.0
            ).squeeze(1)
        y = y.transpose(1, 2).reshape(B, -1, H, W)
        added: Tensor = self.W(y.contiguous(memory_format=checks.memory_format(x)))
        return x + added
