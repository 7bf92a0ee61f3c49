"""One training step: forward, loss, backward and update; eager, compiled or as a CUDA graph.

A graph launches all kernels of a step at once, so that the host does not hold up a fast card. It
computes what the eager step does, with the same kernels. It is taken where it gives the eager
step's weights on the first batch that it sees, and left, as the record says, where it cannot be.

A step that may be captured has a stream of its own, for all but replays. Autograd goes on with
nodes of an earlier step as long as anything refers to that, such as a block's side outputs, and a
node that is of another stream ends a capture. And cuBLAS has a workspace for each stream: graphs
that were captured on the same one, as torch does by default, would share it while they run at the
same time, as those of replicas do.
"""

import contextlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from attnsearch.blocks.ranks import Ranks, Share, synchronise, totals
from attnsearch.runs.training.memory import never_waiting, on_stream, own_stream
from attnsearch.runs.training.optim import (
    autocast_type,
    batch_sizes,
    make_optimizer,
    set_learning_rate,
)
from attnsearch.runs.training.progress import set_streams, streams
from attnsearch.runs.training.task import Task

EAGER_FIRST = 3  # steps before a capture: libraries set up their workspaces
LIKE_EAGER = 1e-2  # the most that a captured step may differ from an eager one, in its own length
TIMES_NOISE = 3  # and as much as this of what two eager ones differ by: atomic sums do


class Taken(NamedTuple):
    """What a step leaves, all on the device.

    Attributes:
        loss: Of the batch, a mean.
        auxiliary: The weighted auxiliary term; None without one.
        counts: What `Task.rates` needs.
        total: The loss that was minimised.
    """

    loss: Tensor
    auxiliary: Tensor | None
    counts: Tensor
    total: Tensor


