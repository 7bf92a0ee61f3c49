"""Plots of a study, drawn without pyplot: nothing global, so any thread may draw.

Colours are those of Okabe and Ito (2008), told apart by the colour-blind; what matters is also
told apart by shape.
"""

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from attnsearch.runs.ledger import (
    BASELINE_ROLES,
    EXPLORING_ROLES,
    SEARCH_ROLES,
    State,
    StudyRow,
    TrialRow,
)
from attnsearch.runs.results import best
from attnsearch.spaces.file import COSTS, COUNTED

BLUE, ORANGE, RED, GREEN = "#0072B2", "#E69F00", "#D55E00", "#009E73"
GREY, INK = "#9A9A9A", "#222222"

_DPI = 150
_MOST_LABELS = 8
_LONGEST_LABEL = 34


def study_plots(study: StudyRow, trials: Sequence[TrialRow]) -> dict[str, Figure]:
    """Draw every plot that a study has data for.

    Returns:
        Name -> figure: ``objective_<metric>``, ``importances``, ``cost_params`` and
        ``cost_macs`` (of the first objective), ``curves``.
    """
    figures: dict[str, Figure] = {}
    searched = [trial for trial in trials if trial.role in EXPLORING_ROLES]
    for metric, goal in study.objectives.items():
        if any(_score(trial, metric) is not None for trial in searched):
            figures[f"objective_{metric}"] = plot_objective(searched, metric, goal)
    metric, goal = next(iter(study.objectives.items()))
    if study.importances and any(study.importances.values()):
        figures["importances"] = plot_importances(study.importances)
    for cost in COUNTED:
        if any(cost in trial.costs and trial.state == State.FINISHED for trial in searched):
            figures[f"cost_{cost}"] = plot_cost(searched, metric, goal, cost)
    if any(metric in epoch for trial in searched for epoch in trial.epochs):
        figures["curves"] = plot_curves(searched, metric, goal)
    return figures


