"""The face of a package: its names, stated once, loaded on first use."""

import ast
import importlib
import sys
from types import ModuleType
from typing import Any

from attnsearch.blocks.garbage import no_garbage


def face(package: str) -> None:
    """Give a package the names that its `if TYPE_CHECKING:` block imports, loaded on first use.

    So a name is stated once, type checkers read it there, and importing the package loads
    nothing: reading a ledger needs no torch, `attnsearch --help` no Ray.

    Args:
        package: The package's `__name__`.
    """
    module = sys.modules[package]
    spec = module.__spec__
    assert spec is not None and spec.loader is not None
    source: str = spec.loader.get_source(package)  # type: ignore[attr-defined]
    homes = {
        alias.name: node.module
        for branch in ast.parse(source).body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_whole(homes[name]), name)

    vars(module).update(__getattr__=load, __dir__=lambda: sorted(homes), __all__=sorted(homes))


def import_whole(name: str) -> ModuleType:
    """Import a module, and look for no garbage meanwhile: modules are none."""
    with no_garbage():
        return importlib.import_module(name)
