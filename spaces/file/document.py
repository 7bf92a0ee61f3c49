"""YAML text to plain data, with the place of every key and value.

The text is read by PyYAML's safe loader with the scalars of YAML 1.2: only `true` and `false` are
booleans, so that `no` and `on` stay words; dates stay text; `1e-4` and `12e6` are numbers.
Refused, each with its place: duplicate keys, keys that are not text, tags other than the plain
ones, infinite and undefined numbers, aliases that contain themselves or explode in size, and
texts too large or too deep for a file that a person wrote.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from attnsearch.spaces.file.errors import KeyPath, Position, Problems, SpaceError, dotted
from attnsearch.spaces.keys import shown

MAX_BYTES = 262_144
MAX_DEPTH = 32
MAX_VALUES = 20_000
MAX_INTEGER = 2**63 - 1

_TAG = "tag:yaml.org,2002:"
_KINDS = ("null", "bool", "int", "float", "str", "merge")
SCALARS: tuple[tuple[str, str, str], ...] = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+(?:_[0-9]+)*|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)


def install_scalars(resolver: type[yaml.resolver.BaseResolver]) -> None:
    """Give a loader or dumper class the YAML 1.2 scalars of this module, and no others."""
    resolver.yaml_implicit_resolvers = {}
    for kind, pattern, first in SCALARS:
        starts = ["" if char == "\0" else char for char in first]
        resolver.add_implicit_resolver(_TAG + kind, re.compile(f"(?:{pattern})$"), starts)


class _Loader(yaml.SafeLoader):
    """The safe loader with YAML 1.2 scalars, bounded in depth."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node, unless it lies deeper than any space file."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, f"nested more than {MAX_DEPTH} levels deep", event.start_mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


install_scalars(_Loader)


@dataclass
class Document:
    """A YAML text as plain data.

    Attributes:
        value: dicts, lists, strings, numbers, booleans and None.
        problems: What was wrong so far, and the places of all keys and values.
    """

    value: Any
    problems: Problems


