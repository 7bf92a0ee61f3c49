"""What MLflow shows of a study: the ledger's records as names, params, metrics and tags.

Pure functions, without MLflow. Metrics carry the ledger's times, so that showing a record twice
writes the same points, which MLflow's stores keep once.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from attnsearch.runs.ledger import State, StudyRow, TrialRow
from attnsearch.runs.mirror.positions import Pending
from attnsearch.runs.results import best
from attnsearch.spaces.space import inserted_values

STUDY_TAG = "attnsearch.study"
RUN_TAG = "attnsearch.run"
STATE_TAG = "attnsearch.state"

STATUS = {
    State.RUNNING: "RUNNING",
    State.FINISHED: "FINISHED",
    State.STOPPED: "FINISHED",
    State.INFEASIBLE: "FINISHED",
    State.FAILED: "FAILED",
    State.INTERRUPTED: "KILLED",
}
"""The ledger's state -> MLflow's status; the tag ``attnsearch.state`` keeps them apart."""

_NOT_PARAMS = {"name", "insert", "search", "forbid", "limits", "confirm", "ablation", "resources"}
_LONGEST_TAG = 5000  # MLflow stores 8000 characters on every backend


class Point(NamedTuple):
    """One value of a metric; the time is in milliseconds since 1970."""

    key: str
    value: float
    timestamp: int
    step: int


def flat_params(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """Flatten a config to params named as its decisions are: ``layer4.ecrm.bank_size``.

    Args:
        config: A resolved config.
        values: The decisions that led to it.

    Returns:
        Name -> value as text; lists and mappings as JSON, None left out.
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key in _NOT_PARAMS:
            continue
        if isinstance(value, Mapping):
            flat.update({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            flat[key] = value
    flat.pop("data.source", None)  # a path of one machine; the fingerprint is a tag
    flat |= {**inserted_values(config), **values}
    return {key: _text(value) for key, value in flat.items() if value is not None}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def run_tags(study: StudyRow, item: Pending, arm_run: str | None = None) -> dict[str, str]:
    """Collect the tags of a run in its place; `arm_run` is the run above it, if it has an arm."""
    trial = item.trial
    tags = {
        "mlflow.runName": trial.name,
        "mlflow.parentRunId": arm_run or study.mlflow_run_id or "",
        **identity(study, str(trial.place_id)),
        STATE_TAG: trial.state,
        "attnsearch.role": trial.role,
        "attnsearch.number": str(trial.number),
        "attnsearch.key": trial.key,
        "attnsearch.seed": str(trial.seed),
        "attnsearch.data": study.fingerprint,
    }
    if trial.arm is not None:
        tags["attnsearch.arm"] = trial.arm
    if trial.fold is not None:
        tags["attnsearch.fold"] = str(trial.fold)
    if trial.reused_from is not None:
        tags["reused_from"] = item.origin_run_id or trial.reused_from
        tags["attnsearch.reused_from"] = trial.reused_from
    if trial.error is not None:
        tags["error"] = trial.error[:_LONGEST_TAG]
    violated = {limit: amount for limit, amount in trial.violations.items() if amount > 0}
    if violated:
        tags["attnsearch.violated"] = json.dumps(violated)
    return tags


def study_tags(study: StudyRow, note: str) -> dict[str, str]:
    """Collect the tags of a study's parent run; `note` is its description, in Markdown."""
    latest = study.provenance[-1] if study.provenance else {}
    tags = {
        "mlflow.runName": study.label,
        "mlflow.note.content": note[:_LONGEST_TAG],
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": " ".join(latest.get("command", ())) or "attnsearch",
        **identity(study, "study"),
        STATE_TAG: study.state,
        "attnsearch.role": "study",
        "attnsearch.data": study.fingerprint,
        "attnsearch.version": latest.get("packages", {}).get("attnsearch", ""),
    }
    commit = (latest.get("code") or {}).get("commit")
    if commit:
        tags["mlflow.source.git.commit"] = commit
    return tags


def findings_tag(verdicts: Sequence[str], note: str) -> dict[str, str]:
    """Return the description of a study with plans: what it found, then `note` as before."""
    found = "\n".join(f"- {verdict}" for verdict in verdicts)
    return {"mlflow.note.content": f"{found}\n\n{note}"[:_LONGEST_TAG]}


def identity(study: StudyRow, run: str) -> dict[str, str]:
    """Return the tags by which a run is found again: its study, and its place or ``study``."""
    return {STUDY_TAG: study.uid, RUN_TAG: run}


def epoch_points(item: Pending) -> list[Point]:
    """Collect the metrics of the epochs that are not shown yet.

    A run that was interrupted starts over, and on a CPU repeats its first epochs exactly. What it
    repeats keeps the time of the first attempt, so it is the same point, not a second one.
    """
    first: dict[tuple[int, str, str], float] = {}
    found = []
    for point in item.points:
        for key, value in _numbers(point.metrics).items():
            time = first.setdefault((point.epoch, key, repr(value)), point.recorded)
            if point.attempt == item.trial.attempt and point.epoch > item.shown_epoch:
                found.append(Point(key, value, _milliseconds(time), point.epoch))
    return found


def result_points(trial: TrialRow) -> list[Point]:
    """Collect the metrics of a run that has ended: costs, epochs, seconds, and its scores.

    A score stands for the last epoch's metric of the same name and is written only where it is
    another value, as ``score_<metric>``: where the scores are those of the best checkpoint. A cost
    that every epoch measured (``images_per_s``) has its curve and is not put at the end of it.
    """
    if trial.ended is None or trial.state == State.INTERRUPTED:
        return []
    last = trial.epochs[-1] if trial.epochs else {}
    step = int(last.get("epoch", 0))
    at = _milliseconds(trial.ended.timestamp())
    values = {key: value for key, value in _numbers(trial.costs).items() if key not in last}
    values |= {"epochs": float(len(trial.epochs)), "seconds": trial.seconds}
    for key, value in _numbers(trial.metrics).items():
        if key not in last:
            values[key] = value
        elif repr(float(last[key])) != repr(value):
            values[f"score_{key}"] = value
    return [Point(key, value, at, step) for key, value in values.items()]


def study_params(study: StudyRow) -> dict[str, str]:
    """Collect the params of a parent run: only what can never change while the study goes on."""
    search = study.document.get("search") or {}
    kept = {key: search[key] for key in ("sampler", "scheduler", "seed") if key in search}
    params = flat_params({"task": study.document.get("task"), "find": kept}, {})
    objectives = " ".join(f"{metric}:{goal}" for metric, goal in study.objectives.items())
    return {key.replace("find.", "search."): value for key, value in params.items()} | {
        "search.objectives": objectives
    }


def study_points(study: StudyRow, trials: list[TrialRow]) -> list[Point]:
    """Collect the parent's own metrics: runs by state, and the best value of each objective."""
    ended = [trial for trial in trials if trial.ended is not None]
    at = max(
        (_milliseconds(trial.ended.timestamp()) for trial in ended if trial.ended),
        default=_milliseconds(study.created.timestamp()),
    )
    values: dict[str, float] = {}
    for state in (State.FINISHED, State.STOPPED, State.FAILED, State.INFEASIBLE):
        values[f"trials_{state}"] = float(sum(trial.state == state for trial in trials))
    for metric, goal in study.objectives.items():
        winner = best(trials, metric, goal)
        if winner is not None:
            values[f"best_{metric}"] = float(winner.metrics[metric])
    return [Point(key, value, at, len(ended)) for key, value in values.items()]


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Keep what MLflow can take as a metric; NaN too."""
    return {key: float(value) for key, value in values.items() if isinstance(value, int | float)}


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
