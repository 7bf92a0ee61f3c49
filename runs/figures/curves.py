"""Learning curves: of arms, and of trials."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from attnsearch.runs.figures.drawing import SERIES, Figure, Sheet, scaled, score_axis
from attnsearch.runs.ledger import BASELINE_ROLES, State, TrialRow
from attnsearch.runs.results import (
    ActResult,
    best,
    is_number,
    metric_text,
)
from attnsearch.runs.words import plural
from attnsearch.spaces.keys import metric_name

Curve = dict[int, float]
"""Epoch -> value."""

CURVES = 300  # of trials, beside the best and the baseline, that one picture can show

_KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "best": ("", "good", {"linewidth": 2.4}),
    "baseline": ("baseline", "ink", {"linewidth": 1.6, "linestyle": "--"}),
    State.FINISHED: ("full schedule", "neutral", {"linewidth": 1.2, "alpha": 0.75}),
    State.STOPPED: ("stopped early", "bad", {"linewidth": 1.0, "alpha": 0.45}),
    "other": ("did not end", "pink", {"linewidth": 1.0, "alpha": 0.6, "linestyle": ":"}),
}


def curves_of_arms(act: ActResult) -> Figure | None:
    """Draw the validation metric by epoch: an arm's mean, and its seeds dimmed; None without."""
    metric = f"val_{act.plan.metric}"
    lines = {
        arm.label: [
            c for run in arm.runs if run.row is not None and (c := _curve(run.row, metric))
        ]
        for arm in act.trained
    }
    lines = {name: curves for name, curves in lines.items() if curves}
    if not lines:
        return None

    def draw(sheet: Sheet) -> None:
        axes = sheet.chart("Epoch", score_axis(metric), whole=True)
        tones = [SERIES[index % len(SERIES)] for index, _ in enumerate(lines)]
        for tone, curves in zip(tones, lines.values(), strict=True):
            for curve in curves:
                _line(sheet, axes, curve, metric, tone, linewidth=1.0, alpha=0.45)
        for tone, (name, curves) in zip(tones, lines.items(), strict=True):
            shared = sorted(set.intersection(*(set(curve) for curve in curves)))
            mean = {epoch: sum(c[epoch] for c in curves) / len(curves) for epoch in shared}
            _line(sheet, axes, mean, metric, tone, linewidth=2.4, label=name, gid=name)

    listed = "; ".join(
        f"{name}: " + ", ".join(metric_text(metric, _last(curve)) for curve in curves)
        for name, curves in lines.items()
    )
    words = f"{metric_name(metric)} by epoch, last values. {listed}"
    caption = "Thick: the mean over an arm's runs. Thin: each run."
    return Figure("Learning curves", caption, words, draw)


def curves_of_trials(trials: Sequence[TrialRow], metric: str, goal: str) -> Figure | None:
    """Draw a metric by epoch, of all trials; None where it is not measured by epoch."""
    lines = [(trial, curve) for trial in trials if (curve := _curve(trial, metric))]
    if not lines:
        return None
    winner = best([trial for trial, _ in lines], metric, goal)
    every = -(-len(lines) // CURVES)
    drawn = [
        line
        for place, line in enumerate(lines)
        if place % every == 0 or line[0] is winner or line[0].role in BASELINE_ROLES
    ]

    def kind(trial: TrialRow) -> str:
        if trial is winner:
            return "best"
        if trial.role in BASELINE_ROLES:
            return "baseline"
        return trial.state if trial.state in _KINDS else "other"

    def draw(sheet: Sheet) -> None:
        axes = sheet.chart("Epoch", score_axis(metric), whole=True)
        for name in reversed(_KINDS):
            for trial, curve in drawn:
                if kind(trial) == name:
                    label, tone, style = _KINDS[name]
                    words = {"label": label or trial.shown, "gid": trial.shown}
                    _line(sheet, axes, curve, metric, tone, **words, **style)

    named = f"best: {winner.shown}" if winner else "none of the full schedule"
    words = f"{metric_name(metric)} of {plural(len(lines), 'trial')}; {named}"
    caption = "One line a trial, one seed each."
    if every > 1:
        caption += f" {len(drawn):,} of them are drawn: the best, and one in {every}."
    return Figure("Learning curves of the search", caption, words, draw)


def _curve(row: TrialRow, metric: str) -> Curve:
    return {int(e["epoch"]): float(e[metric]) for e in row.epochs if is_number(e.get(metric))}


def _last(curve: Curve) -> float:
    return curve[max(curve)]


def _line(
    sheet: Sheet,
    axes: Axes,
    curve: Curve,
    metric: str,
    tone: str,
    **style: Any,
) -> None:
    """Draw a curve, a dot where it is one epoch long."""
    values = scaled(metric, curve.values())
    marker = {"marker": "o", "markersize": 5} if len(curve) == 1 else {}
    sheet.line(axes, list(curve), values, tone, **style, **marker)
