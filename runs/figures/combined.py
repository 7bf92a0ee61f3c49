"""The figures of several data sets: the critical difference, a forest plot of an effect."""

import numpy as np

from attnsearch.runs.figures.drawing import HALO, Figure, Sheet, scaled
from attnsearch.runs.figures.renderer import LIGHT, text_width
from attnsearch.runs.results import (
    Combined,
    Effect,
    difference_text,
    factor,
    interval_text,
    p_phrase,
    percent,
    size_text,
)
from attnsearch.runs.statistics import BETTER, WORSE
from attnsearch.runs.words import listed
from attnsearch.spaces.keys import is_share, metric_name

_TONES = {BETTER: "good", WORSE: "bad"}
_LEAST, _MOST = 5.0, 11.0  # sizes of the squares, by weight


def critical_difference(combined: Combined) -> Figure | None:
    """Draw the arms by rank (or mean), those that cannot be told apart joined; None untested."""
    ranking, metric = combined.ranking, combined.metric
    if ranking.critical is None:
        return None
    by_mean = ranking.post_hoc == "Tukey"
    scale = factor(metric) if by_mean else 1.0
    places = (scale * ranking.centres).tolist()
    wide = scale * ranking.critical
    reverse = by_mean and combined.plan.direction == "max"
    order = np.argsort([-x if reverse else x for x in places], kind="stable").tolist()
    labels = [arm.label for arm in combined.arms]
    joined = [group for group in ranking.groups if len(group) > 1]

    def draw(sheet: Sheet) -> None:
        axes, y = sheet.rows(right=60), sheet.y + 10
        at = sheet.row_name(y, f"critical difference {wide:.2f}")
        edge = max(places) if reverse else min(places)
        ends = (edge, edge - wide if reverse else edge + wide)
        sheet.line(axes, ends, (at, at), "ink", linewidth=2)
        for end in ends:
            sheet.line(axes, (end, end), (at - 5, at + 5), "ink", linewidth=2)
        y = at + 30
        heights = []
        for arm in order:
            words = f"{places[arm]:.2f}"
            heights.append(sheet.row_name(y, labels[arm], text_width(words)))
            sheet.small(sheet.width, y, words, ha="right", bbox=HALO)
            y = heights[-1] + 28
        bottom = y - 14 + 12 * len(joined)
        for arm, height in zip(order, heights, strict=True):
            place = places[arm]
            sheet.line(axes, (place, place), (height, bottom), "muted", linewidth=0.8)
            sheet.dots(axes, [place], [height], "good", markersize=8, gid=[labels[arm]])
        for row, group in enumerate(joined):
            ends = (min(places[arm] for arm in group), max(places[arm] for arm in group))
            height = bottom - 12 * (len(joined) - 1 - row) - 6
            sheet.line(
                axes, ends, (height, height), "neutral", linewidth=5, label="not told apart"
            )
        if reverse:
            axes.invert_xaxis()
        what = f"Mean {metric_name(metric)}{' (%)' if is_share(metric) else ''}"
        sheet.end_rows(axes, bottom, what if by_mean else "Mean rank (1 is best)")

    listing = "; ".join(f"{labels[arm]}: {places[arm]:.2f}" for arm in order)
    caption = (
        f"Over {len(combined.sets)} data sets, the best on top. Arms on one bar cannot be told "
        f"apart ({ranking.post_hoc}, alpha {combined.plan.alpha:g})."
    )
    groups = "; ".join(listed([labels[arm] for arm in group]) for group in joined) or "none"
    words = f"{listing}. Critical difference {wide:.2f}. Not told apart: {groups}."
    return Figure("Critical difference", caption, words, draw)


def effect_forest(combined: Combined, effect: Effect) -> Figure | None:
    """Draw a difference on every data set, and what they say together; None where nothing does."""
    pooled, metric = effect.pooled, combined.metric
    total = pooled.estimate
    if total is None:
        return None
    tone = _TONES.get(pooled.verdict, "neutral")
    rows = list(zip(combined.sets, effect.comparisons, pooled.weights, strict=True))
    most = max(pooled.weights)

    def told(value: float, low: float | None, high: float | None) -> str:
        return f"{difference_text(metric, value)} {interval_text(metric, low, high)}"

    def draw(sheet: Sheet) -> None:
        axes, y = sheet.rows(right=190), sheet.y + 10
        axes.axvline(0, color=LIGHT["muted"], linewidth=1.2)
        for name, c, weight in rows:
            assert c.difference is not None and c.low is not None and c.high is not None
            words = f"{told(c.difference, c.low, c.high)} {100 * weight:.0f} %"
            at = sheet.row_name(y, name, text_width(words))
            sheet.small(sheet.width, y, words, ha="right", bbox=HALO)
            sheet.line(axes, scaled(metric, (c.low, c.high)), (at, at), "neutral", linewidth=1.8)
            size = _LEAST + (_MOST - _LEAST) * (weight / most) ** 0.5
            place = scaled(metric, [c.difference])
            sheet.dots(axes, place, [at], "neutral", marker="s", markersize=size, gid=[words])
            y = at + (36 if sheet.narrow else 28)
        words = told(total.value, total.low, total.high)
        at = sheet.row_name(y, "All data sets", text_width(words))
        sheet.small(sheet.width, y, words, ha="right", bbox=HALO, fontweight="bold")
        if pooled.next_set:
            ends = scaled(metric, pooled.next_set)
            style = {"linewidth": 1.3, "label": "one more such data set"}
            sheet.line(axes, ends, (at, at), tone, **style)
        ends = scaled(metric, (total.low, total.high))
        sheet.line(axes, ends, (at, at), tone, linewidth=4, label="mean over such data sets")
        place = scaled(metric, [total.value])
        sheet.dots(axes, place, [at], tone, marker="D", markersize=10, gid=[words])
        unit = " (percentage points)" if is_share(metric) else ""
        sheet.end_rows(axes, at + 16, f"Difference in {metric_name(metric)}{unit}")

    better = "Right" if combined.plan.direction == "max" else "Left"
    caption = (
        f"{percent(1 - combined.plan.alpha)} intervals, the size of a square its weight. "
        f"{better} of zero is better. {heterogeneity(combined, effect)}"
    )
    listing = "; ".join(
        f"{name}: {told(c.difference or 0.0, c.low, c.high)}" for name, c, _ in rows
    )
    words = f"{listing}; all data sets: {told(total.value, total.low, total.high)}"
    return Figure(effect.name, caption, f"{effect.name}. {words}", draw)


def heterogeneity(combined: Combined, effect: Effect) -> str:
    """Say how much the true effect differs between data sets."""
    pooled = effect.pooled
    if pooled.tau is None or pooled.q is None or pooled.q_p is None or pooled.i2 is None:
        return ""
    return (
        f"Between data sets: tau {size_text(combined.metric, pooled.tau)}, "
        f"I² {percent(round(pooled.i2, 2))}, Q = {pooled.q:.1f}, p {p_phrase(pooled.q_p)}."
    )
