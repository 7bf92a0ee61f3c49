"""What can be changed about a network: its insertions, their places, blocks and settings.

Without a wider space than the config's own, the candidates are these:

* places: the same place in the other stages (`layer4` gives `layer1` to `layer3`);
* blocks: those that attnsearch has, with the defaults of their constructors;
* hyperparameters: half and double of a number, the other truth value, the other words of a
  choice, wherever the block can be built with them; and half and double the learning rate.
"""

import copy
import re
import typing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter
from typing import Any

from attnsearch.blocks.build import (
    can_replace,
    check_fit,
    complete,
    config_sites,
    expand,
    find_block,
    hyperparameters,
    match,
)
from attnsearch.blocks.errors import AttnsearchError
from attnsearch.blocks.hosts import find_backbone
from attnsearch.blocks.mechanisms import BLOCKS
from attnsearch.blocks.naming import NONE, block_label, entry_name, insertion_name, insertions
from attnsearch.runs.words import value_text
from attnsearch.search.plans.arms import Config, values_of
from attnsearch.spaces import Decision, DecisionError, Space
from attnsearch.spaces.keys import same
from attnsearch.spaces.space import Group, complete_train, parameter_decision

_MOST_VALUES = 5  # of a range: more, and its ends and what lies evenly between stand for it


@dataclass(frozen=True)
class Variant:
    """A variant of a network.

    Attributes:
        label: What it is called.
        config: Its config.
        changed: What tells it from the network.
    """

    label: str
    config: Config
    changed: Mapping[str, Any] = field(default_factory=dict)


def removals(config: Config) -> Iterator[Variant]:
    """Yield the network without each of its insertions."""
    for entry in insertions(config):
        label = f"without {insertion_name(entry)}"
        yield Variant(label, without(config, [entry]), {entry_name(entry): NONE})


def without(config: Config, entries: Sequence[Mapping[str, Any]]) -> Config:
    """Return a config with some of its entries taken out."""
    left = copy.deepcopy({**config, "insert": [e for e in config["insert"] if e not in entries]})
    return _completed(left)


