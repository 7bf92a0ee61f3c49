"""Several data sets in one report: `attnsearch combine`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attnsearch.blocks.naming import insertions
from attnsearch.runs.figures import Figure, critical_difference, effect_forest, heterogeneity
from attnsearch.runs.reports.html import html_report
from attnsearch.runs.reports.latex import latex_report
from attnsearch.runs.reports.markdown import markdown_report
from attnsearch.runs.reports.pages import Chapter, ReportText
from attnsearch.runs.reports.reporting import ReportError
from attnsearch.runs.reports.tables import Cell, Table, table
from attnsearch.runs.results import (
    Combined,
    Effect,
    difference_text,
    finite,
    interval_text,
    metric_text,
    p_phrase,
    p_text,
    percent,
    points,
)
from attnsearch.runs.statistics import judge_claim
from attnsearch.runs.whole import whole
from attnsearch.runs.words import listed, no_formula, plural
from attnsearch.spaces.keys import is_share, metric_name

_OF_POOLED = (*("error", "p", "p_adjusted", "tau", "q", "q_p", "i2", "wins", "verdict", "reason"),)
_DEMSAR = "after Demšar (JMLR 7, 2006) and by autorank's rules (Herbold, JOSS 5, 2020)"


def combined_text(combined: Combined) -> ReportText:
    """Return everything that a report of several data sets says, in its order."""
    plan, sets = combined.plan, combined.sets
    labels = [study.study.label for study in combined.studies]
    facts = (
        f"Studies {listed(labels)}; {plan.title}. Primary metric: {metric_name(combined.metric)}."
    )
    chapters = [
        Chapter("arms", "Arms over data sets", (_arm_table(combined),), lambda: _ranks(combined))
    ]
    if combined.effects:
        tables = (_effect_table(combined), _set_table(combined))
        chapters.append(Chapter("effects", "Effects", tables, lambda: _forests(combined)))
    return ReportText(
        f"{plural(len(sets), 'data set')}, one claim",
        facts,
        tuple(findings(combined)),
        tuple(chapters),
        tuple([*_protocol(combined), *combined.notes]),
    )


def findings(combined: Combined) -> list[str]:
    """Return what the data sets say together, in sentences of plain text."""
    pooled = []
    for effect in combined.effects:
        said = {key: getattr(effect.pooled, key) for key in ("verdict", "reason", "favours")}
        pooled.append(replace(effect.comparisons[0], **said))
    candidates = [arm.label for arm in combined.arms if arm.kind == "candidate"]
    lacking = "no pooled difference to"
    claims = [judge_claim(pooled, label, lacking).sentence for label in candidates]
    rest = [_finding(combined, effect) for effect in combined.effects]
    return [*claims, *rest, _ranking_sentence(combined)]


def _finding(combined: Combined, effect: Effect) -> str:
    pooled, metric = effect.pooled, combined.metric
    sets = plural(len(combined.sets), "data set")
    total = pooled.estimate
    if total is None:
        return f"{effect.name}: {pooled.verdict}; {pooled.reason}."
    why = "" if pooled.reason == sets else f" ({pooled.reason})"
    p = "" if pooled.p_adjusted is None else f", p {p_phrase(pooled.p_adjusted)} (Holm)"
    words = (
        f"{effect.name}: {pooled.verdict} over {sets}{why}; "
        f"{difference_text(metric, total.value)}{points(metric)} "
        f"{interval_text(metric, total.low, total.high)}{p}"
        f"; better on {pooled.wins} of {len(combined.sets)}."
    )
    if pooled.next_set:
        words += f" One more such data set: {interval_text(metric, *pooled.next_set)}."
    return f"{words} {heterogeneity(combined, effect)}"


def _ranking_sentence(combined: Combined) -> str:
    ranking, arms = combined.ranking, combined.arms
    order = np.argsort(ranking.means, kind="stable").tolist()
    ranks = ", ".join(f"{arms[arm].label} {ranking.means[arm]:.2f}" for arm in order)
    words = f"Mean ranks: {ranks}."
    if ranking.p is None or ranking.statistic is None:
        return f"{words} {ranking.why[:1].upper()}{ranking.why[1:]}."
    test = f"{ranking.test[:1].upper()}{ranking.test[1:]}"
    words += f" {test}: {ranking.statistic:.2f}, p {p_phrase(ranking.p)}"
    if ranking.p > combined.plan.alpha:
        return f"{words}: the arms cannot be told apart by their ranks."
    groups = [listed([arms[arm].label for arm in g]) for g in ranking.groups if len(g) > 1]
    apart = f"; not told apart: {'; '.join(groups)}" if groups else ": all are told apart"
    return f"{words}{apart}."


def _arm_table(combined: Combined) -> Table:
    metric, ranking = combined.metric, combined.ranking
    best = ranking.ranks.argmin(axis=1)
    rows = []
    for place, arm in enumerate(combined.arms):
        cells = [Cell(arm.label)]
        for number, result in enumerate(arm.results):
            mean = result.summary.mean if result.summary else None
            sd = metric_text(metric, result.summary.sd if result.summary else None)
            text = metric_text(metric, mean) + (f" ± {sd}" if sd else "")
            cells.append(Cell(text, mean, strong=best[number] == place))
        rank, wins = float(ranking.means[place]), ranking.wins[place]
        rows.append([*cells, Cell(f"{rank:.2f}", rank), Cell(str(wins), wins)])
    unit = " (%)" if is_share(metric) else ""
    title = f"{metric_name(metric)}{unit}"
    title = title[:1].upper() + title[1:]
    notes = [
        "Mean and standard deviation over the runs. Wins: data sets on which no arm is better.",
        _ranking_sentence(combined),
    ]
    return table("arms", title, ["Arm", *combined.sets, "Mean rank", "Wins"], rows, notes)


def _effect_table(combined: Combined) -> Table:
    metric = combined.metric
    level = percent(1 - combined.plan.alpha)
    delta = f"Δ{' (points)' if is_share(metric) else ''}"
    headers = [
        *("Contrast", delta, f"{level} interval", "p", "p (Holm)", "Better on"),
        *("One more data set", "tau", "I²", "Q", "p of Q", "Verdict"),
    ]
    rows = []
    for effect in combined.effects:
        pooled, total = effect.pooled, effect.pooled.estimate
        ends = pooled.next_set or (None, None)
        q = "" if pooled.q is None else f"{pooled.q:.2f}"
        rows.append(
            [
                Cell(effect.name),
                Cell(difference_text(metric, total.value) if total else ""),
                Cell(interval_text(metric, total.low, total.high) if total else ""),
                Cell(p_text(pooled.p), pooled.p),
                Cell(p_text(pooled.p_adjusted), pooled.p_adjusted),
                Cell(f"{pooled.wins} of {len(combined.sets)}", pooled.wins),
                Cell(interval_text(metric, *ends)),
                Cell(metric_text(metric, pooled.tau), pooled.tau),
                Cell("" if pooled.i2 is None else percent(round(pooled.i2, 2)), pooled.i2),
                Cell(q, pooled.q),
                Cell(p_text(pooled.q_p), pooled.q_p),
                Cell(pooled.verdict, strong=True, verdict=pooled.verdict),
            ]
        )
    notes = [
        f"Random effects over {plural(len(combined.sets), 'data set')} (Paule and Mandel), "
        "intervals after Hartung and Knapp. tau: standard deviation of the true difference "
        "between data sets; I²: share of the scatter beyond chance."
    ]
    title = "Differences over all data sets"
    return table("effects", title, headers, rows, notes, words=("Contrast", "Verdict"))


def _set_table(combined: Combined) -> Table:
    metric = combined.metric
    level = percent(1 - combined.plan.alpha)
    headers = ["Contrast", "Data set", "Δ", f"{level} interval", "n", "Weight", "Verdict there"]
    rows = []
    for effect in combined.effects:
        weights = effect.pooled.weights or (None,) * len(combined.sets)
        for name, c, weight in zip(combined.sets, effect.comparisons, weights, strict=True):
            rows.append(
                [
                    Cell(effect.name),
                    Cell(name),
                    Cell(difference_text(metric, c.difference), c.difference),
                    Cell(interval_text(metric, c.low, c.high)),
                    Cell(str(c.n), c.n),
                    Cell("" if weight is None else f"{100 * weight:.0f} %", weight),
                    Cell(c.verdict, verdict=c.verdict),
                ]
            )
    words = ("Contrast", "Data set", "Verdict there")
    return table("sets", "Differences on each data set", headers, rows, words=words)


def _ranks(combined: Combined) -> list[Figure]:
    figure = critical_difference(combined)
    return [] if figure is None else [figure]


def _forests(combined: Combined) -> list[Figure]:
    figures = (effect_forest(combined, effect) for effect in combined.effects)
    return [figure for figure in figures if figure is not None]


def _protocol(combined: Combined) -> list[str]:
    plan, ranking = combined.plan, combined.ranking
    seeds = sorted({len(act.plan.repeats()) for act in combined.acts})
    sentences = [
        f"{plural(len(combined.arms), 'arm')} with the same blocks at the same places were "
        f"compared on {plural(len(combined.sets), 'data set')} by {metric_name(combined.metric)}; "
        f"an arm's score on a data set is the mean of {' to '.join(map(str, seeds))} runs."
    ]
    if ranking.test:
        post_hoc = f", pairs by {ranking.post_hoc}'s test" if ranking.post_hoc else ""
        sentences.append(
            f"Arms were compared by {ranking.test}{post_hoc} at alpha {plan.alpha:g}, chosen "
            f"{_DEMSAR}: {ranking.why}."
        )
    else:
        sentences.append(f"{ranking.why[:1].upper()}{ranking.why[1:]}.")
    if combined.effects:
        sentences.append(
            "Differences on the data sets, with their standard errors over seeds or folds, were "
            "pooled by a random-effects meta-analysis: the variance between data sets after Paule "
            "and Mandel (1982), the interval after Hartung and Knapp (2001), never narrower than "
            "without their factor; p-values are adjusted after Holm (1979) in each family."
        )
    return sentences


def combined_frames(combined: Combined) -> dict[str, pd.DataFrame]:
    """Return the numbers as frames, in metric units, nothing rounded: scores and effects."""
    scores, effects = [], []
    for place, arm in enumerate(combined.arms):
        for number, (name, result) in enumerate(zip(combined.sets, arm.results, strict=True)):
            scores.append(
                {
                    "arm": arm.label,
                    "kind": arm.kind,
                    "inserted": " ".join(
                        f"{entry['block']}@{entry['at']}"
                        for entry in insertions(result.arm.config)
                    ),
                    "data_set": name,
                    "metric": combined.metric,
                    "n": result.summary.n if result.summary else 0,
                    "mean": result.summary.mean if result.summary else None,
                    "sd": result.summary.sd if result.summary else None,
                    "rank": float(combined.ranking.ranks[number, place]),
                    "mean_rank": float(combined.ranking.means[place]),
                }
            )
    for effect in combined.effects:
        pooled, total = effect.pooled, effect.pooled.estimate
        own = {"contrast": effect.name, "family": effect.family, "against": effect.against}
        weights = pooled.weights or (None,) * len(combined.sets)
        for name, c, weight in zip(combined.sets, effect.comparisons, weights, strict=True):
            one = {key: getattr(c, key) for key in ("difference", "error", "low", "high", "n")}
            effects.append({**own, "data_set": name, **one, "weight": weight})
        ends = pooled.next_set or (None, None)
        effects.append(
            {
                **own,
                "data_set": "all",
                "difference": total.value if total else None,
                "low": total.low if total else None,
                "high": total.high if total else None,
                "n": len(combined.sets),
                "next_low": ends[0],
                "next_high": ends[1],
                **{key: getattr(pooled, key) for key in _OF_POOLED},
            }
        )
    return {"scores": pd.DataFrame(scores), "effects": pd.DataFrame(effects)}


def combined_fields(combined: Combined) -> dict[str, Any]:
    """Return all of it as plain values, for JSON."""
    ranking, frames = combined.ranking, combined_frames(combined)
    labels = [arm.label for arm in combined.arms]
    fields: Mapping[str, Any] = {
        "studies": [study.study.label for study in combined.studies],
        "data_sets": list(combined.sets),
        "metric": combined.metric,
        "plan": combined.plan.title,
        "findings": findings(combined),
        "ranking": {
            "test": ranking.test or None,
            "statistic": ranking.statistic,
            "p": ranking.p,
            "post_hoc": ranking.post_hoc or None,
            "critical_difference": ranking.critical,
            "why": ranking.why,
            "mean_ranks": dict(zip(labels, ranking.means.tolist(), strict=True)),
            "wins": dict(zip(labels, ranking.wins, strict=True)),
            "groups": [[labels[arm] for arm in group] for group in ranking.groups],
        },
        **{name: frame.to_dict("records") for name, frame in frames.items()},
        "notes": list(combined.notes),
    }
    plain: dict[str, Any] = finite(fields)
    return plain


def write_combined(combined: Combined, folder: str | Path) -> list[Path]:
    """Write the report: Markdown, LaTeX, HTML, tables and each figure as a PNG.

    Raises:
        ReportError: The files cannot be written.
    """
    where, pages = Path(folder), combined_text(combined)
    texts = {"md": markdown_report, "tex": latex_report, "html": html_report}
    files: dict[str, bytes] = {
        f"combined.{end}": writer(pages).encode() for end, writer in texts.items()
    }
    for name, frame in combined_frames(combined).items():
        if not frame.empty:
            text = frame.map(no_formula).to_csv(index=False)
            files[f"combined-{name}.csv"] = text.encode()
    for chapter in pages.sections:
        for number, figure in enumerate(chapter.draw(), start=1):
            name = "critical-difference" if chapter.key == "arms" else f"effect-{number}"
            files[f"{name}.png"] = figure.png()
    try:
        where.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with whole(where / name) as new:
                new.write_bytes(content)
    except OSError as error:
        raise ReportError(f"the report cannot be written to {where}: {error}") from error
    return [where / name for name in files]
