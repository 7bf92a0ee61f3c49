"""What may be said of a difference, given how it came about."""

from dataclasses import dataclass

BETTER = "better"
WORSE = "worse"
EQUIVALENT = "equivalent"
NEGLIGIBLE = "better, but negligible"
NOT_DISTINGUISHABLE = "not distinguishable"
IDENTICAL = "identical"
SUGGESTIVE = "suggestive"
DESCRIPTIVE = "descriptive"
NO_VERDICT = "no verdict"

LEAST_TESTED = 3  # pairs: below, no p and no interval
LEAST_DECIDED = 5  # pairs: below, a difference is at most suggestive


@dataclass(frozen=True)
class Evidence:
    """What a verdict on one difference rests on.

    Attributes:
        n: Pairs.
        unit: What a pair is: `seed` or `fold`.
        failed: Runs of its arms that failed or are not there.
        void: Why the plan allows no verdict at all; None where it does.
        difference: Mean of the pairs' differences, in metric units.
        varies: Whether the differences vary.
        higher_is_better: Direction of the metric.
        alpha: Level of the family.
        p_adjusted: Of the test for a difference.
        equivalence_p_adjusted: Of the test for a difference within the margin; None without one.
        within_smallest: Whether the simultaneous interval lies within +-smallest_effect; False
            where that was not said.
        confirmatory: Whether it was planned before the test data was first opened.
        look: Which opening of the test data.
        futile: Whether it was given up, as more seeds were unlikely to bring a verdict.
    """

    n: int
    unit: str
    failed: int
    void: str | None
    difference: float
    varies: bool
    higher_is_better: bool
    alpha: float
    p_adjusted: float | None
    equivalence_p_adjusted: float | None
    within_smallest: bool
    confirmatory: bool
    look: int | None
    futile: bool = False

    @property
    def favours(self) -> str | None:
        """`better` or `worse` where the test finds a difference; None otherwise."""
        if self.p_adjusted is None or self.p_adjusted > self.alpha:
            return None
        return BETTER if (self.difference > 0) == self.higher_is_better else WORSE

    @property
    def is_equivalent(self) -> bool:
        """Whether the test finds the difference within the margin."""
        p = self.equivalence_p_adjusted
        return p is not None and p <= self.alpha


def decide(evidence: Evidence) -> tuple[str, str]:
    """Return a verdict, one of the words above, and a phrase that says why.

    Nothing is said of an arm with a failed run, of folds that exploring has seen, of seeds added
    after looking and of one pair; two are described; three and four are at most suggestive, and so
    is whatever was planned after the test data had been opened.
    """
    refused = _refused(evidence)
    if refused is not None:
        return refused
    pairs = f"{evidence.n} {evidence.unit}s"
    if evidence.favours is None:
        if not evidence.is_equivalent:
            given_up = f"given up as futile, {pairs}; " if evidence.futile else ""
            return NOT_DISTINGUISHABLE, f"{given_up}not significant is not equivalent"
        if evidence.n < LEAST_DECIDED or not evidence.confirmatory:
            return NOT_DISTINGUISHABLE, f"within the margin, but {_reservation(evidence)}"
        return EQUIVALENT, f"within the margin, {pairs}"
    small = evidence.is_equivalent or evidence.within_smallest
    if evidence.n < LEAST_DECIDED or not evidence.confirmatory:
        return SUGGESTIVE, f"{evidence.favours}, but {_reservation(evidence)}"
    if evidence.favours == BETTER:
        return (NEGLIGIBLE, "smaller than what matters") if small else (BETTER, pairs)
    return WORSE, f"{pairs}, but smaller than what matters" if small else pairs


def verdict_text(verdict: str, margin: str | None = None) -> str:
    """Return the verdict for a table; `margin` as it is shown, with its unit."""
    if verdict == EQUIVALENT and margin is not None:
        return f"equivalent within ±{margin}"
    return verdict


def _refused(evidence: Evidence) -> tuple[str, str] | None:
    if evidence.failed:
        runs = "1 run" if evidence.failed == 1 else f"{evidence.failed} runs"
        return NO_VERDICT, f"{runs} failed or missing"
    if evidence.void is not None:
        return NO_VERDICT, evidence.void
    if evidence.n < 2:
        return NO_VERDICT, f"one {evidence.unit}: no test"
    if not evidence.varies:
        if evidence.difference == 0:
            return IDENTICAL, "every pair has the same score twice: no test"
        return NO_VERDICT, "every pair differs by the same amount: no variance to test against"
    if evidence.n < LEAST_TESTED:
        return DESCRIPTIVE, f"{evidence.n} {evidence.unit}s: no test"
    return None


def _reservation(evidence: Evidence) -> str:
    if evidence.confirmatory:
        return f"{evidence.n} {evidence.unit}s only"
    return "exploratory" if evidence.look is None else f"exploratory (look {evidence.look})"
