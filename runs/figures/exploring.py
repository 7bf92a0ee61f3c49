"""The figures of exploring: learning curves, importances, and how well it ranked."""

from collections.abc import Mapping, Sequence

from scipy.stats import spearmanr

from attnsearch.runs.figures.arms import Figure, drawn
from attnsearch.runs.figures.cost import Point, name_points
from attnsearch.runs.figures.svg import Canvas, Scale, shortened
from attnsearch.runs.ledger import BASELINE_ROLES, SEARCH_ROLES, State, TrialRow
from attnsearch.runs.results import (
    ActResult,
    StudyResult,
    best,
    factor,
    is_number,
    metric_text,
)
from attnsearch.runs.words import plural
from attnsearch.spaces.file import is_share, metric_name

_COLOURS = 6
_LONGEST_LEGEND = 44


def curves_of_arms(act: ActResult) -> Figure | None:
    """Draw the validation metric by epoch: an arm's mean, and its seeds dimmed; None without."""
    metric = f"val_{act.plan.metric}"
    lines = []
    for arm in act.trained:
        runs = [_curve(run.row, metric) for run in arm.runs if run.row is not None]
        runs = [curve for curve in runs if curve]
        if runs:
            lines.append((arm.label, runs))
    if not lines:
        return None
    label = "; ".join(
        f"{name}: " + ", ".join(metric_text(metric, curve[-1][1]) for curve in runs)
        for name, runs in lines
    )

    def draw(width: float) -> Canvas:
        canvas = Canvas(width, f"{metric_name(metric)} by epoch, last values. {label}")
        across, up, bottom = _axes(canvas, [c for _, runs in lines for c in runs], metric)
        for index, (_, runs) in enumerate(lines):
            for curve in runs:
                _draw_curve(canvas, curve, across, up, metric, f"curve dim c{index % _COLOURS}")
        for index, (name, runs) in enumerate(lines):
            middle = _mean_curve(runs)
            style = f"curve c{index % _COLOURS}"
            _draw_curve(canvas, middle, across, up, metric, style, title=name)
        entries = [
            ("-", f"curve c{index % _COLOURS}", name[:_LONGEST_LEGEND])
            for index, (name, _) in enumerate(lines)
        ]
        canvas.height = canvas.legend(bottom + 58, entries)
        return canvas

    caption = "Thick: the mean over an arm's runs. Thin: each run."
    return drawn("Learning curves", caption, draw)


def curves_of_trials(result: StudyResult) -> Figure | None:
    """Return first objective by epoch, of all trials; None where it is not measured by epoch."""
    metric, goal = next(iter(result.study.objectives.items()))
    every = [(trial, _curve(trial, metric)) for trial in result.trials]
    every = [(trial, curve) for trial, curve in every if curve]
    if not every:
        return None
    winner = best([trial for trial, _ in every], metric, goal)

    def style_of(trial: TrialRow) -> str:
        if winner is not None and trial.place_id == winner.place_id:
            return "curve good"
        if trial.role in BASELINE_ROLES:
            return "curve ink dashed"
        return "curve dim neutral" if trial.state == State.FINISHED else "curve dim bad"

    named = f"best: {winner.name}" if winner else "none of the full schedule"

    def draw(width: float) -> Canvas:
        canvas = Canvas(width, f"{metric_name(metric)} of {plural(len(every), 'trial')}; {named}")
        across, up, bottom = _axes(canvas, [curve for _, curve in every], metric)
        for trial, curve in sorted(every, key=lambda pair: "dim" not in style_of(pair[0])):
            _draw_curve(canvas, curve, across, up, metric, style_of(trial), title=trial.name)
        canvas.height = canvas.legend(
            bottom + 58,
            [
                ("-", "curve good", "best" if winner is None else winner.name[:_LONGEST_LEGEND]),
                ("-", "curve ink dashed", "plain network"),
                ("-", "curve neutral", "full schedule"),
                ("-", "curve bad", "stopped early"),
            ],
        )
        return canvas

    return drawn("Learning curves of the search", "One line a trial, one seed each.", draw)


Curve = list[tuple[int, float]]


def _curve(row: TrialRow, metric: str) -> Curve:
    return [
        (int(epoch["epoch"]), float(epoch[metric]))
        for epoch in row.epochs
        if is_number(epoch.get(metric))
    ]


def _mean_curve(runs: Sequence[Curve]) -> Curve:
    """Return the mean at every epoch that all runs have."""
    tables = [dict(curve) for curve in runs]
    shared = sorted(set.intersection(*(set(table) for table in tables)))
    return [(epoch, sum(table[epoch] for table in tables) / len(tables)) for epoch in shared]


def _axes(canvas: Canvas, curves: Sequence[Curve], metric: str) -> tuple[Scale, Scale, float]:
    left, right, top, bottom = 56.0, canvas.width - 12, 12.0, 230.0 if canvas.narrow else 280.0
    times = factor(metric)
    across = Scale([epoch for curve in curves for epoch, _ in curve], left, right, pad=0.02)
    up = Scale([times * value for curve in curves for _, value in curve], bottom, top)
    for tick, words in up.labels():
        canvas.line(left, up(tick), right, up(tick), "grid")
        canvas.text(left - 8, up(tick) + 4, words, "small", anchor="end")
    for tick in across.ticks:
        if tick == int(tick):
            canvas.text(across(tick), bottom + 18, f"{tick:.0f}", "small", anchor="middle")
    canvas.line(left, bottom, right, bottom, "axis")
    canvas.text(right, bottom + 36, "Epoch →", "small", anchor="end")
    axis = metric_name(metric) + (" (%)" if is_share(metric) else "")
    canvas.text(left, bottom + 36, f"↑ {axis}", "small")
    return across, up, bottom


