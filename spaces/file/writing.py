"""A config as YAML that a person can read and `load_space` loads again."""

from collections.abc import Mapping
from typing import Any

import yaml

from attnsearch.spaces.file.document import install_scalars

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
