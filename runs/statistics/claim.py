"""The claim that a paper makes of its winner, and what it needs."""

from collections.abc import Sequence
from dataclasses import dataclass

from attnsearch.runs.statistics.comparison import Comparison
from attnsearch.runs.statistics.verdicts import BETTER, NEGLIGIBLE, NO_VERDICT, SUGGESTIVE
from attnsearch.runs.words import listed

HELPS = "it helps"
HELPS_NEGLIGIBLY = "it helps, but negligibly"
NOT_SHOWN = "not shown"
CLAIMS = (HELPS, HELPS_NEGLIGIBLY, SUGGESTIVE, NOT_SHOWN, NO_VERDICT)

NEEDED = {
    "baseline": "the baseline",
    "tuned_baseline": "the tuned baseline",
    "capacity": "the baseline of equal capacity",
}
"""Kinds of controls that a winner must beat, and what sentences call them."""


@dataclass(frozen=True)
class Conclusion:
    """What may be said of a winner as a whole.

    Attributes:
        winner: Label of the arm that was ranked first on validation data.
        state: One of `CLAIMS`.
        beaten: The comparisons with a control that found the winner better.
        open: Those that did not, or not yet: verdicts of three or four seeds included.
        missing: Kinds of `NEEDED` that it was not compared with.
        sentence: The claim for a reader, with its reason.
    """

    winner: str
    state: str
    beaten: tuple[Comparison, ...]
    open: tuple[Comparison, ...]
    missing: tuple[str, ...]
    sentence: str


def judge_claim(
    comparisons: Sequence[Comparison], winner: str, lacking: str = "never compared with"
) -> Conclusion:
    """Return whether the winner helps: better than each of `NEEDED`, each at alpha after Holm.

    All three must hold, so the three tests together keep the level of each of them
    (intersection-union; Berger, Technometrics 24, 1982).

    Args:
        comparisons: Those of the confirmation.
        winner: The arm's label, frozen before any test score was computed.
        lacking: What is said of a control that no comparison has.
    """
    own = [c for c in comparisons if c.plus == (winner,) and c.against in NEEDED]
    missing = tuple(kind for kind in NEEDED if kind not in {c.against for c in own})
    beaten = tuple(c for c in own if c.verdict in (BETTER, NEGLIGIBLE))
    still = tuple(c for c in own if c not in beaten)
    state = _state(own, still, missing)
    if state in (HELPS, HELPS_NEGLIGIBLY):
        how = "helps" if state == HELPS else "helps, but by a negligible difference"
        sentence = f"{winner} {how}: better than {_controls(own)}, each after Holm's adjustment."
    elif state == SUGGESTIVE:
        sentence = (
            f"{winner} may help: against {_controls(own)} the differences are suggestive "
            f"({listed(sorted({c.reason for c in still}))})."
        )
    else:
        claimed = f"on {winner}" if state == NO_VERDICT else f"that {winner} helps"
        refused = "No verdict" if state == NO_VERDICT else "It is not shown"
        sentence = f"{refused} {claimed}: {'; '.join(_obstacles(still, missing, lacking))}."
    return Conclusion(winner, state, beaten, still, missing, sentence)


def _state(own: Sequence[Comparison], still: Sequence[Comparison], missing: Sequence[str]) -> str:
    if any(c.verdict == NO_VERDICT for c in own):
        return NO_VERDICT
    if missing:
        return NOT_SHOWN
    if not still:
        negligible = any(c.verdict == NEGLIGIBLE for c in own)
        return HELPS_NEGLIGIBLY if negligible else HELPS
    suggested = all(c.verdict == SUGGESTIVE and c.favours == BETTER for c in still)
    return SUGGESTIVE if suggested else NOT_SHOWN


def _controls(comparisons: Sequence[Comparison]) -> str:
    return listed([NEEDED[c.against] for c in comparisons])


def _obstacles(still: Sequence[Comparison], missing: Sequence[str], lacking: str) -> list[str]:
    """Return why a claim is not shown, in words; controls with the same outcome share a phrase."""
    outcomes: dict[str, list[Comparison]] = {}
    for comparison in still:
        outcome = f"{comparison.verdict} ({comparison.reason})"
        outcomes.setdefault(outcome, []).append(comparison)
    reasons = [f"against {_controls(alike)}: {outcome}" for outcome, alike in outcomes.items()]
    return reasons + [f"{lacking} {NEEDED[kind]}" for kind in missing]
