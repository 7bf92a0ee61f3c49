"""What confirm and ablation plans share: arms from configs, their labels, and folds."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from attnsearch.blocks.build import canonical_architecture
from attnsearch.blocks.errors import AttnsearchError
from attnsearch.blocks.naming import NONE, describe, entry_name, insertions
from attnsearch.runs.statistics import Arm
from attnsearch.runs.words import value_text
from attnsearch.spaces import Space, canonical_text
from attnsearch.spaces.keys import MEASURED, keys_of, primary_metrics

Config = dict[str, Any]

# What says how a study is done, and not what a run is: to change it changes no plan.
_NOT_OF_A_RUN = keys_of("search", "plans", "limits", "host", "statistics")


class PlanError(AttnsearchError):
    """What is asked for cannot be planned."""


class NothingToVary(PlanError):
    """A plan does not apply to a network: what it would vary is not there."""


def arm_config(config: Mapping[str, Any], epochs: int) -> Config:
    """Return the config of an arm: a resolved config without what says how the study is done.

    Args:
        config: As `Space.resolve` returns it.
        epochs: Of the arm's runs.
    """
    kept = {key: copy.deepcopy(value) for key, value in config.items() if key not in _NOT_OF_A_RUN}
    kept["train"]["epochs"] = epochs
    return kept


def run_config(space: Space, arm: Arm, seed: int, fold: int | None) -> Config:
    """Return config of one run of an arm: the arm's, and of the study what the arm leaves out.

    Args:
        space: Of the study.
        arm: The arm.
        seed: Of the run.
        fold: Of the run; None where the data is not folded.
    """
    rest = {
        key: copy.deepcopy(space.document[key])
        for key in _NOT_OF_A_RUN
        if key in space.document and key != "published"
    }
    config = {**copy.deepcopy(dict(arm.config)), **rest, "forbid": [], "limits": {}}
    config["train"]["seed"] = seed
    if fold is not None:
        config["data"]["fold"] = fold
    return config


def plan_folds(document: Mapping[str, Any]) -> tuple[tuple[int | None, ...], str]:
    """Return the folds of every arm, and how exploring keeps away from their test parts.

    Args:
        document: Of a space.

    Returns:
        The folds, (None,) where the data is not folded, and one of `protocol.NESTINGS`.
    """
    data = document["data"]
    if not data.get("folds"):
        return (None,), "none"
    if data.get("fold") is not None:
        return (data["fold"],), "nested"
    return tuple(range(data["folds"])), "development" if data["development"] else "not nested"


def statistics_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a space says about how its arms are compared, as fields of a `Plan`."""
    folds, nesting = plan_folds(document)
    metric = document["primary_metric"]
    return {
        "metric": metric,
        # A metric of the user's own is better as its objective says.
        "direction": primary_metrics(document["task"]).get(metric)
        or document["search"]["objectives"].get(MEASURED + metric, "max"),
        "folds": folds,
        "nesting": nesting,
        "alpha": document["alpha"],
        "smallest_effect": document["smallest_effect"],
        "margin": document["margin"],
        "checkpoint": document["checkpoint"],
    }


def network_text(config: Mapping[str, Any]) -> str:
    """Return the architecture of a config as text, equal for equal networks."""
    return json.dumps(canonical_architecture(config), sort_keys=True)


def labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of each config what is inserted where, and where that is not unique, what differs."""
    names = [describe(config) for config in configs]
    names = _told_apart(names, [_settings(config) for config in configs])
    # What the network does not tell apart, its training does.
    trains = [{**config["train"], "seed": None} for config in configs]
    unique = _told_apart(names, trains)
    return [
        label if unique.index(label) == index else f"{label} #{unique[:index].count(label) + 1}"
        for index, label in enumerate(unique)
    ]


def _told_apart(names: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Add to each name that stands several times the settings that differ among those."""
    apart = []
    for index, name in enumerate(names):
        alike = [i for i, other in enumerate(names) if other == name]
        words = ", ".join(
            f"{key}={value_text(value)}"
            for key, value in settings[index].items()
            if any(settings[i].get(key) != value for i in alike)
        )
        apart.append(f"{name} ({words})" if words else name)
    return apart


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what can tell two networks apart that have the same blocks at the same sites."""
    settings: dict[str, Any] = {
        key: config["network"].get(key) for key in ("backbone", "stem", "width")
    }
    several = len(insertions(config)) > 1
    for entry in insertions(config):
        params = entry["params"].get(entry["block"], {})
        for key, value in params.items():
            settings[f"{entry_name(entry)}.{key}" if several else key] = value
    return settings


def with_equals(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Mark every arm whose config trains like an earlier one's: it is trained once."""
    first: dict[str, str] = {}
    marked = []
    for arm in arms:
        label = first.setdefault(canonical_text(arm.config), arm.label)
        if label != arm.label:
            arm = replace(arm, equals=label, notes=(f"= {label}", *arm.notes))
        marked.append(arm)
    return tuple(marked)


def values_of(space: Space, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a space's decisions that give a config; only those that matter there.

    A group whose entry the config lacks is empty. What no value of a decision gives is left as
    the config has it: the values are then none that `Space.resolve` takes.
    """
    entries = {entry_name(entry): entry for entry in config["insert"]}
    values: dict[str, Any] = {}
    for group in space.groups:
        entry = entries.get(group.name) or {"block": NONE, "params": {}}
        block = entry["block"]
        if group.decision is not None:
            values[group.decision.name] = block
        option, params = group.options.get(block), entry["params"].get(block, {})
        if option is None:
            continue
        values |= {decision.name: params.get(key) for key, decision in option.searched.items()}
        if option.joint is not None:
            fitting = (c for c in option.joint.choices if c.items() <= params.items())
            values[option.joint.name] = next(fitting, None)
    for setting in space.settings:
        node: Any = config
        for part in setting.path:
            node = node.get(part) if isinstance(node, Mapping) else None
        if setting.decision.active(values):
            values[setting.decision.name] = node
    return values
