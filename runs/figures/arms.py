"""The figures of an act: differences with their intervals, seeds, interactions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from attnsearch.runs.figures.svg import NARROW, WIDE, Canvas, Scale, shortened, text_width
from attnsearch.runs.results import (
    ActResult,
    ArmResult,
    difference_text,
    factor,
    interval_text,
    metric_text,
    percent,
    points,
    unit,
)
from attnsearch.runs.statistics import Comparison
from attnsearch.spaces.file import is_share, metric_name

STYLES = {"better": ("good", "d"), "worse": ("bad", "s")}
"""Verdict -> colour class and shape; all other verdicts are neutral circles."""


@dataclass(frozen=True)
class Figure:
    """A figure of the page.

    Attributes:
        title: Above it.
        caption: Below it: how to read it.
        drawings: The wide and the narrow drawing.
    """

    title: str
    caption: str
    drawings: Markup


def drawn(title: str, caption: str, draw: Callable[[float], Canvas]) -> Figure:
    """Return a figure from a function that draws it for a width."""
    both = Markup("").join(draw(width).markup() for width in (WIDE, NARROW))
    return Figure(title, caption, both)


def look_of(comparison: Comparison) -> tuple[str, str]:
    """Return colour class and shape of a comparison."""
    return STYLES.get(comparison.verdict, ("neutral", "o"))


def forest(act: ActResult, *, interactions: bool = False) -> Figure | None:
    """Return every difference with its two intervals and its seeds; None where there is none.

    Args:
        act: A measured act.
        interactions: Draw the interactions; else the differences of two arms.
    """
    shown = {
        family: [
            c
            for c in members
            if (c.against == "interaction") == interactions and c.difference is not None
        ]
        for family, members in act.families().items()
    }
    shown = {family: members for family, members in shown.items() if members}
    if not shown:
        return None
    metric, plan = act.metric, act.plan
    every = [c for members in shown.values() for c in members]
    label = "; ".join(
        f"{c.name}: {difference_text(metric, c.difference)}{points(metric)} "
        f"{interval_text(metric, c.low, c.high)}, {c.verdict}"
        for c in every
    )
    better = "right" if plan.direction == "max" else "left"
    axis = f"Difference in {metric_name(metric)}"
    axis += " (percentage points)" if is_share(metric) else ""

    def draw(width: float) -> Canvas:
        canvas = Canvas(width, f"Differences of {metric_name(metric)}. {label}")
        left, right = (8.0, width - 8) if canvas.narrow else (width * 0.34, width - 150)
        scale = Scale(_reach(every, metric, plan.margin), left, right)
        y = 16.0
        tops = y
        marks: list[Callable[[], None]] = []
        for family, members in shown.items():
            canvas.text(0, y, family[:1].upper() + family[1:], "head")
            y += 24 if canvas.narrow else 26
            for c in members:
                y = _forest_row(canvas, marks, c, metric, scale, y)
            y += 10
        bottom = y - 8
        if plan.margin:
            edge = factor(metric) * plan.margin
            x = scale(-edge)
            canvas.rect(x, tops + 6, scale(edge) - x, bottom - tops - 6, "band")
        for tick, words in scale.labels():
            canvas.line(scale(tick), tops + 6, scale(tick), bottom, "grid")
            canvas.text(scale(tick), bottom + 15, words, "small", anchor="middle")
        canvas.line(scale(0), tops + 6, scale(0), bottom, "axis")
        for mark in marks:
            mark()
        canvas.text((left + right) / 2, bottom + 32, axis, "small", anchor="middle")
        y = canvas.legend(
            bottom + 58,
            [
                ("d", "good", "more than the sum" if interactions else "better"),
                ("s", "bad", "less than the sum" if interactions else "worse"),
                ("o", "neutral", "any other verdict"),
                ("o", "seed neutral", "one seed" if plan.folds == (None,) else "one fold"),
            ],
        )
        canvas.height = y
        return canvas

    level = percent(1 - plan.alpha)
    caption = (
        f"Thick line: {level} interval, not adjusted. Thin line: simultaneous over the family "
        f"(Bonferroni). {better.capitalize()} of zero is better."
    )
    if plan.margin:
        edge = metric_text(metric, plan.margin)
        caption += f" Band: the equivalence margin of ±{edge}{points(metric)}."
    title = "Interactions: (AB - A) - (B - nothing)" if interactions else "Differences"
    return drawn(title, caption, draw)


def _reach(every: Sequence[Comparison], metric: str, margin: float | None) -> list[float]:
    """Return all values that a forest plot must hold, as shown."""
    found = [0.0]
    for c in every:
        ends = (c.difference, c.low, c.high, c.simultaneous_low, c.simultaneous_high)
        found += [factor(metric) * v for v in (*ends, *c.differences) if v is not None and v == v]
    if margin:
        found += [factor(metric) * margin, -factor(metric) * margin]
    return found


def _forest_row(
    canvas: Canvas,
    marks: list[Callable[[], None]],
    c: Comparison,
    metric: str,
    scale: Scale,
    y: float,
) -> float:
    """Write the row of a comparison; what it draws over the grid is put off in `marks`."""
    style, shape = look_of(c)
    words = f"{difference_text(metric, c.difference)} {interval_text(metric, c.low, c.high)}"
    room = canvas.width * 0.34 - 12
    if canvas.narrow:
        room = canvas.width - text_width(words) - 12
    line, at = (y, y + 16) if canvas.narrow else (y + 4, y)

    def mark() -> None:
        canvas.text(0, line, shortened(c.name, room), "halo")
        canvas.text(canvas.width, line, words, "small halo", anchor="end")
        times = factor(metric)
        for low, high, kind in (
            (c.simultaneous_low, c.simultaneous_high, "thin"),
            (c.low, c.high, "thick"),
        ):
            if low is not None and high is not None and low == low:
                canvas.line(scale(times * low), at, scale(times * high), at, f"{kind} {style}")
        for value in c.differences:
            canvas.dot(
                scale(times * value),
                at + 9,
                f"seed {style}",
                size=2.4,
                title=f"{difference_text(metric, value)}",
            )
        assert c.difference is not None, "only those are drawn"
        title = f"{c.name}: {words}, {c.verdict}"
        canvas.dot(scale(times * c.difference), at, style, size=5, shape=shape, title=title)

    marks.append(mark)
    return at + (36 if canvas.narrow else 30)


def seeds(act: ActResult) -> Figure | None:
    """Return every run's score as a dot, with the arm's mean and interval; None without scores."""
    arms = [arm for arm in act.arms if arm.scored]
    if not arms:
        return None
    metric, times = act.metric, factor(act.metric)
    label = "; ".join(
        f"{arm.label}: " + ", ".join(metric_text(metric, run.score) for run in arm.scored)
        for arm in arms
    )

    def draw(width: float) -> Canvas:
        canvas = Canvas(width, f"{metric_name(metric)} of every run. {label}")
        left, right = (8.0, width - 8) if canvas.narrow else (width * 0.34, width - 20)
        values = [times * run.score for arm in arms for run in arm.scored if run.score is not None]
        for arm in arms:
            interval = arm.summary.interval if arm.summary else None
            if interval is not None:
                values += [times * interval.low, times * interval.high]
        scale = Scale(values, left, right)
        step, y = (42, 14.0) if canvas.narrow else (30, 16.0)
        bottom = y + step * len(arms) - (2 if canvas.narrow else 10)
        for tick, words in scale.labels():
            canvas.line(scale(tick), 0, scale(tick), bottom, "grid")
            canvas.text(scale(tick), bottom + 15, words, "small", anchor="middle")
        for arm in arms:
            y = _seed_row(canvas, arm, metric, scale, y) + step
        axis = metric_name(metric) + (" (%)" if is_share(metric) else "")
        canvas.text((left + right) / 2, bottom + 32, axis, "small", anchor="middle")
        canvas.height = bottom + 40
        return canvas

    caption = "A dot is one run; the tick is the arm's mean, the line its interval."
    return drawn("Every seed", caption, draw)


def _seed_row(canvas: Canvas, arm: ArmResult, metric: str, scale: Scale, y: float) -> float:
    times = factor(metric)
    room = canvas.width - 8 if canvas.narrow else canvas.width * 0.34 - 12
    line, at = (y, y + 14) if canvas.narrow else (y + 4, y)
    canvas.text(0, line, shortened(arm.label, room), "halo")
    style = "good" if arm.best else "neutral"
    summary = arm.summary
    if summary is not None and summary.interval is not None:
        low, high = scale(times * summary.interval.low), scale(times * summary.interval.high)
        canvas.line(low, at, high, at, f"thick pale {style}")
    if summary is not None and summary.mean is not None:
        x = scale(times * summary.mean)
        canvas.line(x, at - 8, x, at + 8, f"thick {style}")
    for run in arm.scored:
        assert run.score is not None, "`scored` has one"
        fold = "" if run.fold is None else f"fold {run.fold}, "
        title = (
            f"{arm.label}, {fold}seed {run.seed}: {metric_text(metric, run.score)}{unit(metric)}"
        )
        canvas.dot(scale(times * run.score), at, f"seed {style}", title=title)
    return y


def interaction_slopes(act: ActResult) -> Figure | None:
    """Return the four means behind each interaction; None where the act has none."""
    found = [c for c in act.comparisons if c.against == "interaction" and len(c.minus) == 2]
    means = {arm.label: arm.summary.mean for arm in act.arms if arm.summary}
    quads = [
        (c, [means.get(label) for label in (c.plus[1], c.minus[1], c.minus[0], c.plus[0])])
        for c in found
        if len(c.plus) == 2
    ]
    drawable = [(c, [v for v in four if v is not None]) for c, four in quads]
    drawable = [(c, four) for c, four in drawable if len(four) == 4]
    if not drawable:
        return None
    metric, times = act.metric, factor(act.metric)
    label = "; ".join(
        f"{c.name}: nothing {metric_text(metric, n)}, {c.minus[1]} {metric_text(metric, b)}, "
        f"{c.minus[0]} {metric_text(metric, a)}, both {metric_text(metric, ab)}"
        for c, (n, b, a, ab) in drawable
    )

    def draw(width: float) -> Canvas:
        canvas = Canvas(width, f"Means behind the interactions. {label}")
        columns = 1 if canvas.narrow else 2
        panel = width / columns
        every = [times * value for _, four in drawable for value in four]
        for index, (c, (n, b, a, ab)) in enumerate(drawable):
            x = (index % columns) * panel
            top = (index // columns) * 220.0
            scale = Scale(every, top + 160, top + 34, ticks=4, pad=0.12)
            canvas.text(x, top + 16, shortened(c.name, panel - 10), "head")
            first, second = x + 60, x + panel - 90
            for tick, words in scale.labels():
                canvas.line(x + 40, scale(tick), second + 20, scale(tick), "grid")
                canvas.text(x + 34, scale(tick) + 4, words, "small", anchor="end")
            for low, high, style, words in (
                (n, b, "neutral", "without"),
                (a, ab, "good", "with"),
            ):
                ends = [(first, scale(times * low)), (second, scale(times * high))]
                canvas.path(ends, f"curve {style}")
                for place in ends:
                    canvas.dot(*place, style, size=4)
                canvas.text(second + 10, ends[1][1] + 4, words, "small")
            canvas.text(first, top + 178, "without", "small", anchor="middle")
            canvas.text(second, top + 178, "with", "small", anchor="middle")
            below = f"across: {c.minus[1]}; lines: {c.minus[0]}"
            canvas.text(x, top + 196, shortened(below, panel - 8), "small")
        canvas.height = 220 * ((len(drawable) + columns - 1) // columns)
        return canvas

    caption = (
        "Means over the seeds. Parallel lines: the two parts add up, there is no interaction."
    )
    return drawn("Two by two", caption, draw)
