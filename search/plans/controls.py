"""What candidates are compared with: the baseline, one as large as the candidate, one tuned."""

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from attnsearch.blocks import build_network
from attnsearch.blocks.build import Images, config_sites, expand, match, network_sites
from attnsearch.blocks.errors import AttnsearchError
from attnsearch.blocks.hosts import (
    as_size,
    as_width,
    find_backbone,
    host_constructor,
    weights_file,
)
from attnsearch.blocks.measure import count_macs, count_params
from attnsearch.blocks.naming import entry_name, insertions
from attnsearch.search.plans.arms import Config, values_of
from attnsearch.search.plans.seeds import fresh_seeds
from attnsearch.spaces import Space
from attnsearch.spaces.keys import same
from attnsearch.spaces.space import Group, Option, Rule, side_loss

TOLERANCE = 0.01
"""How far a capacity control may be from its candidate, relative to the candidate."""

_CLOSE = 0.005  # near enough: a nearer width is not looked for
_ROUNDS = 3  # of changing one stage
Measure = Callable[[Mapping[str, Any]], int]

_FILLER = "bottleneck1x1"
_NAMES = {"params": "params", "macs": "MACs"}


@dataclass(frozen=True)
class Capacity:
    """A network as large as a candidate, without its blocks.

    Attributes:
        config: The candidate's config with this network.
        notes: How it was made, and what is left between the two.
    """

    config: Config
    notes: tuple[str, ...]


def baseline_config(config: Mapping[str, Any]) -> Config:
    """Return the config of the baseline under the same settings."""
    baseline = copy.deepcopy(dict(config))
    baseline["insert"] = []
    baseline["train"]["aux_weight"] = {}
    return baseline


def capacity_control(config: Mapping[str, Any], images: Images, match: str = "params") -> Capacity:
    """Widen the baseline to a candidate's size, within `TOLERANCE` where that is possible.

    The widths of the host's stages are changed, up or down: all alike first, then one after the
    other until the rest is small. Where no widths come near, and where pretrained weights or a
    user's network hold them fast, 1x1 bottlenecks are added at the candidate's sites instead.

    Args:
        config: Of the candidate.
        images: What networks are built for.
        match: `params` or `macs`.

    Raises:
        AttnsearchError: The candidate cannot be built.
    """
    measures = {key: _measure(images, key) for key in _NAMES}
    measure = measures[match]
    baseline = baseline_config(config)
    target, base = measure(config), measure(baseline)
    if abs(base - target) <= TOLERANCE * target:
        return Capacity(baseline, _residuals(baseline, config, measures))
    options: list[tuple[Config, str]] = []
    scalable = find_backbone(baseline["network"]["backbone"]).scalable
    if scalable and weights_file(baseline["network"].get("weights"))[0] is None:
        options.append(_by_width(baseline, target, base, measure))
    if not options or abs(measure(options[0][0]) - target) > TOLERANCE * target:
        filled = _by_bottlenecks(config, baseline, target - base, images, match)
        options += [filled] if filled else []
    best, how = min(
        options or [(baseline, "nothing can be added or removed")],
        key=lambda option: abs(measure(option[0]) - target),
    )
    rest = _residuals(best, config, measures)
    if abs(measure(best) - target) > TOLERANCE * target:
        rest = (*rest, f"no closer match in {_NAMES[match]} exists")
    return Capacity(best, (how, *rest))


