"""What a study found, in sentences: each from a verdict, none beyond it."""

from collections.abc import Sequence

from attnsearch.runs.ledger import BASELINE_ROLES
from attnsearch.runs.reports.tables import act_title, cases_name, scope_of, shown_verdict
from attnsearch.runs.results import (
    ActResult,
    MeasuredStudy,
    best,
    difference_text,
    interval_text,
    is_number,
    metric_text,
    p_phrase,
    percent,
    points,
    unit,
    value_of,
)
from attnsearch.runs.statistics import (
    IDENTICAL,
    INTERACTION,
    NOT_DISTINGUISHABLE,
    Comparison,
    judge_claim,
)
from attnsearch.runs.words import listed, plural
from attnsearch.spaces.keys import metric_name


def verdict_sentences(result: MeasuredStudy) -> list[str]:
    """Return findings of a study, the most important first; plain text, a sentence or two each."""
    if not result.acts:
        return [_exploring(result)]
    sentences: list[str] = []
    for act in result.acts:
        sentences += _confirm(act) if act.plan.act == "confirm" else _ablation(act)
    return sentences


def _exploring(result: MeasuredStudy) -> str:
    metric, goal = next(iter(result.study.objectives.items()))
    winner = best(result.trials, metric, goal)
    if winner is None:
        return "No result: no trial has ended its full schedule yet."
    value = value_of(winner, metric)
    last = "whether it is better than the baseline is for the confirmation to say"
    if winner.role in BASELINE_ROLES:
        last = "it has nothing inserted"
    return (
        f"No result yet: exploring alone. The best of {plural(len(result.trials), 'trial')} is "
        f"{winner.shown} with {metric_name(metric)} {metric_text(metric, value)}{unit(metric)}, a "
        f"selected maximum on one seed; {last}."
    )


def _confirm(act: ActResult) -> list[str]:
    if not act.complete:
        return [_unfinished(act)]
    if act.unlearned:
        return _unlearned(act)
    sentences = []
    own = [c for c in act.comparisons if c.plus == (act.winner,)]
    if act.winner is not None:
        sentences.append(judge_claim(act.comparisons, act.winner).sentence)
        sentences.append(_scores(act, act.winner))
        sentences += [_difference(act, c) for c in own]
    others = [c for c in act.comparisons if c not in own and c.against == "baseline"]
    if others:
        parts = "; ".join(_named(act, c) for c in others)
        title = "Other candidates" if own else "Candidates"
        sentences.append(f"{title}: {parts}.")
    return [sentence for sentence in sentences if sentence]


def _unfinished(act: ActResult) -> str:
    words = f"{act.ended} of {act.expected} runs have ended"
    if act.ended == act.expected:
        words = "all runs have ended"
    if act.plan.part == "test" and act.look is None:
        words += ", the test data is not opened yet"
    return f"{act_title(act)}: {words}; nothing is compared before all scores are there."


def _unlearned(act: ActResult) -> list[str]:
    """Return what stands where the reference of an act is no better than a constant answer."""
    return [
        f"No verdict: {act.unlearned}. So a difference tells nothing of a block; train longer "
        f"(train.epochs), with another train.lr, or on larger images (data.image_size).",
        _scores(act, act.winner or act.arms[-1].label),
    ]


def _scores(act: ActResult, label: str) -> str:
    """Return mean and spread of the winner and its baseline."""
    parts = []
    pair = [c.minus[0] for c in act.comparisons if c.plus == (label,) and c.against == "baseline"]
    for name in [label, *pair[:1]]:
        summary = act.find(name).summary
        if summary is None or summary.mean is None:
            continue
        words = f"{name} {metric_text(act.metric, summary.mean)}{unit(act.metric)}"
        if summary.sd is not None:
            words += f" (sd {metric_text(act.metric, summary.sd)})"
        parts.append(words)
    if not parts:
        return ""
    count = plural(len(act.plan.seeds), "seed")
    if act.plan.interim is not None:
        sizes = {len(arm.runs) for arm in act.trained}
        least, most = min(sizes), max(sizes)
        count = plural(most, "seed") if least == most else f"{least} to {plural(most, 'seed')}"
    count += "" if act.plan.folds == (None,) else f" and {plural(len(act.plan.folds), 'fold')}"
    name = metric_name(act.metric)
    return f"{name[:1].upper() + name[1:]} over {count}: {', '.join(parts)}."


def _difference(act: ActResult, c: Comparison) -> str:
    """Return one contrast in a sentence, with everything that its verdict needs."""
    if c.difference is None:
        return f"{c.name}: {c.verdict} ({c.reason})."
    words = f"{c.name}: {difference_text(act.metric, c.difference)}{points(act.metric)}"
    if c.low is not None:
        level = percent(1 - act.plan.alpha)
        kind = "interval" if act.plan.interim is None else "repeated interval"
        words += f", {level} {kind} {interval_text(act.metric, c.low, c.high)} (not adjusted)"
    if c.p_adjusted is not None:
        words += f", Holm-adjusted p {p_phrase(c.p_adjusted)}"
    words += f": {shown_verdict(act, c)} ({c.reason}), on {scope_of(act, c)}."
    new = c.new_patients
    if new is not None:
        cases = f"{new.cases:,} " if new.cases else ""
        words += (
            f" For new {cases_name(act)} ({cases}here) and other seeds: "
            f"{interval_text(act.metric, new.low, new.high)}."
        )
    return words


def _ablation(act: ActResult) -> list[str]:
    if not act.complete:
        return [_unfinished(act)]
    if act.unlearned:
        return _unlearned(act)
    return [
        sentence
        for interactions in (False, True)
        for sentence in _ablation_of(
            act,
            [c for c in act.comparisons if (c.against == INTERACTION) == interactions],
            interactions=interactions,
        )
    ]


def _ablation_of(
    act: ActResult, members: Sequence[Comparison], *, interactions: bool
) -> list[str]:
    """Return everything that an ablation found, grouped by verdict."""
    if not members:
        return []
    groups: dict[str, list[str]] = {}
    for c in members:
        groups.setdefault(shown_verdict(act, c), []).append(_named(act, c))
    parts = "; ".join(f"{verdict}: {listed(names)}" for verdict, names in groups.items())
    against = f"against {act.reference}, " if act.reference else ""
    what = "interactions, " if interactions else against
    part = "validation" if act.plan.part == "val" else "test"
    count = plural(len(act.plan.seeds), "seed")
    status = ""
    if act.plan.part == "test" and not act.confirmatory:
        status = f", exploratory (look {act.look})"
    sentence = f"{act_title(act)} ({what}{count}, {part} data{status}): {parts}."
    if any(c.verdict == NOT_DISTINGUISHABLE for c in members):
        sentence += " Not significant is not equivalent."
    return [sentence]


def _named(act: ActResult, c: Comparison) -> str:
    """Return a contrast with its difference and interval; the arm alone if one reference."""
    alone = len(c.plus) == 1 and c.minus == (act.reference,)
    name = c.plus[0] if alone else c.name
    if not is_number(c.difference):
        return f"{name} ({c.reason})"
    if c.verdict == IDENTICAL:
        return name
    words = f"{difference_text(act.metric, c.difference)}{points(act.metric)}"
    interval = interval_text(act.metric, c.low, c.high)
    words += f" {interval}" if interval else ""
    if act.plan.act == "confirm":
        words += f", {shown_verdict(act, c)}"
    return f"{name} ({words})"
