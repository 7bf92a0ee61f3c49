"""What a sampler decides: one named choice or range, active only where it matters."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from attnsearch.blocks.naming import block_label
from attnsearch.blocks.spelling import did_you_mean
from attnsearch.spaces.file import DecisionError
from attnsearch.spaces.keys import Choice, FloatRange, IntRange, label, on_step, plain, same, shown

#: What the name of a decision is made of, in Optuna, MLflow and reports alike.
NAME_CHARACTERS = re.compile(r"[A-Za-z0-9_.-]+")

Parents = tuple[tuple[str, frozenset[str]], ...]


@dataclass(frozen=True)
class Decision:
    """One decision of a space.

    Attributes:
        name: The same in Optuna, MLflow and reports.
        kind: `choice` of one of `choices`, or a number from `low` to `high`, both included.
        choices: The members, plain values: text, numbers, booleans, None, lists, dicts.
        low: Lowest number.
        high: Highest number.
        step: Distance of the numbers from `low` on; None for every float in the range.
        log: Whether numbers are proposed on a logarithmic scale.
        prior: The value that is tried first, where `has_prior`.
        has_prior: Whether the file names a prior (which may be None).
        parents: Names of decisions with values of theirs: the decision is active where at least
            one of them has one of these values, and always where there are none.
    """

    name: str
    kind: Literal["choice", "int", "float"]
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False
    prior: Any = None
    has_prior: bool = False
    parents: Parents = ()

    def active(self, values: Mapping[str, Any]) -> bool:
        """Return whether the decision matters, given the values of those that it depends on."""
        return not self.parents or any(
            isinstance(values.get(name), str) and values[name] in wanted
            for name, wanted in self.parents
        )

    def label(self, value: Any) -> str:
        """Write a value as text: words as they are, `module:Class` as Class, lists as JSON."""
        if self.name.endswith(".block") and isinstance(value, str):
            return block_label(value)
        return label(value)

    def encode(self, value: Any) -> Any:
        """Return a value as Optuna stores it: lists and dicts become their label."""
        return label(value) if isinstance(value, list | dict) else value

    def decode(self, value: Any) -> Any:
        """Return the value that `encode` gave, checked."""
        if self.kind == "choice" and isinstance(value, str):
            for choice in self.choices:
                if isinstance(choice, list | dict) and label(choice) == value:
                    return choice
        return self.check(value)

    def check(self, value: Any) -> Any:
        """Return the value as the space writes it.

        Raises:
            DecisionError: The value is none of the decision's.
        """
        if self.kind == "choice":
            for choice in self.choices:
                if same(choice, plain(value)):
                    return choice
            labels = [self.label(choice) for choice in self.choices]
            if isinstance(value, str) and value in labels:
                return self.choices[labels.index(value)]
            raise DecisionError(
                f"{self.name}: {shown(value)} is not one of {', '.join(labels)}"
                f"{did_you_mean(value, labels)}"
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DecisionError(f"{self.name}: {shown(value)} is not a number")
        return self._number(value)

    def _number(self, value: float) -> float:
        assert self.low is not None and self.high is not None
        if self.kind == "int" and not float(value).is_integer():
            raise DecisionError(f"{self.name}: {value} is not a whole number")
        slack = 1e-9 * max(abs(self.low), abs(self.high))
        if not self.low - slack <= value <= self.high + slack:
            raise DecisionError(f"{self.name}: {value} lies outside [{self.low}, {self.high}]")
        value = min(max(value, self.low), self.high)
        if self.step is not None and not on_step(self.low, value, self.step):
            raise DecisionError(
                f"{self.name}: {value} is not {self.low} plus a multiple of {self.step}"
            )
        if self.kind == "int":
            return int(value)
        return (
            float(value) if self.step is None else self._at(round((value - self.low) / self.step))
        )

    def values(self) -> Iterator[Any]:
        """Go through all values, the lowest or first one first.

        Raises:
            DecisionError: There is no end of them: a float range without a step.
        """
        if self.kind == "choice":
            yield from self.choices
            return
        if self.count is None:
            raise DecisionError(
                f"{self.name}: a float range without step has no list of values; give it a step"
            )
        for index in range(self.count):
            yield self._at(index)

    @property
    def count(self) -> int | None:
        """Number of values; None for a float range without a step."""
        if self.kind == "choice":
            return len(self.choices)
        if self.step is None:
            return None
        assert self.low is not None and self.high is not None
        return round((self.high - self.low) / self.step) + 1

    def default(self) -> Any:
        """Return the prior, else the first member or the middle of the range."""
        if self.has_prior:
            return self.prior
        if self.kind == "choice":
            return self.choices[0]
        assert self.low is not None and self.high is not None
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        if self.step is not None:
            return self._at(round((middle - self.low) / self.step))
        rounded = float(f"{middle:.4g}")
        return rounded if self.low <= rounded <= self.high else middle

    def _at(self, index: int) -> float:
        """Return the number so many steps above the lowest, without the noise of floats."""
        assert self.low is not None and self.high is not None and self.step is not None
        if self.kind == "int":
            return int(self.low) + index * int(self.step)
        return min(float(f"{self.low + index * self.step:.12g}"), self.high)


def decision(name: str, spec: Any, parents: Parents = ()) -> Decision:
    """Make a decision of a checked `Choice`, `IntRange` or `FloatRange`."""
    has_prior = "prior" in spec.model_fields_set and (
        isinstance(spec, Choice) or spec.prior is not None
    )
    if isinstance(spec, Choice):
        members = tuple(plain(member) for member in spec.choice)
        return Decision(
            name, "choice", members, prior=plain(spec.prior), has_prior=has_prior, parents=parents
        )
    low, high = spec.ends
    whole = isinstance(spec, IntRange)
    number = int if whole else float
    return Decision(
        name,
        "int" if whole else "float",
        low=number(low),
        high=number(high),
        step=(int(spec.step or 1) if whole else spec.step),
        log=spec.log,
        prior=number(spec.prior) if has_prior else None,
        has_prior=has_prior,
        parents=parents,
    )


def is_spec(value: Any) -> bool:
    """Return whether a checked value is searched rather than fixed."""
    return isinstance(value, Choice | IntRange | FloatRange)


def members(value: Any) -> list[Any]:
    """Return the values that a key can take: the fixed one, the members, or a range's ends."""
    if not is_spec(value):
        return [value]
    return list(value.choice) if hasattr(value, "choice") else list(value.ends)


def block_decision(group: str) -> str:
    """Return the name of the decision which block stands at a group of sites."""
    return f"{group}.block"


def parameter_decision(group: str, block: str, parameter: str) -> str:
    """Return the name of the decision on a block's hyperparameter: `layer4.ecrm.bank_size`."""
    return f"{group}.{block_label(block)}.{parameter}"
