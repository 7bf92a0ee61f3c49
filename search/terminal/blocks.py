"""Which blocks there are: `attnsearch blocks`."""

import inspect
import re
import sys
from pathlib import Path

from torch import nn

from attnsearch.blocks.build import (
    block_names,
    can_replace,
    find_block,
    hyperparameters,
    parameter_docs,
    summary,
)
from attnsearch.blocks.imported import importable
from attnsearch.blocks.mechanisms import BLOCKS
from attnsearch.search.check import broken_rules
from attnsearch.search.text import render, scalar


def blocks_text() -> str:
    """Return the table of blocks, with what to do next."""
    rows = []
    for name in block_names():
        block = find_block(name)
        replaces = "any" if can_replace(block) else "same shape"
        rows.append((name, replaces, paper(block) or "-", summary(block)))
    return render("terminal", "blocks.txt", rows=rows)


def block_text(name: str) -> tuple[str, bool]:
    """Return everything about one block, with YAML to copy, and whether it keeps the rules.

    A block that is not of the table is put through the checks that every block of the table
    passes, which takes about a second. One with a hyperparameter that has no default is not.

    Raises:
        BlockError: No block has this name.
    """
    if ":" in name:
        importable(Path.cwd())
    block = find_block(name)
    docs = parameter_docs(block)
    parameters = hyperparameters(block)
    rows = [
        (key, _default(parameter), " ".join(docs.get(key, "").split()))
        for key, parameter in parameters.items()
    ]
    required, broken = [], {}
    if name not in BLOCKS:
        required = [key for key, value in parameters.items() if value.default is value.empty]
        broken = {} if required else broken_rules(block, {})
    settings = [
        (f"{key}: {_default(parameter)}", _searched(parameter.default))
        for key, parameter in parameters.items()
        if parameter.default is not None  # null lets the block decide; not worth a line
    ]
    text = render(
        "terminal",
        "block.txt",
        name=name,
        quoted=f'"{name}"' if ":" in name else name,
        summary=summary(block),
        docs=[inspect.getdoc(sys.modules[block.__module__]), _without_arguments(block)],
        rows=rows,
        replaces_any=can_replace(block),
        settings=settings,
        width=max((len(setting) for setting, _ in settings), default=0),
        own=name not in BLOCKS,
        required=required,
        broken=broken,
    )
    return text, not broken


def paper(block: type[nn.Module]) -> str | None:
    """Return the first link in the header of the block's module, without its `https://`."""
    header = inspect.getdoc(sys.modules[block.__module__]) or ""
    link = re.search(r"https?://([^\s,;)]+)", header)
    return link[1].rstrip(".") if link else None


def _searched(default: object) -> str | None:
    """Return how the space file would search a hyperparameter with this default, for instance."""
    if isinstance(default, bool):
        return "{choice: [true, false]}"
    if isinstance(default, int) and default > 1:
        return f"{{choice: [{max(default // 2, 1)}, {default}, {default * 2}]}}"
    if isinstance(default, float) and default > 0:
        return f"{{choice: [{default / 2!r}, {default!r}, {default * 2!r}]}}"
    return None


def _default(parameter: inspect.Parameter) -> str:
    return "(required)" if parameter.default is parameter.empty else scalar(parameter.default)


def _without_arguments(block: type[nn.Module]) -> str:
    """Return the class docstring without its first line, which stands above, and its arguments."""
    lines = (inspect.getdoc(block) or "").splitlines()[1:]
    for index, line in enumerate(lines):
        if line.strip() == "Args:":
            after = [i for i in range(index + 1, len(lines)) if re.match(r"\S", lines[i])]
            lines = lines[:index] + (lines[after[0] :] if after else [])
            break
    return "\n".join(lines).strip()