class Step:
    """The training step of a network.

    Args:
        network: The network, on its device, in training mode.
        task: Its losses and counts.
        train: The config's `train` section.
        device: Where it is.
        batch: Images of a full batch; others are never compiled or captured.

    Attributes:
        optimizer: The optimizer.
        scaler: Scales the loss for fp16.
        stream: Where it is taken and captured; None where it never is, for the current one.
        micro_batches: Into how many a batch is split, where memory does not hold it whole.
        refused: Whether the network is beyond the compiler, and its steps are eager.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        train: Mapping[str, Any],
        device: torch.device,
        batch: int,
    ) -> None:
        self._network = network
        self._task = task
        self._device = device
        self._batch = batch
        # What goes through the network at once: with `accumulate` several make a batch.
        self._accumulates = bool(train.get("accumulate"))
        self._piece = min(batch, train["batch_size"]) if self._accumulates else batch
        self._clip: float | None = train["grad_clip"]
        self._dtype = autocast_type(train["precision"], device)
        half = train["precision"] == "fp16"
        on_card = device.type == "cuda"
        self._captures = on_card and train.get("speed", "auto") == "auto" and not half
        self.stream = own_stream(self, device) if self._captures else None
        self.optimizer = make_optimizer(network, train, on_device=self._captures)
        self.scaler = torch.amp.GradScaler("cuda", enabled=half)
        self._compiled: Callable[[Tensor], Tensor] | None = None
        if train.get("compile"):
            # The same random numbers as eager; one graph, for full batches.
            options: dict[str, Any] = {"fallback_random": True}
            self._compiled = torch.compile(network, dynamic=False, options=options)
        self.micro_batches = 1
        self.refused = False
        self.ranks = Ranks()
        self._together: Callable[[Tensor, Tensor], Any] | None = None
        self._apart: Callable[[], contextlib.AbstractContextManager[None]] = nullcontext
        self._taken = 0
        self._captured: Captured | None = None

    def join(self, ranks: Ranks) -> None:
        """Take each step from now on together with other processes, see `blocks.ranks`."""
        from torch.nn.parallel import DistributedDataParallel

        self.ranks, self._captures, self.stream, self._compiled = ranks, False, None, None
        if ranks.synced:
            synchronise(self._network)
        # Parameters that a step leaves out, such as those of a side output of weight 0, stay
        # without a gradient, as they do in one process.
        together = DistributedDataParallel(
            _Forward(self._network, self._forward), find_unused_parameters=True
        )
        self._together, self._apart = together, together.no_sync

    @property
    def told(self) -> dict[str, float]:
        """What a record says: `micro_batches`, if any; `compiled` and `cuda_graph`, 1 or 0."""
        said = {"micro_batches": float(self.micro_batches)} if self.micro_batches > 1 else {}
        if self._captured is not None or (self.stream is not None and not self._captures):
            said["cuda_graph"] = float(self._captured is not None)
        if self._compiled is not None or self.refused:
            said["compiled"] = float(not self.refused)
        return said

    def share(self, size: int) -> Share:
        """Return this process's share of a batch of so many images."""
        whole = not self._accumulates or size <= self._piece
        return self.ranks.share([size] if whole else batch_sizes(size, self._piece))

    def __call__(
        self, images: Tensor, targets: Tensor, rate: float, share: Share | None = None
    ) -> Taken:
        """Take a step.

        Args:
            images: The network's input (B, C, H, W), on the device.
            targets: What it should say.
            rate: The learning rate.
            share: Which part of a batch they are; None for all of it.
        """
        set_learning_rate(self.optimizer, rate)
        full = len(images) == self._batch and self.micro_batches == 1
        if self._captured is None or not full:
            with on_stream(self.stream):
                if full and self._captures and self._taken == EAGER_FIRST:
                    self._captured = captured(self, images, targets)
                    self._captures = self._captured is not None
                    torch.cuda.empty_cache()  # of all that was compared
                if self._captured is None or not full:
                    self._taken = min(self._taken + full, EAGER_FIRST)
                    return self.eager(images, targets, share)
        return self._captured(images, targets)

    def eager(self, images: Tensor, targets: Tensor, share: Share | None = None) -> Taken:
        """Take a step, one operation after the other."""
        self.optimizer.zero_grad(set_to_none=True)
        share = share or self.share(len(images))
        parts = zip(torch.split(images, share.own), torch.split(targets, share.own), strict=True)
        taken = []
        for number, (part, size) in enumerate(zip(parts, share.pieces, strict=True), 1):
            with self.ranks.working(size):
                last = number == len(share.pieces)
                taken.append(self._piece_taken(*part, size / share.size, last=last))
        if self._clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._network.parameters(), self._clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if len(taken) == 1:
            return taken[0]
        losses, auxiliaries, counts, totals = zip(*taken, strict=True)
        auxiliary = None if auxiliaries[0] is None else torch.stack(auxiliaries).sum()
        loss, total = torch.stack(losses).sum(), torch.stack(totals).sum()
        return Taken(loss, auxiliary, torch.stack(counts).sum(0), total)

    def _piece_taken(self, images: Tensor, targets: Tensor, share: float, *, last: bool) -> Taken:
        """Add a piece's share of the batch to the gradients; return its share of the losses."""
        counts, left = [], len(images)
        for some, wanted in self._task.whole.micro_batches(
            self.micro_batches, images, targets, self._network, self._forward
        ):
            left -= len(some)
            # Gradients go to the other ranks once, with the last that is added.
            with nullcontext() if last and not left else self._apart():
                logits, loss, auxiliary = (self._together or self._forward)(some, wanted)
                if share < 1:
                    loss = loss * share
                    auxiliary = None if auxiliary is None else auxiliary * share
                total = loss if auxiliary is None else loss + auxiliary
                self.scaler.scale(total).backward()
            counts.append(self._task.count(logits.detach(), wanted))
        # Losses are of the whole piece, whatever it was split into.
        auxiliary = None if auxiliary is None else auxiliary.detach()
        (count,) = totals(torch.stack(counts).sum(0))
        return Taken(loss.detach(), auxiliary, count, total.detach())

    def load(self, optimizer: Mapping[str, Any], scaler: Mapping[str, Any]) -> None:
        """Go on from the states of another step's optimizer and scaler."""
        rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.load_state_dict(dict(optimizer))
        for group in self.optimizer.param_groups:
            # A state brings its learning rate along, and where that lay.
            group["lr"] = rate
        self.scaler.load_state_dict(dict(scaler))
        self._captured = None

    def split(self, micro_batches: int) -> None:
        """Take each step in so many micro-batches from now on, see `micro_batches`."""
        self.micro_batches = micro_batches
        self._captured = None

    def changed_tensors(self) -> list[tuple[str, Tensor]]:
        """Return all tensors that a step changes, each with what kind it is."""
        states = self.optimizer.state.values()
        return [
            *(("parameter", parameter) for parameter in self._network.parameters()),
            *((name.rpartition(".")[2], b) for name, b in self._network.named_buffers()),
            *((k, value) for s in states for k, value in s.items() if isinstance(value, Tensor)),
        ]

    def host_state(self) -> list[Any]:
        """Return what a step may have changed on the host, where a graph would not change it."""
        drawn = [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]
        values = [value for part in self._network.modules() for value in vars(part).values()]
        return drawn + [value for value in values if isinstance(value, bool | int | float | str)]

    def _forward(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return logits in fp32, the loss, and the weighted auxiliary term if a block has one."""
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not None):
            logits = self._logits(images)
            auxiliary = self._task.auxiliary(self._network, targets)
        logits = logits.float()
        return logits, self._task.loss(logits, targets), auxiliary

    def _logits(self, images: Tensor) -> Tensor:
        if self._compiled is not None and len(images) == self._piece:
            try:
                return self._compiled(images)
            except torch._dynamo.exc.TorchDynamoException:
                # Before anything was computed; a user's block may be beyond the compiler.
                self._compiled, self.refused = None, True
        logits: Tensor = self._network(images)
        return logits


class _Forward(nn.Module):
    """All that a step computes forwards, as a module whose parameters are the network's.

    Args:
        network: The network.
        forward: Computes outputs and losses.
    """

    def __init__(self, network: nn.Module, forward: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.network = network
        self._compute = forward

    def forward(self, images: Tensor, targets: Tensor) -> Any:
        return self._compute(images, targets)


class Captured:
    """A step as a CUDA graph, which reads its batch from memory of its own.

    Args:
        record: Runs a function once and returns what replays it.
        step: The step.
        images: A batch.
        targets: Its targets.
    """

    def __init__(
        self,
        record: Callable[[Callable[[], None]], Callable[[], None]],
        step: Step,
        images: Tensor,
        targets: Tensor,
    ) -> None:
        self._images, self._targets = images.clone(), targets.clone()
        self._taken: Taken

        def run() -> None:
            self._taken = step.eager(self._images, self._targets)

        step.optimizer.zero_grad(set_to_none=True)  # the graph has gradients of its own
        self._replay = record(run)

    def __call__(self, images: Tensor, targets: Tensor) -> Taken:
        """Take a step; what it returns is overwritten by the next one."""
        self._images.copy_(images)
        self._targets.copy_(targets)
        self._replay()
        return self._taken


def captured(
    step: Step,
    images: Tensor,
    targets: Tensor,
    record: Callable[[Callable[[], None]], Callable[[], None]] | None = None,
) -> Captured | None:
    """Return the captured step, None where it cannot be captured or differs from the eager one.

    Nothing that the step changes is changed afterwards.

    Args:
        step: The step; it has been taken before, so that the optimizer has its tensors.
        images: A batch.
        targets: Its targets.
        record: As for `Captured`; by default a CUDA graph.
    """
    kinds, tensors = zip(*step.changed_tensors(), strict=True)
    before, drawn, host = _copies(tensors), streams(images.device), step.host_state()

    def restore() -> None:
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        set_streams(drawn, images.device)

    eager = []
    try:
        for _ in range(2):
            with never_waiting(step.stream):
                step.eager(images, targets)
            eager += [_copies(tensors)]
            if host != step.host_state():
                return None
            restore()
        graph = Captured(record or _cuda_graph, step, images, targets)
        restore()
        graph(images, targets)
        graphed = _copies(tensors)
    except RuntimeError:  # an operation that waits for the device, or memory
        return None
    finally:
        restore()
    return graph if _alike(kinds, before, *eager, graphed) else None


def _copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _alike(kinds: Sequence[str], *runs: list[Tensor]) -> bool:
    """Return whether a step went the way of two eager ones, from values before, of each in turn.

    Each kind of tensor by itself: what counts steps moves further than weights do.
    """
    moved, noise, off = (defaultdict[str, float](float) for _ in range(3))
    for kind, *values in zip(kinds, *runs, strict=True):
        before, one, other, step = (value.double() for value in values)
        for sums, apart in ((moved, one - before), (noise, other - one), (off, step - one)):
            sums[kind] += float(apart.square().sum())
    like, times = LIKE_EAGER**2, TIMES_NOISE**2
    return all(off[kind] <= like * moved[kind] + times * noise[kind] for kind in off)


def _cuda_graph(run: Callable[[], None]) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream()
    # Other threads go on: one that decodes images pins memory.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        run()
    return graph.replay
