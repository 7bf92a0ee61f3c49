"""The figures of exploring: objectives over the trials, importances, how well it ranked."""

from collections.abc import Mapping, Sequence

import scipy

from attnsearch.runs.figures.cost import cost_of_trials
from attnsearch.runs.figures.curves import curves_of_trials
from attnsearch.runs.figures.drawing import (
    HOLLOW,
    SERIES,
    Figure,
    Sheet,
    scaled,
    score_axis,
)
from attnsearch.runs.ledger import (
    BASELINE_ROLES,
    EXPLORING_ROLES,
    SEARCH_ROLES,
    State,
    StudyRow,
    TrialRow,
)
from attnsearch.runs.results import (
    MeasuredStudy,
    best,
    is_number,
    metric_text,
    unit,
)
from attnsearch.runs.words import plural
from attnsearch.spaces.keys import COUNTED, metric_name


def study_plots(study: StudyRow, trials: Sequence[TrialRow]) -> dict[str, Figure]:
    """Return every figure of exploring that a study has data for.

    Returns:
        Name -> figure: ``objective_<metric>``, ``importances``, ``cost_params`` and
        ``cost_macs`` (of the first objective), ``curves``.
    """
    searched = [trial for trial in trials if trial.role in EXPLORING_ROLES]
    metric, goal = next(iter(study.objectives.items()))
    figures = {
        **{
            f"objective_{name}": objective(searched, name, aim)
            for name, aim in study.objectives.items()
        },
        "importances": importances(study.importances or {}),
        **{f"cost_{c}": cost_of_trials(searched, metric, goal, c) for c in COUNTED},
        "curves": curves_of_trials(searched, metric, goal),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def objective(trials: Sequence[TrialRow], metric: str, goal: str) -> Figure | None:
    """Draw an objective over the trials, with the best so far; None where no trial has it.

    Args:
        trials: The runs of the search, and the baseline's.
        metric: The objective.
        goal: ``max`` or ``min``.
    """
    searched = [trial for trial in trials if trial.role in SEARCH_ROLES]
    scores = {
        trial.place_id: score for trial in trials if is_number(score := _score(trial, metric))
    }
    if not scores:
        return None

    def of(state: State) -> list[TrialRow]:
        return sorted((t for t in searched if t.state == state), key=lambda t: t.number)

    def draw(sheet: Sheet) -> None:
        axes = sheet.chart("Trial", score_axis(metric), whole=True)
        for state, label, tone, look in (
            (State.FINISHED, "full schedule", "good", {"markersize": 8}),
            (State.STOPPED, "stopped early (value then)", "neutral", HOLLOW),
        ):
            shown = [trial for trial in of(state) if trial.place_id in scores]
            values = scaled(metric, (scores[trial.place_id] for trial in shown))
            titles = [f"{t.shown}: {metric_text(metric, scores[t.place_id])}" for t in shown]
            numbers = [trial.number for trial in shown]
            sheet.dots(axes, numbers, values, tone, label=label, gid=titles, **look)
            kept = [trial for trial in shown if not trial.over]
            if state == State.FINISHED and kept:
                choose = max if goal == "max" else min
                values = scaled(metric, (scores[trial.place_id] for trial in kept))
                running = [choose(values[: index + 1]) for index, _ in enumerate(values)]
                last = max(trial.number for trial in searched)
                ends = [*(trial.number for trial in kept), last + 0.5]
                running.append(running[-1])
                style = {"label": "best so far", "linewidth": 2, "drawstyle": "steps-post"}
                sheet.line(axes, ends, running, "bad", **style)
        for state, label, tone, shape in (
            (State.FAILED, "failed", "bad", "x"),
            (State.INFEASIBLE, "over a limit, not trained", "green", "v"),
        ):
            numbers = [trial.number for trial in of(state)]
            style = {"label": label, "marker": shape, "transform": axes.get_xaxis_transform()}
            heights = [0.02] * len(numbers)
            sheet.dots(axes, numbers, heights, tone, markeredgewidth=1.5, **style)
        for trial in trials:
            if trial.role in BASELINE_ROLES and trial.state == State.FINISHED:
                (value,) = scaled(metric, [scores[trial.place_id]])
                style = {"label": "baseline", "linestyle": "--"}
                across = axes.get_yaxis_transform()
                sheet.line(axes, (0, 1), (value, value), "ink", transform=across, **style)
                break

    winner = best(trials, metric, goal)
    title = f"{metric_name(metric)} over the trials"
    title = title[:1].upper() + title[1:]
    named = "none of the full schedule yet"
    if winner is not None:
        named = (
            f"best: {winner.shown}, {metric_text(metric, winner.metrics[metric])}{unit(metric)}"
        )
    return Figure(title, named, f"{title}; {named}", draw)


def _score(trial: TrialRow, metric: str) -> object:
    """Return a run's score, else its last epoch's metric."""
    last = trial.epochs[-1] if trial.epochs else {}
    return trial.metrics.get(metric, last.get(metric))


def importances(judged: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure | None:
    """Draw how much each decision explains of each objective; None where none does.

    Args:
        judged: Objective -> decision -> its `share` in 0..1 and its interval, `low` and `high`.
    """
    judged = {objective: by_decision for objective, by_decision in judged.items() if by_decision}
    if not judged:
        return None
    most: dict[str, float] = {}
    for by_decision in judged.values():
        for name, each in by_decision.items():
            most[name] = max(each["share"], most.get(name, 0.0))
    widest = max(each["high"] for by_name in judged.values() for each in by_name.values())
    alone = len(judged) == 1

    def draw(sheet: Sheet) -> None:
        left, height = sheet.width * 0.44, 20 if alone else 12
        scale = (sheet.width - left - 44) / widest
        for name in sorted(most, key=lambda name: -most[name]):
            sheet.text(0, sheet.y + height * len(judged) / 2, sheet.fitted(name, left - 10))
            for tone, (goal, by_decision) in zip(SERIES, judged.items(), strict=False):
                each, label = by_decision.get(name), "" if alone else metric_name(goal)
                if each is not None:
                    tone, middle = "neutral" if alone else tone, sheet.y + (height - 3) / 2
                    style = {"gid": f"{name}: {each['share']:.3f}", "label": label}
                    sheet.rect(left, sheet.y, each["share"] * scale, height - 3, tone, **style)
                    start, end = left + each["low"] * scale, left + each["high"] * scale
                    sheet.rect(start, middle - 0.5, end - start, 1, "ink")
                    sheet.small(end + 6, sheet.y + height / 2 - 1.5, f"{each['share']:.2f}")
                sheet.y += height
            sheet.y += 4

    words = " ".join(
        f"Importances for {goal}. "
        + "; ".join(f"{name} {each['share']:.2f}" for name, each in by_decision.items())
        for goal, by_decision in judged.items()
    )
    title = "Which decisions matter"
    title += f" for {metric_name(next(iter(judged)))}" if alone else ""
    caption = (
        "Share of the variance over the trials that goes with a decision, with its 95 % interval; "
        "those that matter more than chance."
    )
    return Figure(title, caption, words, draw)


def rank_pairs(result: MeasuredStudy) -> list[tuple[str, float, float]]:
    """Return candidates, their scores in exploring and their means on confirm's validation."""
    act = result.confirm
    if act is None:
        return []
    metric = f"val_{act.plan.metric}"
    trials = {row.number: row for row in result.rows if row.role in SEARCH_ROLES}
    pairs = []
    for label, number in result.explored.items():
        score = trials[number].metrics.get(metric) if number in trials else None
        mean = act.find(label).validation
        if mean is not None and is_number(score):
            pairs.append((label, float(score), mean))
    return pairs


def rank_correlation(pairs: Sequence[tuple[str, float, float]]) -> float | None:
    """Return Spearman's correlation of exploring with confirming; None below three candidates."""
    if len(pairs) < 3:
        return None
    value = float(
        scipy.stats.spearmanr([a for _, a, _ in pairs], [b for _, _, b in pairs]).statistic
    )
    return value if is_number(value) else None


def ranks(result: MeasuredStudy) -> Figure | None:
    """Draw exploring's scores against the confirmation's means; None below two candidates."""
    pairs, act = rank_pairs(result), result.confirm
    if act is None or len(pairs) < 2:
        return None
    metric = f"val_{act.plan.metric}"

    def draw(sheet: Sheet) -> None:
        axes = sheet.chart("in exploring, one seed", "in confirming, mean of fresh seeds")
        axes.margins(0.12)
        names = [name for name, _, _ in pairs]
        xs, ys = (
            scaled(metric, scores)
            for scores in ([a for _, a, _ in pairs], [b for _, _, b in pairs])
        )
        sheet.dots(axes, xs, ys, "neutral", markersize=10, gid=names)
        sheet.name_points(axes, list(zip(names, xs, ys, strict=True)), len(names))

    rho = rank_correlation(pairs)
    verdict = "too few for a correlation" if rho is None else f"Spearman's rho {rho:.2f}"
    listed = "; ".join(
        f"{name}: {metric_text(metric, a)} then {metric_text(metric, b)}" for name, a, b in pairs
    )
    words = f"Exploring against confirming, {verdict}. {listed}"
    name = metric_name(metric).capitalize()
    caption = f"{name} of {plural(len(pairs), 'candidate')}: {verdict}."
    return Figure("Did exploring rank them right?", caption, words, draw)
