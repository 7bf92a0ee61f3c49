"""How far the contrasts of a plan with interim analyses have come: which are settled, and why.

What it says depends on the results alone, in the order of their seeds, so whoever asks and however
often a study was stopped gets the same answer. A settled contrast stays as the analysis left it
that settled it, also where its arms go on for the sake of others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from attnsearch.runs.statistics.differences import Differences
from attnsearch.runs.statistics.families import holm_with_equivalence
from attnsearch.runs.statistics.interim import Interim
from attnsearch.runs.statistics.measured import Measured, side_of, variance_factor
from attnsearch.runs.statistics.plan import Contrast, Plan
from attnsearch.runs.statistics.verdicts import BETTER, EQUIVALENT, WORSE

FUTILE = "futile"
FAILED = "a run failed"
CONSTANT = "no variance"
LAST = "last analysis"


@dataclass(frozen=True)
class Course:
    """How far one contrast has come.

    Attributes:
        contrast: Which.
        analysis: The last analysis that it took part in, counted from 0; None before the first.
        pairs: What that analysis saw.
        settled: Why it needs no more seeds; None where it does.
    """

    contrast: Contrast
    analysis: int | None = None
    pairs: Differences | None = None
    settled: str | None = None


def runs_of(
    plan: Plan, scores: Mapping[str, Sequence[Measured]], label: str
) -> Sequence[Measured]:
    """Return the runs of an arm, which may be those of the arm that it equals."""
    return scores.get(label) or scores.get(plan.arm(label).equals or label, ())


def follow(plan: Plan, scores: Mapping[str, Sequence[Measured]]) -> list[Course]:
    """Make all analyses of a plan for which the results are there, in their order.

    Args:
        plan: With interim analyses.
        scores: Label of an arm -> its runs that have ended.

    Returns:
        A course for each contrast of the plan.
    """
    interim, factor = _interim(plan), variance_factor(plan, None)
    courses = [Course(contrast) for contrast in plan.contrasts]
    for number, (size, share) in enumerate(zip(interim.sizes, interim.shares, strict=True)):
        going = [i for i, course in enumerate(courses) if course.settled is None]
        labels = {label for i in going for label in _labels(courses[i].contrast)}
        if not going or not all(_are_there(plan, scores, label, size) for label in labels):
            break
        cut = replace(plan, seeds=plan.seeds[:size], alpha=plan.alpha * share)
        sides = {label: side_of(cut, runs_of(plan, scores, label)) for label in labels}
        for i in going:
            contrast = courses[i].contrast
            pairs = Differences(cut, contrast, sides, factor, None, share)
            courses[i] = Course(contrast, number, pairs)
        for family in dict.fromkeys(contrast.family for contrast in plan.contrasts):
            members = [i for i, course in enumerate(courses) if course.contrast.family == family]
            _settle(plan, courses, members)
    return courses


def seeds_wanted(plan: Plan, courses: Sequence[Course]) -> dict[str, int]:
    """Return how many seeds each arm with runs of its own needs, up to the next analysis.

    An arm goes on as long as one of its contrasts does.
    """
    sizes = _interim(plan).sizes
    wanted = {arm.label: sizes[0] for arm in plan.arms if arm.equals is None}
    for course in courses:
        done = -1 if course.analysis is None else course.analysis
        size = sizes[done + (course.settled is None)]
        for label in _labels(course.contrast):
            own = plan.arm(label).equals or label
            wanted[own] = max(wanted[own], size)
    return wanted


def _settle(plan: Plan, courses: list[Course], members: Sequence[int]) -> None:
    """Note which contrasts of a family the last analysis has settled."""
    interim = _interim(plan)
    every = [courses[i].pairs for i in members]
    equal = None
    if plan.margin is not None:
        equal = [None if pairs is None else pairs.equivalence_p for pairs in every]
    p_values = [None if pairs is None else pairs.p for pairs in every]
    adjusted = holm_with_equivalence(p_values, equal)
    tests = len(members) * (1 if plan.margin is None else 2)
    for i, (p, equivalence_p) in zip(members, adjusted, strict=True):
        pairs, number = courses[i].pairs, courses[i].analysis
        if courses[i].settled is not None or pairs is None or number is None:
            continue
        why = None
        if pairs.failed:
            why = FAILED
        elif pairs.result is None or not pairs.varies:
            why = CONSTANT
        elif p is not None and p <= plan.alpha:
            above = bool(pairs.result.difference > 0)
            why = BETTER if above == (plan.direction == "max") else WORSE
        elif equivalence_p is not None and equivalence_p <= plan.alpha:
            why = EQUIVALENT
        elif number == len(interim.sizes) - 1:
            why = LAST
        elif interim.is_hopeless(
            pairs.result, plan.alpha / tests, plan.smallest_effect, plan.margin
        ):
            why = FUTILE
        courses[i] = replace(courses[i], settled=why)


def _interim(plan: Plan) -> Interim:
    if plan.interim is None:
        raise ValueError(f"plan {plan.name} has no interim analyses")
    return plan.interim


def _labels(contrast: Contrast) -> tuple[str, ...]:
    return contrast.plus + contrast.minus


def _are_there(
    plan: Plan, scores: Mapping[str, Sequence[Measured]], label: str, size: int
) -> bool:
    """Return whether the runs of an arm have ended on its first seeds."""
    have = {(run.fold, run.seed) for run in runs_of(plan, scores, label)}
    return all((fold, seed) in have for fold in plan.folds for seed in plan.seeds[:size])
