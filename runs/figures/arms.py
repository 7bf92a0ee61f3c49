"""The figures of an act: differences with their intervals, seeds, interactions."""

from typing import Any

from matplotlib.axes import Axes

from attnsearch.runs.figures.drawing import (
    HALO,
    SMALL,
    Figure,
    Sheet,
    scaled,
    score_axis,
)
from attnsearch.runs.figures.renderer import LIGHT, text_width
from attnsearch.runs.results import (
    ActResult,
    difference_text,
    interval_text,
    is_number,
    metric_text,
    percent,
    points,
    unit,
)
from attnsearch.runs.statistics import BETTER, INTERACTION, WORSE, Comparison
from attnsearch.spaces.keys import is_share, metric_name

_LOOKS = {BETTER: ("good", "D"), WORSE: ("bad", "s")}
_TIMES = {BETTER: "more than the sum", WORSE: "less than the sum"}


def forest(act: ActResult, *, interactions: bool = False) -> Figure | None:
    """Draw every difference with its two intervals and its seeds; None where there is none.

    Args:
        act: A measured act.
        interactions: Draw the interactions; else the differences of two arms.
    """
    families = {
        family: [
            c
            for c in members
            if (c.against == INTERACTION) == interactions and c.difference is not None
        ]
        for family, members in act.families().items()
    }
    families = {family: members for family, members in families.items() if members}
    if not families:
        return None
    metric, plan = act.metric, act.plan

    def draw(sheet: Sheet) -> None:
        axes = sheet.rows(right=150)
        if plan.margin:
            (edge,) = scaled(metric, [plan.margin])
            axes.axvspan(-edge, edge, facecolor=LIGHT["neutral"], alpha=0.13, linewidth=0)
        axes.axvline(0, color=LIGHT["muted"], linewidth=1.2)
        y = sheet.y + 8
        for family, members in families.items():
            words = sheet.fitted(family[:1].upper() + family[1:], sheet.width)
            sheet.text(0, y, words, fontweight="bold", bbox=HALO)
            y += 24
            for c in members:
                y = _difference(sheet, axes, act, c, y)
            y += 10
        words = f"Difference in {metric_name(metric)}"
        sheet.end_rows(axes, y - 14, words + (" (percentage points)" if is_share(metric) else ""))

    listed = "; ".join(
        f"{c.name}: {difference_text(metric, c.difference)}{points(metric)} "
        f"{interval_text(metric, c.low, c.high)}, {c.verdict}"
        for members in families.values()
        for c in members
    )
    caption = (
        f"Thick line: {percent(1 - plan.alpha)} interval, not adjusted. Thin line: simultaneous "
        "over the family (Bonferroni). "
        f"{'Right' if plan.direction == 'max' else 'Left'} of zero is better."
    )
    if plan.margin:
        edge = metric_text(metric, plan.margin)
        caption += f" Band: the equivalence margin of ±{edge}{points(metric)}."
    title = "Interactions: (AB - A) - (B - baseline)" if interactions else "Differences"
    return Figure(title, caption, f"Differences of {metric_name(metric)}. {listed}", draw)


def _difference(sheet: Sheet, axes: Axes, act: ActResult, c: Comparison, y: float) -> float:
    """Draw a comparison in a row; return the y of the next."""
    assert c.difference is not None, "only those are drawn"
    metric = act.metric
    tone, shape = _LOOKS.get(c.verdict, ("neutral", "o"))
    words = f"{difference_text(metric, c.difference)} {interval_text(metric, c.low, c.high)}"
    at = sheet.row_name(y, c.name, text_width(words))
    sheet.small(sheet.width, y, words, ha="right", bbox=HALO)
    simultaneous = (c.simultaneous_low, c.simultaneous_high)
    for (low, high), width in ((simultaneous, 1.3), ((c.low, c.high), 3.4)):
        if is_number(low) and is_number(high):
            sheet.line(axes, scaled(metric, (low, high)), (at, at), tone, linewidth=width)
    verdict = (_TIMES if c.against == INTERACTION else {}).get(c.verdict, c.verdict)
    label = verdict if c.verdict in _LOOKS else "any other verdict"
    titles = [f"{c.name}: {words}, {c.verdict}"]
    place = scaled(metric, [c.difference])
    style: dict[str, Any] = {"label": label, "gid": titles}
    sheet.dots(axes, place, [at], tone, marker=shape, markersize=9, **style)
    places = scaled(metric, c.differences)
    titles = [difference_text(metric, value) for value in c.differences]
    label = "one seed" if act.plan.folds == (None,) else "one fold"
    heights = [at + 9] * len(places)
    style = {"label": label, "gid": titles, "alpha": 0.5}
    sheet.dots(axes, places, heights, tone, markersize=4.8, **style)
    return at + (36 if sheet.narrow else 30)


