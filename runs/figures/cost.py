"""Score against cost, with the Pareto front: of arms, and of trials."""

from collections.abc import Sequence
from dataclasses import dataclass

from attnsearch.runs.figures.arms import Figure, drawn
from attnsearch.runs.figures.plots import pareto_front
from attnsearch.runs.figures.svg import Canvas, Scale, shortened, text_width
from attnsearch.runs.ledger import BASELINE_ROLES, State
from attnsearch.runs.results import (
    ActResult,
    StudyResult,
    cost_text,
    factor,
    is_number,
    metric_text,
    unit,
)
from attnsearch.runs.words import quantity
from attnsearch.spaces.file import COSTS, COUNTED, metric_name

_MOST_NAMES = 10


@dataclass(frozen=True)
class Point:
    """A network in a plot of score against cost.

    Attributes:
        name: The arm's or trial's.
        cost: On the horizontal axis.
        score: On the vertical axis, in metric units.
        low: Lower end of its interval, if it has one.
        high: Upper end.
        plain: Whether nothing is inserted.
    """

    name: str
    cost: float
    score: float
    low: float | None = None
    high: float | None = None
    plain: bool = False


def cost_of_arms(act: ActResult, cost: str) -> Figure | None:
    """Return mean score of each arm against a cost; None below two arms that have both."""
    found = []
    for arm in act.trained:
        value = arm.costs.get(cost)
        if arm.summary is None or arm.summary.mean is None or value is None:
            continue
        interval = arm.summary.interval
        low, high = (interval.low, interval.high) if interval else (None, None)
        plain = arm.arm.kind in ("baseline", "tuned_baseline")
        found.append(Point(arm.label, value, arm.summary.mean, low, high, plain))
    caption = (
        "Means with their intervals. Diamonds: the Pareto front, no arm is cheaper and better."
    )
    return _cost_figure(found, act.metric, act.plan.direction, cost, caption)


def cost_of_trials(result: StudyResult, cost: str) -> Figure | None:
    """Return score of each trial of the full schedule against a cost; None below two."""
    metric, goal = next(iter(result.study.objectives.items()))
    found = [
        Point(
            trial.name,
            trial.costs[cost],
            trial.metrics[metric],
            plain=trial.role in BASELINE_ROLES,
        )
        for trial in result.trials
        if trial.state == State.FINISHED
        and is_number(trial.metrics.get(metric))
        and is_number(trial.costs.get(cost))
    ]
    caption = "Trials of the full schedule, one seed each. Diamonds: the Pareto front."
    return _cost_figure(found, metric, goal, cost, caption)


def _cost_figure(
    found: Sequence[Point], metric: str, goal: str, cost: str, caption: str
) -> Figure | None:
    if len({point.cost for point in found}) < 2:
        return None
    times = factor(metric)
    front = pareto_front([(point.cost, point.score) for point in found], goal)
    title = f"{metric_name(metric)} against {_in_title(COSTS[cost].header)}"
    title = title[:1].upper() + title[1:]
    label = "; ".join(
        f"{p.name}: {cost_text(cost, p.cost)}, {metric_text(metric, p.score)}" for p in found
    )

    def draw(width: float) -> Canvas:
        canvas = Canvas(width, f"{title}. {label}")
        left, right, top, bottom = 56.0, width - 16.0, 12.0, 250.0 if canvas.narrow else 300.0
        across = Scale([p.cost for p in found], left, right, ticks=4 if canvas.narrow else 7)
        ends = [v for p in found for v in (p.score, p.low, p.high) if v is not None]
        up = Scale([times * value for value in ends], bottom, top)
        for tick, words in up.labels():
            canvas.line(left, up(tick), right, up(tick), "grid")
            canvas.text(left - 8, up(tick) + 4, words, "small", anchor="end")
        for tick in across.ticks:
            words = quantity(tick) if cost in COUNTED else f"{tick:g}"
            canvas.text(across(tick), bottom + 18, words, "small", anchor="middle")
        canvas.line(left, bottom, right, bottom, "axis")
        stairs: list[tuple[float, float]] = []
        for index in sorted(front, key=lambda i: found[i].cost):
            place = (across(found[index].cost), up(times * found[index].score))
            if stairs:
                stairs.append((place[0], stairs[-1][1]))
            stairs.append(place)
        if len(stairs) > 1:
            canvas.path(stairs, "front")
        for index, point in enumerate(found):
            x, y = across(point.cost), up(times * point.score)
            if point.low is not None and point.high is not None:
                canvas.line(x, up(times * point.low), x, up(times * point.high), "thin neutral")
            ahead = index in front
            shown = f"{metric_text(metric, point.score)}{unit(metric)}"
            words = f"{point.name}: {shown}, {cost_text(cost, point.cost)}"
            style, shape = ("good", "d") if ahead else ("neutral", "o")
            canvas.dot(x, y, style, size=5 if ahead else 4, shape=shape, title=words)
            if point.plain:
                canvas.dot(x, y, "ring", size=9, title=words)
        name_points(canvas, found, front, across, up, times)
        axis = f"{COSTS[cost].header} →"
        canvas.text(right, bottom + 36, axis, "small", anchor="end")
        canvas.height = canvas.legend(
            bottom + 58,
            [
                ("d", "good", "Pareto front"),
                ("o", "neutral", "dominated"),
                ("o", "ring", "nothing inserted"),
            ],
        )
        return canvas

    return drawn(title, caption, draw)


def name_points(
    canvas: Canvas,
    found: Sequence[Point],
    front: set[int],
    across: Scale,
    up: Scale,
    times: float,
) -> None:
    """Write names beside points, the front's first, where no other name stands yet."""
    taken: list[tuple[float, float, float, float]] = []
    order = sorted(range(len(found)), key=lambda i: (i not in front, found[i].cost))
    for index in order[:_MOST_NAMES]:
        point = found[index]
        words = shortened(point.name, canvas.width * 0.42)
        x, y, length = across(point.cost), up(times * point.score), text_width(words) * 0.92
        for left, top in (
            (x + 11, y - 14),
            (x - 11 - length, y - 14),
            (x + 11, y + 3),
            (x - 11 - length, y + 3),
            (x - length / 2, y - 24),
            (x - length / 2, y + 12),
        ):
            box = (left, top, left + length, top + 14)
            inside = left >= 52 and left + length <= canvas.width and top >= 0
            free = all(
                box[2] < a or c < box[0] or box[3] < b or d < box[1] for a, b, c, d in taken
            )
            if inside and free:
                taken.append(box)
                canvas.text(left, top + 11, words, "small halo")
                break


def _in_title(cost: str) -> str:
    """Return a cost's name within a sentence: words in lower case, units as they are."""
    return cost if cost.startswith("MACs") else cost[0].lower() + cost[1:]
