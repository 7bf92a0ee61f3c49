"""Hyperparameters of blocks, checked against the constructors that declare them."""

import inspect
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Union

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from torch import nn

from attnsearch.blocks.build import find_block, hyperparameters
from attnsearch.blocks.naming import NONE, block_label
from attnsearch.blocks.spelling import did_you_mean
from attnsearch.spaces.file import KeyPath, Problems, explain, locate
from attnsearch.spaces.keys import (
    Choice,
    FloatRange,
    IntRange,
    SearchableAny,
    kind_of,
    plain,
    same,
    shown,
)
from attnsearch.spaces.space.decisions import NAME_CHARACTERS, is_spec


@dataclass
class BlockSettings:
    """The hyperparameters that a file gives for one block.

    Attributes:
        values: By hyperparameter, plain where fixed, a checked choice or range where searched.
        joint: A choice between whole sets of hyperparameters; then the others are empty.
        places: Path of each hyperparameter in the file, of the joint choice as "".
    """

    values: dict[str, Any] = field(default_factory=dict)
    joint: Any = None
    places: dict[str, KeyPath] = field(default_factory=dict)

    def over(self, base: "BlockSettings") -> "BlockSettings":
        """Return these settings where given, those of `base` elsewhere.

        A joint choice on either side leaves nothing of the base.
        """
        if not self.places:
            return base
        if self.joint is not None or base.joint is not None:
            return self
        inherited = {key: base.values[key] for key in base.values if key not in self.values}
        return BlockSettings(inherited | self.values, None, base.places | self.places)


