"""Several studies as one: the same arms on several data sets, or what keeps them apart.

Arms are the same where they have the same blocks at the same places with the same
hyperparameters; controls where they are of the same kind, of the same candidate. What was measured
otherwise (another metric, another budget) is refused and not mixed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.blocks.naming import insertions
from attnsearch.runs.results.model import ActResult, ArmResult, MeasuredStudy
from attnsearch.runs.statistics import (
    LEAST_DECIDED,
    Arm,
    Comparison,
    Plan,
    Pooled,
    Ranking,
    judge,
    pool,
    rank_arms,
)
from attnsearch.runs.words import listed, value_text

Identity = tuple[str, str]  # the kind of an arm, and what is inserted where

ALLOWED = ("epochs", "network")
"""What may differ between data sets where a person says so."""


class CombineError(AttnsearchError):
    """Studies cannot be combined."""


@dataclass(frozen=True)
class CombinedArm:
    """One arm on all data sets.

    Attributes:
        label: The first study's.
        kind: Of the arm.
        results: Its results, a data set each.
    """

    label: str
    kind: str
    results: tuple[ArmResult, ...]

    @property
    def means(self) -> list[float]:
        """Its mean score on each data set."""
        return [r.summary.mean for r in self.results if r.summary and r.summary.mean is not None]


@dataclass(frozen=True)
class Effect:
    """One difference on all data sets.

    Attributes:
        name: The first study's: ``gc@layer4 - baseline``.
        family: Those whose p-values are adjusted together.
        against: Kind of the arm subtracted.
        comparisons: A data set each.
        pooled: What they say together.
    """

    name: str
    family: str
    against: str
    comparisons: tuple[Comparison, ...]
    pooled: Pooled


@dataclass(frozen=True)
class Combined:
    """Studies on several data sets, combined.

    Attributes:
        studies: Measured, in the order asked for.
        acts: Of each study the plan that is combined.
        sets: What each data set is called: its study's name.
        arms: Those of all studies.
        ranking: Of these arms.
        effects: Of all studies.
        notes: What was left out, or differs without harm; sentences.
    """

    studies: tuple[MeasuredStudy, ...]
    acts: tuple[ActResult, ...]
    sets: tuple[str, ...]
    arms: tuple[CombinedArm, ...]
    ranking: Ranking
    effects: tuple[Effect, ...]
    notes: tuple[str, ...]

    @property
    def plan(self) -> Plan:
        """The first study's, for what all have in common."""
        return self.acts[0].plan

    @property
    def metric(self) -> str:
        """The primary metric with its part."""
        return self.acts[0].metric

    @property
    def decided(self) -> bool:
        """Whether there are enough data sets for a verdict."""
        return len(self.sets) >= LEAST_DECIDED


def combine_studies(
    studies: Sequence[MeasuredStudy], *, plan: str = "confirm", allow: Sequence[str] = ()
) -> Combined:
    """Combine studies of the same arms on several data sets.

    Args:
        studies: Measured.
        plan: Which of their plans: ``confirm``, or an ablation's name.
        allow: Of `ALLOWED`: what may differ.

    Raises:
        CombineError: They cannot be compared; the message says what differs.
    """
    if len(studies) < 2:
        raise CombineError(f"{len(studies)} study; name two or more, each on its own data")
    sets = _names(studies)
    acts = [_act(study, name, plan) for study, name in zip(studies, sets, strict=True)]
    _refuse_other(studies, acts, sets, allow)
    own = [_by_identity(act, name) for act, name in zip(acts, sets, strict=True)]
    notes = []
    shared = [key for key in own[0] if all(key in other for other in own)]
    for every, name in zip(own, sets, strict=True):
        if rest := [arm.label for key, arm in every.items() if key not in shared]:
            notes.append(f"Not in all studies, and left out: {listed(rest)} of {name}.")
    arms: list[CombinedArm] = []
    for key in shared:
        results = tuple(each[key] for each in own)
        lost = [name for name, arm in zip(sets, results, strict=True) if not _is_whole(arm)]
        if lost:
            notes.append(f"{results[0].label} is left out: runs failed on {listed(lost)}.")
        elif not all(arm.arm.equals for arm in results):
            arms.append(CombinedArm(results[0].label, key[0], results))
    if len(arms) < 2:
        raise CombineError(
            f"{listed(list(sets))} share {len(arms)} arms; 2 are the least. Arms are the same "
            "where blocks, places and hyperparameters are; confirm.configs trains given configs "
            f"on other data. {' '.join(notes)}"
        )
    first = acts[0].plan
    ranking = rank_arms(
        np.array([arm.means for arm in arms]).T,
        higher_is_better=first.direction == "max",
        alpha=first.alpha,
    )
    effects = _effects(acts, own, {arm.results[0].label for arm in arms}, sets, notes)
    notes += _training(acts, sets)
    if any(act.plan.interim is not None for act in acts):
        notes.append(
            "Arms whose seeds stopped early overstate their differences a little; the weights "
            "take their standard errors as they are."
        )
    return Combined(
        tuple(studies), tuple(acts), sets, tuple(arms), ranking, tuple(effects), tuple(notes)
    )


