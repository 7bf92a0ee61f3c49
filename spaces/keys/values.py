"""The grammar of a value that may be searched: fixed, or a choice or a range.

`{choice: [a, b]}`, `{int: [low, high], step: 2}`, `{float: [low, high], log: true}`, each with an
optional `prior:`, the value that is tried first. `Searchable[T]` is the pydantic type of a value
of type T or a choice of such values; `SearchableInt` and `SearchableFloat` allow ranges too.
"""

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeAlias, TypeVar, Union

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

T = TypeVar("T")

KINDS = ("choice", "int", "float")

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]


Scope = Literal[
    "name", "run", "own", "data", "search", "trials", "plans", "limits", "statistics", "host"
]
"""Whose a key is: ``run`` for what determines a run's result, ``own`` for what each run has of its
own, ``data`` for what the fingerprint of the data tells; of the study are its ``name``, what is
explored (``search``, its ``trials`` and its ``limits``), the ``plans`` of confirm and ablation and
their ``statistics``; ``host`` is for where runs happen, where things lie, and what only describes.
"""


@dataclass(frozen=True)
class Of:
    """Says on a field whose a key is; without it, it is the run's."""

    scope: Scope


@dataclass(frozen=True, init=False)
class When:
    """Says on a field that a key has an effect only where another has one of some values."""

    key: str
    values: tuple[Any, ...]

    def __init__(self, key: str, *values: Any) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "values", values)


CLASSIFICATION_ONLY = When("task", "classification")
SEGMENTATION_ONLY = When("task", "segmentation")
WHOLE_IMAGES = When("task", "classification", "multilabel")


@dataclass(frozen=True)
class Fixed:
    """Says on a field why it cannot be searched."""

    reason: str


class Section(BaseModel):
    """A mapping with known keys of strict types."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )


def by_type(allowed: str, **same: str) -> Discriminator:
    """Tell the members of a union apart by the type of the value: it is their tag, `<list>`.

    Args:
        allowed: What may stand here, for the message about anything else.
        **same: Types that go to the member of another type.
    """

    def tag(value: Any) -> str:
        kind = "dict" if isinstance(value, BaseModel) else type(value).__name__
        return f"<{same.get(kind, kind)}>"

    return Discriminator(tag, custom_error_type="type", custom_error_message=f"must be {allowed}")


def kind_of(value: Any) -> str | None:
    """Return which kind of decision a raw value is written as, None for a fixed value."""
    if isinstance(value, dict):
        return next((kind for kind in KINDS if kind in value), None)
    return None


def label(value: Any) -> str:
    """Write a plain value as text that is the same for equal values: words as they are."""
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def same(left: Any, right: Any) -> bool:
    """Return whether two plain values are equal as YAML: 1 and 1.0 are, 1 and true are not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def range_fault(low: float, high: float, step: float | None, log: bool, prior: Any) -> str | None:
    """Return what is wrong with a range, None if it is sound."""
    if low >= high:
        return f"the lowest value {low} must lie below the highest {high}"
    if log and low <= 0:
        return f"log: true needs a lowest value above 0, not {low}"
    if log and step is not None:
        return "log: true and step cannot stand together; remove one"
    if step is not None and not on_step(low, high, step):
        reached = low + math.floor((high - low) / step) * step
        return f"step {step} does not lead from {low} to {high}; use {reached:g} as highest"
    if prior is not None and not low <= prior <= high:
        return f"the prior {prior} lies outside [{low}, {high}]"
    if prior is not None and step is not None and not on_step(low, prior, step):
        return f"the prior {prior} is not {low} plus a multiple of step {step}"
    return None


def on_step(low: float, value: float, step: float) -> bool:
    """Return whether steps lead from the lowest number to a value."""
    count = (value - low) / step
    return math.isclose(count, round(count), rel_tol=0, abs_tol=1e-6)


class _Spec(Section):
    model_config = ConfigDict(use_attribute_docstrings=False)  # costly for the many forms of T

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """Name every parametrised class alike: the schema shows the members' type anyway."""
        return cls.__name__

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        written = {fields[name].alias or name for name in self.model_fields_set}
        return {key: value for key, value in handler(self).items() if key in written}


def _as_number(value: Any) -> str:
    """Write a value so that what Python holds equal is one: 1, 1.0 and true."""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    if isinstance(value, list):
        return "[" + ",".join(map(_as_number, value)) + "]"
    return label(value)


