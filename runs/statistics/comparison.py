"""The differences that a plan asks for: estimate, intervals, tests and verdict of each.

Pure functions of numbers. What is done and why: docs/statistics.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from attnsearch.runs.statistics.courses import FUTILE, Course, follow, runs_of
from attnsearch.runs.statistics.differences import Differences
from attnsearch.runs.statistics.families import holm_with_equivalence
from attnsearch.runs.statistics.measured import (
    Interval,
    Measured,
    is_folded,
    side_of,
    variance_factor,
)
from attnsearch.runs.statistics.plan import Plan
from attnsearch.runs.statistics.power import detectable
from attnsearch.runs.statistics.verdicts import LEAST_TESTED, Evidence, decide

THIS_TEST_SET = "this test set"
NEW_DATA = "new data of this size"
INTERACTION = "interaction"


@dataclass(frozen=True)
class Comparison:
    """One contrast of a plan, measured. Differences are plus less minus, in metric units.

    Attributes:
        family: Those whose p-values are adjusted together.
        name: The contrast's.
        plus: Labels of the arms added.
        minus: Labels of the arms subtracted.
        against: Kind of the arm subtracted, one of `protocol.ARM_KINDS`; `interaction` for
            a difference of differences.
        n: Differences; with folds, folds.
        failed: Runs of these arms that failed or are not there.
        differences: The pairs' differences, in the order of seeds (or folds).
        difference: Their mean; None without a pair.
        sd: Their standard deviation; None below two.
        low: Lower end of the interval at 1 - alpha, not adjusted; None below three pairs.
        high: Its upper end.
        simultaneous_low: The same at 1 - alpha / (contrasts in the family): Bonferroni.
        simultaneous_high: Its upper end.
        scope: `this test set`, or `new data of this size` with folds.
        df: Degrees of freedom of the t.
        p: Two-sided paired t (Nadeau-Bengio's with folds), unadjusted; None where none is made.
        p_adjusted: After Holm in the family.
        tests: m, the number of tests in the family: its contrasts, twice that with a margin.
        equivalence_p: Of the two one-sided tests against the margin; None without a margin.
        equivalence_p_adjusted: After Holm in the family.
        permutation_p: Of the exact sign-flip test, not adjusted; None unless 2^(1-n) <= alpha / m.
        correlation: Between the two sides of the pairs; None below three or without variance.
        detectable: Smallest difference that this test finds with 80 % power at alpha / m, given
            the pairs' sd; None below three or without variance.
        new_patients: The interval for other patients and other seeds, at 1 - alpha, not
            adjusted; None with folds, below three seeds, or where no cases were given.
        secondary: Differences of the other metrics: intervals at 1 - alpha, no p.
        confirmatory: Whether it was planned before the test data was first opened.
        look: Which opening of the test data it belongs to; None on validation data.
        verdict: One of the words of `verdicts`, from `better` to `no verdict`.
        favours: `better` or `worse` where the adjusted p is at most alpha, whatever the
            verdict makes of it; None otherwise.
        reason: A phrase that says why this verdict, for a reader.
        settled: Where arms stop before the last seed: what settled it, see `courses`; None where
            all arms have all seeds. Its p then counts for all analyses, and its intervals are
            repeated confidence intervals.
        analysis: The analysis that settled it, counted from 1.
        error: Standard error of the difference; None below three pairs.
    """

    family: str
    name: str
    plus: tuple[str, ...]
    minus: tuple[str, ...]
    against: str
    n: int
    failed: int
    differences: tuple[float, ...]
    difference: float | None
    sd: float | None
    low: float | None
    high: float | None
    simultaneous_low: float | None
    simultaneous_high: float | None
    scope: str
    df: float | None
    p: float | None
    p_adjusted: float | None
    tests: int
    equivalence_p: float | None
    equivalence_p_adjusted: float | None
    permutation_p: float | None
    correlation: float | None
    detectable: float | None
    new_patients: Interval | None
    secondary: Mapping[str, Interval]
    confirmatory: bool
    look: int | None
    verdict: str
    favours: str | None
    reason: str
    settled: str | None = None
    analysis: int | None = None
    error: float | None = None


def compare(
    plan: Plan,
    scores: Mapping[str, Sequence[Measured]],
    *,
    confirmatory: bool,
    look: int | None = None,
    added_seeds: bool = False,
    unlearned: str | None = None,
    test_to_train: float | None = None,
) -> list[Comparison]:
    """Measure every contrast of a plan.

    Args:
        plan: What was planned.
        scores: Label of an arm -> its runs. An arm that equals another one may be left out.
        confirmatory: Whether the plan was stored before the test data was first opened.
        look: Which opening of the test data this is; None on validation data.
        added_seeds: Whether seeds were added after a look: then there are no verdicts.
        unlearned: Says that the reference has not learned, if so: then there are no verdicts.
        test_to_train: With folds, n_test / n_train, the mean over the folds.

    Returns:
        A comparison for each of the plan's contrasts, in their order.

    Raises:
        ValueError: The data is folded and `test_to_train` is missing, or two runs have different
            numbers of cases.
    """
    factor = variance_factor(plan, test_to_train)
    void = unlearned or _void(plan, added_seeds)
    sides = {arm.label: side_of(plan, runs_of(plan, scores, arm.label)) for arm in plan.arms}
    courses = [Course(contrast) for contrast in plan.contrasts]
    if plan.interim is not None:
        courses = follow(plan, scores)
    pairs = [
        replace(course.pairs, void=void)
        if course.pairs is not None
        else Differences(plan, course.contrast, sides, factor, void)
        for course in courses
    ]
    adjusted: dict[int, tuple[float | None, float | None]] = {}
    sizes: dict[str, int] = {}
    for family in dict.fromkeys(contrast.family for contrast in plan.contrasts):
        members = [i for i, item in enumerate(pairs) if item.contrast.family == family]
        sizes[family] = len(members)
        equal = None if plan.margin is None else [pairs[i].equivalence_p for i in members]
        both = holm_with_equivalence([pairs[i].p for i in members], equal)
        adjusted.update(zip(members, both, strict=True))
    return [
        _finished(
            plan, item, courses[i], *adjusted[i], sizes[item.contrast.family], confirmatory, look
        )
        for i, item in enumerate(pairs)
    ]


def _void(plan: Plan, added_seeds: bool) -> str | None:
    """Return why the plan allows no verdict at all."""
    if added_seeds:
        return "seeds were added after looking"
    if plan.nesting == "not nested":
        return "not nested: exploring has seen the folds' test parts"
    return None


def _finished(
    plan: Plan,
    pairs: Differences,
    course: Course,
    p_adjusted: float | None,
    equivalence_p_adjusted: float | None,
    family: int,
    confirmatory: bool,
    look: int | None,
) -> Comparison:
    """Return the comparison, in a family of that many contrasts."""
    values, n, level = pairs.values, len(pairs.values), pairs.plan.alpha
    tests = family * (1 if plan.margin is None else 2)
    low, high = pairs.ends(level)
    simultaneous_low, simultaneous_high = pairs.ends(level / family)
    smallest = plan.smallest_effect
    evidence = Evidence(
        n=n,
        unit="fold" if is_folded(plan) else "seed",
        failed=pairs.failed,
        void=pairs.void,
        difference=float(values.mean()) if n else 0.0,
        varies=pairs.varies,
        higher_is_better=plan.direction == "max",
        alpha=plan.alpha,
        p_adjusted=p_adjusted,
        equivalence_p_adjusted=equivalence_p_adjusted,
        within_smallest=(
            smallest is not None
            and simultaneous_low is not None
            and simultaneous_high is not None
            and -smallest < simultaneous_low
            and simultaneous_high < smallest
        ),
        confirmatory=confirmatory,
        look=look,
        futile=course.settled == FUTILE,
    )
    verdict, reason = decide(evidence)
    sd = float(values.std(ddof=1)) if n > 1 else None
    return Comparison(
        family=pairs.contrast.family,
        name=pairs.contrast.name,
        plus=pairs.contrast.plus,
        minus=pairs.contrast.minus,
        against=(
            INTERACTION
            if pairs.contrast.is_interaction
            else plan.arm(pairs.contrast.minus[0]).kind
        ),
        n=n,
        failed=pairs.failed,
        differences=tuple(values.tolist()),
        difference=float(values.mean()) if n else None,
        sd=sd,
        low=low,
        high=high,
        simultaneous_low=simultaneous_low,
        simultaneous_high=simultaneous_high,
        scope=NEW_DATA if is_folded(plan) else THIS_TEST_SET,
        df=None if pairs.result is None else pairs.result.df,
        p=pairs.p,
        p_adjusted=p_adjusted,
        tests=tests,
        equivalence_p=pairs.equivalence_p,
        equivalence_p_adjusted=equivalence_p_adjusted,
        permutation_p=pairs.permutation_p(plan.alpha / tests),
        correlation=pairs.correlation(),
        detectable=(
            detectable(n, sd, tests, level, variance_factor=pairs.factor(n))
            if sd is not None and pairs.varies and n >= LEAST_TESTED
            else None
        ),
        new_patients=pairs.new_patients(),
        secondary=pairs.secondary(),
        confirmatory=confirmatory,
        look=look,
        verdict=verdict,
        favours=evidence.favours,
        reason=reason,
        settled=course.settled,
        analysis=None if course.analysis is None else course.analysis + 1,
        error=None if pairs.result is None else float(pairs.result.error),
    )
