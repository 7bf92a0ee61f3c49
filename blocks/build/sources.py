"""The source of a user's block or function: its file, and what that imports from beside it.

What a block computes may stand in a helper module. So all that it imports from its own folder or
package counts, wherever the import stands, and what these import in turn. Installed packages
count by their versions, and what a block reads by itself, such as a table, is not seen.
"""

import ast
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any

from torch import nn

from attnsearch.blocks.errors import BlockError

INSTALLED = {"site-packages", "dist-packages"}


def source_hash(cls: type[nn.Module] | Callable[..., Any]) -> str:
    """Return the SHA-256 of the source that defines a block or function, in hexadecimal.

    Of one in one file it is that of the file.

    Args:
        cls: The block's class, or the function.

    Raises:
        BlockError: The class has no source file, as one typed into an interpreter.
    """
    root, files = source_files(cls)
    try:
        hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    except OSError as error:
        raise _without_source(cls) from error
    if len(hashes) == 1:
        return hashes[0]
    names = [file.relative_to(root).as_posix() for file in files]
    return hashlib.sha256(json.dumps([*zip(names, hashes, strict=True)]).encode()).hexdigest()


def source_files(cls: type[nn.Module] | Callable[..., Any]) -> tuple[Path, list[Path]]:
    """Return the folder that a block is imported from, and the files in it that it is made of.

    Args:
        cls: The block's class.

    Raises:
        BlockError: The class has no source file.
    """
    try:
        file = Path(inspect.getfile(cls)).absolute()
    except (OSError, TypeError) as error:
        raise _without_source(cls) from error
    module = cls.__module__
    depth = module.count(".") + (file.name == "__init__.py")
    root = file.parents[depth]
    top = module.partition(".")[0]
    own = top if INSTALLED & set(root.parts) else None
    files: dict[Path, None] = {}
    left = [(module, file), *_modules(root, module.rpartition(".")[0])]
    while left:
        module, file = left.pop()
        if file not in files:
            files[file] = None
            for name in _imports(module, file):
                if own in (None, name.partition(".")[0]):
                    left += _modules(root, name)
    return root, sorted(files)


def _modules(root: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Yield what an import of a name loads from a folder: the module, and the packages around."""
    parts = name.split(".") if name else []
    for end in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:end])
        module = ".".join(parts[:end])
        for suffix in all_suffixes():
            for file in (place / f"__init__{suffix}", place.with_name(f"{place.name}{suffix}")):
                if file.is_file():
                    yield module, file


def _imports(module: str, file: Path) -> Iterator[str]:
    """Yield the names that a source file imports; none of what is no Python text."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    package = module if file.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else ()), *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def _without_source(cls: type[nn.Module] | Callable[..., Any]) -> BlockError:
    what = "block" if isinstance(cls, type) else "function"
    name = getattr(cls, "__qualname__", repr(cls))
    return BlockError(
        f"{what} {cls.__module__}:{name} has no source file to be recorded with "
        f"its results; define it in a module"
    )
