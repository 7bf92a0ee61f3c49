"""Values of training settings that are spread over their ranges, to be tried on one network."""

from collections.abc import Sequence
from typing import Any

from attnsearch.spaces.space import Decision

_PRIMES = (2, 3, 5, 7, 11, 13)


def probe(settings: Sequence[Decision], number: int) -> dict[str, Any]:
    """Return the values of one of a row of probes: the points of a Halton sequence.

    Any few of them lie far apart. The middle, with which the sequence begins, is left out, as it
    is what the first trial has where the file names no prior.

    Args:
        settings: The decisions, all of them active.
        number: Of the probe, from 0.
    """
    return {
        decision.name: _at(decision, _halton(number + 2, _PRIMES[place % len(_PRIMES)]))
        for place, decision in enumerate(settings)
    }


def _halton(index: int, base: int) -> float:
    fraction, weight = 0.0, 1.0
    while index:
        index, digit = divmod(index, base)
        weight /= base
        fraction += digit * weight
    return fraction


def _at(decision: Decision, share: float) -> Any:
    """Return the value so far from the lowest one to the highest, from 0 to 1."""
    if decision.kind == "choice":
        return decision.choices[int(share * len(decision.choices))]
    assert decision.low is not None and decision.high is not None
    low, high, step = decision.low, decision.high, decision.step
    value = low * (high / low) ** share if decision.log else low + share * (high - low)
    if step is not None:
        return decision.check(low + round((value - low) / step) * step)
    return min(max(float(f"{value:.4g}"), low), high)
