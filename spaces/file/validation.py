"""Checks a document against the model, with messages in the words of a space file."""

import copy
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, Discriminator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from attnsearch.blocks.spelling import did_you_mean
from attnsearch.spaces.file.errors import KeyPath, Problems, dotted
from attnsearch.spaces.keys import Fixed, SpaceFile, kind_of, label, marks, shown

#: What stands in for a required value that is wrong, so that the rest can still be checked.
_STAND_INS: dict[KeyPath, Any] = {
    ("name",): "unnamed",
    ("task",): "classification",
    ("data",): {"source": None},
    ("data", "source"): None,
    ("network",): {"backbone": "resnet18"},
    ("network", "backbone"): "resnet18",
}
_ENTRY_STAND_INS: dict[str, Any] = {"insert": {"at": "stem", "block": "none"}, "forbid": {}}

_EXPECTED = {
    "int": "a whole number",
    "int_from_float": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "list": "a list: [...]",
    "dict": "a mapping of keys to values",
    "model": "a mapping of keys to values",
}
_LIMIT = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}


def validate(raw: Any, problems: Problems) -> SpaceFile | None:
    """Check the keys, types and bounds of a document.

    Mistakes go to `problems`. What is wrong is then left at its default, or replaced by something
    harmless where it is required, so that the rest can be checked in the same go;
    `problems.wrong(path)` tells what to leave out.

    Args:
        raw: The document as plain data.
        problems: Where mistakes are recorded.

    Returns:
        The file, or None where there is nothing to check further.
    """
    if not isinstance(raw, dict):
        what = "the file is empty" if raw is None else f"found {shown(raw)}"
        keys = ", ".join(SpaceFile.model_fields)
        problems.add((), f"{what}; a space file is a mapping with the keys {keys}")
        return None
    data = copy.deepcopy(raw)
    for _ in range(10):
        try:
            return SpaceFile.model_validate(data)
        except ValidationError as error:
            explain(error, data, (), problems)
            # All of them before the first is taken out: the second mistake in a value would be
            # looked for in what is left, and found in what stands around it.
            for path in [_found_at(detail, data) for detail in error.errors(include_url=False)]:
                _replace(data, path)
    return None


def explain(error: ValidationError, raw: Any, path: KeyPath, problems: Problems) -> None:
    """Record what pydantic found wrong with the value at a path."""
    for where, message, at_key in _messages(error.errors(include_url=False), raw):
        problems.add((*path, *where), message, at_key=at_key)


def locate(loc: tuple[str | int, ...], data: Any) -> KeyPath:
    """Return the path in the document that pydantic's location names, without its union tags."""
    path: list[str | int] = []
    for part in loc:
        is_index = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if is_index or (isinstance(data, dict) and part in data):
            data = data[part]
            path.append(part)
    return tuple(path)


def _found_at(detail: ErrorDetails, data: Any) -> KeyPath:
    """Return the path of a value that is wrong, or of a required one that is missing."""
    path = locate(detail["loc"], data)
    required = (*path, detail["loc"][-1])
    return required if detail["type"] == "missing" and required in _STAND_INS else path


def _replace(data: dict[str, Any], path: KeyPath) -> None:
    """Take the part of a document that is wrong out of it, or puts a stand-in there."""
    node: Any = data
    for depth, part in enumerate(path):
        here = path[: depth + 1]
        last = depth == len(path) - 1
        if last and here in _STAND_INS:
            node[part] = copy.deepcopy(_STAND_INS[here])
            return
        if not isinstance(node, dict) or part not in node:
            return  # it went with another mistake, or has a stand-in already
        child = node[part]
        if part in _ENTRY_STAND_INS and depth == 0 and isinstance(child, list) and not last:
            child[int(path[1])] = copy.deepcopy(_ENTRY_STAND_INS[str(part)])
            return
        if last or isinstance(child, list) or kind_of(child):
            del node[part]
            return
        node = child


def _messages(
    details: list[ErrorDetails], data: dict[str, Any]
) -> Iterator[tuple[KeyPath, str, bool]]:
    misspelt: set[KeyPath] = set()
    for detail in details:
        if detail["type"] == "extra_forbidden":
            path = locate(detail["loc"], data)
            allowed = _allowed_keys(path[:-1], data)
            hint = did_you_mean(path[-1], allowed)
            misspelt |= {(*path[:-1], key) for key in allowed if repr(key) in hint}
            message = f"unknown key {shown(path[-1])}{hint}"
            yield path, f"{message} (allowed here: {', '.join(allowed)})", True
    for detail in details:
        path = locate(detail["loc"], data)
        if detail["type"] == "missing":
            key = str(detail["loc"][-1])
            if (*path, key) not in misspelt:
                message = f"the key {key!r} is missing; {_purpose(path, key)}"
                yield (*path, key), message, True
        elif detail["type"] != "extra_forbidden":
            yield path, _message(detail, path), False


