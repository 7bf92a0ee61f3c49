"""Initial weights that depend on the seed and the tensor's state-dict name alone.

Two networks built from one seed then start from the same numbers in every tensor whose name,
shape and law agree, whatever else they contain: differences between them are paired.

A module draws its weights while it is constructed, when its tensors have no names yet. So it is
constructed twice. The first time every random operation is numbered and followed through the
operations that use its result, to the parameter or buffer where it ends up. The second time, with
the names known, each random operation draws from the generator of its tensor. Whatever the
constructor does besides - zeroing the last layer, scaling, normalising, copying - happens as
written. A draw that fills its tensor whole starts the tensor's generator afresh, so that earlier
draws, which it overwrites, do not matter; any other continues it. A draw that ends up in no tensor
uses a generator of the module's prefix.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from attnsearch.blocks.lean_torch import load_compiler_late, on_device

load_compiler_late()  # before any network is built, and so before anything is trained or counted

Module = TypeVar("Module", bound=nn.Module)


def tensor_seed(seed: int, name: str) -> int:
    """Return the seed of one tensor's generator: 63 bits of SHA-256 over the seed and the name."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def isolated_rng(seed: int = 0) -> Iterator[None]:
    """Seed the global generators inside, and leave them outside as if nothing had been drawn.

    Covers torch on the CPU, numpy and Python's `random`.
    """
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def seeded(
    construct: Callable[[], Module], seed: int, prefix: str = "", trace_device: str = "cpu"
) -> Module:
    """Construct a module on the CPU with initial weights seeded by name.

    Args:
        construct: Makes the module; it is called twice and must do the same both times.
        seed: The run's seed.
        prefix: What the network's state dict puts before the module's names, with its last dot.
        trace_device: Where the first construction takes place. ``meta`` saves its draws, for
            modules known to construct there alike.

    Returns:
        What the second call made.
    """
    fallback = tensor_seed(seed, prefix)
    with isolated_rng(fallback), on_device(trace_device):
        trace = _Trace()
        with trace:
            first = construct()
        names = trace.names(first)
    with isolated_rng(fallback), on_device("cpu"), _Replay(names, seed, prefix):
        return construct()


@contextmanager
def shapes_only() -> Iterator[None]:
    """Construct modules on the meta device, where nothing is drawn."""
    with isolated_rng(), torch.device("meta"), _Trace():
        yield


def _is_random(operation: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in operation.tags


def _storage(tensor: Tensor) -> int:
    """Return which memory a tensor views, as a number."""
    return int(tensor.untyped_storage()._cdata)


def _tensors(values: Any) -> list[Tensor]:
    """Return the tensors among an operation's arguments or results that view plain memory."""
    if isinstance(values, Tensor):
        return [values] if values.layout == torch.strided else []
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return []
    return [tensor for value in values for tensor in _tensors(value)]


@dataclass(frozen=True)
class _Draw:
    """One random operation: its name, the memory it wrote first, and whether it filled that."""

    operation: str
    memory: int
    whole: bool


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows each random operation to the memory where its numbers end up."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.draws: list[_Draw] = []
        self.sources: dict[int, set[int]] = {}  # memory -> numbers of the draws it depends on
        self.kept: list[Tensor] = []  # keeps that memory from being handed out again

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        random = _is_random(func)
        if random and func._schema.name.endswith("_") and args[0].is_meta:
            result = args[0]  # nothing is drawn there, by way of Python and of sympy
        else:
            result = func(*args, **kwargs)
        inputs, outputs = _tensors((args, kwargs)), _tensors(result)
        sources: set[int] = set()
        for tensor in inputs:
            sources |= self.sources.get(_storage(tensor), set())
        if random and outputs:
            sources = sources | {len(self.draws)}
            written = outputs[0]
            whole = written.nbytes == written.untyped_storage().nbytes()
            self.draws.append(_Draw(str(func), _storage(written), whole))
        if sources:
            for tensor in outputs:
                self.sources.setdefault(_storage(tensor), set()).update(sources)
                self.kept.append(tensor)
        return result

    def names(self, module: nn.Module) -> list[tuple[_Draw, str | None]]:
        """Return each draw with the name of the tensor, None where it is in none.

        A draw made in a tensor's own memory belongs to it; any other to the first tensor, in the
        module's order, that depends on it.
        """
        owners: dict[int, str] = {}
        dependents: dict[int, str] = {}
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if is_lazy(tensor):
                continue
            owners.setdefault(_storage(tensor), name)
            for number in self.sources.get(_storage(tensor), ()):
                dependents.setdefault(number, name)
        return [
            (
                replace(draw, whole=draw.whole and draw.memory in owners),
                owners.get(draw.memory, dependents.get(number)),
            )
            for number, draw in enumerate(self.draws)
        ]


class _Replay(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets each random operation draw from the generator of the tensor that it belongs to."""

    def __init__(self, names: Sequence[tuple[_Draw, str | None]], seed: int, prefix: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names = names
        self.seed = seed
        self.prefix = prefix
        self.done = 0
        self.states: dict[str, Tensor] = {}  # of each tensor's generator, after its last draw

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _is_random(func):
            return func(*args, **kwargs)
        number, self.done = self.done, self.done + 1
        draw, name = self.names[number] if number < len(self.names) else (None, None)
        if draw is None or name is None or draw.operation != str(func):
            return func(*args, **kwargs)
        generator = torch.default_generator
        outside = generator.get_state()
        if name in self.states and not draw.whole:
            generator.set_state(self.states[name])
        else:
            generator.manual_seed(tensor_seed(self.seed, self.prefix + name))
        try:
            return func(*args, **kwargs)
        finally:
            self.states[name] = generator.get_state()
            generator.set_state(outside)
