"""`--set KEY=VALUE`: changes to a document before it is checked."""

from collections.abc import Sequence
from typing import Any

from attnsearch.spaces.file.document import Document, parse_value
from attnsearch.spaces.file.errors import KeyPath, Position, Problems, SpaceError, dotted
from attnsearch.spaces.keys import shown


def apply_overrides(document: Document, overrides: Sequence[str]) -> None:
    """Change a document as the overrides say, the last one winning.

    KEY is dotted, a number names a member of a list: `insert.0.block=gc`. VALUE is YAML:
    `train.lr={float: [0.01, 0.1]}`. Problems with what an override brings name the override.

    Args:
        document: Changed in place.
        overrides: Texts `KEY=VALUE`.
    """
    for override in overrides:
        place = Position(f"--set {override}")
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            message = "write KEY=VALUE, for instance --set train.epochs=3"
            document.problems.add_at(place, "", message)
            continue
        try:
            value = parse_value(text)
        except SpaceError as error:
            for problem in error.problems:
                message = f"the value {shown(text)} is not YAML: {problem.message}"
                document.problems.add_at(place, key, message)
            continue
        _set(document, key.strip().split("."), value, place)


def _set(document: Document, parts: list[str], value: Any, place: Position) -> None:
    problems = document.problems
    if document.value is None:
        document.value = {}
    node: Any = document.value
    path: KeyPath = ()
    while True:
        if isinstance(node, list):
            index = parts[0]
            if not (index.isascii() and index.isdigit() and int(index) < len(node)):
                message = f"is a list of {len(node)}; {shown(index)} is no position in it"
                hint = f" (0 to {len(node) - 1})" if node else ""
                problems.add_at(place, dotted(path), message + hint)
                return
            step: str | int = int(index)
            parts = parts[1:]
        elif isinstance(node, dict):
            step, parts = _longest_key(node, parts)
        else:
            message = f"is {shown(node)}, which has no key {shown('.'.join(parts))}"
            problems.add_at(place, dotted(path), message)
            return
        path = (*path, step)
        if not parts:
            node[step] = value
            _mark(problems, path, value, place)
            return
        if isinstance(node, dict) and node.get(str(step)) is None:
            node[step] = {}
            _mark(problems, path, {}, place)
        node = node[step]


def _longest_key(node: dict[str, Any], parts: list[str]) -> tuple[str, list[str]]:
    """Return the key to descend by; keys may hold dots themselves, such as `my.blocks:Gate`."""
    for length in range(len(parts), 0, -1):
        key = ".".join(parts[:length])
        if key in node:
            return key, parts[length:]
    return parts[0], parts[1:]


def _mark(problems: Problems, path: KeyPath, value: Any, place: Position) -> None:
    """Make the override the place of all it brings, and forget what was there before."""
    for table in (problems.keys, problems.values):
        for below in [below for below in table if below[: len(path)] == path]:
            del table[below]
    problems.forgive(path)
    problems.keys[path] = problems.values[path] = place
    members = enumerate(value) if isinstance(value, list) else ()
    for key, item in value.items() if isinstance(value, dict) else members:
        _mark(problems, (*path, key), item, place)
