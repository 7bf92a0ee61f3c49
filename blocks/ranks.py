"""Several processes that train one network, each with its share of every batch.

A batch goes through a network in pieces, of which there is one unless gradients are accumulated.
Of a piece each process, its *rank* r of n, takes consecutive images, in the order that one process
has them. What a piece computes as a whole is summed over the ranks: its loss, what ECRM keeps of
it, and with `train.sync_batch_norm` the statistics of batch normalisation, those without a module
of their own among them. A piece too small to give each rank `LEAST` images is computed by all of
them alike. So a step has the gradients of one process that computes it alone:

    g = 1/n sum_r g_r,  with g_r = n times the gradient that reaches rank r's images

which is what `DistributedDataParallel` computes, since `totals` passes n times its gradient on.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LEAST = 2  # images of a rank's part: one alone has no statistics
LOOPBACK = "127.0.0.1"
PATIENCE = timedelta(hours=1)  # of a rank with the others, as while one writes a checkpoint


@dataclass(frozen=True)
class Ranks:
    """The processes that train a network, and this one's place among them; by default it alone.

    Attributes:
        rank: Its number; 0 speaks for all.
        count: How many there are.
        synced: Whether batch normalisation takes its statistics over all of them.
    """

    rank: int = 0
    count: int = 1
    synced: bool = False

    def parts(self, size: int) -> tuple[int, ...]:
        """Return how many images of a piece each rank takes; nothing where each takes them all."""
        if self.count == 1 or size < LEAST * self.count:
            return ()
        each, more = divmod(size, self.count)
        return tuple(each + (rank < more) for rank in range(self.count))

    def share(self, pieces: Sequence[int]) -> "Share":
        """Return what this rank takes of a batch that is computed in pieces of some sizes."""
        return Share(self, tuple(pieces))

    @contextmanager
    def working(self, size: int) -> Iterator[None]:
        """Compute a piece of so many images, of which this rank has its part."""
        global _piece
        parts = self.parts(size)
        before, _piece = _piece, _Piece(self, parts) if parts else None
        try:
            yield
        finally:
            _piece = before


@dataclass(frozen=True)
class Share:
    """A rank's part of a batch.

    Attributes:
        ranks: Whose.
        pieces: How many images of the batch go through the network at once, one after the other.
    """

    ranks: Ranks
    pieces: tuple[int, ...]

    @property
    def size(self) -> int:
        """Images of the batch."""
        return sum(self.pieces)

    @cached_property
    def own(self) -> list[int]:
        """Images of each piece that this rank computes."""
        return [
            (self.ranks.parts(size) or [size] * self.ranks.count)[self.ranks.rank]
            for size in self.pieces
        ]

    @cached_property
    def rows(self) -> Tensor:
        """Their places in the batch, on the host."""
        return self._rows(self.ranks.rank)

    def whole(self, own: Tensor) -> Tensor:
        """Return what all ranks have of a batch (B, ...), from this one's part."""
        if self.ranks.count == 1:
            return own
        rows = [self._rows(rank) for rank in range(self.ranks.count)]
        batch = own.new_empty(self.size, *own.shape[1:])
        for places, part in zip(rows, _gathered(own, [len(r) for r in rows]), strict=True):
            batch[places.to(own.device)] = part
        return batch

    def _rows(self, rank: int) -> Tensor:
        rows, first = [], 0
        for size in self.pieces:
            parts = self.ranks.parts(size)
            start = first + sum(parts[:rank])
            rows.append(torch.arange(start, start + (parts[rank] if parts else size)))
            first += size
        return torch.cat(rows)


def own_rows(order: Tensor, shares: Sequence[Share]) -> tuple[Tensor, list[int]]:
    """Return this rank's part of an order (N,) that is cut into batches, and its sizes."""
    batches = torch.split(order, [share.size for share in shares])
    own = [batch[share.rows] for batch, share in zip(batches, shares, strict=True)]
    return torch.cat(own), [len(rows) for rows in own]