class Blocks:
    """The blocks that a file names, each looked up once."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.labels: dict[str, str] = {}
        self._classes: dict[str, type[nn.Module] | None] = {}

    def find(self, name: str, path: KeyPath) -> type[nn.Module] | None:
        """Return a block's class; None, and a problem, where there is none.

        Importing a user's module runs it, so whatever it raises is a problem of the file.
        """
        if name in self._classes:
            return self._classes[name]
        cls = None
        try:
            with self.problems.errors_at(path):
                cls = find_block(name)
                self._label(name, path)
        except (Exception, SystemExit) as error:
            message = f"{shown(name)} cannot be imported: {type(error).__name__}: {error}"
            self.problems.add(path, message)
        self._classes[name] = cls
        return cls

    def _label(self, name: str, path: KeyPath) -> None:
        label = block_label(name)
        if not NAME_CHARACTERS.fullmatch(label):
            self.problems.add(
                path,
                f"{shown(name)} cannot be part of a decision's name, which has only letters, "
                "digits, `_`, `.` and `-`; rename it",
            )
        other = self.labels.setdefault(label, name)
        if other != name:
            self.problems.add(
                path,
                f"{shown(name)} and {shown(other)} are both called {label} in decision names; "
                "rename one of the classes",
            )


def read_settings(
    block: str, cls: type[nn.Module], raw: Any, path: KeyPath, problems: Problems
) -> BlockSettings:
    """Check the hyperparameters that a file gives for one block.

    Args:
        block: Name of the block.
        cls: Its class.
        raw: The mapping in the file, or a choice between whole mappings.
        path: Where it stands.
        problems: Where mistakes are recorded; what is wrong is left out.
    """
    reader = _Reader(block, hyperparameters(cls), _types(cls), problems)
    kind = kind_of(raw)
    if kind is None or kind in reader.parameters:
        return reader.each(raw, path)
    if kind != "choice":
        problems.add(path, f"a range is a value of one hyperparameter of {block}; name it")
        return BlockSettings()
    return BlockSettings(joint=reader.joint(raw, path), places={"": path})


_WRONG = object()


@dataclass(frozen=True)
class _Reader:
    """Checks hyperparameters of one block.

    Attributes:
        block: Its name.
        parameters: Its hyperparameters.
        types: What the constructor declares them as.
        problems: Where mistakes are recorded.
    """

    block: str
    parameters: Mapping[str, inspect.Parameter]
    types: Mapping[str, Any]
    problems: Problems

    def each(self, raw: Mapping[str, Any], path: KeyPath) -> BlockSettings:
        """Return hyperparameters that are fixed or searched one by one."""
        settings = BlockSettings()
        for name, value in raw.items():
            where = (*path, name)
            checked = self.one(name, value, where)
            if is_spec(checked) and not NAME_CHARACTERS.fullmatch(name):
                message = f"{name!r} cannot be part of a decision's name; fix its value"
                self.problems.add(where, message)
            elif checked is not _WRONG:
                settings.values[name] = checked if is_spec(checked) else plain(checked)
                settings.places[name] = where
        return settings

    def joint(self, raw: dict[str, Any], path: KeyPath) -> Any:
        """Check `{choice: [{...}, {...}]}`: a choice between whole sets of hyperparameters."""
        try:
            spec: Any = TypeAdapter(SearchableAny[dict[str, Any]]).validate_python(raw)
            members = enumerate(spec.choice)
            checked: dict[str, Any] = {
                "choice": [self._member(each, (*path, "choice", index)) for index, each in members]
            }
            if spec.prior:
                checked["prior"] = self._member(spec.prior, (*path, "prior"))
            if self.problems.wrong(path):
                return None
            return Choice[dict[str, Any]].model_validate(checked)
        except ValidationError as error:
            explain(error, raw, path, self.problems)
            return None

    def _member(self, member: Mapping[str, Any], path: KeyPath) -> dict[str, Any]:
        values = {}
        for name, value in member.items():
            if kind_of(value):
                message = "a member of a choice is fixed; write one value"
                self.problems.add((*path, name), message)
            else:
                values[name] = plain(self.one(name, value, (*path, name)))
        return values

    def one(self, name: str, value: Any, path: KeyPath) -> Any:
        """Return a value in the form that the constructor declares, `_WRONG` if it has none."""
        if name not in self.parameters:
            has = f"it has {', '.join(self.parameters) or 'none'}"
            hint = did_you_mean(name, self.parameters)
            message = f"block {self.block} has no hyperparameter {name!r}{hint} ({has})"
            self.problems.add(path, message, at_key=True)
            return _WRONG
        default = plain(self.parameters[name].default)
        if same(default, value):
            return default
        kind = self.types.get(name, Any)
        adapter = _adapter(kind)
        if adapter is None:
            kind, adapter = Any, TypeAdapter(SearchableAny[Any])
        try:
            checked = adapter.validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            _explain(error, kind, value, path, self.problems)
            return _WRONG
        wrong_range = None
        if isinstance(checked, IntRange) and isinstance(checked.ends[0], float):
            wrong_range = "is a fraction: use {float: [lowest, highest]}"
        if isinstance(checked, FloatRange) and kind != Any and isinstance(checked.ends[0], int):
            wrong_range = "is a whole number: use {int: [lowest, highest]}"
        if wrong_range:
            self.problems.add(path, f"{name} of {self.block} {wrong_range}")
            return _WRONG
        return checked


def _explain(
    error: ValidationError, kind: Any, value: Any, path: KeyPath, problems: Problems
) -> None:
    """Record why a value does not have the type that the constructor declares."""
    details = error.errors(include_url=False)
    own = ("choice", "range", "kind", "missing", "extra_forbidden")
    forms = (("choice",), ("int",), ("float",))
    if any(detail["type"] in own or detail["loc"][-1:] in forms for detail in details):
        explain(error, value, path, problems)
        return
    for detail in details:
        where = locate(detail["loc"], value)
        inside = where[:2] if kind_of(value) else ()
        wrong = value
        for part in inside:
            wrong = wrong[part]
        problems.add((*path, *inside), f"found {shown(wrong)}, expected {_words(kind)}")


def _types(cls: Any) -> dict[str, Any]:
    """Return the declared types of a constructor's parameters, none where they are unreadable."""
    try:
        return typing.get_type_hints(cls.__init__)
    except Exception:  # a user's annotation may name anything
        return {}


@lru_cache(maxsize=256)
def _adapter(kind: Any) -> "TypeAdapter[Any] | None":
    """Return what validates a value of a type in any form, None for a type that JSON lacks."""
    try:
        return TypeAdapter(SearchableAny[kind])
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError):
        return None


def _words(kind: Any) -> str:
    """Say what a type is in words."""
    plain_words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        type(None): "null",
    }
    if kind in plain_words:
        return plain_words[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(str(option) for option in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(argument) for argument in arguments))
    members = [argument for argument in arguments if argument is not Ellipsis]
    if origin is not None and len(members) == 1:
        return f"a list, each member {_words(members[0])}"
    return f"a value of type {getattr(kind, '__name__', kind)}"


def side_loss(block: str) -> str | None:
    """Return the key of a block's side output in `train.aux_weight`, None if it has none."""
    if block == NONE:
        return None
    return getattr(find_block(block), "side_loss", None)
