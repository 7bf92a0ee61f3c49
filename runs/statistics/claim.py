"""The claim that a paper makes of its winner, and what it needs."""

from collections.abc import Sequence
from dataclasses import dataclass

from attnsearch.runs.statistics.comparison import Comparison
from attnsearch.runs.statistics.verdicts import BETTER, NEGLIGIBLE, NO_VERDICT, SUGGESTIVE

HELPS = "it helps"
HELPS_NEGLIGIBLY = "it helps, but negligibly"
NOT_SHOWN = "not shown"
CLAIMS = (HELPS, HELPS_NEGLIGIBLY, SUGGESTIVE, NOT_SHOWN, NO_VERDICT)

NEEDED = ("baseline", "tuned_baseline", "capacity")


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


def judge_claim(comparisons: Sequence[Comparison], winner: str) -> Conclusion:
    """Return whether the winner helps: better than each of `NEEDED`, each at alpha after Holm.

    All three must hold, so the three tests together keep the level of each of them
    (intersection-union; Berger, Technometrics 24, 1982).

    Args:
        comparisons: Those of the confirmation.
        winner: The arm's label, frozen before any test score was computed.
    """
    own = [c for c in comparisons if c.plus == (winner,) and c.against in NEEDED]
    missing = tuple(kind for kind in NEEDED if kind not in {c.against for c in own})
    beaten = tuple(c for c in own if c.verdict in (BETTER, NEGLIGIBLE))
    still = tuple(c for c in own if c not in beaten)
    state = _state(own, still, missing)
    return Conclusion(
        winner, state, beaten, still, missing, _sentence(winner, state, own, still, missing)
    )


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


def _sentence(
    winner: str,
    state: str,
    own: Sequence[Comparison],
    still: Sequence[Comparison],
    missing: Sequence[str],
) -> str:
    controls = _listed([_named(c.against) for c in own])
    if state in (HELPS, HELPS_NEGLIGIBLY):
        how = "helps" if state == HELPS else "helps, but by a negligible difference"
        return f"{winner} {how}: better than {controls}, each after Holm's adjustment."
    if state == SUGGESTIVE:
        return (
            f"{winner} may help: against {controls} the differences are suggestive "
            f"({_listed(sorted({c.reason for c in still}))})."
        )
    # Controls with the same outcome share a phrase.
    outcomes = dict.fromkeys((c.verdict, c.reason) for c in still)
    reasons = []
    for verdict, reason in outcomes:
        alike = [c for c in still if (c.verdict, c.reason) == (verdict, reason)]
        reasons.append(
            f"against {_listed([_named(c.against) for c in alike])}: {verdict} ({reason})"
        )
    reasons += [f"never compared with {_named(kind)}" for kind in missing]
    said = "No verdict on" if state == NO_VERDICT else "It is not shown that"
    rest = "" if state == NO_VERDICT else " helps"
    return f"{said} {winner}{rest}: {'; '.join(reasons)}."


def _named(kind: str) -> str:
    names = {
        "baseline": "the baseline",
        "tuned_baseline": "the tuned baseline",
        "capacity": "the baseline of equal capacity",
    }
    return names[kind]


def _listed(phrases: Sequence[str]) -> str:
    if len(phrases) < 2:
        return "".join(phrases)
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"