class Choice(_Spec, Generic[T]):
    """One of several values."""

    choice: list[T] = Field(min_length=1, description="The values to choose from.")
    prior: T | None = Field(None, description="The value that is tried first.")

    @model_validator(mode="after")
    def _members_are_sound(self) -> "Choice[T]":
        members = plain(self.choice)
        seen: set[str] = set()
        for member in members:
            written = {label(member), _as_number(member)}
            twice = not seen.isdisjoint(written)
            seen |= written
            if twice:
                raise PydanticCustomError(
                    "choice",
                    "the member {member} stands twice, or another is written alike; remove one",
                    {"member": shown(member)},
                )
        prior = plain(self.prior)
        if "prior" in self.model_fields_set and not any(same(prior, member) for member in members):
            raise PydanticCustomError(
                "choice",
                "the prior {prior} is not among the members {members}",
                {"prior": shown(prior), "members": shown(members)},
            )
        return self


class _Range(_Spec, Generic[T]):
    log: bool = Field(False, description="Propose on a logarithmic scale.")
    prior: T | None = Field(None, description="The value that is tried first.")

    @model_validator(mode="after")
    def _is_sound(self: Any) -> Any:  # the ends and the step are declared below
        for number in [*self.ends, *([] if self.prior is None else [self.prior])]:
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise PydanticCustomError("range", "the ends of a range are numbers", {})
            if isinstance(self, IntRange) and number != int(number):
                raise PydanticCustomError(
                    "range", "{number} in an int range is not a whole number", {"number": number}
                )
        low, high = self.ends
        fault = range_fault(low, high, self.step, self.log, self.prior)
        if fault:
            raise PydanticCustomError("range", "{fault}", {"fault": fault})
        return self


class IntRange(_Range[T], Generic[T]):
    """A whole number in a range, both ends included."""

    ends: list[T] = Field(alias="int", min_length=2, max_length=2, description="[lowest, highest]")
    step: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Only lowest, lowest + step, ...; 1 if not given."
    )


class FloatRange(_Range[T], Generic[T]):
    """A number in a range, both ends included."""

    ends: list[T] = Field(
        alias="float", min_length=2, max_length=2, description="[lowest, highest]"
    )
    step: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Only lowest, lowest + step, ...; any value between if not given."
    )


def _tag(value: Any) -> str:
    for form, kind in ((Choice, "choice"), (IntRange, "int"), (FloatRange, "float")):
        if isinstance(value, form):
            return f"<{kind}>"
    return f"<{kind_of(value) or 'fixed'}>"


def _only(refused: str, allowed: str) -> Discriminator:
    return Discriminator(
        _tag,
        custom_error_type="kind",
        custom_error_message=f"{refused} cannot stand here; use {allowed}",
    )


if TYPE_CHECKING:
    Searchable: TypeAlias = T | Choice[T] | dict[str, Any]
    SearchableInt: TypeAlias = T | Choice[T] | IntRange[T] | dict[str, Any]
    SearchableFloat: TypeAlias = T | Choice[T] | FloatRange[T] | dict[str, Any]
    SearchableAny: TypeAlias = T | Choice[T] | IntRange[T] | FloatRange[T] | dict[str, Any]
else:

    def _searchable(discriminator: Discriminator, *ranges: Any) -> type:
        """Return what makes of a type T the union of its forms, annotated for pydantic."""

        class Form:
            def __class_getitem__(cls, kind: Any) -> Any:
                forms = [Annotated[kind, Tag("<fixed>")], Annotated[Choice[kind], Tag("<choice>")]]
                forms += [Annotated[form[kind], Tag(tag)] for form, tag in ranges]
                return Annotated[Union[tuple(forms)], discriminator]  # noqa: UP007

        return Form

    _INT, _FLOAT = (IntRange, "<int>"), (FloatRange, "<float>")
    # A value, or a choice of values.
    Searchable = _searchable(_only("a range", "{choice: [...]}"))
    # A whole number, a choice of such numbers, or a range.
    SearchableInt = _searchable(_only("a range of fractions", "{int: [lowest, highest]}"), _INT)
    # A number, a choice of numbers, or a range.
    SearchableFloat = _searchable(
        _only("a range of whole numbers", "{float: [lowest, highest], step: 1}"), _FLOAT
    )
    # A value in any form; whether a range suits its type is for the caller to judge.
    SearchableAny = _searchable(Discriminator(_tag), _INT, _FLOAT)


def plain(value: Any) -> Any:
    """Return a value as JSON would give it back: lists for tuples and sets."""
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def shown(value: Any, limit: int = 60) -> str:
    """Write a value for a message, shortened where it is long."""
    text = (
        {None: "null", True: "true", False: "false"}[value]
        if value is None or isinstance(value, bool)
        else repr(value)
    )
    return text if len(text) <= limit else text[: limit - 3] + "..."
