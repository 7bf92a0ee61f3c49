"""How a report writes numbers: shares in percent, their differences in points, p-values, costs."""

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

from attnsearch.runs.words import quantity
from attnsearch.spaces.keys import COUNTED, LATENCY_QUARTILES, is_share

MINUS = "\N{MINUS SIGN}"


def unit(metric: str) -> str:
    """Return what stands behind a score: `` %`` or nothing."""
    return " %" if is_share(metric) else ""


def factor(metric: str) -> float:
    """Return what a metric's values are multiplied with when they are shown."""
    return 100.0 if is_share(metric) else 1.0


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a number other than NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def metric_text(metric: str, value: float | None) -> str:
    """Return a score as it stands in tables, without its unit: ``91.24``."""
    if value is None or value != value:
        return ""
    shown = factor(metric) * value
    text = f"{shown:.2f}" if is_share(metric) else f"{shown:.4f}"
    return text.replace("-", MINUS)


def difference_text(metric: str, value: float | None) -> str:
    """Return a difference with its sign: ``+1.80``; in points where the metric is a share."""
    text = metric_text(metric, value)
    if not text or text.startswith(MINUS):
        return text
    return f"+{text}"


def interval_text(metric: str, low: float | None, high: float | None) -> str:
    """Return an interval of a difference: ``[+0.90, +2.70]``; empty where there is none."""
    if low is None or high is None or low != low or high != high:
        return ""
    return f"[{difference_text(metric, low)}, {difference_text(metric, high)}]"


def points(metric: str) -> str:
    """Return the unit of a difference in a sentence: `` points`` or nothing."""
    return " points" if is_share(metric) else ""


def size_text(metric: str, value: float | None) -> str:
    """Return the size of a difference in a sentence: ``1.80 points``."""
    return f"{metric_text(metric, value)}{points(metric)}"


def p_text(p: float | None) -> str:
    """Return a p-value: three decimals, or ``<0.001``."""
    if p is None or p != p:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def p_phrase(p: float) -> str:
    """Return a p-value in a sentence: ``= 0.012`` or ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def percent(share: float) -> str:
    """Return a level: ``95 %``, ``99.5 %``."""
    return f"{100 * share:.6g} %"


def cost_text(cost: str, value: Any) -> str:
    """Return a cost as it stands in tables; empty where it was not measured."""
    if not is_number(value):
        return ""
    return quantity(value) if cost in COUNTED else f"{value:.3g}"


def cost_cell(cost: str, costs: Mapping[str, Any]) -> str:
    """Return a cost as it stands in tables, a latency with its quartiles: ``4.1 (3.9 to 4.4)``."""
    text = cost_text(cost, costs.get(cost))
    quartiles = [cost_text(cost, costs.get(name)) for name in LATENCY_QUARTILES]
    if cost != "latency_ms" or not text or not all(quartiles):
        return text
    return f"{text} ({' to '.join(quartiles)})"


def finite(value: Any) -> Any:
    """Return nested values with None for NaN and infinity: JSON has no words for them."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
