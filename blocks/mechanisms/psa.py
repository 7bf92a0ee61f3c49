"""Pyramid squeeze attention.

Zhang et al.: EPSANet: An Efficient Pyramid Squeeze Attention Block on Convolutional Neural
Network, ACCV 2022, https://arxiv.org/abs/2105.14447 (names as in murufeng/EPSANet)

    f_i = conv_{k_i, G_i}(x)                    C -> C'/S channels each, i = 1..S, no bias
    z_i = sigmoid(W2 relu(W1 mean(f_i) + b1) + b2)    one squeeze for all branches, width C'/(16 S)
    w   = softmax over the branches of z        (B, S, C'/S)
    y   = [w_S f_S; ...; w_1 f_1]               C' channels

Where paper and published code differ, this is the code, whose checkpoints then load:

* every branch sees all input channels; the paper splits them, and the authors advise the code;
* the branches leave in reverse order;
* the sigmoid before the softmax keeps every weight of four branches in [0.109, 0.475].
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attnsearch.blocks import checks
from attnsearch.blocks.errors import BlockError
from attnsearch.blocks.mechanisms.se import SqueezeGate

REDUCTION = 16


class PSA(nn.Module):
    """Convolves at several scales and weighs the scales against each other, per channel.

    Args:
        channels: Channels C of the input; every group count must divide it.
        out_channels: Channels C' of the output; those of the input if `None`.
        stride: Step of the convolutions.
        kernels: Odd side lengths of the branches' convolutions; their number S must divide C'.
        groups: Group count of each; each must divide C and C'/S.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        stride: int = 1,
        kernels: Sequence[int] = (3, 5, 7, 9),
        groups: Sequence[int] = (1, 4, 8, 16),
    ) -> None:
        super().__init__()
        out = channels if out_channels is None else out_channels
        checks.counts("psa", channels=channels, out_channels=out, stride=stride)
        kernels = checks.integers("psa", "kernels", kernels)
        groups = checks.integers("psa", "groups", groups)
        self.branches = len(kernels)
        width = _check(channels, out, kernels, groups)
        for i, (kernel, group) in enumerate(zip(kernels, groups, strict=True), start=1):
            conv = nn.Conv2d(
                channels, width, kernel, stride, padding=kernel // 2, groups=group, bias=False
            )
            self.add_module(f"conv_{i}", conv)
        self.se = SqueezeGate(width, max(1, width // REDUCTION))  # one for all branches

    def start_as_convolution(self) -> None:
        """Draw the weights anew as EPSANet does: normal, with variance 2 / (k^2 out)."""
        checks.kaiming_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted branches (B, C', ceil(H / stride), ceil(W / stride))."""
        B, S = x.shape[0], self.branches
        branches = [self.get_submodule(f"conv_{i}")(x) for i in range(S, 0, -1)]
        # The branches' means as one batch: the squeeze runs once. The branches themselves are
        # put together last: sooner, the backward pass would copy the parts of one large tensor.
        means = torch.stack([branch.mean((2, 3)) for branch in branches], dim=1)
        weights: Tensor = self.se(means.view(B * S, -1, 1, 1)).view(B, S, -1, 1, 1).softmax(1)
        weighed = [y * weight for y, weight in zip(branches, weights.unbind(1), strict=True)]
        return torch.cat(weighed, dim=1)


def _check(channels: int, out: int, kernels: Sequence[int], groups: Sequence[int]) -> int:
    """Return the width of a branch, or raise the rule that is broken."""
    S = len(kernels)
    if S < 2 or len(groups) != S:
        raise BlockError(
            f"psa: kernels={list(kernels)} and groups={list(groups)} must be equally long, "
            f"at least 2 each"
        )
    for i, kernel in enumerate(kernels):
        checks.odd("psa", f"kernels[{i}]", kernel)
    if out % S:
        near = max(S, round(out / S) * S)
        others = [d for d in checks.divisors(out) if d > 1]
        instead = f", or {checks.nearest(S, others)} kernels and groups" if others else ""
        raise BlockError(
            f"psa: out_channels={out} must be divisible by its {S} branches; "
            f"the nearest valid value is {near}{instead}"
        )
    width = out // S
    common = [d for d in checks.divisors(width) if channels % d == 0]
    for i, group in enumerate(groups):
        if group not in common:
            raise BlockError(
                f"psa: groups[{i}]={group} must divide both channels={channels} and "
                f"out_channels/{S}={width}; the nearest valid value is "
                f"{checks.nearest(group, common)}"
            )
    return width
