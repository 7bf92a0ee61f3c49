"""How many different networks a space holds."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attnsearch.spaces.space.decisions import Decision
from attnsearch.spaces.space.insertions import Group

if TYPE_CHECKING:
    from attnsearch.spaces.space.space import Space

_MAX_WALKED = 200_000
_MAX_OPTIONS = 4096


def count_architectures(space: "Space") -> int:
    """Counts the networks of a space; see `Space.architecture_count`."""
    hosts = [s.decision for s in space.settings if s.path[0] == "network"]
    total = 0
    if math.prod(d.count or 1 for d in hosts) > _MAX_OPTIONS:
        hosts = []
    for host in _assignments(hosts):
        total += _count_under(space, host)
    return total


def _count_under(space: "Space", host: Mapping[str, Any]) -> int:
    """Counts the networks of one host."""
    options = [_group_options(space, group, host) for group in space.groups]
    names = {name for group in space.groups for d in group.decisions for name in [d.name]}
    rules = [rule for rule in space.rules if rule.conditions.keys() <= names | host.keys()]
    touched = {name for rule in rules for name in rule.conditions}
    bound = [
        listed
        for group, (_, listed) in zip(space.groups, options, strict=True)
        if touched & {d.name for d in group.decisions}
    ]
    every = math.prod(count for count, _ in options)
    listed = [choices for choices in bound if choices is not None]
    walked = math.prod(len(choices) for choices in listed)
    if not rules or len(listed) < len(bound) or not 0 < walked <= _MAX_WALKED:
        return every
    allowed = 0
    for combination in itertools.product(*listed):
        values = dict(host)
        for choice in combination:
            values |= choice
        allowed += not any(rule.holds(values) for rule in rules)
    return every // walked * allowed


def _group_options(
    space: "Space", group: Group, host: Mapping[str, Any]
) -> tuple[int, list[dict[str, Any]] | None]:
    """Counts the ways to fill a group, and lists them where they are few."""
    listed: list[dict[str, Any]] = []
    uncounted = 0
    network = space.host(host)
    for option in group.options.values():
        count = math.prod(d.count or 1 for d in option.decisions)
        if count > _MAX_OPTIONS:
            uncounted += count
            continue
        chosen = {group.decision.name: option.block} if group.decision is not None else {}
        listed += [
            {**chosen, **values}
            for values in _assignments(option.decisions)
            if not space.fits.fault(network, group, option.block, option.params(values))
        ]
    return len(listed) + uncounted, None if uncounted else listed


def _assignments(decisions: list[Decision]) -> Iterator[dict[str, Any]]:
    """Yields all values of some decisions, a float range without step at its default."""
    axes = [
        [(d.name, value) for value in ([d.default()] if d.count is None else d.values())]
        for d in decisions
    ]
    return (dict(combination) for combination in itertools.product(*axes))
