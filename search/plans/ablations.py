"""Ablation plans: what of a network is taken away, moved, replaced or varied.

| plan | its arms, beside the reference |
| --- | --- |
| `loco` | the network without each of its insertions |
| `positions` | each inserted block at each other place where it may stand |
| `blocks` | each other block at each place where the network has one |
| `ofat` | one hyperparameter at a time, through its range |
| `pairwise` | of each two insertions: both, one, the other, neither |
| `factorial` | every subset of the insertions |

The reference of the first four is the full network. That of `pairwise` and `factorial` is the
baseline, in plans called `nothing`, from which an interaction is (AB - A) - (B - nothing).

Places, blocks and ranges are the space's. Of a config alone, which is a space without choices,
they are what `ablation_changes` says.
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

from attnsearch.blocks.naming import describe, entry_name, insertion_name, insertions
from attnsearch.runs.statistics import Arm, Contrast, Plan
from attnsearch.search.plans.arms import (
    Config,
    NothingToVary,
    PlanError,
    arm_config,
    statistics_of,
    with_equals,
)
from attnsearch.search.plans.changes import (
    Variant,
    block_changes,
    cautions,
    fault,
    hyperparameter_changes,
    place_changes,
    removals,
    without,
)
from attnsearch.search.plans.seeds import Purpose, fresh_seeds
from attnsearch.spaces import Space

ABLATIONS = ("loco", "positions", "blocks", "ofat", "pairwise", "factorial")
MOST_ARMS = 64
"""Of one plan: more, and it is refused."""

BASELINE_LABEL = "nothing"
"""Of the arm in stored plans, whose text is their identity."""


def ablation_settings(space: Space, seeds: int | None = None) -> dict[str, Any]:
    """Return how a space file wants its ablations measured, as fields of a `Plan`.

    It has defaults for what the file does not say.

    Args:
        space: Its `ablation` section may be missing.
        seeds: Runs of each arm, in place of the file's.

    Raises:
        PlanError: More seeds are asked for than there are.
    """
    document = space.document
    wanted = document["ablation"] or {}
    confirm = document["confirm"] or {}
    reuses = wanted.get("reuse") == "confirm"
    count = seeds or wanted.get("seeds") or 5
    purpose: Purpose = "confirm" if reuses else "ablation"
    return {
        **statistics_of(document),
        "seeds": fresh_seeds(document["train"]["seed"], purpose, count),
        "epochs": wanted.get("epochs") or confirm.get("epochs") or document["train"]["epochs"],
        "part": wanted.get("part") or "val",
        "retuned": bool(wanted.get("retune")),
        "reuses_confirm": reuses,
    }


def ablation_plan(
    name: str,
    config: Mapping[str, Any],
    *,
    space: Space,
    settings: Mapping[str, Any],
    messages: list[str] | None = None,
) -> Plan:
    """Return one ablation plan around a config.

    Arms that cannot be built, or that the space forbids, are left out, which is told.

    Args:
        name: One of `ABLATIONS`.
        config: The full network, resolved.
        space: Where the config comes from; a config's own space where there is no other.
        settings: How it is measured, as `ablation_settings` returns it.
        messages: Gets what is left out, and why.

    Raises:
        PlanError: There is no such plan, nothing is inserted, or the arms are too many or none.
    """
    if name not in ABLATIONS:
        raise PlanError(f"{name!r} is no ablation plan; there are {', '.join(ABLATIONS)}")
    full = arm_config(config, settings["epochs"])
    if not insertions(full):
        raise NothingToVary(
            f"{name} varies what is inserted, and nothing is: it is the baseline; give a config "
            "with a block"
        )
    left_out: list[str] = []
    if name in ("pairwise", "factorial"):
        arms, contrasts = _subsets(name, full)
    else:
        changes = {
            "loco": lambda: removals(full),
            "positions": lambda: place_changes(full, space, left_out),
            "blocks": lambda: block_changes(full, space),
            "ofat": lambda: hyperparameter_changes(full, space, left_out),
        }[name]()
        arms, contrasts = _variants(name, full, changes, space, left_out)
    if len(arms) > MOST_ARMS:
        raise PlanError(_too_many(name, len(arms), full))
    if len(arms) == 1:
        why = f": {'; '.join(left_out)}" if left_out else ""
        raise NothingToVary(f"{name} has nothing to compare {arms[0].label} with{why}")
    if messages is not None:
        messages += left_out
    marked = with_equals(arms)
    trained = {arm.label for arm in marked if arm.equals != marked[0].label}
    return Plan(
        act="ablation",
        name=name,
        arms=marked,
        # An arm that is the reference itself differs from it by nothing: no test.
        contrasts=tuple(c for c in contrasts if c.is_interaction or c.plus[0] in trained),
        **settings,
    )


def _variants(
    name: str, full: Config, changes: Iterable[Variant], space: Space, left_out: list[str]
) -> tuple[list[Arm], list[Contrast]]:
    """Return the full network and its variants, each compared with it."""
    reference = Arm(describe(full), "reference", full)
    arms = {reference.label: reference}
    expected = cautions(full)
    contrasts = []
    for change in changes:
        label = change.label if change.label != reference.label else f"{change.label} as it is"
        reason = fault(change.config, space)
        if reason:
            left_out.append(f"{name}: {label} is left out: {reason}")
            continue
        if label in arms:
            continue
        notes = tuple(note for note in cautions(change.config) if note not in expected)
        arms[label] = Arm(label, "variant", change.config, notes=notes, changed=change.changed)
        if len(arms) > MOST_ARMS:
            break  # refused by the caller, who says so
        difference = f"{label} - {reference.label}"
        contrasts.append(Contrast(name, difference, (label,), (reference.label,)))
    return list(arms.values()), contrasts


def _subsets(name: str, full: Config) -> tuple[list[Arm], list[Contrast]]:
    """Return networks with some of the insertions, compared with none, and their interactions."""
    entries = insertions(full)
    names = [insertion_name(entry) for entry in entries]
    if len(entries) < 2:
        raise NothingToVary(
            f"{name} needs two insertions or more, and there is {names[0]} alone; take loco"
        )
    largest = 2 if name == "pairwise" else len(entries)
    count = sum(math.comb(len(entries), size) for size in range(largest + 1))
    if count > MOST_ARMS:
        raise PlanError(_too_many(name, count, full))
    arms: dict[tuple[int, ...], Arm] = {}
    for size in range(largest + 1):
        for chosen in itertools.combinations(range(len(entries)), size):
            config = without(full, [e for i, e in enumerate(entries) if i not in chosen])
            label = " ".join(names[i] for i in chosen) or BASELINE_LABEL
            changed = {entry_name(e): i in chosen for i, e in enumerate(entries)}
            kind = "variant" if chosen else "reference"
            arms[chosen] = Arm(label, kind, config, changed=changed)
    contrasts = [
        Contrast(name, f"{arm.label} - {BASELINE_LABEL}", (arm.label,), (BASELINE_LABEL,))
        for chosen, arm in arms.items()
        if chosen
    ]
    for a, b in itertools.combinations(range(len(entries)), 2):
        family, label = f"{name}: interactions", f"{names[a]} x {names[b]}"
        both_and_none = (arms[a, b].label, BASELINE_LABEL)
        contrasts.append(Contrast(family, label, both_and_none, (names[a], names[b])))
    return list(arms.values()), contrasts


def _too_many(name: str, count: int, full: Config) -> str:
    advice = {"factorial": "take pairwise, or loco", "pairwise": "take loco"}.get(name)
    least = "" if advice else "at least "
    advice = advice or "take fewer insertions, blocks or values, or another plan"
    return (
        f"{name} of {describe(full)} has {least}{count} arms, and a plan can have {MOST_ARMS}; "
        f"{advice}"
    )