@dataclass(frozen=True)
class _Piece:
    """What is computed now: a piece, and each rank's part of it."""

    ranks: Ranks
    parts: tuple[int, ...]


_piece: _Piece | None = None


@contextmanager
def micro_batch(number: int, count: int) -> Iterator[None]:
    """Compute one of so many micro-batches of each rank's part, see `Tensor.tensor_split`."""
    global _piece
    before = _piece
    if before is not None:
        parts = tuple(size // count + (number < size % count) for size in before.parts)
        _piece = _Piece(before.ranks, parts)
    try:
        yield
    finally:
        _piece = before


def smallest_part(own: int) -> int:
    """Return the images of the rank that has the fewest, from this one's."""
    return own if _piece is None else min(_piece.parts)


def alone() -> bool:
    """Return whether this process computes all of the piece."""
    return _piece is None


def totals(*values: Tensor) -> tuple[Tensor, ...]:
    """Sum values of a loss over the ranks; what follows is to be the same on each of them."""
    if _piece is None:
        return values
    flat = torch.cat([value.reshape(-1) for value in values])
    summed = _Sum.apply(flat, _piece.ranks.count)  # type: ignore[no-untyped-call]
    pieces = torch.split(summed, [value.numel() for value in values])
    return tuple(piece.view_as(value) for piece, value in zip(pieces, values, strict=True))


@torch.no_grad()
def gathered(own: Tensor) -> Tensor:
    """Return what all ranks have for their images (B, ...), in their order, without gradient."""
    if _piece is None:
        return own
    return torch.cat(_gathered(own, _piece.parts))


def everywhere(own: Tensor) -> Tensor:
    """Return the same for a loss of any form, which each of them computes alike of the whole."""
    if _piece is None:
        return own
    whole: Tensor = _Everywhere.apply(own, _piece)  # type: ignore[no-untyped-call]
    return whole


def pooled(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance over all ranks' images, where statistics are synchronised.

    Args:
        mean: Over this rank's.
        variance: Over this rank's, biased.
    """
    if _piece is None or not _piece.ranks.synced:
        return mean, variance
    share = _piece.parts[_piece.ranks.rank] / sum(_piece.parts)
    whole = _Sum.apply(mean * share)  # type: ignore[no-untyped-call]
    apart = (variance + (mean - whole).square()) * share
    return whole, _Sum.apply(apart)  # type: ignore[no-untyped-call]


def whole_count(own: int) -> int:
    """Return how many values all ranks have where this one has so many, as `pooled` pools."""
    if _piece is None or not _piece.ranks.synced:
        return own
    return own * sum(_piece.parts) // _piece.parts[_piece.ranks.rank]


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float | Tensor,
    eps: float,
) -> Tensor:
    """Normalise as `torch.nn.functional.batch_norm` in training, over the ranks where they ask.

    `torch.nn.SyncBatchNorm` does the same on cards, and nothing on a CPU.
    """
    if _piece is None or not _piece.ranks.synced:
        shift = float(momentum)
        return F.batch_norm(x, running_mean, running_var, weight, bias, True, shift, eps)
    y, mean, variance = _BatchNorm.apply(x, weight, bias, eps)  # type: ignore[no-untyped-call]
    if running_mean is not None and running_var is not None:
        count = whole_count(x.numel() // x.shape[1])
        with torch.no_grad():
            unbiased = variance * (count / max(1, count - 1))
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    normalised: Tensor = y
    return normalised


def synchronise(network: nn.Module) -> None:
    """Let a network's batch normalisations take their statistics over the ranks that ask for it.

    A block whose own class computes statistics is left as it is; those of attnsearch call
    `batch_norm` or `pooled`.
    """
    plain = nn.modules.batchnorm._BatchNorm
    for module in network.modules():
        kind = type(module)
        if isinstance(module, plain) and kind.forward is plain.forward:
            # Still of its class, as whoever asks for a BatchNorm1d expects.
            module.__class__ = type(kind.__name__, (_Synced, kind), {})


def meeting_place(count: int, port: int = 0) -> Any:
    """Return where so many processes of this machine find each other.

    Args:
        count: How many.
        port: Where the first of them has made it; 0 makes it, see its `port`.
    """
    from torch import distributed

    stores: Any = distributed
    return stores.TCPStore(LOOPBACK, port, count, is_master=not port, wait_for_workers=False)


def connect(rank: int, count: int, store: Any, device: torch.device, *, synced: bool) -> Ranks:
    """Join the processes that train one network; all of them have to.

    Args:
        rank: This one's number.
        count: How many there are.
        store: Their meeting place.
        device: Where this one trains.
        synced: See `Ranks`.
    """
    from torch import distributed

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(
        backend, store=store, rank=rank, world_size=count, timeout=PATIENCE
    )
    return Ranks(rank, count, synced)


def disconnect() -> None:
    """Leave them."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


class _Synced:
    """What a batch normalisation does in training where statistics are of all ranks."""

    def forward(self: Any, x: Tensor) -> Tensor:
        if not self.training or _piece is None or not _piece.ranks.synced:
            y: Tensor = super().forward(x)  # type: ignore[misc]
            return y
        self._check_input_dim(x)
        momentum = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        if momentum is None:
            tracked = self.num_batches_tracked
            momentum = 0.0 if tracked is None else 1 / tracked.to(self.running_mean.dtype)
        moved = self.running_mean, self.running_var
        return batch_norm(x, *moved, self.weight, self.bias, momentum, self.eps)


class _Everywhere(torch.autograd.Function):
    """What all ranks have, which they go on with alike; the gradient is as that of `totals`."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, piece: _Piece) -> Tensor:
        ctx.piece = piece
        return torch.cat(_gathered(own, piece.parts))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ranks, parts = ctx.piece.ranks, ctx.piece.parts
        return torch.split(grad, list(parts))[ranks.rank] * ranks.count, None


class _Sum(torch.autograd.Function):
    """The sum over the ranks.

    What all of `count` ranks go on with alike has so many times its gradient; what each goes on
    with in its own way, with no count, has that of all of them.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, count: int = 0) -> Tensor:
        ctx.count = count
        return _sum(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.count if ctx.count else _sum(grad), None


class _BatchNorm(torch.autograd.Function):
    """Batch normalisation over all ranks; returns what it normalised by too."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = x.double() if x.dtype == torch.float64 else x.float()
        variance, mean = torch.var_mean(wide, _others(x), correction=0)
        mean, variance = pooled(mean, variance)
        inverse = (variance + eps).rsqrt()
        scale = inverse if weight is None else inverse * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        y = torch.addcmul(_channels(shift, x), wide, _channels(scale, x)).to(x.dtype)
        ctx.save_for_backward(x, mean, inverse, scale)
        ctx.count = whole_count(x.numel() // x.shape[1])
        ctx.affine = weight is not None, bias is not None
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, inverse, scale = ctx.saved_tensors
        wide = grad.to(mean.dtype)
        centred = (x.to(mean.dtype) - _channels(mean, x)) * _channels(inverse, x)
        own = torch.stack([wide.sum(_others(x)), (wide * centred).sum(_others(x))])
        level, along = _sum(own) / ctx.count
        grad_x = (wide - _channels(level, x) - centred * _channels(along, x)) * _channels(scale, x)
        has_weight, has_bias = ctx.affine
        grad_weight, grad_bias = own[1] if has_weight else None, own[0] if has_bias else None
        return grad_x.to(x.dtype), grad_weight, grad_bias, None


def _others(x: Tensor) -> list[int]:
    return [0, *range(2, x.dim())]


def _channels(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.dim() - 2))


def _sum(value: Tensor) -> Tensor:
    from torch import distributed

    total = value.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


def _gathered(own: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Return every rank's part, of these sizes."""
    from torch import distributed

    padded = own.new_zeros(max(sizes), *own.shape[1:])
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    return [part[:size] for part, size in zip(parts, sizes, strict=True)]