def _draw_curve(
    canvas: Canvas,
    curve: Curve,
    across: Scale,
    up: Scale,
    metric: str,
    style: str,
    *,
    title: str = "",
) -> None:
    places = [(across(epoch), up(factor(metric) * value)) for epoch, value in curve]
    if len(places) == 1:
        canvas.dot(*places[0], f"dot-{style}", size=2.5, title=title)
    elif places:
        canvas.path(places, style, title=title)


def importances(found: Mapping[str, Mapping[str, float]]) -> list[Figure]:
    """Return how much each decision explains of each objective, a figure an objective."""
    figures = []
    for objective, shares in found.items():
        if not shares:
            continue
        ranked = sorted(shares.items(), key=lambda item: -item[1])
        label = "; ".join(f"{name} {share:.2f}" for name, share in ranked)

        def draw(
            width: float,
            ranked: list[tuple[str, float]] = ranked,
            text: str = f"Importances for {objective}. {label}",
        ) -> Canvas:
            canvas = Canvas(width, text)
            left = width * 0.44
            most = max(share for _, share in ranked) or 1.0
            for row, (name, share) in enumerate(ranked):
                y = 6 + 24 * row
                canvas.text(0, y + 12, shortened(name, left - 10))
                length = (width - left - 44) * share / most
                canvas.rect(
                    left, y, max(length, 1), 16, "fill neutral", title=f"{name}: {share:.3f}"
                )
                canvas.text(left + length + 6, y + 12, f"{share:.2f}", "small")
            canvas.height = 12 + 24 * len(ranked)
            return canvas

        title = f"Which decisions matter for {metric_name(objective)}"
        caption = "Share of the variance over the trials that a decision explains, estimated."
        figures.append(drawn(title, caption, draw))
    return figures


def rank_pairs(result: StudyResult) -> list[tuple[str, float, float]]:
    """Return candidates, their scores in exploring and their means on confirm's validation."""
    act = result.confirm
    if act is None:
        return []
    metric = f"val_{act.plan.metric}"
    by_number = {row.number: row for row in result.rows if row.role in SEARCH_ROLES}
    pairs = []
    for label, number in result.explored.items():
        trial = by_number.get(number)
        mean = act.find(label).validation
        if trial is not None and mean is not None and is_number(trial.metrics.get(metric)):
            pairs.append((label, float(trial.metrics[metric]), mean))
    return pairs


def rank_correlation(result: StudyResult) -> float | None:
    """Return spearman's correlation of exploring with confirming; None below three candidates."""
    pairs = rank_pairs(result)
    if len(pairs) < 3:
        return None
    value = float(spearmanr([a for _, a, _ in pairs], [b for _, _, b in pairs]).statistic)
    return None if value != value else value


def ranks(result: StudyResult) -> Figure | None:
    """Return exploring's score against the confirmation's mean; None below two candidates."""
    pairs = rank_pairs(result)
    act = result.confirm
    if act is None or len(pairs) < 2:
        return None
    metric = f"val_{act.plan.metric}"
    times = factor(metric)
    rho = rank_correlation(result)
    words = "too few for a correlation" if rho is None else f"Spearman's rho {rho:.2f}"
    label = "; ".join(
        f"{name}: {metric_text(metric, a)} then {metric_text(metric, b)}" for name, a, b in pairs
    )

    def draw(width: float) -> Canvas:
        canvas = Canvas(width, f"Exploring against confirming, {words}. {label}")
        left, right, top, bottom = 56.0, width - 16, 12.0, 250.0
        across = Scale([times * a for _, a, _ in pairs], left, right, pad=0.12)
        up = Scale([times * b for _, _, b in pairs], bottom, top, pad=0.12)
        for tick, text in up.labels():
            canvas.line(left, up(tick), right, up(tick), "grid")
            canvas.text(left - 8, up(tick) + 4, text, "small", anchor="end")
        for tick, text in across.labels():
            canvas.text(across(tick), bottom + 18, text, "small", anchor="middle")
        canvas.line(left, bottom, right, bottom, "axis")
        found = [Point(name, times * a, times * b) for name, a, b in pairs]
        for point in found:
            canvas.dot(across(point.cost), up(point.score), "neutral", size=5, title=point.name)
        name_points(canvas, found, set(), across, up, 1.0)
        canvas.text(right, bottom + 36, "in exploring, one seed →", "small", anchor="end")
        canvas.text(left, bottom + 54, "↑ in confirming, mean of fresh seeds", "small")
        canvas.height = bottom + 62
        return canvas

    caption = f"{metric_name(metric).capitalize()} of {plural(len(pairs), 'candidate')}: {words}."
    return drawn("Did exploring rank them right?", caption, draw)
