"""Score against cost, with the Pareto front: of arms, and of trials."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import FuncFormatter

from attnsearch.runs.figures.drawing import HOLLOW, Figure, Sheet, scaled, score_axis
from attnsearch.runs.ledger import BASELINE_ROLES, State, TrialRow
from attnsearch.runs.results import (
    ActResult,
    cost_text,
    is_number,
    metric_text,
    pareto_front,
    unit,
)
from attnsearch.spaces.keys import COSTS, metric_name

_MOST_NAMES = 10


@dataclass(frozen=True)
class Priced:
    """A network in a plot of score against cost.

    Attributes:
        name: The arm's or trial's.
        cost: On the horizontal axis.
        score: On the vertical axis, in metric units.
        interval: Lower and upper end of the score's interval, if it has one.
        baseline: Whether nothing is inserted.
    """

    name: str
    cost: float
    score: float
    interval: tuple[float, float] | None = None
    baseline: bool = False


def cost_of_arms(act: ActResult, cost: str) -> Figure | None:
    """Draw the mean score of each arm against a cost; None below two arms that have both."""
    networks = []
    for arm in act.trained:
        value, summary = arm.costs.get(cost), arm.summary
        if summary is None or summary.mean is None or value is None:
            continue
        interval = (summary.interval.low, summary.interval.high) if summary.interval else None
        baseline = arm.arm.kind in ("baseline", "tuned_baseline")
        networks.append(Priced(arm.label, value, summary.mean, interval, baseline))
    caption = (
        "Means with their intervals. Diamonds: the Pareto front, no arm is cheaper and better."
    )
    return _cost_figure(networks, act.metric, act.plan.direction, cost, caption)


def cost_of_trials(trials: Sequence[TrialRow], metric: str, goal: str, cost: str) -> Figure | None:
    """Draw the score of each trial of the full schedule against a cost; None below two."""
    networks = [
        Priced(t.shown, t.costs[cost], t.metrics[metric], baseline=t.role in BASELINE_ROLES)
        for t in trials
        if t.state == State.FINISHED
        and is_number(t.metrics.get(metric))
        and is_number(t.costs.get(cost))
    ]
    caption = "Trials of the full schedule, one seed each. Diamonds: the Pareto front."
    return _cost_figure(networks, metric, goal, cost, caption)


def _cost_figure(
    networks: Sequence[Priced], metric: str, goal: str, cost: str, caption: str
) -> Figure | None:
    if len({network.cost for network in networks}) < 2:
        return None
    values = {index: (network.cost, network.score) for index, network in enumerate(networks)}
    front = pareto_front(values, {cost: "min", metric: goal})
    order = sorted(range(len(networks)), key=lambda i: (i not in front, networks[i].cost))
    ordered = [networks[i] for i in order]

    def draw(sheet: Sheet) -> None:
        axes = sheet.chart(COSTS[cost].axis, score_axis(metric))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: cost_text(cost, value)))
        for network in ordered:
            if network.interval:
                sheet.line(axes, (network.cost,) * 2, scaled(metric, network.interval), "neutral")
        kinds = (
            (ordered[: len(front)], "Pareto front", "good", "D", 9.0, False),
            (ordered[len(front) :], "dominated", "neutral", "o", 8.0, False),
            ([n for n in ordered if n.baseline], "baseline", "ink", "o", 18.0, True),
        )
        for members, label, tone, shape, size, hollow in kinds:
            xs = [network.cost for network in members]
            ys = scaled(metric, (network.score for network in members))
            if label == "Pareto front":
                sheet.line(axes, xs, ys, tone, alpha=0.6, drawstyle="steps-post")
            titles = [
                f"{n.name}: {metric_text(metric, n.score)}{unit(metric)}, "
                f"{cost_text(cost, n.cost)}"
                for n in members
            ]
            style = {"marker": shape, "markersize": size, "label": label, "gid": titles}
            sheet.dots(axes, xs, ys, tone, **style, **(HOLLOW if hollow else {}))
        scores = scaled(metric, (network.score for network in ordered))
        places = [(n.name, n.cost, y) for n, y in zip(ordered, scores, strict=True)]
        sheet.name_points(axes, places, _MOST_NAMES)

    name = COSTS[cost].header
    name = name if name.startswith("MACs") else name[0].lower() + name[1:]
    title = f"{metric_name(metric)} against {name}"
    title = title[:1].upper() + title[1:]
    listed = "; ".join(
        f"{n.name}: {cost_text(cost, n.cost)}, {metric_text(metric, n.score)}" for n in networks
    )
    return Figure(title, caption, f"{title}. {listed}", draw)
