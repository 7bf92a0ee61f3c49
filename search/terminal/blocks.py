"""Which blocks there are: `attnsearch blocks`."""

import inspect
import re
import sys
from collections.abc import Mapping, Sequence
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
from attnsearch.blocks.mechanisms import BLOCKS
from attnsearch.search.check import broken_rules
from attnsearch.search.text import paragraph, plural, table


def blocks_text() -> str:
    """Return the table of blocks, with what to do next."""
    rows = []
    for name in block_names():
        block = find_block(name)
        replaces = "any" if can_replace(block) else "same shape"
        rows.append((name, replaces, paper(block) or "-", summary(block)))
    return "\n".join(
        [
            table(["block", "replaces", "paper", "what it does"], rows),
            "",
            paragraph(
                "Every block can be added at any site. `replaces` says which convolutions it can "
                "stand in place of: any, or only those that keep the shape of their input. The "
                "word `none` in a choice of blocks means that nothing is inserted."
            ),
            paragraph(
                "Your own block is named `module:Class` (a module beside the space file), or "
                "comes by the entry-point group `attnsearch.blocks`."
            ),
            "",
            "One block and its hyperparameters:  attnsearch blocks psa",
            "Where blocks can stand:             attnsearch sites resnet18",
            "Whole published networks:           attnsearch blocks --published",
        ]
    )


def block_text(name: str) -> tuple[str, bool]:
    """Return everything about one block, with YAML to copy, and whether it keeps the rules.

    A block that is not of the table is put through the checks that every block of the table
    passes, which takes about a second. One with a hyperparameter that has no default is not.

    Raises:
        BlockError: No block has this name.
    """
    folder = str(Path.cwd())
    if ":" in name and folder not in sys.path:
        sys.path.append(folder)  # last, so that no file here stands for an installed module
    block = find_block(name)
    docs = parameter_docs(block)
    parameters = hyperparameters(block)
    rows = [
        (key, _yaml_default(parameter), " ".join(docs.get(key, "").split()))
        for key, parameter in parameters.items()
    ]
    out = [f"{name}: {summary(block)}", ""]
    header = inspect.getdoc(sys.modules[block.__module__])
    for doc in (header, _without_arguments(block)):
        if doc:
            out += [*("  " + line if line else "" for line in doc.splitlines()), ""]
    if rows:
        out += ["Hyperparameters:", table(["name", "default", "meaning"], rows, indent="  "), ""]
    else:
        out += ["It has no hyperparameters.", ""]
    out += ["Where it can stand:", *(f"  {line}" for line in _places(block)), ""]
    out += ["In a space file:", *(f"  {line}" for line in _snippet(name, block)), ""]
    broken: dict[str, str] = {}
    if name not in BLOCKS:
        required = [key for key, value in parameters.items() if value.default is value.empty]
        broken = {} if required else broken_rules(block, {})
        out += [_rules_text(broken, required), ""]
    out.append("Then `attnsearch check SPACE` tries it at every site that the file names.")
    return "\n".join(out), not broken


def _rules_text(broken: Mapping[str, str], required: Sequence[str]) -> str:
    """Return what came out when a user's block was tried."""
    if required:
        return paragraph(
            f"It was not tried: {', '.join(required)} has no default. `attnsearch check SPACE` "
            "tries it with the values of a file."
        )
    if not broken:
        return "It keeps the rules of every block, such as shapes, gradients and saved state."
    lines = [
        paragraph(f"{rule}: {fault}", indent="  * ", hanging="    ")
        for rule, fault in broken.items()
    ]
    return "\n".join([f"It breaks {plural(len(broken), 'rule')} that every block keeps:", *lines])


def paper(block: type[nn.Module]) -> str | None:
    """Return the first link in the header of the block's module, without its `https://`."""
    header = inspect.getdoc(sys.modules[block.__module__]) or ""
    link = re.search(r"https?://([^\s,;)]+)", header)
    return link[1].rstrip(".") if link else None


def _places(block: type[nn.Module]) -> list[str]:
    lines = ["added at every site: stem, layerN, layerN.K, .residual, .after_convM"]
    if can_replace(block):
        lines.append("in place of any convolution: layerN.K.convM")
    else:
        lines.append(
            "in place of a convolution that keeps the shape of its input, such as layer1.0.conv2"
        )
    return lines


def _snippet(name: str, block: type[nn.Module]) -> list[str]:
    parameters = {
        key: parameter
        for key, parameter in hyperparameters(block).items()
        if parameter.default is not None  # null lets the block decide; not worth a line
    }
    at = "layer[2-3].*.conv2" if can_replace(block) else "layer4"
    lines = ["insert:", f"  - at: {at}", f"    block: {{choice: [none, {_quoted(name)}]}}"]
    if parameters:
        lines += ["blocks:", f"  {_quoted(name)}:"]
        width = max(len(key) + len(_yaml_default(value)) for key, value in parameters.items()) + 2
        for key, parameter in parameters.items():
            text = f"{key}: {_yaml_default(parameter)}"
            searched = _searched(parameter.default)
            lines.append(
                f"    {text:{width}}  # searched: {searched}" if searched else f"    {text}"
            )
    return lines


def _searched(default: object) -> str | None:
    """Return how the space file would search a hyperparameter with this default, for instance."""
    if isinstance(default, bool):
        return "{choice: [true, false]}"
    if isinstance(default, int) and default > 1:
        return f"{{choice: [{max(default // 2, 1)}, {default}, {default * 2}]}}"
    if isinstance(default, float) and default > 0:
        return f"{{choice: [{default / 2!r}, {default!r}, {default * 2!r}]}}"
    return None


def _yaml_default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "(required)"
    return yaml_text(parameter.default)


def yaml_text(value: object) -> str:
    """Return a plain value in YAML's flow style, exact."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(yaml_text(item) for item in value) + "]"
    return repr(value) if isinstance(value, float) else str(value)


def _quoted(name: str) -> str:
    return f'"{name}"' if ":" in name else name


def _without_arguments(block: type[nn.Module]) -> str:
    """Return the class docstring without its first line, which stands above, and its arguments."""
    lines = (inspect.getdoc(block) or "").splitlines()[1:]
    for index, line in enumerate(lines):
        if line.strip() == "Args:":
            after = [i for i in range(index + 1, len(lines)) if re.match(r"\S", lines[i])]
            lines = lines[:index] + (lines[after[0] :] if after else [])
            break
    return "\n".join(lines).strip()
