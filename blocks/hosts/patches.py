"""Training on the patches of an image at once, as if they came one after another.

MedT's local branch sees the patches of an image in turn. In training that is not the same as one
large batch: batch normalisation takes its statistics from one patch of all images at a time, and
moves its running statistics once for each. Both are had in one pass:

* Patches lie batch-major, (B P, C, h, w), image by image, so that (B, P C, h, w) is the same
  memory and its per-channel statistics are those of each patch.
* P moving averages with momentum m, of statistics s_0 ... s_{P-1}, end at
  (1 - m)^P r + sum_p m (1 - m)^{P-1-p} s_p.

In evaluation mode every image, and so every patch, is normalised by the running statistics, and
nothing here differs from a large batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks.errors import BlockError
from attnsearch.blocks.mechanisms import AxialAttention
from attnsearch.blocks.ranks import batch_norm


def split(x: Tensor, rows: int) -> Tensor:
    """Cut images (B, C, H, W) into rows x rows patches (B P, C, H / rows, W / rows).

    The patches of an image follow each other, row by row; H and W are divisible by `rows`.
    """
    B, C, H, W = x.shape
    grid = x.reshape(B, C, rows, H // rows, rows, W // rows).permute(0, 2, 4, 1, 3, 5)
    return grid.reshape(B * rows * rows, C, H // rows, W // rows)


def join(x: Tensor, rows: int) -> Tensor:
    """Put patches (B P, C, h, w) together again: (B, C, rows h, rows w); undoes `split`."""
    N, C, h, w = x.shape
    grid = x.reshape(N // rows**2, rows, rows, C, h, w).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(N // rows**2, C, rows * h, rows * w)


class PatchBatchNorm(nn.BatchNorm2d):
    """Batch normalisation of folded patches, exact to one patch after another.

    Parameters and buffers are those of a batch normalisation. In training it can run only between
    `Folding.start` and `Folding.finish`, and once.

    Args:
        channels: Channels C.
        folding: What it shares with the other normalisations of the patches.
    """

    def __init__(self, channels: int, folding: "Folding") -> None:
        super().__init__(channels)
        self.folding = folding
        self.slot = folding.add(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B P, C, ...) to the same shape."""
        if not self.training:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        weight, bias, mean, variance = self.folding.slots[self.slot]
        folded = x.reshape(-1, len(weight), *x.shape[2:])
        # With momentum 1 what is given as running statistics becomes the batch's.
        y = batch_norm(folded, mean, variance, weight, bias, momentum=1.0, eps=self.eps)
        return y.view(x.shape)


class Folding:
    """What the normalisations of one branch share: parameters and statistics in one piece each.

    There are dozens of them and their channels are few, so that handling each by itself costs more
    than the normalising.

    Args:
        patches: Patches P of an image.

    Attributes:
        slots: During a training pass, for each normalisation its scale and shift, repeated for
            each patch (P C), and where the mean and variance of its patches go, (P C) likewise.
    """

    def __init__(self, patches: int) -> None:
        self.patches = patches
        self.norms: list[PatchBatchNorm] = []
        self.slots: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self._index: Tensor | None = None

    def add(self, norm: PatchBatchNorm) -> int:
        """Take a normalisation in; returns its number."""
        self.norms.append(norm)
        return len(self.norms) - 1

    def start(self) -> None:
        """Begin a pass in training mode."""
        P = self.patches
        scales: list[Tensor] = [norm.weight for norm in self.norms]
        affine = torch.cat(scales + [norm.bias for norm in self.norms])
        repeated = affine.index_select(0, self._repeats(affine.device))
        statistics = torch.zeros_like(repeated, requires_grad=False)
        sizes = [P * norm.num_features for norm in self.norms] * 2
        count = len(self.norms)
        scaled, room = torch.split(repeated, sizes), torch.split(statistics, sizes)
        self.slots = list(
            zip(scaled[:count], scaled[count:], room[:count], room[count:], strict=True)
        )

    def finish(self) -> None:
        """End a pass: move the running statistics by those of the patches, in their order."""
        P = self.patches
        slots, self.slots = self.slots, []
        trained = [norm for norm in self.norms if norm.training]
        with torch.no_grad():
            for momentum in dict.fromkeys(norm.momentum for norm in trained):
                norms = [norm for norm in trained if norm.momentum == momentum]
                running, moments = [], []
                for norm in norms:
                    assert norm.running_mean is not None and norm.running_var is not None
                    running += [norm.running_mean, norm.running_var]
                    moments += [statistic.view(P, -1) for statistic in slots[norm.slot][2:]]
                statistics = torch.cat(moments, dim=1)
                if momentum is None:  # the plain average over all batches so far
                    before = norms[0].num_batches_tracked
                    assert before is not None
                    keep = before / (before + P)
                    torch._foreach_mul_(running, keep)
                    moved = statistics.sum(0) / (before + P)
                else:
                    weights = torch.arange(
                        P - 1, -1, -1, device=statistics.device, dtype=statistics.dtype
                    )
                    moved = momentum * ((1 - momentum) ** weights) @ statistics
                    torch._foreach_mul_(running, (1 - momentum) ** P)
                torch._foreach_add_(
                    running, torch.split(moved, [len(buffer) for buffer in running])
                )
            seen = [norm.num_batches_tracked for norm in trained]
            torch._foreach_add_([count for count in seen if count is not None], P)

    def _repeats(self, device: torch.device) -> Tensor:
        """Return the plain place of each place in the repeated scales and shifts."""
        if self._index is None or self._index.device != device:
            pieces, first = [], 0
            for norm in self.norms * 2:
                piece = torch.arange(first, first + norm.num_features, device=device)
                pieces.append(piece.repeat(self.patches))
                first += norm.num_features
            self._index = torch.cat(pieces)
        return self._index


