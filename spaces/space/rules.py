"""Combinations that are never tried: the `forbid` rules, and double replacements."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnsearch.blocks.naming import NONE
from attnsearch.blocks.spelling import did_you_mean
from attnsearch.spaces.file import DecisionError, KeyPath, Problems
from attnsearch.spaces.keys import label, same
from attnsearch.spaces.space.decisions import Decision, block_decision, parameter_decision
from attnsearch.spaces.space.insertions import Group


@dataclass(frozen=True)
class Rule:
    """A combination that is never tried.

    Attributes:
        text: What is forbidden, and where the file says so.
        conditions: Values by decision name; the rule holds where every decision has one of its.
    """

    text: str
    conditions: Mapping[str, tuple[Any, ...]]

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether values of the active decisions are the forbidden combination."""
        return all(
            name in values and any(same(values[name], value) for value in forbidden)
            for name, forbidden in self.conditions.items()
        )


def read_rules(
    raw: Sequence[Mapping[str, Any]],
    decisions: Mapping[str, Decision],
    constants: Mapping[str, Any],
    together: Mapping[str, str],
    problems: Problems,
) -> list[Rule]:
    """Read the `forbid` section.

    A condition on something that the file fixes is settled here: where it does not hold, its rule
    never does.

    Args:
        raw: The section.
        decisions: All decisions by name.
        constants: Fixed values by the name that a decision would have.
        together: What each name would need that only another `decide:` gives.
        problems: Where mistakes are recorded.
    """
    rules = []
    for index, entry in enumerate(raw):
        path: KeyPath = ("forbid", index)
        if problems.wrong(path):
            continue
        if not entry:
            problems.add(path, "a rule without conditions forbids everything; remove it")
            continue
        conditions: dict[str, tuple[Any, ...]] = {}
        possible = True
        for name, value in entry.items():
            where = (*path, name)
            if name in decisions:
                conditions[name] = _read_values(decisions[name], value, where, problems)
            elif name in constants:
                wanted = value if isinstance(value, list) else [value]
                fixed = constants[name]
                possible &= any(same(fixed, item) for item in [value, *wanted])
            else:
                problems.add(where, _unknown(name, decisions, constants, together), at_key=True)
        if not conditions and possible and not problems.wrong(path):
            problems.add(path, "this rule forbids what the file fixes, so that nothing is left")
        if possible and not problems.wrong(path):
            said = ", ".join(f"{name}: {label(value)}" for name, value in entry.items())
            rules.append(Rule(f"forbid {{{said}}} ({problems.place(path)})", conditions))
    return rules


def _read_values(
    decision: Decision, value: Any, path: KeyPath, problems: Problems
) -> tuple[Any, ...]:
    try:
        return (decision.check(value),)
    except DecisionError as error:
        if not isinstance(value, list):
            problems.add(path, str(error).removeprefix(f"{decision.name}: "))
            return ()
    values = []
    for index, item in enumerate(value):
        try:
            values.append(decision.check(item))
        except DecisionError as error:
            problems.add((*path, index), str(error).removeprefix(f"{decision.name}: "))
    if not value:
        problems.add(path, "an empty list forbids nothing; name a value")
    return tuple(values)


def _unknown(
    name: str,
    decisions: Mapping[str, Decision],
    constants: Mapping[str, Any],
    together: Mapping[str, str],
) -> str:
    if name in together:
        return f"no decision is called {name!r}: {together[name]}"
    known = [*decisions, *constants]
    listed = ", ".join(list(decisions)[:12]) + (", ..." if len(decisions) > 12 else "")
    return (
        f"no decision is called {name!r}{did_you_mean(name, known)} "
        f"(decisions: {listed or 'none'})"
    )


def double_replacements(groups: Sequence[Group], problems: Problems) -> list[Rule]:
    """Return rules against two blocks in place of one convolution.

    Where neither of two groups can be left empty, that is a problem of the file.
    """
    rules = []
    replaced = [(group, {site.name for site in group.sites if site.replaces}) for group in groups]
    replacing = [(group, names) for group, names in replaced if names]
    for (first, ours), (second, theirs) in itertools.combinations(replacing, 2):
        if ours.isdisjoint(theirs):
            continue
        both = [site.name for site in second.sites if site.name in ours]
        blocks = [[b for b in group.options if b != NONE] for group in (first, second)]
        if not all(blocks):
            continue
        if not first.allows_none and not second.allows_none:
            problems.add(
                second.path,
                f"{both[0]} is replaced twice, by {blocks[0][0]} ({problems.place(first.path)}) "
                f"and by {blocks[1][0]}; one convolution can be replaced once. Leave one out, or "
                "add it at after_conv or residual",
            )
            continue
        conditions = {
            group.decision.name: tuple(names)
            for group, names in zip((first, second), blocks, strict=True)
            if group.decision is not None
        }
        text = f"{both[0]} would be replaced twice, by {first.name} and by {second.name}"
        rules.append(Rule(text, conditions))
    return rules


def fixed_names(groups: Sequence[Group]) -> dict[str, Any]:
    """Return what the entries fix, by the name that a decision would have."""
    names: dict[str, Any] = {}
    for group in groups:
        if group.decision is not None:
            continue
        (option,) = group.options.values()
        names[block_decision(group.name)] = option.block
        for key, value in option.fixed.items():
            names[parameter_decision(group.name, option.block, key)] = value
    return names
