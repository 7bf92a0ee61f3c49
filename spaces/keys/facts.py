"""What the keys of a space file say about themselves, as queries on the marks of their fields."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from attnsearch.spaces.keys.space_file import SpaceFile
from attnsearch.spaces.keys.train import Train
from attnsearch.spaces.keys.values import Fixed, Of, Scope, When

Mark = TypeVar("Mark", Of, When, Fixed)

DECIDING = ("optimizer", "schedule")
"""The `train` keys whose values decide which others are asked for; `loss` and `task` only take
away the effect of others."""


def marks(field: FieldInfo, kind: type[Mark]) -> list[Mark]:
    """Return the marks of a kind that a field has."""
    return [mark for mark in field.metadata if isinstance(mark, kind)]


def keys_of(*scopes: Scope, section: type[BaseModel] = SpaceFile) -> tuple[str, ...]:
    """Return the keys of a section that are of these scopes, in the order of the scopes."""
    scope_of = {
        key: next((mark.scope for mark in marks(field, Of)), "run")
        for key, field in section.model_fields.items()
    }
    return tuple(key for scope in scopes for key, its in scope_of.items() if its == scope)


def keys_under(other: str, section: type[BaseModel] = Train) -> dict[str, tuple[Any, ...]]:
    """Return the keys of a section whose effect depends on another key.

    Args:
        other: The other key.
        section: The section.

    Returns:
        For each key the values of the other one under which it has an effect.
    """
    return {
        key: mark.values
        for key, field in section.model_fields.items()
        for mark in marks(field, When)
        if mark.key == other
    }


def idle(settings: Mapping[str, Any], *others: str) -> set[str]:
    """Return the `train` keys that have no effect under settings.

    Args:
        settings: Values of the keys that others depend on.
        *others: Which of those keys count.
    """
    return {
        key
        for other in others
        for key, values in keys_under(other).items()
        if settings.get(other) not in values
    }
