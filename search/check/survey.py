"""What a space spans: its smallest and largest network, and what fits where. Trains nothing."""

import heapq
import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from attnsearch.blocks import build_network
from attnsearch.blocks.build import (
    SUPPLIED,
    Images,
    Insertion,
    Site,
    complete,
    find_block,
    has_gate,
    network_sites,
    shapes_only,
)
from attnsearch.blocks.errors import AttnsearchError
from attnsearch.blocks.hosts import as_size, host_constructor
from attnsearch.blocks.measure import count_macs, count_params
from attnsearch.blocks.naming import NONE, describe
from attnsearch.spaces import Decision, Space
from attnsearch.spaces.space import Group

_MAX_VALUES = 8  # of one hyperparameter: more, and the ends and the default stand for all
_MAX_COMBINATIONS = 512  # of the hyperparameters of one block
_MAX_FORBIDDEN = 500  # networks asked about, from the extreme inwards, until one is allowed

Values = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """One network of a space.

    Attributes:
        which: What it is an example of: `default`, `baseline`, `smallest`, `largest`.
        label: What is inserted where.
        values: The active decisions.
        params: Number of parameters; None if it cannot be built.
        macs: Multiply-accumulates for one image; None if it cannot be built.
        outside: The rule or limit that keeps it out of the search; None if it is in.
        weights: What `network.weights` gave to it and what not; None without a file.
    """

    which: str
    label: str
    values: Mapping[str, Any]
    params: int | None
    macs: int | None
    outside: str | None
    weights: str | None = None


@dataclass(frozen=True)
class Fit:
    """Whether a block fits at a site.

    Attributes:
        group: What its decisions' names begin with.
        block: The block.
        site: The site.
        tried: How many settings of the network and of the block's hyperparameters were tried.
        fitting: With how many of them the block can stand there.
        reason: Why it cannot with the first of the others; None where all fit.
    """

    group: str
    block: str
    site: str
    tried: int
    fitting: int
    reason: str | None


def examples(space: Space, images: Images) -> list[Example]:
    """Return the default, the baseline, the smallest and the largest network of a space.

    A network's parameters are those of its host plus what each group of sites adds, whatever
    stands elsewhere. The extremes are therefore found group by group. Of a range with many values
    only the ends and the default are tried.

    Args:
        space: The space.
        images: What the networks are built for.
    """
    wanted: dict[str, Values | None] = {"default": space.defaults()}
    if space.baseline() != space.defaults():
        wanted["baseline"] = space.baseline()
    if space.decisions:
        wanted["smallest"], wanted["largest"] = _extremes(space, images)
    return [
        _example(space, which, values, images)
        for which, values in wanted.items()
        if values is not None
    ]


def fits(space: Space, images: Images) -> list[Fit]:
    """Try every block at every site where it may stand, with all its hyperparameters."""
    tries = []
    hosts = [space.host(host) for host in _hosts(space)]
    for group in space.groups:
        for option in group.options.values():
            if option.block == NONE:
                continue
            settings = [option.params(values) for values in _combinations(option.decisions)]
            for site in group.sites:
                alone = replace(group, sites=(site,))
                faults = [
                    fault[1]
                    for host in hosts
                    for params in settings
                    if (fault := space.fits.fault(host, alone, option.block, params))
                ]
                tried = len(hosts) * len(settings)
                fitting = tried - len(faults)
                reason = faults[0] if faults else None
                tries.append(Fit(group.name, option.block, site.name, tried, fitting, reason))
    return tries


def values_text(decision: Decision) -> str:
    """Return a decision's values: its members, or its range."""
    if decision.kind == "choice":
        return ", ".join(decision.label(choice) for choice in decision.choices)
    text = f"{decision.low:g} to {decision.high:g}"
    if decision.kind == "float" and decision.step is None:
        return text + (", on a log scale" if decision.log else "")
    if decision.step is not None and decision.step != 1:
        text += f" in steps of {decision.step:g}"
    return text + (", on a log scale" if decision.log else "")


def _example(space: Space, which: str, values: Mapping[str, Any], images: Images) -> Example:
    config = space.resolve(values)
    active = space.ask(lambda decision: values.get(decision.name, decision.default()))
    outside = space.forbidden(values)
    params = macs = weights = None
    try:
        network = build_network(config, images.channels, images.classes, images.size)
    except AttnsearchError as error:
        outside = outside or f"cannot be built: {error}"
    else:
        params = count_params(network)
        macs = count_macs(network, (images.channels, *images.size))
        weights = str(network.weights_report) if network.weights_report else None
        limits = space.document.get("limits") or {}
        for name, value in (("params", params), ("macs", macs)):
            limit = limits.get(name)
            if limit is not None and value > limit:
                outside = outside or f"over limits.{name}: {limit:g}"
    return Example(which, describe(config), active, params, macs, outside, weights)