def _names(studies: Sequence[MeasuredStudy]) -> tuple[str, ...]:
    """Return each study's name, with its number and then its place where they are the same."""
    names = [study.study.name for study in studies]
    labels = [study.study.label for study in studies]
    names = [
        name if names.count(name) == 1 else label
        for name, label in zip(names, labels, strict=True)
    ]
    return tuple(
        name if names.count(name) == 1 else f"{name} ({place})"
        for place, name in enumerate(names, start=1)
    )


def _act(study: MeasuredStudy, name: str, plan: str) -> ActResult:
    """Return the plan of a study that is combined."""
    act = next((act for act in study.acts if act.name == plan), None)
    if act is None:
        have = listed([act.name for act in study.acts]) or "none"
        raise CombineError(f"{name} has no plan {plan}; it has {have}. `attnsearch run` makes one")
    why = act.unlearned
    if not act.complete:
        why = f"{act.ended} of {act.expected} runs have ended; `attnsearch run` goes on"
    elif act.added_seeds:
        why = "seeds were added after looking"
    elif act.plan.nesting == "not nested":
        why = "exploring has seen the test parts of its folds"
    if why:
        raise CombineError(f"{name} allows no verdict, so it cannot be combined: {why}")
    return act


def _refuse_other(
    studies: Sequence[MeasuredStudy],
    acts: Sequence[ActResult],
    sets: Sequence[str],
    allow: Sequence[str],
) -> None:
    """Refuse studies that measured different things, or the same data twice."""
    facts = [_facts(study, act) for study, act in zip(studies, acts, strict=True)]
    differ = []
    for key, value in facts[0].items():
        if key in allow:
            continue
        for name, other in zip(sets[1:], facts[1:], strict=True):
            if other[key] != value:
                differ.append(f"{key}: {value} in {sets[0]}, {other[key]} in {name}")
                if key in ALLOWED:
                    differ[-1] += f" (--allow {key} combines them all the same)"
    seen: dict[str, str] = {}
    for study, name in zip(studies, sets, strict=True):
        before = seen.setdefault(study.study.fingerprint, name)
        if before != name:
            differ.append(f"data: {before} and {name} have the same images, labels and split")
    if differ:
        lines = "".join(f"\n  {line}" for line in differ)
        raise CombineError(f"these studies cannot be compared:{lines}")


def _facts(study: MeasuredStudy, act: ActResult) -> dict[str, Any]:
    """Return what must be alike, in words, for two studies to be compared."""
    plan, network = act.plan, _reference(act).config.get("network") or {}
    return {
        "task": study.setting("task"),
        "metric": act.metric,
        "checkpoint": plan.checkpoint,
        "pairs": "seeds" if plan.folds == (None,) else "folds",
        "alpha": plan.alpha,
        "epochs": plan.epochs,
        "network": ", ".join(
            f"{key}={value_text(value)}" for key, value in network.items() if value is not None
        ),
    }