def cautions(config: Config) -> tuple[str, ...]:
    """Return what the blocks of a network warn of, where they stand.

    Raises:
        AttnsearchError: A block cannot stand where it is.
    """
    size = config["data"]["image_size"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for insertion in expand(config):
            check_fit(config, insertion.site, insertion.block, insertion.params, size)
    return tuple(dict.fromkeys(str(warning.message) for warning in caught))


def fault(config: Config, space: Space) -> str | None:
    """Say why a network cannot be: a block does not fit, or the space forbids it."""
    try:
        cautions(config)
    except AttnsearchError as error:
        return str(error)
    try:
        return space.forbidden(values_of(space, config))
    except DecisionError:
        return None  # it lies outside of the space, whose rules then say nothing


def place_changes(config: Config, space: Space, left_out: list[str]) -> Iterator[Variant]:
    """Yield each inserted block at each place where it may stand, its own included.

    Args:
        config: The network.
        space: Says where each block may stand.
        left_out: Gets which places are taken.
    """
    for entry in insertions(config):
        block = entry["block"]
        places = {g.name: g.at for g in _decided(space) if block in g.options}
        if set(places) <= {entry_name(entry)}:
            places = _other_stages(config, entry)
        for name, at in places.items():
            moved = {**entry, "at": at, "name": name}
            others = [e for e in insertions(config) if e != entry]
            taken = next((e for e in others if _overlap(config, e["at"], at)), None)
            if taken is not None:
                left_out.append(
                    f"positions: {insertion_name(moved)} is left out: "
                    f"{block_label(taken['block'])} stands there"
                )
                continue
            label = f"{insertion_name(entry)} at {name}" if others else insertion_name(moved)
            changed = {"block": block_label(block), "site": name, "from": entry_name(entry)}
            yield Variant(label, _exchanged(config, entry, moved), changed)


def block_changes(config: Config, space: Space) -> Iterator[Variant]:
    """Yield each other block at each place where the network has one, its own included.

    Args:
        config: The network.
        space: Names the blocks, with their hyperparameters.
    """
    for entry in insertions(config):
        for block, params in _candidates(config, space, entry).items():
            if block == entry["block"]:
                params = entry["params"].get(block, {})
            other = {**entry, "block": block, "params": {block: params}}
            before, label = block_label(entry["block"]), insertion_name(other)
            label = f"{label} for {before}" if len(insertions(config)) > 1 else label
            changed = {"block": block_label(block), "site": entry_name(entry)}
            changed["in place of"] = before
            yield Variant(label, _completed(_exchanged(config, entry, other)), changed)


def hyperparameter_changes(config: Config, space: Space, left_out: list[str]) -> Iterator[Variant]:
    """Yield each searched hyperparameter at its other values, one at a time.

    Args:
        config: The network.
        space: Its ranges; where it has none for a config, those of this module.
        left_out: Gets which hyperparameters have no range.
    """
    values = values_of(space, config)
    decisions = [d for d in space.decisions if not d.name.endswith(".block") and d.active(values)]
    if not decisions:
        yield from _default_changes(config, left_out)
        return
    for decision in decisions:
        for value in _through(decision):
            changed = copy.deepcopy(config)
            if not _assign(changed, space, decision, value):
                continue
            if value is not None and same(values.get(decision.name), value):
                continue  # the reference
            words = decision.label(value) if decision.kind == "choice" else value_text(value)
            yield Variant(
                f"{decision.name} = {words}", _completed(changed), {decision.name: value}
            )


def _assign(config: Config, space: Space, decision: Decision, value: Any) -> bool:
    """Set what a decision decides in a config; return whether the config has it."""
    for setting in space.settings:
        if setting.decision == decision:
            node: Any = config
            for part in setting.path[:-1]:
                node = node[part]
            node[setting.path[-1]] = copy.deepcopy(value)
            return True
    groups = {group.name: group for group in space.groups}
    for entry in insertions(config):
        block, group = entry["block"], groups.get(entry_name(entry))
        option = group.options.get(block) if group else None
        if option is None or decision not in option.decisions:
            continue
        if decision == option.joint:
            params = complete(block, {**option.fixed, **value})
        else:
            key = next(key for key, searched in option.searched.items() if searched == decision)
            params = {**entry["params"].get(block, {}), key: value}
        entry["params"][block] = copy.deepcopy(params)
        return True
    return False


def _through(decision: Decision) -> list[Any]:
    """Return the values of a decision: all, or of a long range a few from end to end."""
    if decision.kind == "choice":
        return list(decision.choices)
    if decision.count is not None and decision.count <= _MOST_VALUES:
        return list(decision.values())
    assert decision.low is not None and decision.high is not None
    low, high = float(decision.low), float(decision.high)
    values = []
    for index in range(_MOST_VALUES):
        share = index / (_MOST_VALUES - 1)
        at = low * (high / low) ** share if decision.log else low + (high - low) * share
        if decision.kind == "int" or decision.step:
            step = decision.step or 1
            at = low + round((at - low) / step) * step
        values.append(round(at) if decision.kind == "int" else float(f"{at:.4g}"))
    values[0], values[-1] = decision.low, decision.high
    return list(dict.fromkeys(values))


def _default_changes(config: Config, left_out: list[str]) -> Iterator[Variant]:
    """Yield hyperparameters of a config without any range: what `_around` gives for each."""
    for entry in insertions(config):
        block, params = entry["block"], entry["params"].get(entry["block"], {})
        cls = find_block(block)
        types = _types(cls)
        for key in hyperparameters(cls):
            others = _around(params.get(key), types.get(key))
            if not others:
                words = f"{block_label(block)}.{key} = {value_text(params.get(key))}"
                left_out.append(f"ofat: {words} has no range; a space file can give it choices")
            for other in others:
                varied = {**entry, "params": {**entry["params"], block: {**params, key: other}}}
                decision = parameter_decision(entry_name(entry), block, key)
                label = f"{decision} = {value_text(other)}"
                yield Variant(label, _exchanged(config, entry, varied), {decision: other})
    for other in _around(config["train"]["lr"], float):
        varied = {**copy.deepcopy(config), "train": {**config["train"], "lr": other}}
        yield Variant(f"train.lr = {value_text(other)}", varied, {"train.lr": other})


def _exchanged(config: Config, entry: Mapping[str, Any], other: Mapping[str, Any]) -> Config:
    """Return a config with another entry in the place of one."""
    inserted = [other if e == entry else e for e in config["insert"]]
    return copy.deepcopy({**config, "insert": inserted})


def _around(value: Any, kind: Any) -> list[Any]:
    """Return other values of a hyperparameter, from its value and its declared type."""
    if isinstance(value, bool):
        return [not value]
    if typing.get_origin(kind) is typing.Literal:
        return [word for word in typing.get_args(kind) if word != value]
    if isinstance(value, int) and value > 0:
        return [other for other in (value // 2, value * 2) if other > 0]
    if isinstance(value, float) and value > 0:
        return [value / 2, value * 2]
    return []


def _types(cls: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls.__init__)
    except Exception:  # a user's annotation may name anything
        return {}


def _other_stages(config: Config, entry: Mapping[str, Any]) -> dict[str, str]:
    """Return the same place in every stage, by the name that its decision would have."""
    at = str(entry["at"])
    backbone = find_backbone(config["network"]["backbone"])
    places = {entry_name(entry): at}
    if backbone.own:
        return places | _other_paths(config, at)
    stages = len(backbone.depths)
    head, dot, rest = at.partition(".")
    if not re.fullmatch(r"layer(\d+|\[[^\]]*\]|\*)", head):
        return places
    # A pattern of several blocks names the same ones elsewhere; a number may be too high there.
    for stage in range(1, stages + 1):
        pattern = f"layer{stage}{dot}{rest}"
        if pattern != at:
            places.setdefault(re.sub(r"\.\*|[\[\]]", "", pattern), pattern)
    return places


def _other_paths(config: Config, at: str) -> dict[str, str]:
    """Return a place of a user's network with other numbers in the first part that has one."""
    parts = at.split(".")
    for index, part in enumerate(parts):
        stem = re.sub(r"\d+$|\[[^\]]*\]$|\*$", "", part)
        if stem != part:
            before, after = parts[:index], parts[index + 1 :]
            open_at = ".".join([*before, f"{stem}*", *after])
            words = [site.name.split(".")[index] for site in match(open_at, config_sites(config))]
            patterns = [".".join([*before, word, *after]) for word in dict.fromkeys(words)]
            return {re.sub(r"\.\*|[\[\]]", "", p): p for p in patterns if p != at}
    return {}


def _decided(space: Space) -> list[Group]:
    return [group for group in space.groups if group.decision is not None]


def _overlap(config: Config, one: str, other: str) -> bool:
    places = config_sites(config)
    try:
        first, second = ({site.name for site in match(at, places)} for at in (one, other))
    except AttnsearchError:
        return False
    return bool(first & second)


def _candidates(
    config: Config, space: Space, entry: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the blocks to try at an entry's place, each with its hyperparameters.

    Those that the space lets choose from there; where it is fixed, those that it lets choose from
    anywhere; where all is fixed, the built-in ones that need no values.
    """
    groups = sorted(_decided(space), key=lambda group: group.name != entry_name(entry))
    candidates: dict[str, dict[str, Any]] = {}
    for group in groups:
        for block, option in group.options.items():
            if block != NONE and block not in candidates:
                values = {choice.name: choice.default() for choice in option.decisions}
                candidates[block] = complete(block, option.params(values))
        if candidates.keys() - {entry["block"]}:
            return candidates
    sites = match(entry["at"], config_sites(config))
    replaces = any(site.replaces for site in sites)
    for block, cls in BLOCKS.items():
        needed = [p for p in hyperparameters(cls).values() if p.default is Parameter.empty]
        if block not in candidates and not needed and (can_replace(cls) or not replaces):
            candidates[block] = complete(block, {})
    return candidates


def _completed(config: Config) -> Config:
    """Make a config whose training settings fit its blocks and each other, as `Space.resolve`."""
    train = complete_train(copy.deepcopy(config["train"]), config["insert"])
    return {**config, "train": train}