def _extremes(space: Space, images: Images) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return decisions of the networks with the fewest and the most parameters."""
    ends: list[list[tuple[float, dict[str, Any]]]] = [[], []]
    for host in _hosts(space):
        base = {**space.defaults(), **host}
        network = space.resolve(base)["network"]
        size = _host_params(network, images)
        places = {site.name: site for site in network_sites(network, images.size, images.channels)}
        groups = [added for group in space.groups if (added := list(_added(group, places)))]
        for sign, side in zip((1, -1), ends, strict=True):
            side.append(_least(space, base, groups, sign, size))
    return (
        min(ends[0], key=lambda end: end[0])[1],
        min(ends[1], key=lambda end: end[0])[1],
    )


def _least(
    space: Space,
    base: dict[str, Any],
    groups: list[list[tuple[int, Values]]],
    sign: int,
    size: int,
) -> tuple[float, dict[str, Any]]:
    """Return the least sum of `sign` times the parameters that `forbid` allows, and its values."""
    ordered = [sorted(added, key=lambda pair: sign * pair[0]) for added in groups]
    start = (0,) * len(ordered)
    queue = [(sign * (size + sum(added[0][0] for added in ordered)), start)]
    seen = {start}
    first: tuple[float, dict[str, Any]] | None = None
    for _ in range(_MAX_FORBIDDEN):
        if not queue:
            break
        total, places = heapq.heappop(queue)
        values = dict(base)
        for added, place in zip(ordered, places, strict=True):
            values.update(added[place][1])
        first = first or (total, values)
        if space.forbidden(values) is None:
            return total, values
        for index, place in enumerate(places):
            following = (*places[:index], place + 1, *places[index + 1 :])
            if place + 1 < len(ordered[index]) and following not in seen:
                seen.add(following)
                step = ordered[index][place + 1][0] - ordered[index][place][0]
                heapq.heappush(queue, (total + sign * step, following))
    assert first is not None
    return first


def _added(group: Group, places: Mapping[str, Site]) -> Iterator[tuple[int, Values]]:
    """Yield what each choice for a group adds to the parameters, with its decision values."""
    for option in group.options.values():
        chosen = {group.decision.name: option.block} if group.decision else {}
        if option.block == NONE:
            yield 0, chosen
            continue
        for values in _combinations(option.decisions):
            params = option.params(values)
            try:
                count = sum(
                    _block_params(option.block, _frozen(params), places[site.name])
                    + _gate_params(group, option.block, params, places[site.name])
                    for site in group.sites
                )
            except AttnsearchError:
                continue
            yield count, {**chosen, **values}


def _gate_params(group: Group, block: str, params: Mapping[str, Any], site: Site) -> int:
    """Return parameters of the gate that `pretrained_safe` puts beside a block."""
    if not group.pretrained_safe:
        return 0
    insertion = Insertion(site.name, block, complete(block, params), pretrained_safe=True)
    return site.channels if has_gate(insertion, site) else 0


def _frozen(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    def freeze(value: Any) -> Any:
        return tuple(map(freeze, value)) if isinstance(value, list) else value

    return tuple((key, freeze(value)) for key, value in sorted(params.items()))


@lru_cache(maxsize=4096)
def _block_params(block: str, params: tuple[tuple[str, Any], ...], site: Site) -> int:
    """Return parameters of a block at a site, less those of the convolution that it replaces."""
    cls = find_block(block)
    supplied = {"out_channels": site.out_channels, "stride": site.stride, "size": site.size}
    accepted = inspect.signature(cls).parameters
    wanted = {key: value for key, value in supplied.items() if key in SUPPLIED & set(accepted)}
    with shapes_only():
        module = cls(site.channels, **wanted, **dict(params))
    count = sum(parameter.numel() for parameter in module.parameters())
    if site.kernel is not None:
        count -= site.channels * site.out_channels * site.kernel**2
    return count


def _host_params(network: Mapping[str, Any], images: Images) -> int:
    with shapes_only():
        return count_params(
            host_constructor(network, images.channels, images.classes, as_size(images.size))()
        )


def _hosts(space: Space) -> list[dict[str, Any]]:
    """Return host networks, as values of the decisions under `network`."""
    decisions = [item.decision for item in space.settings if item.path[0] == "network"]
    return list(_combinations(decisions))


def _combinations(decisions: Sequence[Decision]) -> Iterator[dict[str, Any]]:
    axes = [[(item.name, value) for value in _values(item)] for item in decisions]
    return (
        dict(combination)
        for combination in itertools.islice(itertools.product(*axes), _MAX_COMBINATIONS)
    )


def _values(decision: Decision) -> list[Any]:
    if decision.kind == "choice" or (decision.count or _MAX_VALUES + 1) <= _MAX_VALUES:
        return list(decision.values())
    return [decision.low, decision.default(), decision.high]