def _message(detail: ErrorDetails, path: KeyPath) -> str:
    """Write one pydantic error as what was found, what is allowed and what to do."""
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind_of(value) and kind not in ("choice", "range", "kind"):
        return _not_searchable(path)
    if kind == "literal_error":
        expected = context["expected"].replace(" or ", ", ").split(", ")
        options = [option.strip(" '") for option in expected]
        hint = did_you_mean(value, options)
        for mark in (mark for field in _fields_at(path) for mark in field.metadata):
            if isinstance(mark, Discriminator) and mark.custom_error_type == "type":
                # Words are not all that may stand here, see `by_type`.
                return f"{shown(value)}: {mark.custom_error_message}{hint}"
        return f"{shown(value)} is not one of {', '.join(options)}{hint}"
    if kind in _LIMIT:
        key, words = _LIMIT[kind]
        return f"{shown(value)} is out of range; it must be {words} {context[key]:g}"
    base = kind.removesuffix("_type").removesuffix("_attributes").removesuffix("_instance")
    if base in _EXPECTED:
        return _other_kind(value, base, path)
    if kind in ("too_short", "too_long"):
        bound = "min" if kind == "too_short" else "max"
        words = "at least" if kind == "too_short" else "at most"
        return f"{shown(value)} must have {words} {context[bound + '_length']} members"
    if kind == "string_too_short":
        return "is empty; write a value or remove the key"
    if kind == "string_too_long":
        return f"{shown(value)} has {len(value)} characters, at most {context['max_length']}"
    if kind == "string_pattern_mismatch":
        return (
            f"{shown(value)} may have only letters, digits, `_`, `.` and `-`, "
            "and must start with a letter or digit"
        )
    return f"{shown(value)}: {detail['msg']}" if kind in ("kind", "type") else detail["msg"]


def _other_kind(value: Any, base: str, path: KeyPath) -> str:
    """Say what was found in place of another kind of value, and what was probably meant."""
    written, hint = "nothing (null)" if value is None else shown(value), ""
    if isinstance(value, dict) and base not in ("dict", "model", "list"):
        hint = "; to search it write {choice: [...]}, {int: [lo, hi]} or {float: [lo, hi]}"
        hint += did_you_mean(next(iter(value), ""), ("choice", "int", "float"))
    elif isinstance(value, list) and value and _is_searchable(path):
        listed = ", ".join(label(item) for item in value)
        hint = f"; to search it write {{choice: [{listed}]}}"
    elif value is None and "block" in path and path[0] == "insert":
        hint = "; a place that stays empty is written none"
    elif value is None and base in ("dict", "model"):
        hint = f"; write what belongs under {path[-1]}, or remove the key" if path else ""
    return f"found {written}, expected {_EXPECTED[base]}{hint}"


def _is_searchable(path: KeyPath) -> bool:
    """Return whether a choice may stand in place of the fixed value at a path."""
    forms = (model for field in _fields_at(path) for model in _models_in(field.annotation))
    return isinstance(path[-1], str) and any("choice" in form.model_fields for form in forms)


def _not_searchable(path: KeyPath) -> str:
    for length in range(1, len(path) + 1):
        for field in _fields_at(path[:length]):
            for mark in marks(field, Fixed):
                return f"cannot be searched: {mark.reason}"
    where = "insert (block, params), blocks, train, network.width, network.stem and data.augment"
    return f"cannot be searched; {dotted(path)} is fixed, decisions may stand in {where}"


def _purpose(path: KeyPath, key: str) -> str:
    for field in _fields_at((*path, key)):
        if field.description:
            return f"{key}: {' '.join(field.description.split())}"
    return "add it"


def _allowed_keys(path: KeyPath, data: Any) -> list[str]:
    value: Any = data
    for part in path:
        value = value[part]
    kind = kind_of(value)
    if kind:
        return [kind, "prior"] if kind == "choice" else [kind, "step", "log", "prior"]
    return [key for model in _models_at(path) for key in _by_key(model)]


def _models_at(path: KeyPath) -> list[type[BaseModel]]:
    """Return the models that can stand at a path."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    if not path:
        return [SpaceFile]
    return [model for field in _fields_at(path) for model in _models_in(field.annotation)]


def _fields_at(path: KeyPath) -> list[FieldInfo]:
    """Return the fields that can be meant by a key."""
    key = str(path[-1])
    models = map(_by_key, _models_at(path[:-1]))
    return [fields[key] for fields in models if key in fields]


def _by_key(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return a model's fields by their keys in a file: `from` is no name in Python."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
