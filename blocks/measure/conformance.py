"""What every block must do, ours and a user's, as checks that name what is wrong.

A block is an `nn.Module` whose constructor takes the input channels first; `forward(x)` maps
(B, C, H, W) to (B, C, H, W). One that can stand in place of a convolution takes `out_channels` and
`stride` as well and returns (B, C', ceil(H / stride), ceil(W / stride)); it may refuse a change of
channels with a `BlockError`. One that depends on the map's size takes `size`, (H, W), and still
runs on other sizes. The rest of the contract is what `check_block` checks, one function each.

A block may have a method `start_as_convolution()`, which draws its weights anew where it stands in
place of a convolution. Two class attributes are optional: `dead_parameters`, a mapping from names
of parameters that get no gradient to the reason, and `side_loss`, the name of the weight of a loss
on the side outputs (`side`, a dict of tensors set by every forward in training mode and empty in
evaluation). So is a method `attention_map(x)`, see `attnsearch.blocks.measure.attention`.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnsearch.blocks import meta_device
from attnsearch.blocks.build import can_replace, shape_or_type, takes_size
from attnsearch.blocks.errors import BlockError

CHANNELS = 64
SIZE = (9, 7)
TOLERANCE = 1e-9
"""Largest relative difference, in float64, of what should be equal up to rounding."""


@dataclass(frozen=True)
class Finding:
    """One breach of the contract.

    Attributes:
        check: Name of the check that found it.
        message: What was found and what is expected.
    """

    check: str
    message: str

    def __str__(self) -> str:
        return f"{self.check}: {self.message}"


@dataclass(frozen=True)
class _Subject:
    """A block's class with hyperparameters, and how to make instances and inputs of it."""

    cls: type[nn.Module]
    params: dict[str, Any]

    def build(self, size: tuple[int, int] = SIZE, seed: int = 0, **supplied: int) -> nn.Module:
        """Return an instance in float64 whose parameters are all moved off their start."""
        extra: dict[str, Any] = {"size": size} if takes_size(self.cls) else {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            block = self.cls(CHANNELS, **extra, **supplied, **self.params).double()
            with torch.no_grad():
                for parameter in block.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return block

    def warm(self, seed: int = 0) -> nn.Module:
        """Return an instance that has seen two training batches, in evaluation mode."""
        block = self.build(seed=seed)
        with torch.no_grad():
            for step in range(2):
                block(self.images(seed=10 + step))
        return block.eval()

    @staticmethod
    def images(batch: int = 3, size: tuple[int, int] = SIZE, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, CHANNELS, *size, generator=generator, dtype=torch.float64)


def check_block(cls: type[nn.Module], /, **params: Any) -> list[Finding]:
    """Check a block against the contract of this module.

    It takes about a second on a CPU and leaves the global random state as it was.

    Args:
        cls: The block's class.
        **params: Its hyperparameters; its defaults are taken for the others.

    Returns:
        What is wrong; an empty list for a block that conforms.
    """
    subject = _Subject(cls, params)
    try:
        subject.build()
    except Exception as error:
        return [Finding("construction", f"{CHANNELS} channels, {params}: {_described(error)}")]
    findings = []
    for name, check in CHECKS.items():
        try:
            findings += [Finding(name, message) for message in check(subject)]
        except Exception as error:
            findings.append(Finding(name, _described(error)))
    return findings


def _shapes(subject: _Subject) -> Iterator[str]:
    """Yield odd sizes, batches of one, maps of a size it was not built for; finite, same dtype."""
    for batch, size, built in (
        (2, (9, 7), (9, 7)),
        (1, (5, 11), (5, 11)),
        (3, (8, 8), (8, 8)),
        (2, (12, 5), SIZE),
    ):
        block = subject.build(built)
        x = subject.images(batch, size)
        for mode in (True, False):
            y = block.train(mode)(x)
            yield from _as_expected(y, x, x.shape, f"{_mode(mode)} input {tuple(x.shape)}")


def _strides(subject: _Subject) -> Iterator[str]:
    """Yield in place of a convolution: stride and channels as asked for."""
    if not can_replace(subject.cls):
        return
    for out, stride in ((CHANNELS, 2), (2 * CHANNELS, 1), (2 * CHANNELS, 2), (CHANNELS, 3)):
        try:
            block = subject.build(out_channels=out, stride=stride)
        except BlockError:
            if out == CHANNELS:
                raise
            continue
        x = subject.images()
        expected = (len(x), out, *(math.ceil(length / stride) for length in SIZE))
        yield from _as_expected(block(x), x, expected, f"out_channels={out}, stride={stride}")


def _channels_last(subject: _Subject) -> Iterator[str]:
    """Yield the memory format changes neither outputs nor input gradients."""
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        block = subject.build()
        block.to(memory_format=memory_format)  # type: ignore[call-overload]
        x = subject.images().contiguous(memory_format=memory_format).requires_grad_()
        y = block(x)
        torch.autograd.backward(_loss(block, y))
        results.append({"output": y.detach(), "input gradient": _gradient(x)})
    for what, expected in results[0].items():
        distance = _distance(results[1][what], expected)
        if distance > TOLERANCE:
            yield f"the {what} differs from that in NCHW by {distance:.1e} (relative)"


def _autocast(subject: _Subject) -> Iterator[str]:
    """Yield Bfloat16 autocast: close to float32 in evaluation, finite gradients in training."""
    block = subject.warm().float()
    x = subject.images().float()
    with torch.no_grad():
        reference = block(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = block(x)
    distance = _distance(y.float(), reference)
    if not distance < 0.1:
        yield f"the output is {distance:.1e} (relative) from that in float32"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = block.train()(x.requires_grad_())
    torch.autograd.backward(_loss(block, y))
    gradients = {name: p.grad for name, p in block.named_parameters() if p.grad is not None}
    for name, gradient in {"the input": _gradient(x), **gradients}.items():
        if not gradient.isfinite().all():
            yield f"the gradient of {name} is not finite"


def _input_kept(subject: _Subject) -> Iterator[str]:
    """Yield the input is not written to."""
    block = subject.build()
    for mode in (True, False):
        x = subject.images()
        before = x.clone()
        with torch.no_grad():
            block.train(mode)(x)
        if not torch.equal(x, before):
            yield f"in {_mode(mode)} the input was changed in place"


def _gradients(subject: _Subject) -> Iterator[str]:
    """Yield the input and every parameter that is not declared dead get a gradient."""
    block = subject.build()
    block(subject.images(seed=2))  # a memory that starts empty has more than one entry then
    x = subject.images().requires_grad_()
    y = block(x)
    torch.autograd.backward(_loss(block, y))
    if x.grad is None or not x.grad.abs().sum() > 0:
        yield "the input gets no gradient"
    dead = getattr(block, "dead_parameters", {})
    parameters = dict(block.named_parameters())
    for name in dead:
        if name not in parameters and not subject.params:
            yield f"dead_parameters names {name!r}, which does not exist"
    for name, parameter in parameters.items():
        if name in dead or not parameter.requires_grad:
            continue
        size = 0.0 if parameter.grad is None else float(parameter.grad.abs().max())
        if not 1e-12 < size < math.inf:
            yield (
                f"parameter {name} gets no gradient (largest entry {size:.1e}); remove it, or "
                f"name it with the reason in the class attribute dead_parameters"
            )


def _registered(subject: _Subject) -> Iterator[str]:
    """Yield every tensor and module is registered, so that it is saved, moved and trained."""
    block = subject.build()
    registered = set(block.modules())
    for owner, module in block.named_modules():
        for name, value in vars(module).items():
            if name in ("_parameters", "_buffers", "_modules", "side"):
                continue
            items = value.values() if isinstance(value, dict) else value
            for item in items if isinstance(value, list | tuple | dict) else [value]:
                loose = isinstance(item, nn.Module) and item not in registered
                if loose or isinstance(item, Tensor):
                    where = f"{owner}.{name}" if owner else name
                    yield f"{where} holds a {type(item).__name__} that is not registered"


def _evaluation(subject: _Subject) -> Iterator[str]:
    """Yield in evaluation: repeatable, read only, and no image depends on its batch."""
    for block, state in ((subject.build().eval(), "new"), (subject.warm(), "trained")):
        x = subject.images()
        before = copy.deepcopy(block.state_dict())
        with torch.no_grad():
            y = block(x)
            again = block(x)
            alone = torch.cat([block(image) for image in torch.split(x, 1)])
        if not torch.equal(y, again):
            yield f"a {state} block gives two outputs for one input"
        if changed := _changed(block, before):
            yield f"a {state} block changes {', '.join(changed)} in evaluation"
        distance = _distance(alone, y)
        if distance > TOLERANCE:
            yield (
                f"a {state} block's output for an image depends on the batch's other members: "
                f"{distance:.1e} (relative)"
            )


def _two_forwards(subject: _Subject) -> Iterator[str]:
    """Yield two forwards before one backward, as in gradient accumulation and Siamese losses."""
    block = subject.build()
    x = subject.images().requires_grad_()
    first = _loss(block, block(x))
    torch.autograd.backward(first + _loss(block, block(x)))
    if not _gradient(x).isfinite().all():
        yield "the gradient of two forwards is not finite"


def _state(subject: _Subject) -> Iterator[str]:
    """Yield a state dict holds all that determines the output; copies are independent."""
    block = subject.warm()
    other = subject.build(seed=5)
    other.load_state_dict(block.state_dict())
    x = subject.images()
    with torch.no_grad():
        for mode in (False, True):
            if not torch.equal(other.train(mode)(x), block.train(mode)(x)):
                yield f"in {_mode(mode)} a block loaded from the state dict gives another output"
    block(x)
    twin = copy.deepcopy(block)
    with torch.no_grad():
        if not torch.equal(twin.eval()(x), block.eval()(x)):
            yield "a deep copy gives another output"


def _side_outputs(subject: _Subject) -> Iterator[str]:
    """Yield faults of side outputs: tensors with a gradient in training, none in evaluation."""
    block = subject.build()
    if not hasattr(block, "side"):
        return
    if not isinstance(getattr(block, "side_loss", None), str):
        yield "a block with side outputs names their loss in the class attribute side_loss"
    block(subject.images())
    side = _side(block)
    for name, value in side.items():
        if not isinstance(value, Tensor) or not value.requires_grad:
            yield f"the side output {name!r} is no tensor with a gradient"
    if not side:
        yield "a forward in training mode sets no side output"
    block.eval()(subject.images())
    if _side(block):
        yield "a forward in evaluation mode leaves side outputs"


def _attention_map(subject: _Subject) -> Iterator[str]:
    """Yield an attention map, where there is one: a share of each position, in either mode."""
    block = subject.warm()
    attention_map: Any = getattr(block, "attention_map", None)
    if attention_map is None:
        return
    x = subject.images()
    shape = (len(x), *SIZE)
    for mode in (True, False):
        block.train(mode)
        before = copy.deepcopy(block.state_dict())
        shares = attention_map(x)
        where = f"in {_mode(mode)} attention_map"
        if not isinstance(shares, Tensor) or shares.shape != shape:
            yield f"{where} gives {shape_or_type(shares)}; it must be {shape}"
            continue
        if shares.requires_grad:
            yield f"{where} has a gradient; it must be computed without (torch.no_grad)"
        if not (shares >= 0).all():
            yield f"{where} has values below 0"
        sums = shares.detach().double().sum((1, 2))
        if not torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
            yield f"{where} sums to {sums.tolist()}; it must be 1 for each image"
        changed = _changed(block, before)
        if changed or any(part.training is not mode for part in block.modules()):
            yield f"{where} changes {', '.join(changed) or 'the mode of the block'}"


def _meta(subject: _Subject) -> Iterator[str]:
    """Yield the meta device, where networks are checked and counted without computing."""
    meta_device.load()
    block = subject.build().to("meta")
    for mode in (True, False):
        y = block.train(mode)(subject.images().to("meta"))
        if y.shape != (3, CHANNELS, *SIZE):
            yield f"in {_mode(mode)} the output on the meta device is {tuple(y.shape)}"


CHECKS: dict[str, Callable[[_Subject], Iterator[str]]] = {
    "shapes": _shapes,
    "strides": _strides,
    "input kept": _input_kept,
    "channels_last": _channels_last,
    "autocast": _autocast,
    "gradients": _gradients,
    "registered": _registered,
    "evaluation": _evaluation,
    "two forwards": _two_forwards,
    "state": _state,
    "side outputs": _side_outputs,
    "attention map": _attention_map,
    "meta device": _meta,
}


def _as_expected(y: Any, x: Tensor, shape: tuple[int, ...], where: str) -> Iterator[str]:
    if not isinstance(y, Tensor):
        yield f"{where}: the output is a {type(y).__name__}; it must be one tensor"
    elif y.shape != shape:
        yield f"{where}: the output is {tuple(y.shape)}; it must be {tuple(shape)}"
    elif y.dtype != x.dtype:
        yield f"{where}: the output is {y.dtype}; it must be {x.dtype} like the input"
    elif not y.isfinite().all():
        yield f"{where}: the output is not finite"


def _loss(block: nn.Module, y: Tensor) -> Tensor:
    """Return a sum over output and side outputs in which no symmetry cancels a gradient."""
    total = torch.zeros((), dtype=torch.float64)
    for tensor in (y, *_side(block).values()):
        weights = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(3))
        total = total + (tensor.double() * weights).sum()
    return total


def _side(block: nn.Module) -> dict[str, Any]:
    side: dict[str, Any] = getattr(block, "side", {})
    return side


def _changed(block: nn.Module, before: Mapping[str, Tensor]) -> list[str]:
    """Return which tensors of a state dict are not what they were."""
    return [n for n, value in block.state_dict().items() if not torch.equal(value, before[n])]


def _gradient(x: Tensor) -> Tensor:
    return torch.zeros_like(x) if x.grad is None else x.grad


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp(min=1e-30))


def _mode(training: bool) -> str:
    return "training mode," if training else "evaluation mode,"


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
