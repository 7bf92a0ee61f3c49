"""What torch takes of a process: threads, a default device, its compiler where that is used.

Torch imports its compiler (`torch._dynamo`: two seconds of a core) in order to keep it out of an
optimizer's first step, of each dispatch mode and of the meta device's arithmetic, and to tell it
that algorithms are to be deterministic. Nothing has to be kept out of a compiler that is not
there. So a module of its name stands in, which loads it as soon as anything else is asked of it.
"""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

from attnsearch.blocks import meta_device

_NAME = "torch._dynamo"
_SETTINGS = "torch._inductor.config"


class _Late(ModuleType):
    def __init__(self) -> None:
        super().__init__(_NAME)
        self._kept_out: list[Callable[[Any], None]] = []

    def disable(self, function: Any, recursive: bool = True, wrapping: bool = True) -> Any:
        """Return a function that the compiler, once it is there, leaves alone."""
        called = function

        def late(*arguments: Any, **options: Any) -> Any:
            return called(*arguments, **options)

        def keep_out(compiler: Any) -> None:
            nonlocal called
            called = compiler.disable(function, recursive, wrapping=wrapping)

        self._kept_out.append(keep_out)
        return late

    def graph_break(self, msg: str = "") -> None:
        """Do nothing, as outside of compiled code."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # who looks through all modules
            raise AttributeError(name)
        if sys.modules.get(_NAME) is not self:  # it is being loaded, and asks for itself
            return getattr(importlib.import_module(_NAME), name)
        meta_device.load()
        del sys.modules[_NAME], torch._dynamo
        compiler = importlib.import_module(_NAME)
        for keep_out in self._kept_out:
            keep_out(compiler)
        settings: Any = importlib.import_module(_SETTINGS)
        settings.deterministic = torch.are_deterministic_algorithms_enabled()
        return getattr(compiler, name)


def load_compiler_late() -> None:
    """Put the stand-in where torch looks for its compiler, unless that is loaded."""
    if _NAME not in sys.modules:
        sys.modules[_NAME] = late = _Late()
        torch._dynamo = late


def use_deterministic(enabled: bool, *, warn_only: bool) -> None:
    """Set torch's deterministic algorithms.

    Torch's own function loads the compiler to tell it. The stand-in tells it when it is loaded.
    """
    if isinstance(sys.modules.get(_NAME), _Late) and _SETTINGS not in sys.modules:
        torch._C._set_deterministic_algorithms(enabled, warn_only=warn_only)
    else:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


def on_device(name: str) -> contextlib.AbstractContextManager[Any]:
    """Make tensors on a device where none is named.

    Nothing is done where they are made there anyway: it would take each of torch's functions
    through Python, half the time of constructing a network.
    """
    device = torch.device(name)
    return contextlib.nullcontext() if torch.get_default_device() == device else device


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Compute with so many threads, which rounding and times depend on; then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