class PatchAxialAttention(AxialAttention):
    """Axial attention within folded patches, exact to one patch after another.

    Names and numbers are those of `AxialAttention`.

    Args:
        channels: Channels C of the input.
        out_channels: Channels C' of the output; divisible by `2 * heads`.
        heads: Number of heads.
        span: Length of the axis.
        axis: ``height`` or ``width``.
        position: Whether there are position terms.
        folding: What the normalisations of the patches share.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        heads: int,
        span: int,
        axis: str,
        position: bool,
        folding: Folding,
    ) -> None:
        super().__init__(channels, out_channels, heads, span, 1, axis, position=position)
        for name in ("bn_qkv", "bn_similarity", "bn_output"):
            setattr(self, name, PatchBatchNorm(getattr(self, name).num_features, folding))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B P, C, H, W) to (B P, C', H, W)."""
        if not self.training:
            return super().forward(x)
        N, _, H, W = x.shape
        G, c = self.heads, self.head_channels
        qkv = self.bn_qkv(F.conv2d(x, self.qkv_transform.weight.unsqueeze(3)))
        # Lines along the axis: (N, G, M, 2c, L). Channels stay before them, for the statistics.
        order = (0, 1, 4, 2, 3) if self.axis == "height" else (0, 1, 3, 2, 4)
        lines = qkv.view(N, G, 2 * c, H, W).permute(order)
        M, L = (W, H) if self.axis == "height" else (H, W)
        lines = lines.reshape(N * G * M, 2 * c, L)
        q, k, v = torch.split(lines, [c // 2, c // 2, c], dim=1)
        logits = torch.bmm(q.transpose(1, 2), k)
        if self.position:
            if self.span != L:
                raise BlockError(
                    f"axial: the {self.axis} of a patch is {L}, but the position table was built "
                    f"for span={self.span}; the valid value is {L}"
                )
            table = self.relative.index_select(1, self.flatten_index).view(2 * c, L, L)
            table_q, table_k, table_v = torch.split(table, [c // 2, c // 2, c])
            qr = torch.einsum("bci,cij->bij", q, table_q)
            kr = torch.einsum("bcj,cji->bij", k, table_k)
            terms = torch.cat([term.reshape(N, G, M * L, L) for term in (logits, qr, kr)], dim=1)
            logits = self.bn_similarity(terms).view(N, 3, G, M * L, L).sum(1)
        else:
            logits = self.bn_similarity(logits.view(N, G, M * L, L))
        weights = logits.softmax(-1).view(N * G * M, L, L)
        y = self._map(torch.bmm(v, weights.transpose(1, 2)), x)
        if self.position:
            # The published code interleaves the two: channel 2m is sv's m-th, 2m + 1 is sve's.
            sve = self._map(torch.einsum("bij,cij->bci", weights, table_v), x)
            y = torch.stack([y, sve], dim=2).view(N, 2 * G * c, H, W)
            return torch.unflatten(self.bn_output(y), 1, (G * c, 2)).sum(2)
        attended: Tensor = self.bn_output(y)
        return attended

    def _map(self, lines: Tensor, x: Tensor) -> Tensor:
        """Return lines (N G M, c, L) as a map (N, G c, H, W), of the size of x."""
        N, _, H, W = x.shape
        M, L = (W, H) if self.axis == "height" else (H, W)
        order = (0, 1, 3, 4, 2) if self.axis == "height" else (0, 1, 3, 2, 4)
        grid = lines.view(N, self.heads, M, self.head_channels, L).permute(order)
        return grid.reshape(N, -1, H, W)