def _reference(act: ActResult) -> Arm:
    plan = act.plan
    return plan.arm(plan.reference) if plan.reference else plan.arms[0]


def _identity(arm: Arm, plan: Plan) -> Identity:
    """Return what makes an arm the same as one of another study."""
    if arm.of is not None and arm.label != plan.reference:  # a control of one candidate
        return arm.kind, _inserted(plan.arm(arm.of).config)
    return arm.kind, "" if arm.kind in ("baseline", "tuned_baseline") else _inserted(arm.config)


def _inserted(config: Mapping[str, Any]) -> str:
    entries = [
        {
            "at": entry["at"],
            "block": entry["block"],
            "params": (entry.get("params") or {}).get(entry["block"], {}),
        }
        for entry in insertions(config)
    ]
    return json.dumps(entries, sort_keys=True)


def _by_identity(act: ActResult, name: str) -> dict[Identity, ArmResult]:
    arms: dict[Identity, ArmResult] = {}
    for arm in act.arms:
        before = arms.setdefault(_identity(arm.arm, act.plan), arm)
        if before is not arm:
            raise CombineError(
                f"{name}: {before.label} and {arm.label} have the same blocks at the same places, "
                "so it is not clear which of them another study's arm is; confirm one of them"
            )
    return arms


def _is_whole(arm: ArmResult) -> bool:
    """Return whether an arm has a score of every run."""
    return not arm.excluded and not arm.failed and arm.summary is not None and arm.summary.n > 0


def _effects(
    acts: Sequence[ActResult],
    own: Sequence[Mapping[Identity, ArmResult]],
    kept: set[str],
    sets: Sequence[str],
    notes: list[str],
) -> list[Effect]:
    """Return the differences that all studies have, pooled and judged by family."""
    named = []
    for act, arms in zip(acts, own, strict=True):
        identities = {arm.label: key for key, arm in arms.items()}
        pairs = [c for c in act.comparisons if len(c.plus) == len(c.minus) == 1]
        named.append({(identities[c.plus[0]], c.against): c for c in pairs})
    plan = acts[0].plan
    higher = plan.direction == "max"
    families: dict[str, list[Effect]] = {}
    for key, first in named[0].items():
        same = [each[key] for each in named if key in each]
        if len(same) < len(acts) or first.plus[0] not in kept:
            continue
        without = [s for s, c in zip(sets, same, strict=True) if c.failed or c.error is None]
        if without:
            notes.append(
                f"{first.name} is not pooled: no standard error on {listed(without)} "
                "(runs failed, or too few seeds)."
            )
            continue
        pooled = pool(
            [c.difference or 0.0 for c in same],
            [c.error or 0.0 for c in same],
            higher_is_better=higher,
            alpha=plan.alpha,
        )
        effect = Effect(first.name, first.family, first.against, tuple(same), pooled)
        families.setdefault(first.family, []).append(effect)
    planned = all(act.confirmatory for act in acts)
    judged = []
    for members in families.values():
        said = judge(
            [effect.pooled for effect in members],
            higher_is_better=higher,
            alpha=plan.alpha,
            confirmatory=planned,
        )
        judged += [replace(e, pooled=pooled) for e, pooled in zip(members, said, strict=True)]
    return judged


def _training(acts: Sequence[ActResult], sets: Sequence[str]) -> list[str]:
    """Say which training settings differ between data sets: each study may have searched them."""
    trains = [_reference(act).config.get("train") or {} for act in acts]
    keys = {key for train in trains for key in train if key not in ("seed", "epochs")}
    differ = sorted(k for k in keys if any(t.get(k) != trains[0].get(k) for t in trains))
    if not differ:
        return []
    words = "; ".join(
        f"{key} "
        + ", ".join(f"{value_text(t.get(key))} ({s})" for t, s in zip(trains, sets, strict=True))
        for key in differ
    )
    return [f"Training settings differ between data sets: {words}."]
