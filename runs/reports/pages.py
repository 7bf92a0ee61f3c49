"""What stands in a report, in its order: the sections that Markdown, LaTeX and HTML write."""

from collections.abc import Callable
from dataclasses import dataclass, field

from attnsearch.runs.figures import (
    Figure,
    cost_of_arms,
    cost_of_trials,
    curves_of_arms,
    curves_of_trials,
    forest,
    heatmap_of_arms,
    heatmap_of_trials,
    importances,
    interaction_slopes,
    rank_correlation,
    rank_pairs,
    ranks,
    seeds,
)
from attnsearch.runs.reports.analyses import analyses_table
from attnsearch.runs.reports.methods import protocol
from attnsearch.runs.reports.secondary import class_table, secondary_table
from attnsearch.runs.reports.sentences import verdict_sentences
from attnsearch.runs.reports.tables import (
    Table,
    act_key,
    act_title,
    arm_table,
    contrast_table,
    leaderboard_table,
    trouble_table,
)
from attnsearch.runs.results import ActResult, MeasuredStudy, importance_sentence
from attnsearch.runs.words import plural
from attnsearch.spaces.keys import COSTS, COUNTED, metric_name


@dataclass(frozen=True)
class Chapter:
    """A part of a report under one heading.

    Attributes:
        key: Names it in links.
        title: Its heading.
        tables: In their order.
        draw: Makes its figures, where the format shows any.
        notes: Sentences below its tables.
    """

    key: str
    title: str
    tables: tuple[Table, ...]
    draw: Callable[[], list[Figure]] = field(default=list)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportText:
    """A report, ready to be written.

    Attributes:
        title: The study's name and number.
        facts: What it is about, in a line.
        verdicts: The findings.
        sections: Acts, exploring, troubles.
        protocol: The protocol's sentences.
    """

    title: str
    facts: str
    verdicts: tuple[str, ...]
    sections: tuple[Chapter, ...]
    protocol: tuple[str, ...]


def make_report(result: MeasuredStudy) -> ReportText:
    """Return everything that a report says, in its order."""
    study = result.study
    sections = [_act(act) for act in result.acts]
    if result.trials:
        table = leaderboard_table(result)
        judged = study.importances or {}
        mattered = (importance_sentence(result.trials, *item) for item in judged.items())
        notes = (*_ranks(result), *mattered)
        sections.append(
            Chapter("exploring", "Exploring", (table,), lambda: _search_figures(result), notes)
        )
    troubles = trouble_table(result)
    if troubles is not None:
        sections.append(Chapter("trouble", troubles.title, (troubles,)))
    confirm = result.confirm
    metric = confirm.metric if confirm else next(iter(study.objectives))
    facts = (
        f"Study {study.label}, {study.state}, started {study.created:%Y-%m-%d}. "
        f"Primary metric: {metric_name(metric)}."
    )
    return ReportText(
        study.label,
        facts,
        tuple(verdict_sentences(result)),
        tuple(sections),
        tuple(protocol(result)),
    )


def _act(act: ActResult) -> Chapter:
    tables = [arm_table(act)]
    tables += [contrast_table(act, members, family) for family, members in act.families().items()]
    others = (analyses_table(act), secondary_table(act), class_table(act))
    tables += [other for other in others if other is not None]
    return Chapter(act_key(act), act_title(act), tuple(tables), lambda: _act_figures(act))


def _act_figures(act: ActResult) -> list[Figure]:
    figures = [
        forest(act),
        seeds(act),
        heatmap_of_arms(act),
        forest(act, interactions=True),
        interaction_slopes(act),
    ]
    if act.plan.act == "confirm":
        figures += [cost_of_arms(act, cost) for cost in COSTS]
        figures.append(curves_of_arms(act))
    return [figure for figure in figures if figure is not None]


def _ranks(result: MeasuredStudy) -> tuple[str, ...]:
    """Say how well exploring ranked the candidates, as far as that can be said."""
    pairs = rank_pairs(result)
    if not pairs:
        return ()
    rho = rank_correlation(pairs)
    count = plural(len(pairs), "candidate")
    if rho is None:
        why = "too few for a rank correlation" if len(pairs) < 3 else "without differences in rank"
        return (f"Exploring against confirming: {count}, {why}.",)
    return (
        f"Exploring against confirming: Spearman's rank correlation {rho:.2f} over {count}, their "
        "exploring scores against their validation means on fresh seeds.",
    )


def _search_figures(result: MeasuredStudy) -> list[Figure]:
    trials, (metric, goal) = result.trials, next(iter(result.study.objectives.items()))
    figures = [
        ranks(result),
        heatmap_of_trials(result),
        importances(result.study.importances or {}),
        *(cost_of_trials(trials, metric, goal, cost) for cost in COUNTED),
        curves_of_trials(trials, metric, goal),
    ]
    return [figure for figure in figures if figure is not None]
