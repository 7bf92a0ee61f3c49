"""A step in micro-batches, where memory does not hold a batch: with the gradients of the batch.

A batch goes through the network twice. First without gradients, which leaves the outputs of the
whole batch; its loss is computed from them as ever, and the gradient of each output. Then one
micro-batch after the other with gradients, where each output meets the gradient that it has in
the whole batch (Gao et al. 2021, https://arxiv.org/abs/2101.06983). So the loss need not be a mean
over examples: Dice over a batch, weights of classes and ignored pixels count as in the whole.

What a network computes over a batch by itself is over a micro-batch then: the statistics of batch
normalisation in training, and what ECRM's bank holds when an image meets it.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from attnsearch.blocks.ranks import micro_batch, smallest_part
from attnsearch.runs.training.progress import set_streams, streams

SMALLEST = 2  # images of a micro-batch: one alone has no statistics

Loss = Callable[[Tensor, Tensor], Tensor]


class WholeBatch:
    """Gives the losses of micro-batches the values and gradients that their batch has."""

    def __init__(self) -> None:
        self._stands_in: Callable[[Loss, Tensor, Tensor], Tensor] | None = None

    def of(self, loss: Loss) -> Loss:
        """Return a loss of outputs (B, ...) and targets (B, ...) that knows of the batch."""

        def either(outputs: Tensor, targets: Tensor) -> Tensor:
            if self._stands_in is None:
                return loss(outputs, targets)
            return self._stands_in(loss, outputs, targets)

        return either

    def micro_batches(
        self,
        count: int,
        images: Tensor,
        targets: Tensor,
        network: nn.Module,
        forward: Callable[[Tensor, Tensor], object],
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and targets of each micro-batch; each is to be used before the next.

        Args:
            count: How many; fewer where they would hold less than `SMALLEST` images.
            images: (B, C, H, W).
            targets: (B, ...).
            network: What `forward` changes of its buffers the first time is undone.
            forward: Computes all losses of a micro-batch, always in the same order.
        """
        count = min(count, smallest_part(len(images)) // SMALLEST)
        if count <= 1:
            yield images, targets
            return
        pieces = list(zip(images.tensor_split(count), targets.tensor_split(count), strict=True))
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        drawn = streams(images.device)
        calls: list[list[tuple[Loss, Tensor, Tensor]]] = []

        def note(loss: Loss, outputs: Tensor, wanted: Tensor) -> Tensor:
            calls[-1].append((loss, outputs.detach().clone(), wanted))
            return outputs.new_zeros(())

        try:
            self._stands_in = note
            with torch.no_grad():
                for number, piece in enumerate(pieces):
                    calls.append([])
                    with micro_batch(number, count):
                        forward(*piece)
                for name, buffer in network.named_buffers():
                    if name in buffers:
                        buffer.copy_(buffers[name])
            set_streams(drawn, images.device)
            known = [_of_batch(call) for call in zip(*calls, strict=True)]
            calls.clear()
            for number, piece in enumerate(pieces):
                self._stands_in = _share(known, number)
                with micro_batch(number, count):
                    yield piece
        finally:
            self._stands_in = None


def _share(
    known: Sequence[tuple[Tensor, Sequence[Tensor]]], number: int
) -> Callable[[Loss, Tensor, Tensor], Tensor]:
    """Return what gives a micro-batch its losses, in their order, from what is known of each."""
    upcoming = iter(known)

    def told(loss: Loss, outputs: Tensor, wanted: Tensor) -> Tensor:
        value, gradients = next(upcoming)
        # The batch's value, with the gradient of these outputs in it.
        return value + ((outputs - outputs.detach()) * gradients[number]).sum()

    return told


def _of_batch(call: tuple[tuple[Loss, Tensor, Tensor], ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return a loss of the whole batch, and its gradients for the outputs of each micro-batch."""
    loss = call[0][0]
    pieces = [outputs for _, outputs, _ in call]
    outputs = torch.cat(pieces).requires_grad_()
    value = loss(outputs, torch.cat([wanted for _, _, wanted in call]))
    (gradient,) = torch.autograd.grad(value, outputs)
    return value.detach(), torch.split(gradient, [len(piece) for piece in pieces])


def slow_statistics(network: nn.Module, times: float) -> None:
    """Let running statistics forget in so many times as many updates what they did in one."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
            module.momentum = 1 - (1 - module.momentum) ** (1 / times)
