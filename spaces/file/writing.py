"""A config as YAML that a person can read and `load_space` loads again."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import yaml
from pydantic import BaseModel

from attnsearch.spaces.file.document import install_scalars
from attnsearch.spaces.file.errors import KeyPath, Position, SpaceError, dotted

CALLED = "the space"
"""What messages call a space that is in no file."""

_FLOW_WIDTH = 60


class _Dumper(yaml.SafeDumper):
    """Writes the scalars of a space file; what YAML 1.1 would read otherwise is quoted as well."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every value out, also where one object stands in two places."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent the members of a list below its key."""
        super().increase_indent(flow, False)


install_scalars(_Dumper)
_yaml_1_1 = yaml.resolver.Resolver()


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = "tag:yaml.org,2002:str"
    if not value.isprintable():
        return dumper.represent_scalar(plain, value, '"')  # line breaks survive only escaped
    elsewhere = _yaml_1_1.resolve(yaml.ScalarNode, value, (True, False))  # type: ignore[no-untyped-call]
    style = None if elsewhere == plain else "'"
    return dumper.represent_scalar(plain, value, style)


def _list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.SequenceNode:
    flow = not any(isinstance(item, dict) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flow)


class _Top(dict[str, Any]):
    """The whole config, whose keys each get a line."""


def _top(dumper: yaml.SafeDumper, value: dict[str, Any]) -> yaml.MappingNode:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=False)


def _mapping(dumper: yaml.SafeDumper, value: dict[str, Any]) -> yaml.MappingNode:
    small = len(str(value)) <= _FLOW_WIDTH and not any(isinstance(v, dict) for v in value.values())
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=small)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)
_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(_Top, _top)


def dump(config: Mapping[str, Any]) -> str:
    """Write a config, or any part of a space file, as YAML.

    Args:
        config: Plain values: dicts, lists, text, finite numbers, booleans and None.
    """
    return yaml.dump(
        _Top(config),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=99,
    )


def written(space: BaseModel | Mapping[str, Any]) -> str:
    """Write a space that a program has made as the text of its file.

    Args:
        space: A `SpaceFile`, or a mapping of the same keys. Tuples, numpy's numbers, paths and
            classes (a block of the user's own) are written as a file has them.

    Raises:
        SpaceError: A value cannot stand in a file.
    """
    return dump(_plain(space, ()))


def _plain(value: Any, path: KeyPath) -> Any:
    """Return a value as a file holds it."""
    if isinstance(value, BaseModel):
        # Only what was set, as a person writes a file: the rest may change its default.
        value = value.model_dump(by_alias=True, exclude_unset=True)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise _fault(path, f"the key {key!r} is not text")
        return {key: _plain(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, type):
        if value.__module__ == "__main__" or "<locals>" in value.__qualname__:
            raise _fault(
                path,
                f"the class {value.__qualname__} is defined where no worker can import it from: "
                f"put it in a file beside the program, such as blocks.py, and import it",
            )
        return f"{value.__module__}:{value.__qualname__}"
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()  # numpy's and torch's numbers
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise _fault(path, f"{value!r:.60} of type {type(value).__name__} cannot stand in a space")


def _fault(path: KeyPath, message: str) -> SpaceError:
    return SpaceError([Position(CALLED).problem(dotted(path), message)])
