"""Families of tests: p-values adjusted together so that the family has one error rate."""

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust the p-values of one family (Holm, Scand. J. Statist. 6, 1979).

    A planned test that could not be made (None) stays in the family as p = 1, so a failed run
    never makes the others easier.

    Args:
        p_values: One for every planned test.

    Returns:
        The adjusted p-values in the same order; None stays None.
    """
    if all(p is None for p in p_values):
        return [None] * len(p_values)
    filled = np.array([1.0 if p is None else p for p in p_values])
    order = np.argsort(filled)
    factors = np.arange(len(filled), 0, -1)
    adjusted = np.empty_like(filled)
    adjusted[order] = np.minimum(np.maximum.accumulate(filled[order] * factors), 1.0)
    return [None if p is None else float(a) for p, a in zip(p_values, adjusted, strict=True)]


def holm_with_equivalence(
    p_values: Sequence[float | None], equivalence: Sequence[float | None] | None
) -> list[tuple[float | None, float | None]]:
    """Adjust a family of differences, and with a margin the equivalences with them.

    Args:
        p_values: Of the differences.
        equivalence: Of the same contrasts' equivalences; None without a margin.

    Returns:
        Both adjusted, for each contrast.
    """
    if equivalence is None:
        return [(p, None) for p in holm(p_values)]
    together = holm([*p_values, *equivalence])
    return list(zip(together[: len(p_values)], together[len(p_values) :], strict=True))
