"""Families of tests: p-values adjusted together so that the family has one error rate."""

from collections.abc import Sequence

from statsmodels.stats.multitest import multipletests


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
    filled = [1.0 if p is None else p for p in p_values]
    adjusted = multipletests(filled, method="holm")[1]
    return [None if p is None else float(a) for p, a in zip(p_values, adjusted, strict=True)]