def read_text(path: Path, file: str) -> str:
    """Read a space file.

    Raises:
        SpaceError: The file is missing, a folder, unreadable, too large or not UTF-8.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        message = f"there is no such file (looked for {path.absolute()})"
        raise _failure(Position(file), message) from None
    except IsADirectoryError:
        raise _failure(Position(file), "is a folder; name the .yaml file in it") from None
    except (OSError, ValueError) as error:
        raise _failure(Position(file), f"cannot be read: {error}") from None
    if len(data) > MAX_BYTES:
        message = f"has {len(data):,} bytes; a space file has at most {MAX_BYTES:,}"
        raise _failure(Position(file), message)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = len(before.rsplit(b"\n", 1)[-1].decode("utf-8", "replace")) + 1
        place = Position(file, before.count(b"\n") + 1, column)
        message = f"byte 0x{data[error.start]:02x} is not UTF-8 text; save the file as UTF-8"
        raise _failure(place, message) from None


def parse(text: str, file: str) -> Document:
    """Parse a YAML text.

    Mistakes that leave the rest readable are collected in the document's problems.

    Args:
        text: The YAML.
        file: What the places of problems call the text.

    Raises:
        SpaceError: The text is not YAML, or not one document.
    """
    problems = Problems(file)
    node = _compose(text, file)
    return Document(node and _Construction(problems).value(node, ()), problems)


def parse_value(text: str) -> Any:
    """Parse the VALUE of an override.

    Raises:
        SpaceError: The text is not one YAML value.
    """
    document = parse(text, "VALUE")
    if document.problems:
        raise SpaceError(document.problems)
    return document.value


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, _Loader)
        return node
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = Position(file, before.count("\n") + 1, len(before.rsplit("\n", 1)[-1]) + 1)
        code = error.character if isinstance(error.character, int) else ord(error.character)
        message = f"the character U+{code:04X} cannot stand in YAML; remove it"
        raise _failure(place, message) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Position(file, mark.line + 1, mark.column + 1) if mark else Position(file, 1, 1)
        raise _failure(place, _explain(error)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _failure(Position(file, 1, 1), f"not YAML: {error}") from None


def _explain(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "not YAML"
    hints = {
        "'\\t'": "indent with spaces, not tabs",
        "expected a single document": "",
        "but found another document": "a space file is one document: remove the `---` line",
        "mapping values are not allowed": "quote a text that contains `: `, or check the indent",
        "could not find expected ':'": "each line is `key: value`",
        "found undefined alias": "an alias *name* needs an anchor &name before it",
        "expected ',' or": "a bracket is not closed, or a comma is missing",
        "expected <block end>": "check the indent: keys of one mapping stand in one column",
        "end of stream": "a quote or bracket is not closed",
    }
    hint = next((text for sign, text in hints.items() if sign in problem), "")
    context = f"{error.context}, " if error.context else ""
    return f"{context}{problem}" + (f" ({hint})" if hint else "")


class _Construction:
    """Turns nodes into plain data and records places."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.open: set[int] = set()
        self.count = 0

    def value(self, node: yaml.Node, path: KeyPath, into: dict[str, Any] | None = None) -> Any:
        place = self.place(node)
        self.problems.values.setdefault(path, place)
        self.count += 1
        if self.count > MAX_VALUES:
            message = f"more than {MAX_VALUES:,} values once its aliases are written out"
            raise _failure(place, message)
        if id(node) in self.open:
            self.problems.add(path, "an alias that contains itself; write the value out")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        kind = "map" if isinstance(node, yaml.MappingNode) else "seq"
        if node.tag != _TAG + kind:
            self.problems.add(path, f"the tag {node.tag!r} is not allowed; remove it")
            return None
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, path, {} if into is None else into)
            items = enumerate(node.value)
            return [self.value(item, (*path, index)) for index, item in items]
        finally:
            self.open.discard(id(node))

    def mapping(
        self, node: yaml.MappingNode, path: KeyPath, result: dict[str, Any]
    ) -> dict[str, Any]:
        """Add the keys of a mapping that are not there yet, then those of `<<: *base`."""
        own: dict[str, Position] = {}
        for key_node, value_node in node.value:
            key = None if key_node.tag == _TAG + "merge" else self.key(key_node, path)
            if key is None:
                continue
            place = self.place(key_node)
            if key in own:
                message = (
                    f"the key {shown(key)} stands here twice, first at {own[key]}; remove one"
                )
                self.problems.add_at(place, dotted((*path, key)), message)
            elif key not in result:
                self.problems.keys[(*path, key)] = place
                result[key] = self.value(value_node, (*path, key))
            own.setdefault(key, place)
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                self.merge(key_node, value_node, path, result)
        return result

    def merge(
        self, key_node: yaml.Node, node: yaml.Node, path: KeyPath, result: dict[str, Any]
    ) -> None:
        """Add the keys of `<<: *base` that the mapping does not have itself."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                message = "`<<` merges a mapping, or a list of mappings: write `<<: *name`"
                self.problems.add_at(self.place(key_node), dotted(path), message)
                return
            self.value(source, path, result)

    def key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "str":
            return str(node.value)
        if isinstance(node, yaml.ScalarNode):
            message = f"the key {node.value} is not text; put it in quotes: '{node.value}'"
        else:
            message = "a list or mapping cannot be a key; write `key: value`"
        self.problems.add_at(self.place(node), dotted(path), message)
        return None

    def scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        kind = node.tag.removeprefix(_TAG)
        text = node.value
        if kind not in _KINDS:
            self.problems.add(path, f"the tag {node.tag!r} is not allowed; write a plain value")
            return None
        try:
            return _convert(kind, text)
        except (ValueError, OverflowError) as error:
            self.problems.add(path, str(error))
            return None

    def place(self, node: yaml.Node) -> Position:
        mark = node.start_mark
        return Position(self.problems.file, mark.line + 1, mark.column + 1)


def _convert(kind: str, text: str) -> Any:
    """Return the value of a scalar whose kind is known."""
    if kind == "null":
        return None
    if kind == "bool":
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{shown(text)} is not a boolean; write true or false")
        return text.lower() == "true"
    if kind == "int":
        digits = text.replace("_", "")
        if len(digits) > 40:
            raise ValueError(f"{shown(text)} is too large a number")
        try:
            number = int(digits, {"0x": 16, "0o": 8}.get(digits[:2], 10))
        except ValueError:
            raise ValueError(f"{shown(text)} is not a whole number") from None
        if abs(number) > MAX_INTEGER:
            raise ValueError(f"{shown(text)} is too large a number")
        return number
    if kind == "float":
        try:
            real = float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text.lower()).replace("_", ""))
        except ValueError:
            raise ValueError(f"{shown(text)} is not a number") from None
        if not math.isfinite(real):
            raise ValueError(f"{shown(text)} is not a finite number; write one, or null for none")
        return real
    if not text.isprintable() and any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError(f"{shown(text)} holds half of a surrogate pair; remove it")
    return text


def _failure(place: Position, message: str) -> SpaceError:
    return SpaceError([place.problem("", message)])