def seeds(act: ActResult) -> Figure | None:
    """Draw every run's score as a dot, with the arm's mean and interval; None without scores."""
    arms = [arm for arm in act.arms if arm.scored]
    if not arms:
        return None
    metric = act.metric
    scores = {
        arm.label: [run.score for run in arm.scored if run.score is not None] for arm in arms
    }

    def draw(sheet: Sheet) -> None:
        axes, y = sheet.rows(right=20), sheet.y + 10
        for arm in arms:
            at = sheet.row_name(y, arm.label)
            tone = "good" if arm.best else "neutral"
            summary = arm.summary
            if summary and summary.interval:
                ends = scaled(metric, (summary.interval.low, summary.interval.high))
                sheet.line(axes, ends, (at, at), tone, linewidth=3.4, alpha=0.4)
            if summary and summary.mean is not None:
                middle = scaled(metric, [summary.mean]) * 2
                sheet.line(axes, middle, (at - 8, at + 8), tone, linewidth=3.4)
            titles = [
                f"{arm.label}, {'' if run.fold is None else f'fold {run.fold}, '}seed {run.seed}: "
                f"{metric_text(metric, run.score)}{unit(metric)}"
                for run in arm.scored
            ]
            places = scaled(metric, scores[arm.label])
            sheet.dots(axes, places, [at] * len(places), tone, markersize=7, alpha=0.5, gid=titles)
            y = at + (26 if sheet.narrow else 30)
        sheet.end_rows(axes, y - 12, score_axis(metric))

    listed = "; ".join(
        f"{label}: " + ", ".join(metric_text(metric, score) for score in values)
        for label, values in scores.items()
    )
    caption = "A dot is one run; the tick is the arm's mean, the line its interval."
    return Figure("Every seed", caption, f"{metric_name(metric)} of every run. {listed}", draw)


def interaction_slopes(act: ActResult) -> Figure | None:
    """Draw the four means behind each interaction; None where the act has none."""
    metric = act.metric
    means = {arm.label: arm.summary.mean for arm in act.arms if arm.summary}
    quads: list[tuple[Comparison, list[float]]] = []
    for c in act.comparisons:
        if c.against == INTERACTION and len(c.plus) == len(c.minus) == 2:
            four = [means.get(label) for label in (c.plus[1], c.minus[1], c.minus[0], c.plus[0])]
            numbers = [mean for mean in four if mean is not None]
            quads += [(c, numbers)] if len(numbers) == 4 else []
    if not quads:
        return None
    every = scaled(metric, [mean for _, four in quads for mean in four])
    room = 0.12 * (max(every) - min(every)) or 1.0

    def draw(sheet: Sheet) -> None:
        columns = 1 if sheet.narrow else 2
        width, top = sheet.width / columns, sheet.y
        for index, (c, four) in enumerate(quads):
            left, y = (index % columns) * width, top + (index // columns) * 230
            sheet.text(left, y + 12, sheet.fitted(c.name, width - 10), fontweight="bold")
            axes = sheet.axes(left + 44, y + 30, width - 130, 130)
            axes.set(xlim=(-0.15, 1.15), ylim=(min(every) - room, max(every) + room))
            axes.set_xticks((0, 1), ("without", "with"))
            for ends, tone, words in (
                (four[:2], "neutral", "without"),
                (four[2:], "good", "with"),
            ):
                heights = scaled(metric, ends)
                sheet.line(axes, (0, 1), heights, tone, linewidth=2.4, marker="o", markersize=8)
                axes.text(
                    1.15, heights[1], words, fontsize=SMALL, color=LIGHT["muted"], va="center"
                )
            below = f"across: {c.minus[1]}; lines: {c.minus[0]}"
            sheet.small(left, y + 200, sheet.fitted(below, width - 8))
            sheet.y = y + 222

    listed = "; ".join(
        f"{c.name}: baseline {metric_text(metric, n)}, {c.minus[1]} {metric_text(metric, b)}, "
        f"{c.minus[0]} {metric_text(metric, a)}, both {metric_text(metric, ab)}"
        for c, (n, b, a, ab) in quads
    )
    caption = (
        "Means over the seeds. Parallel lines: the two parts add up, there is no interaction."
    )
    return Figure("Two by two", caption, f"Means behind the interactions. {listed}", draw)
