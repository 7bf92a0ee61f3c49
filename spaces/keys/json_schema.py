"""The JSON Schema of space files, for editors and for reading."""

import inspect
from typing import Any

from attnsearch.blocks.build import (
    block_names,
    find_block,
    hyperparameters,
    parameter_docs,
    summary,
)
from attnsearch.blocks.errors import AttnsearchError
from attnsearch.spaces.keys.space_file import SpaceFile
from attnsearch.spaces.keys.values import plain

_SPECS = ("Choice", "IntRange", "FloatRange")


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a space file, with every block's hyperparameters."""
    raw = SpaceFile.model_json_schema()
    definitions = raw.pop("$defs")
    inlined = {name for name in definitions if name.split("_")[0] in _SPECS}

    def expand(node: Any) -> Any:
        if isinstance(node, list):
            return [expand(item) for item in node]
        if not isinstance(node, dict):
            return node
        name = str(node.get("$ref", "")).removeprefix("#/$defs/")
        if name in inlined:
            return expand(definitions[name])
        expanded = {key: expand(value) for key, value in node.items()}
        if isinstance(expanded.get("title"), str):
            del expanded["title"]  # it only repeats the key
        if isinstance(description := expanded.get("description"), str):
            expanded["description"] = " ".join(description.split())
        return expanded

    result: dict[str, Any] = expand(raw)
    result["properties"]["blocks"]["properties"] = _blocks()
    result["$defs"] = {
        name: expand(definition) for name, definition in definitions.items() if name not in inlined
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "attnsearch space file",
        **result,
    }


def _blocks() -> dict[str, Any]:
    """Return the hyperparameters of every block, as its constructor declares them."""
    blocks: dict[str, Any] = {}
    for name in block_names():
        try:
            cls = find_block(name)
        except AttnsearchError:  # an installed package's block that cannot be imported
            continue
        docs = parameter_docs(cls)
        properties: dict[str, Any] = {}
        for key, parameter in hyperparameters(cls).items():
            properties[key] = {"description": docs.get(key, "")}
            default = plain(parameter.default)
            is_json = isinstance(default, bool | int | float | str | list | dict | None)
            if parameter.default is not inspect.Parameter.empty and is_json:
                properties[key]["default"] = default
        blocks[name] = {
            "type": "object",
            "description": summary(cls),
            "properties": properties,
        }
    return blocks
