"""Finds blocks and functions by name, and reads what a block's class says about itself.

A name is one of the table `BLOCKS`, or an entry point of the group `attnsearch.blocks` that an
installed package declares, or `module.path:Class`. A name of the table cannot be taken over.
"""

import inspect
import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from torch import nn

from attnsearch.blocks.errors import BlockError
from attnsearch.blocks.imported import imported
from attnsearch.blocks.mechanisms import BLOCKS
from attnsearch.blocks.spelling import did_you_mean

ENTRY_POINTS = "attnsearch.blocks"
SUPPLIED = frozenset({"out_channels", "stride", "size"})
"""What the builder passes by keyword; the channels come first."""

_ARGUMENT = re.compile(r"\**(\w+)(?: \([^)]*\))?: *(.*)")


def find_block(name: str) -> type[nn.Module]:
    """Return the block class of a name.

    Args:
        name: A name of the table or of an entry point, or `module.path:Class`.

    Raises:
        BlockError: There is no such block, it cannot be imported, or it is no `nn.Module`.
    """
    if name in BLOCKS:
        return BLOCKS[name]
    points = _entry_points()
    if name in points:
        return _module_class(name, points[name].load)
    if ":" in name:
        return _module_class(name)
    names = block_names()
    suggestion = did_you_mean(name, names, 3, 0.5, show=str)
    raise BlockError(
        f"block {name!r} does not exist{suggestion}; there are {', '.join(names)}, and "
        f"module.path:Class for a class of your own"
    )


def find_function(name: str) -> Callable[..., Any]:
    """Return the function of a name, `module.path:function`.

    Raises:
        BlockError: It cannot be imported, or it cannot be called.
    """
    function = imported("function", name)
    if not callable(function):
        raise BlockError(f"function {name!r} is {function!r}, which cannot be called")
    return function


def block_names() -> list[str]:
    """Return the names of the table, in its order, then those of entry points."""
    return [*BLOCKS, *sorted(set(_entry_points()) - set(BLOCKS))]


def hyperparameters(cls: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """Return what a user may set of a block: its constructor's arguments by name.

    The first argument (the channels) and those in `SUPPLIED` come from the builder and are left
    out, as are `*args` and `**kwargs`.

    Args:
        cls: The block's class.

    Raises:
        BlockError: The constructor has no argument for the channels.
    """
    parameters = _parameters(cls)
    return {
        name: parameter
        for name, parameter in list(parameters.items())[1:]
        if name not in SUPPLIED
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def can_replace(cls: type[nn.Module]) -> bool:
    """Return whether a block can stand in place of any convolution.

    Args:
        cls: The block's class.
    """
    return {"out_channels", "stride"} <= set(_parameters(cls))


def takes_size(cls: type[nn.Module]) -> bool:
    """Return whether a block is built for the size (H, W) of its map.

    Args:
        cls: The block's class.
    """
    return "size" in _parameters(cls)


def summary(cls: type[nn.Module]) -> str:
    """Return the first line of a block's own docstring, or an empty string.

    Args:
        cls: The block's class.
    """
    return inspect.cleandoc(cls.__dict__.get("__doc__") or "").partition("\n")[0]


def parameter_docs(cls: type[nn.Module]) -> dict[str, str]:
    """Return the description of each argument in a block's docstring, on one line each.

    Args:
        cls: The block's class, with a Google-style `Args:` section.
    """
    lines = inspect.cleandoc(cls.__dict__.get("__doc__") or "").splitlines()
    docs: dict[str, str] = {}
    current = ""
    inside = False
    for line in lines:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if indent == 0 and text:
            inside = text in ("Args:", "Arguments:")
        elif inside and text:
            match = _ARGUMENT.fullmatch(text) if indent <= 4 else None
            if match:
                current = match[1]
                docs[current] = match[2]
            elif current:
                docs[current] = f"{docs[current]} {text}".strip()
    return docs


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _module_class(name: str, load: Callable[[], object] | None = None) -> type[nn.Module]:
    block = imported("block", name, load)
    if not (isinstance(block, type) and issubclass(block, nn.Module)):
        raise BlockError(f"block {name!r} is {block!r}; a block is a class derived from nn.Module")
    return block


def _parameters(cls: type[nn.Module]) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(cls).parameters)
    first = next(iter(parameters.values()), None)
    if first is None or first.kind in (first.KEYWORD_ONLY, first.VAR_KEYWORD):
        raise BlockError(
            f"block {cls.__module__}:{cls.__qualname__} takes no positional argument; the first "
            f"one of a block's constructor is the number of input channels"
        )
    return parameters