def tuning_space(space: Space, config: Mapping[str, Any]) -> Space | None:
    """Return space of one network's training settings alone, with the budget of the whole search.

    Decisions left are those under `train` and `data.augment`; sampler, scheduler, trials, epochs
    and objectives are the file's, limits are lifted, and the seed is one of tuning.

    Args:
        space: The space that was explored.
        config: Whose network: `baseline_config` of the best candidate's for the tuned baseline.

    Returns:
        The space; None where the file searches no training setting.
    """
    sides = {side_loss(entry["block"]) for entry in insertions(config)}
    kept = [
        setting
        for setting in space.settings
        if setting.path[0] != "network"
        and (setting.path[:2] != ("train", "aux_weight") or setting.path[2] in sides)
    ]
    if not kept:
        return None
    names = {setting.decision.name for setting in kept}
    decisions = {
        decision.name: replace(
            decision, parents=tuple(parent for parent in decision.parents if parent[0] in names)
        )
        for decision in space.decisions
        if decision.name in names
    }
    document = copy.deepcopy(space.document)
    document |= {
        "network": copy.deepcopy(config["network"]),
        "insert": copy.deepcopy(config["insert"]),
        "blocks": {},
        "forbid": [],
        "limits": {},
        "confirm": None,
        "ablation": None,
    }
    document["train"]["seed"] = fresh_seeds(document["train"]["seed"], "tuning", 1)[0]
    return replace(
        space,
        document=document,
        decisions=tuple(decisions.values()),
        groups=tuple(_fixed_group(entry, config) for entry in insertions(config)),
        settings=tuple(replace(s, decision=decisions[s.decision.name]) for s in kept),
        rules=tuple(_rules_left(space, config, names)),
        infeasible=(),
        warnings=[],
    )


def _fixed_group(entry: Mapping[str, Any], config: Mapping[str, Any]) -> Group:
    at, block = entry["at"], entry["block"]
    sites = tuple(match(at, config_sites(config)))
    options = {block: Option(block, dict(entry["params"].get(block, {})))}
    safe = bool(entry.get("pretrained_safe"))
    return Group(entry_name(entry), at, sites, None, options, ("insert",), safe)


def _rules_left(space: Space, config: Mapping[str, Any], names: set[str]) -> list[Rule]:
    """Return the rules that can still hold, reduced to the decisions that are left."""
    fixed = values_of(space, config)
    left = []
    for rule in space.rules:
        undecided = {name: rule.conditions[name] for name in rule.conditions.keys() & names}
        holds = all(
            name in fixed and any(same(fixed[name], value) for value in wanted)
            for name, wanted in rule.conditions.items()
            if name not in names
        )
        if holds and undecided:
            left.append(Rule(rule.text, undecided))
    return left


def _measure(images: Images, match: str) -> Measure:
    """Return what counts a config's parameters or MACs, each network once."""
    counts: dict[str, int] = {}

    def measure(config: Mapping[str, Any]) -> int:
        key = repr((config["network"], config["insert"]))
        if key not in counts:
            network, shape = _built(config, images), (images.channels, *images.size)
            macs = match == "macs"
            counts[key] = count_macs(network, shape) if macs else count_params(network)
        return counts[key]

    return measure


