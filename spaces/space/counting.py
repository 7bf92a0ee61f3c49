"""How many different networks a space holds."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from attnsearch.spaces.space.decisions import Decision
from attnsearch.spaces.space.fits import Fits, HostChoice
from attnsearch.spaces.space.insertions import Group
from attnsearch.spaces.space.rules import Rule

_MAX_WALKED = 200_000
_MAX_OPTIONS = 4096


def count_architectures(
    groups: Sequence[Group],
    rules: Sequence[Rule],
    hosts: Sequence[Decision],
    host: Callable[[Mapping[str, Any]], HostChoice],
    fits: Fits,
) -> int:
    """Count the networks of a space; see `Space.architecture_count`.

    Args:
        groups: The groups of insertions.
        rules: The combinations that are forbidden.
        hosts: The decisions that choose the host network.
        host: The host network under values of the decisions.
        fits: What fits where.
    """
    if math.prod(d.count or 1 for d in hosts) > _MAX_OPTIONS:
        hosts = []
    return sum(
        _count_under(chosen, groups, rules, host(chosen), fits) for chosen in _assignments(hosts)
    )


def _count_under(
    chosen: Mapping[str, Any],
    groups: Sequence[Group],
    every_rule: Sequence[Rule],
    host: HostChoice,
    fits: Fits,
) -> int:
    """Count the networks of one host, which its chosen values name."""
    options = [_group_options(group, host, fits) for group in groups]
    names = {decision.name for group in groups for decision in group.decisions}
    rules = [rule for rule in every_rule if rule.conditions.keys() <= names | chosen.keys()]
    touched = {name for rule in rules for name in rule.conditions}
    bound = [
        listed
        for group, (_, listed) in zip(groups, options, strict=True)
        if touched & {d.name for d in group.decisions}
    ]
    every = math.prod(count for count, _ in options)
    listed = [choices for choices in bound if choices is not None]
    walked = math.prod(len(choices) for choices in listed)
    if not rules or len(listed) < len(bound) or not 0 < walked <= _MAX_WALKED:
        return every
    allowed = 0
    for combination in itertools.product(*listed):
        values = dict(chosen)
        for choice in combination:
            values |= choice
        allowed += not any(rule.holds(values) for rule in rules)
    return every // walked * allowed


def _group_options(
    group: Group, host: HostChoice, fits: Fits
) -> tuple[int, list[dict[str, Any]] | None]:
    """Count the ways to fill a group, and list them where they are few."""
    listed: list[dict[str, Any]] = []
    uncounted = 0
    for option in group.options.values():
        count = math.prod(d.count or 1 for d in option.decisions)
        if count > _MAX_OPTIONS:
            uncounted += count
            continue
        chosen = {group.decision.name: option.block} if group.decision is not None else {}
        listed += [
            {**chosen, **values}
            for values in _assignments(option.decisions)
            if not fits.fault(host, group, option.block, option.params(values))
        ]
    return len(listed) + uncounted, None if uncounted else listed


def _assignments(decisions: Sequence[Decision]) -> Iterator[dict[str, Any]]:
    """Yield all values of some decisions, a float range without step at its default."""
    axes = [
        [(d.name, value) for value in ([d.default()] if d.count is None else d.values())]
        for d in decisions
    ]
    return (dict(combination) for combination in itertools.product(*axes))
