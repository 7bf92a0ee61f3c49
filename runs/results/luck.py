"""The winner's curse of a study in words: what its best explored score owes to its one seed."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean, median

from attnsearch.runs.ledger import PLAN_ROLES, SEARCH_ROLES, State, TrialRow
from attnsearch.runs.results.numbers import metric_text, size_text, unit
from attnsearch.runs.results.ranking import ranked, value_of
from attnsearch.runs.statistics import expected_luck, seed_noise
from attnsearch.runs.words import plural
from attnsearch.spaces.keys import COSTS, metric_name


def luck_sentence(rows: Sequence[TrialRow], objectives: Mapping[str, str]) -> str | None:
    """Say how much of the best explored score is expected to be luck.

    Args:
        rows: All runs of a study, those of confirm and ablation among them: their seeds show the
            noise.
        objectives: The study's.

    Returns:
        None where there is no choice among several, or none by a measured score.
    """
    metric, goal = next(iter(objectives.items()))
    trials = ranked([row for row in rows if row.role in SEARCH_ROLES], {metric: goal})
    if len(trials) < 2 or metric in COSTS:
        return None
    sign = 1 if goal == "max" else -1
    scores = [sign * score for trial in trials if (score := value_of(trial, metric)) is not None]
    best = (
        f"Luck of the draw: trial {trials[0].number:03d} has the best {metric_name(metric)} of "
        f"{plural(len(trials), 'trial')}, {metric_text(metric, sign * scores[0])}{unit(metric)}, "
        "each on one seed, and the best of several is partly the luckiest"
    )
    repeats = _repeats(rows, metric, trials[0].schedule_epochs)
    noise = seed_noise(list(repeats.values()))
    if noise is None:
        lead = scores[0] - median(scores)
        return (
            f"{best}. One seed each cannot tell how much: {size_text(metric, lead)}, all of its "
            "lead over the median trial, if the trials do not differ, and less if they do. "
            "Several seeds of an arm, as confirm trains them, measure it."
        )
    luck = expected_luck(scores, noise.sd)
    told = (
        f"{best}. Expect fresh seeds to score about {size_text(metric, luck)} "
        f"{'lower' if sign > 0 else 'higher'}, near "
        f"{metric_text(metric, sign * (scores[0] - luck))}{unit(metric)}: the seed alone moves a "
        f"score by {size_text(metric, noise.sd)} (standard deviation, {plural(noise.runs, 'run')} "
        f"of {plural(noise.arms, 'arm')})"
    )
    own = repeats.get(_trained(trials[0]))
    if own:
        measured = f"{metric_text(metric, mean(own))}{unit(metric)}"
        told += f". On {plural(len(own), 'fresh seed')} it scored {measured} on average"
    return f"{told}."


def _repeats(rows: Sequence[TrialRow], metric: str, epochs: int) -> dict[str, list[float]]:
    """Return the scores of what plans trained with the trials' schedule, by all but the seed."""
    runs = {
        row.run_id: row
        for row in rows
        if row.role in PLAN_ROLES and row.state == State.FINISHED and row.schedule_epochs == epochs
    }
    repeats: dict[str, list[float]] = defaultdict(list)
    for row in runs.values():
        score = value_of(row, metric)
        if score is not None:
            repeats[_trained(row)].append(score)
    return repeats


def _trained(row: TrialRow) -> str:
    """Return what determines a run's result, but for its seed, as text."""
    config = {key: row.config.get(key) for key in ("data", "network", "insert", "blocks")}
    train = {**(row.config.get("train") or {}), "seed": None}
    return json.dumps([config, train, row.fold], sort_keys=True, default=str)