def plot_objective(trials: Sequence[TrialRow], metric: str, goal: str) -> Figure:
    """Draw an objective over the trials, with the best so far.

    Args:
        trials: The runs of the search, and the plain network's.
        metric: The objective.
        goal: ``max`` or ``min``.
    """
    figure, axes = _figure(8, 4.5)
    plain = _plain(_scored(trials, metric, State.FINISHED))
    trials = [trial for trial in trials if trial.role in SEARCH_ROLES]
    done = _scored(trials, metric, State.FINISHED)
    stopped = _scored(trials, metric, State.STOPPED)
    axes.scatter(
        [trial.number for trial, _ in stopped],
        [value for _, value in stopped],
        s=34,
        facecolors="none",
        edgecolors=GREY,
        linewidths=1.3,
        label="stopped early (value then)",
        zorder=2,
    )
    axes.scatter(
        [trial.number for trial, _ in done],
        [value for _, value in done],
        s=42,
        color=BLUE,
        label="full schedule",
        zorder=3,
    )
    if plain is not None:
        axes.axhline(
            plain[1], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="plain network"
        )
    if done:
        choose: Callable[[float, float], float] = max if goal == "max" else min
        numbers: list[float] = []
        running: list[float] = []
        for trial, value in sorted(done, key=lambda pair: pair[0].number):
            numbers.append(trial.number)
            running.append(choose(running[-1], value) if running else value)
        numbers.append(max(trial.number for trial in trials) + 0.5)
        running.append(running[-1])
        axes.step(numbers, running, where="post", color=ORANGE, linewidth=2, label="best so far")
    for state, marker, colour in ((State.FAILED, "x", RED), (State.INFEASIBLE, "v", GREEN)):
        numbers = [trial.number for trial in trials if trial.state == state]
        if numbers:
            axes.plot(
                numbers,
                [0.02] * len(numbers),
                marker,
                color=colour,
                markersize=7,
                transform=axes.get_xaxis_transform(),
                label="failed" if state == State.FAILED else "over a limit, not trained",
                clip_on=False,
            )
    winner = best(trials, metric, goal)
    if winner is not None:
        value = winner.metrics[metric]
        last = max(trial.number for trial in trials)
        _label(axes, f"{value:.4g}  {winner.name[4:]}", winner.number, value, 0, last)
    _title(axes, f"{_words(metric)} over the trials")
    axes.set(xlabel="Trial", ylabel=_words(metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.12)
    _legend(axes)
    return figure


def plot_importances(importances: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw how much each decision explains of each objective.

    Args:
        importances: Objective -> decision -> importance in 0..1.
    """
    totals: dict[str, float] = {}
    for shares in importances.values():
        for decision, share in shares.items():
            totals[decision] = max(totals.get(decision, 0.0), share)
    decisions = sorted(totals, key=lambda name: totals[name])
    objectives = [name for name, shares in importances.items() if shares]
    figure, axes = _figure(8, 1.6 + 0.34 * len(decisions) * max(1.0, len(objectives) * 0.7))
    height = 0.72 / len(objectives)
    for index, (objective, colour) in enumerate(
        zip(objectives, (BLUE, ORANGE, GREEN, RED, GREY), strict=False)
    ):
        offset = (len(objectives) / 2 - index - 0.5) * height
        bars = axes.barh(
            [row + offset for row in range(len(decisions))],
            [importances[objective].get(decision, 0.0) for decision in decisions],
            height=height * 0.92,
            color=colour,
            label=_words(objective),
        )
        axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=8, color=INK)
    axes.set_yticks(range(len(decisions)), [_short(name) for name in decisions])
    _title(axes, "Which decisions matter")
    axes.set_xlabel("Importance (share of the variance explained)")
    axes.set_xlim(0, max(0.05, max(totals.values())) * 1.12)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    _legend(axes)
    return figure


def plot_cost(trials: Sequence[TrialRow], metric: str, goal: str, cost: str) -> Figure:
    """Draw an objective against a cost, with the Pareto front: no run is both better and cheaper.

    Args:
        trials: The runs of the search, and the plain network's; those of the full schedule are
            drawn.
        metric: The objective.
        goal: ``max`` or ``min``.
        cost: A key of the runs' costs, ``params`` for instance.
    """
    figure, axes = _figure(9.5, 4.5)
    done = [(t, v) for t, v in _scored(trials, metric, State.FINISHED) if cost in t.costs]
    front = pareto_front([(trial.costs[cost], value) for trial, value in done], goal)
    on_front = sorted((done[index] for index in front), key=lambda pair: pair[0].costs[cost])
    kinds = (
        ("dominated", [p for i, p in enumerate(done) if i not in front], GREY, "o", 34),
        ("Pareto front", on_front, BLUE, "D", 48),
    )
    for label, pairs, colour, marker, size in kinds:
        if pairs:
            axes.scatter(
                [trial.costs[cost] for trial, _ in pairs],
                [value for _, value in pairs],
                s=size,
                color=colour,
                marker=marker,
                label=label,
                zorder=3,
            )
    axes.step(
        [trial.costs[cost] for trial, _ in on_front],
        [value for _, value in on_front],
        where="post",
        color=BLUE,
        linewidth=1.4,
        zorder=2,
    )
    plain = _plain(done)
    if plain is not None:
        axes.scatter(
            [plain[0].costs[cost]],
            [plain[1]],
            s=150,
            facecolors="none",
            edgecolors=INK,
            linewidths=1.3,
            label="plain network",
            zorder=4,
        )
    # Points of a front crowd: numbers beside them, names in the legend.
    for trial, value in on_front:
        axes.annotate(
            f"{trial.number}" if trial.arm is None else "",
            (trial.costs[cost], value),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=INK,
        )
    for trial, _ in on_front[-_MOST_LABELS:]:
        axes.plot([], [], " ", label=_short(trial.name))
    axes.margins(x=0.06, y=0.12)
    _title(axes, f"{_words(metric)} against cost")
    axes.set(xlabel=COSTS[cost].axis, ylabel=_words(metric))
    if cost in COUNTED:
        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def pareto_front(points: Sequence[tuple[float, float]], goal: str) -> set[int]:
    """Find the points that no other beats: cheaper and as good, or as cheap and better.

    Args:
        points: Pairs of cost (less is better) and score.
        goal: ``max`` or ``min``, for the score.

    Returns:
        Their indices; of equal points, all.
    """
    sign = -1.0 if goal == "max" else 1.0
    front: set[int] = set()
    for index, (cost, score) in enumerate(points):
        beaten = any(
            other_cost <= cost
            and sign * other_score <= sign * score
            and (other_cost, other_score) != (cost, score)
            for other_cost, other_score in points
        )
        if not beaten:
            front.add(index)
    return front


def plot_curves(trials: Sequence[TrialRow], metric: str, goal: str) -> Figure:
    """Draw the learning curves of all trials, those stopped early dimmed, the best on top.

    Args:
        trials: The runs of the search, and the plain network's.
        metric: A per-epoch metric.
        goal: ``max`` or ``min``.
    """
    figure, axes = _figure(8, 4.5)
    winner = best(trials, metric, goal)
    labelled: set[str] = set()
    ranks = {State.STOPPED: 0, State.FINISHED: 1}
    for trial in sorted(trials, key=lambda t: (t is winner, ranks.get(t.state, 0), t.number)):
        curve = [(epoch["epoch"], epoch[metric]) for epoch in trial.epochs if metric in epoch]
        if not curve:
            continue
        if trial is winner:
            label, colour, width, alpha, style = _short(trial.name), ORANGE, 2.4, 1.0, "-"
        elif trial.role in BASELINE_ROLES:
            label, colour, width, alpha, style = "plain network", INK, 1.6, 1.0, "--"
        elif trial.state == State.FINISHED:
            label, colour, width, alpha, style = "full schedule", BLUE, 1.2, 0.75, "-"
        elif trial.state == State.STOPPED:
            label, colour, width, alpha, style = "stopped early", GREY, 1.0, 0.55, "-"
        else:
            label, colour, width, alpha, style = "did not end", RED, 1.0, 0.6, ":"
        axes.plot(
            *zip(*curve, strict=True),
            style,
            color=colour,
            linewidth=width,
            alpha=alpha,
            marker="o",
            markersize=4 if trial is winner else 2.5,
            label=None if label in labelled else label,
        )
        labelled.add(label)
    _title(axes, f"{_words(metric)} by epoch")
    axes.set(xlabel="Epoch", ylabel=_words(metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure of a size in inches, with quiet axes."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
    return figure, axes


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)


def _label(axes: Axes, text: str, x: float, y: float, low: float, high: float) -> None:
    """Name a point on the side where there is room, readable over lines.

    Args:
        axes: Where.
        text: The name.
        x: Of the point.
        y: Of the point.
        low: The smallest x drawn.
        high: The largest x drawn.
    """
    left = x - low > 0.4 * (high - low)
    axes.annotate(
        _short(text),
        (x, y),
        xytext=(-6 if left else 6, 9),
        textcoords="offset points",
        ha="right" if left else "left",
        fontsize=8,
        color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
        zorder=5,
    )


def _legend(axes: Axes) -> None:
    """Put the legend under the axes, where it hides no data, if there is more than one entry."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        axes.figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=len(labels) if len(labels) <= 4 else (len(labels) + 1) // 2,
            frameon=False,
            fontsize=9,
        )


def _scored(trials: Sequence[TrialRow], metric: str, state: State) -> list[tuple[TrialRow, float]]:
    found = [(t, _score(t, metric)) for t in trials if t.state == state]
    return [(trial, value) for trial, value in found if value is not None]


def _plain(scored: Sequence[tuple[TrialRow, float]]) -> tuple[TrialRow, float] | None:
    """Return the plain network's run and value, if it was trained."""
    return next((pair for pair in scored if pair[0].role in BASELINE_ROLES), None)


def _score(trial: TrialRow, metric: str) -> float | None:
    """Return a run's score, else its last epoch's metric; None if it is no number."""
    last = trial.epochs[-1] if trial.epochs else {}
    value = trial.metrics.get(metric, last.get(metric))
    return value if isinstance(value, int | float) and value == value else None


def _words(name: str) -> str:
    """Return a metric's name in words: ``val_accuracy`` -> ``Validation accuracy``."""
    if name in COSTS:
        return COSTS[name].axis
    words = name.replace("val_", "validation ").replace("train_", "training ").replace("_", " ")
    return words[:1].upper() + words[1:]


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…"