def _built(config: Mapping[str, Any], images: Images) -> nn.Module:
    """Return the network of a config; without numbers where nothing is inserted."""
    if config["insert"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # loading the space told what its blocks warn of
            return build_network(config, images.channels, images.classes, images.size)
    size = as_size(images.size)
    with torch.device("meta"):
        return host_constructor(config["network"], images.channels, images.classes, size)()


def _by_width(baseline: Config, target: int, base: int, measure: Measure) -> tuple[Config, str]:
    """Return the baseline with other widths, as near to the target as the search finds."""
    backbone = find_backbone(baseline["network"]["backbone"])
    start = backbone.widths(baseline["network"].get("width", 1.0))

    def widened(planes: Sequence[int]) -> Config:
        factors = [have / of for have, of in zip(planes, backbone.planes, strict=True)]
        width = as_width(factors)
        network = {**baseline["network"], "width": [*width] if isinstance(width, tuple) else width}
        return {**baseline, "network": network}

    def off(planes: Sequence[int]) -> float:
        try:
            return measure(widened(planes)) / target - 1
        except AttnsearchError:  # the host cannot have these widths
            return math.inf

    best, factor, left = start, 1.0, base / target - 1
    tried = {start}
    while abs(left) > _CLOSE:
        factor /= math.sqrt(1 + left)  # both counts grow about as the square of the width
        scaled = tuple(max(1, round(width * factor)) for width in start)
        left = off(scaled)
        if scaled in tried or not math.isfinite(left):
            break
        tried.add(scaled)
        best = min(best, scaled, key=lambda planes: abs(off(planes)))
    for _ in range(_ROUNDS):
        if abs(off(best)) <= _CLOSE:
            break
        nearer = min(_neighbours(best, off), key=lambda planes: abs(off(planes)), default=best)
        if abs(off(nearer)) >= abs(off(best)):
            break
        best = nearer
    if backbone.own:
        was, now = (f"{planes[0] / backbone.planes[0]:g}" for planes in (start, best))
        return widened(best), f"of width {now} instead of {was}"
    shown = "-".join(map(str, best))
    return widened(best), f"stages {shown} wide instead of {'-'.join(map(str, start))}"


def _neighbours(
    planes: tuple[int, ...], off: Callable[[Sequence[int]], float]
) -> list[tuple[int, ...]]:
    """Return one stage changed by as much as its slope says is missing, in the two best ways."""
    moves: list[tuple[float, tuple[int, ...]]] = []
    here = off(planes)
    for stage in range(len(planes)):

        def moved(by: int, stage: int = stage) -> tuple[int, ...]:
            return (*planes[:stage], max(1, planes[stage] + by), *planes[stage + 1 :])

        slope = off(moved(1)) - here
        if not math.isfinite(slope) or slope <= 0:
            slope = here - off(moved(-1))
        if not math.isfinite(slope) or slope <= 0:
            continue
        steps = -here / slope
        for by in {math.floor(steps), math.ceil(steps)} - {0}:
            moves.append((abs(here + by * slope), moved(by)))
    return [planes for _, planes in sorted(moves)[:2]]


def _by_bottlenecks(
    config: Mapping[str, Any], baseline: Config, missing: int, images: Images, match: str
) -> tuple[Config, str] | None:
    """Return the baseline with 1x1 bottlenecks where the candidate has its blocks."""
    places = network_sites(baseline["network"], images.size, images.channels)
    beside = {site.name: site.beside or site.name for site in places}
    names = {beside[insertion.site] for insertion in expand(config, images.size)}
    sites = [site for site in places if site.name in names]
    if missing <= 0 or not sites:
        return None
    units = {  # what one hidden channel costs
        site.name: 2 * site.channels * (math.prod(site.size) if match == "macs" else 1)
        for site in sites
    }
    hidden = dict.fromkeys(units, missing // sum(units.values()))
    left = missing - sum(hidden[name] * unit for name, unit in units.items())
    for name, unit in sorted(units.items(), key=lambda item: -item[1]):
        more = left // unit
        hidden[name] += more
        left -= more * unit
    smallest = min(units, key=lambda name: units[name])
    if left * 2 > units[smallest]:
        hidden[smallest] += 1
    entries: list[dict[str, Any]] = [
        {"at": name, "name": name, "block": _FILLER, "params": {_FILLER: {"hidden": count}}}
        for name, count in hidden.items()
        if count > 0
    ]
    if not entries:
        return None
    words = ", ".join(f"{hidden[entry['name']]} at {entry['name']}" for entry in entries[:4])
    more_sites = f" and {len(entries) - 4} more" if len(entries) > 4 else ""
    return (
        {**baseline, "insert": entries},
        f"1x1 bottlenecks with hidden channels: {words}{more_sites}",
    )


def _residuals(
    config: Mapping[str, Any], candidate: Mapping[str, Any], measures: Mapping[str, Measure]
) -> tuple[str, ...]:
    """Return by how much the control's params and MACs differ from the candidate's."""
    return tuple(
        f"{name} {100 * (measures[key](config) / measures[key](candidate) - 1):+.2f} %"
        for key, name in _NAMES.items()
    )
