"""Imports what a user names as `module.path:name`, and says what is wrong where that fails.

This module needs no torch.
"""

import importlib
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

from attnsearch.blocks import meta_device
from attnsearch.blocks.errors import BlockError
from attnsearch.blocks.spelling import did_you_mean


def imported(what: str, name: str, load: Callable[[], object] | None = None) -> object:
    """Return what a name stands for.

    Args:
        what: It is, for the message: `block`, `function`, `network`.
        name: `module.path:name`.
        load: Returns it, where that is not by its name.

    Raises:
        BlockError: It cannot be imported.
    """
    meta_device.load()
    try:
        return (load or EntryPoint(name, name, "attnsearch").load)()
    except AttributeError as error:
        raise BlockError(
            f"{what} {name!r}: {error}{_nearest_class(name)}{_hidden(name)}"
        ) from error
    except Exception as error:  # whatever the user's module raises when imported
        raise BlockError(
            f"{what} {name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def importable(folder: Path) -> None:
    """Let modules of a folder be imported; none of them stands for an installed one."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _nearest_class(name: str) -> str:
    module, _, attribute = name.partition(":")
    try:
        defined = vars(importlib.import_module(module))
    except Exception:  # the module itself may be what failed
        return ""
    return did_you_mean(attribute, defined, show=f"{module}:{{}}".format)


def _hidden(name: str) -> str:
    """Say where an installed module stands for a file of the user, which it does by its name."""
    module = name.partition(":")[0]
    lies = str(getattr(sys.modules.get(module), "__file__", None))
    for file in (Path(folder) / f"{module}.py" for folder in sys.path):
        if file.is_file() and Path(lies) != file:
            return f"; {lies} has the name of {file}, and installed modules win: rename yours"
    return ""
