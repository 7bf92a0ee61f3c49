"""Position-sensitive axial attention, plain and gated.

Wang et al.: Axial-DeepLab, ECCV 2020, https://arxiv.org/abs/2003.07853
Valanarasu et al.: Medical Transformer, MICCAI 2021, https://arxiv.org/abs/2102.10662
(names as in csrhddlam/axial-deeplab and jeya-maria-jose/Medical-Transformer)

Along one axis of length L, every line of the map for itself, per head of c = C'/heads channels:

    q, k (c/2 each), v (c) = BN(W x)                               W: C -> 2 C', no bias
    s_ij = BN1(q_i . k_j) + BN2(f_qr q_i . Rq_{i-j}) + BN3(f_kr k_j . Rk_{j-i})
    a_ij = softmax over j of s_ij
    y_i  = BN4(f_sv sum_j a_ij v_j) + BN5(f_sve sum_j a_ij Rv_{i-j})

R is one table of 2c x (2L - 1) for all heads. There is no 1/sqrt(d). The f are 1 without gates.
Without position terms only the first of each sum is left. What the published code settles:

* The key's table is read at j - i where the query's is read at i - j: kept for checkpoints.
* The gates stand before a batch normalisation, which cancels their size in training: there a gate
  of 0.1 instead of 1 changes the output by 0.45 %, and only sign and near-zero values matter.
  `gate_position="post_bn"` puts them after it, as the paper's formula reads.
* The published gates start frozen and are released by the published trainer after ten epochs;
  here they learn from the start unless `learn_gates=False`.
* A stride is an average pooling after the attention.

How it is computed, and why that is exact, is in `attnsearch.blocks.mechanisms.axial_core`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.blocks import checks
from attnsearch.blocks.errors import BlockError
from attnsearch.blocks.evaluating import evaluating
from attnsearch.blocks.mechanisms.axial_core import (
    PositionAttention,
    attend_without_position,
    distances,
    move_running,
    product_moments,
)
from attnsearch.blocks.ranks import pooled, whole_count

AXES = ("height", "width")
GATE_POSITIONS = ("pre_bn", "post_bn")
GATES = {"f_qr": 0.1, "f_kr": 0.1, "f_sve": 0.1, "f_sv": 1.0}
"""The gates of the position terms, with their published start."""

_SHIFT = "adds the same to all logits of a head, which the softmax cancels; kept for names"


class AxialAttention(nn.Module):
    """Multi-head self-attention along one axis of a map.

    Args:
        channels: Channels C of the input.
        out_channels: Channels C' of the output; divisible by `2 * heads`.
        heads: Number of heads.
        span: Length of the axis that the position table is built for.
        stride: Side length of the average pooling after the attention.
        axis: `height` (columns attend within themselves) or `width` (rows do).
        gated: Whether the position terms have gates.
        position: Whether there are position terms.
        gate_position: `pre_bn` (published) or `post_bn`; see the module.
        learn_gates: Whether the gates are trained.
        interpolate: Whether a map of another length gets a linearly interpolated table; else it
            is an error.
    """

    dead_parameters: ClassVar[Mapping[str, str]] = {"bn_similarity.bias": _SHIFT}

    flatten_index: Tensor
    f_qr: nn.Parameter
    f_kr: nn.Parameter
    f_sve: nn.Parameter
    f_sv: nn.Parameter

    def __init__(
        self,
        channels: int,
        out_channels: int,
        heads: int = 8,
        span: int = 56,
        stride: int = 1,
        axis: str = "height",
        gated: bool = False,
        position: bool = True,
        gate_position: str = "pre_bn",
        learn_gates: bool = True,
        interpolate: bool = False,
    ) -> None:
        super().__init__()
        checks.counts("axial", channels=channels, out_channels=out_channels, heads=heads)
        _check_heads(out_channels, heads)
        if checks.boolean("axial", "gated", gated) and not position:
            raise BlockError(
                f"axial: gated={gated} needs position=True, since the gates weigh the position "
                f"terms; the nearest valid value is gated=False"
            )
        self.heads = heads
        self.head_channels = out_channels // heads
        self.span = checks.integer("axial", "span", span)
        self.stride = checks.integer("axial", "stride", stride)
        self.axis = checks.one_of("axial", "axis", axis, AXES)
        self.gated = gated
        self.position = checks.boolean("axial", "position", position)
        self.gate_position = checks.one_of("axial", "gate_position", gate_position, GATE_POSITIONS)
        self.interpolate = checks.boolean("axial", "interpolate", interpolate)
        if gated:
            checks.boolean("axial", "learn_gates", learn_gates)
            for name, start in GATES.items():
                gate = nn.Parameter(torch.tensor(start), requires_grad=learn_gates)
                self.register_parameter(name, gate)
        terms = 3 if position else 1
        self.qkv_transform = nn.Conv1d(channels, 2 * out_channels, kernel_size=1, bias=False)
        self.bn_qkv = nn.BatchNorm1d(2 * out_channels)
        self.bn_similarity = nn.BatchNorm2d(terms * heads)
        self.bn_output = nn.BatchNorm1d((2 if position else 1) * out_channels)
        if position:
            self.relative = nn.Parameter(torch.empty(2 * self.head_channels, 2 * span - 1))
            # A function of the span alone, but published checkpoints hold it.
            self.register_buffer("flatten_index", distances(span, torch.device("cpu")))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the published normal start: variances 1 / C and 1 / head channels."""
        nn.init.normal_(self.qkv_transform.weight, 0.0, self.qkv_transform.in_channels**-0.5)
        if self.position:
            nn.init.normal_(self.relative, 0.0, self.head_channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended map (B, C', H / stride, W / stride), rounded down.

        Raises:
            BlockError: The axis is not `span` long, or a training batch of one image has one
                position.
        """
        qkv = self._project(x)
        B, L = len(x), qkv.shape[-1]
        y = self._attend(qkv).view(B, len(qkv) // B, -1, L)
        y = y.permute(0, 2, 1, 3) if self.axis == "width" else y.permute(0, 2, 3, 1)
        y = y.contiguous(memory_format=checks.memory_format(x))
        return F.avg_pool2d(y, self.stride) if self.stride > 1 else y

    def received(self, x: Tensor) -> Tensor:
        """Return the attention that each position receives within its line, (B, H, W).

        The mean of a_ij over the heads and over the queries i of the line; 1 in sum over each
        line. In evaluation mode, as this module's normalisations stand.

        Args:
            x: The input (B, C, H, W).
        """
        c, G = self.head_channels, self.heads
        qkv = self._project(x).float()
        L = qkv.shape[-1]
        q, k, _ = torch.split(qkv, [c // 2, c // 2, c], dim=2)
        if self.position:
            table_q, table_k, _ = torch.split(self._table(L).float(), [c // 2, c // 2, c])
            # Of the products the factors need the sizes alone in evaluation mode.
            first, second, third = self._factors([(q, k)] * 3).view(3, G, 1, 1)
            logits = first * (q.transpose(2, 3) @ k)
            logits = logits + second * torch.einsum("ngci,cij->ngij", q, table_q)
            logits = logits + third * torch.einsum("ngcj,cji->ngij", k, table_k)
        else:
            logits = self._factors([(q, k)]).view(G, 1, 1) * (q.transpose(2, 3) @ k)
        gained: Tensor = logits.softmax(-1).mean((1, 2)).view(len(x), -1, L)
        return gained if self.axis == "width" else gained.transpose(1, 2)

    def _project(self, x: Tensor) -> Tensor:
        """Return queries, keys and values of every line of a map, (B M, heads, 2c, L)."""
        lines = x.permute((0, 2, 1, 3) if self.axis == "width" else (0, 3, 1, 2))
        B, M, C, L = lines.shape  # M lines of length L
        if self.training:
            checks.enough_for_statistics("axial", B, M, L, "the map")
        qkv = self.bn_qkv(self.qkv_transform(lines.reshape(B * M, C, L)))
        projected: Tensor = qkv.view(B * M, self.heads, 2 * self.head_channels, L)
        return projected

    def _attend(self, qkv: Tensor) -> Tensor:
        """Attend within the lines: (N, heads, 2c, L) to (N, C', L)."""
        device = qkv.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            # The statistics need float32, and the products take what they are given.
            with torch.autocast(device, enabled=False):
                pair = self._attended(qkv)
        else:
            pair = self._attended(qkv)
        normal = self.bn_output(pair.reshape(pair.shape[0], -1, pair.shape[-1]))
        pair = normal.view(pair.shape)
        if self.gated and self.gate_position == "post_bn":
            pair = pair * torch.stack([self.f_sv, self.f_sve]).view(2, 1)
        attended: Tensor = pair.sum(2) if self.position else pair
        return attended

    def _attended(self, qkv: Tensor) -> Tensor:
        """Return what each position gathers.

        Args:
            qkv: (N, heads, 2c, L).

        Returns:
            Without position terms (N, C', L), otherwise (N, C', 2, L): as in the published code
            the values and the positions alternate as channels of the normalisation.
        """
        N, G, _, L = qkv.shape
        c = self.head_channels
        q, k, v = torch.split(qkv, [c // 2, c // 2, c], dim=2)
        # Statistics and factors are computed in float32 at least.
        wide = torch.promote_types(qkv.dtype, torch.float32)
        q_wide, k_wide = q.to(wide), k.to(wide)
        if not self.position:
            factor = self._factors([(q_wide, k_wide)])
            q = (q_wide * factor.view(G, 1, 1)).to(qkv.dtype)
            return attend_without_position(q, k, v).reshape(N, G * c, L)

        table_q, table_k, table_v = torch.split(self._table(L), [c // 2, c // 2, c])
        products = [
            (q_wide, k_wide),
            # One row for each position: its queries (or keys) of all lines, its part of the table.
            (q_wide.permute(3, 1, 2, 0), table_q.to(wide).transpose(0, 1).unsqueeze(1)),
            (k_wide.permute(3, 1, 2, 0), table_k.to(wide).transpose(0, 1).unsqueeze(1)),
        ]
        factors = self._factors(products).view(3, G, 1, 1)
        vectors = (q_wide * factors[0], k, q_wide * factors[1], k_wide * factors[2], v)
        y, z = PositionAttention.apply(  # type: ignore[no-untyped-call]
            *(vector.to(qkv.dtype).reshape(N * G, -1, L) for vector in vectors),
            *(table.to(qkv.dtype) for table in (table_q, table_k, table_v)),
        )
        if self.gated and self.gate_position == "pre_bn":
            y, z = self.f_sv * y, self.f_sve * z
        return torch.stack([y, z], dim=2).view(N, G * c, 2, L)

    def _factors(self, products: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return what `bn_similarity` multiplies each term's logits by, (terms * heads,).

        Its mean and shift would add a constant to all logits of a head, which the softmax over the
        positions cancels. In training the running statistics move as those of the normalisation.

        Args:
            products: For each term the two sides whose products its logits are, as
                `product_moments` takes them.
        """
        norm = self.bn_similarity
        G = self.heads
        gates = None
        if self.gated:
            gates = torch.stack([torch.ones_like(self.f_qr), self.f_qr, self.f_kr])
            gates = gates.repeat_interleave(G)
        before = gates if self.gate_position == "pre_bn" else None
        if norm.training or norm.running_var is None:
            moments = [product_moments(a, b) for a, b in products]
            mean, variance = pooled(*(torch.cat(parts) for parts in zip(*moments, strict=True)))
            if before is not None:
                mean, variance = before * mean, before.square() * variance
            N, _, _, L = products[0][0].shape
            move_running(norm, mean, variance, whole_count(N * L * L))
        else:
            variance = norm.running_var
        # The shift is dead, but its gradient is 0 rather than none, as of any parameter in use.
        factors = norm.weight * (variance + norm.eps).rsqrt() + 0 * norm.bias
        return factors if gates is None else gates * factors

    def _table(self, length: int) -> Tensor:
        """Return R of all pairs of positions, (2c, length, length), read at i - j."""
        if length == self.span:
            return self.relative.index_select(1, self.flatten_index).view(-1, length, length)
        if not self.interpolate:
            raise BlockError(
                f"axial: the {self.axis} is {length}, but the position table was built for "
                f"span={self.span}; the valid value is {length}, or interpolate=True"
            )
        # The ends stay the largest distances and the middle stays distance 0.
        table = F.interpolate(
            self.relative.unsqueeze(0), size=2 * length - 1, mode="linear", align_corners=True
        ).squeeze(0)
        index = distances(length, table.device)
        return table.index_select(1, index).view(-1, length, length)


class Axial(nn.Module):
    """Axial attention along the height, then along the width, so that all positions connect.

    The position tables are built for the size of the map and interpolated for other sizes.

    Args:
        channels: Channels of the input.
        out_channels: Channels of the output, divisible by `2 * heads`; those of the input if
            `None`.
        stride: Side length of the average pooling after the attention; windows at the edge may
            be incomplete, so that sizes round up as a convolution's do.
        heads: Number of heads.
        gated: Whether the position terms have gates.
        position: Whether there are position terms.
        size: Height and width of the input; 56 each if `None`.
        gate_position: `pre_bn` (published) or `post_bn`; see the module.
        learn_gates: Whether the gates are trained.
    """

    dead_parameters: ClassVar[Mapping[str, str]] = {
        "hight_block.bn_similarity.bias": _SHIFT,
        "hight_block.bn_output.bias": "the normalisation of the next queries, keys and values, "
        "which have no bias, subtracts it in training; kept for names",
        "width_block.bn_similarity.bias": _SHIFT,
    }

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        stride: int = 1,
        heads: int = 8,
        gated: bool = False,
        position: bool = True,
        size: tuple[int, int] | None = None,
        gate_position: str = "pre_bn",
        learn_gates: bool = True,
    ) -> None:
        super().__init__()
        out = channels if out_channels is None else out_channels
        height, width = (56, 56) if size is None else checks.map_size("axial", size)
        self.stride = checks.integer("axial", "stride", stride)

        settings: dict[str, Any] = {"gated": gated, "position": position, "interpolate": True}
        settings |= {"gate_position": gate_position, "learn_gates": learn_gates}
        # The published attribute is spelt so, and checkpoints hold it.
        self.hight_block = AxialAttention(channels, out, heads, height, axis="height", **settings)
        self.width_block = AxialAttention(out, out, heads, width, axis="width", **settings)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended map (B, C', ceil(H / stride), ceil(W / stride)).

        Raises:
            BlockError: A training batch of one image with a map of one position.
        """
        y: Tensor = self.width_block(self.hight_block(x))
        return F.avg_pool2d(y, self.stride, ceil_mode=True) if self.stride > 1 else y

    @torch.no_grad()
    def attention_map(self, x: Tensor) -> Tensor:
        """Return how much attention each position receives, (B, H, W), 1 in sum.

        The mean over both axes of what a position receives in its column and in its row, over all
        heads and queries. Computed in evaluation mode; nothing changes.

        Args:
            x: The input (B, C, H, W).
        """
        with evaluating(self):
            return received_along_both(self.hight_block, self.width_block, x)


def received_along_both(columns: AxialAttention, rows: AxialAttention, x: Tensor) -> Tensor:
    """Return how much attention each position receives, (B, H, W), 1 in sum.

    The mean of what it receives in its column and, after that, in its row.

    Args:
        columns: Attention along the height.
        rows: Attention along the width, of what the first one gives.
        x: The first one's input (B, C, H, W).
    """
    in_columns = columns.received(x)
    in_rows = rows.received(columns(x))
    _, height, width = in_columns.shape
    return (in_columns / width + in_rows / height) / 2


def _check_heads(out: int, heads: int) -> None:
    if out % 2:
        raise BlockError(
            f"axial: out_channels={out} must be even, since queries and keys take half of them "
            f"each; the nearest valid value is {out + 1}"
        )
    if out % (2 * heads):
        valid = checks.nearest(heads, checks.divisors(out // 2))
        raise BlockError(
            f"axial: heads={heads} must fit out_channels={out}, a multiple of 2 * heads; "
            f"the nearest valid value is {valid}"
        )
