"""What MLflow shows of a study and its runs: params, metrics, tags and files, from the ledger.

All that a run shows stands in `run_view` and `run_files`, all that a parent run shows but plots
and report in `study_view`; nothing here needs MLflow. Metrics carry the ledger's times, so that
showing a record twice writes the same values, which MLflow's stores keep once.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from attnsearch.runs.ledger import (
    BASELINE_ROLES,
    Ledger,
    State,
    StudyRow,
    TrialRow,
    pack,
    panel_file,
    weights_folder,
)
from attnsearch.runs.mirror.positions import Pending
from attnsearch.runs.results import best, ranked, value_of
from attnsearch.runs.words import no_tags
from attnsearch.spaces import dump
from attnsearch.spaces.keys import cards_of, keys_of

Value = TypeVar("Value")

STUDY_TAG = "attnsearch.study"
RUN_TAG = "attnsearch.run"
STATE_TAG = "attnsearch.state"
NOTE_TAG = "mlflow.note.content"

STATUS = {
    State.RUNNING: "RUNNING",
    State.FINISHED: "FINISHED",
    State.STOPPED: "FINISHED",
    State.INFEASIBLE: "FINISHED",
    State.FAILED: "FAILED",
    State.INTERRUPTED: "KILLED",
}
"""The ledger's state -> MLflow's status; the tag ``attnsearch.state`` keeps them apart."""

_NOT_PARAMS = ("insert", *keys_of("name", "search", "plans", "limits", "host"))
_SHOWN = 2  # counts what a parent run shows of a study; another number writes it anew
_LONGEST_TAG = 5000  # MLflow stores 8000 characters on every backend


class MetricValue(NamedTuple):
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
    from attnsearch.spaces.space import inserted_values  # loads torch

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
    return {key: _text(value) for key, value in without_none(flat).items()}


def without_none(values: Mapping[str, Value | None]) -> dict[str, Value]:
    """Return what there is a value of."""
    return {key: value for key, value in values.items() if value is not None}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class View:
    """What a run in MLflow shows.

    Args:
        tags: Its tags.
        metrics: Their values that are not shown yet.
        params: What can never change.
        files: Path -> content.
    """

    tags: Mapping[str, str]
    metrics: Sequence[MetricValue]
    params: Mapping[str, str]
    files: Mapping[str, bytes]


def run_view(study: StudyRow, item: Pending, above: str | None) -> View:
    """Collect all that is to be shown of a run but its files, without what was shown before.

    Args:
        study: The study.
        item: The run in its place.
        above: The MLflow run of its arm, if it has one.
    """
    trial = item.trial
    params = flat_params(trial.config, trial.values) if item.new else {}
    values = epoch_values(item) + result_values(trial)
    return View(run_tags(study, item, above), values, params, {})


def run_files(ledger: Ledger, item: Pending) -> dict[str, bytes]:
    """Collect config, traceback, predictions, and a segmentation's validation picture."""
    trial, files = item.trial, {}
    if item.new:
        files["config.yaml"] = dump(trial.config).encode()
    if trial.traceback:
        files["traceback.txt"] = trial.traceback.encode()
    if trial.state in (State.FINISHED, State.STOPPED):
        for part, arrays in ledger.predictions(trial.run_id).items():
            files[f"predictions_{part}.npz"] = pack(arrays)
        panel = panel_file(weights_folder(ledger), trial.key)
        if ledger.intact(str(panel)):
            files["panel.png"] = panel.read_bytes()
    return files


def study_view(study: StudyRow, trials: Sequence[TrialRow], links: str) -> View:
    """Collect what the parent run shows of a study, but for its plots and its report.

    Args:
        study: The study.
        trials: All its runs.
        links: Stands in its description, in Markdown.
    """
    from attnsearch.runs.results import leaderboard, leaderboard_files, leaderboard_note  # pandas

    files = {
        "space.yaml": study.space_text,
        "provenance.json": json.dumps(study.provenance, indent=2),
        **leaderboard_files(leaderboard(study, trials)),
    }
    # What makes MLflow show the file as a table.
    table = {"mlflow.loggedArtifacts": json.dumps([{"path": "leaderboard.json", "type": "table"}])}
    return View(
        study_tags(study, f"{links}\n\n{leaderboard_note(study, trials)}") | table,
        study_values(study, trials),
        study_params(study),
        {name: text.encode() for name, text in files.items()},
    )


def shown_digest(
    ledger: Ledger, study: StudyRow, standing: Sequence[tuple[int, int, int]], *, plots: bool
) -> str:
    """Hash what a parent run shows.

    Args:
        ledger: The ledger.
        study: Its row.
        standing: Which run stands at each place, and how often it was changed: that says all of
            it, and takes no reading of trials.
        plots: Whether plots are shown too.
    """
    plans = ledger.plans(study.id)
    shown = (
        _SHOWN,
        [(row.hash, row.winner, row.superseded, ledger.look_of(row)) for row in plans],
        study.state,
        study.importances,
        study.space_text,
        study.provenance,
        standing,
        plots,
    )
    return hashlib.sha256(repr(shown).encode()).hexdigest()


def run_tags(study: StudyRow, item: Pending, above: str | None = None) -> dict[str, str]:
    """Collect the tags of a run in its place; `above` is the run of its arm, if it has one."""
    trial = item.trial
    cards = cards_of((trial.config.get("resources") or {}).get("gpus", 0))
    tags = {
        "mlflow.runName": trial.shown,
        "mlflow.parentRunId": above or study.mlflow_run_id or "",
        **identity(study, str(trial.place_id)),
        STATE_TAG: trial.state,
        "attnsearch.role": trial.role,
        "attnsearch.number": str(trial.number),
        "attnsearch.origin": trial.proposal.get("origin"),
        "attnsearch.key": trial.key,
        "attnsearch.seed": str(trial.seed),
        "attnsearch.speed": study.speed,
        "attnsearch.data": study.fingerprint,
        "attnsearch.arm": trial.arm,
        "attnsearch.fold": None if trial.fold is None else str(trial.fold),
        "reused_from": trial.reused_from and (item.origin_run_id or trial.reused_from),
        "attnsearch.reused_from": trial.reused_from,
        "attnsearch.micro_batches": str(trial.micro_batches) if trial.micro_batches > 1 else None,
        "attnsearch.cards": str(cards) if cards > 1 else None,
        # Not while it is to be taken up again: a tag stays, and the run may well finish.
        "error": trial.error[:_LONGEST_TAG] if trial.error and trial.state.ended else None,
    }
    if trial.over:
        amounts = {limit: amount for limit, amount in trial.violations.items() if amount > 0}
        tags["attnsearch.violated"] = json.dumps(amounts)
    return without_none(tags)


def study_tags(study: StudyRow, note: str) -> dict[str, str]:
    """Collect the tags of a study's parent run; `note` is its description, in Markdown."""
    latest = study.provenance[-1] if study.provenance else {}
    tags = {
        "mlflow.runName": study.label,
        NOTE_TAG: note[:_LONGEST_TAG],
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": " ".join(latest.get("command", ())) or "attnsearch",
        **identity(study, "study"),
        STATE_TAG: study.state,
        "attnsearch.role": "study",
        "attnsearch.data": study.fingerprint,
        "attnsearch.speed": study.speed,
        "attnsearch.packing": study.packing and study.packing["text"],
        "attnsearch.version": latest.get("packages", {}).get("attnsearch", ""),
        "mlflow.source.git.commit": (latest.get("code") or {}).get("commit"),
    }
    return without_none(tags)


def findings_tag(verdicts: Sequence[str], note: str) -> dict[str, str]:
    """Return the description of a study with plans: what it found, then `note`."""
    findings = no_tags("\n".join(f"- {verdict}" for verdict in verdicts))
    return {NOTE_TAG: f"{findings}\n\n{note}"[:_LONGEST_TAG]}


def identity(study: StudyRow, run: str) -> dict[str, str]:
    """Return the tags by which a run is found again: its study, and its place or ``study``."""
    return {STUDY_TAG: study.uid, RUN_TAG: run}


def epoch_values(item: Pending) -> list[MetricValue]:
    """Collect the metrics of the epochs that are not shown yet.

    A run that was interrupted starts over, and on a CPU repeats its first epochs exactly. What it
    repeats keeps the time of the first attempt, so it is the same point, not a second one.
    """
    first: dict[tuple[int, str, str], float] = {}
    values = []
    for point in item.points:
        for key, value in _numbers(point.metrics).items():
            time = first.setdefault((point.epoch, key, repr(value)), point.recorded)
            if point.attempt == item.trial.attempt and point.epoch > item.shown_epoch:
                values.append(MetricValue(key, value, int(time * 1000), point.epoch))
    return values


def result_values(trial: TrialRow) -> list[MetricValue]:
    """Collect the metrics of a run that has ended: costs, epochs, seconds, and its scores.

    A score stands for the last epoch's metric of the same name and is written only where it is
    another value, as ``score_<metric>``: where the scores are those of the best checkpoint. A cost
    that every epoch measured (``images_per_s``) has its curve and is not put at the end of it.
    """
    if trial.ended is None or trial.state == State.INTERRUPTED:
        return []
    last = trial.epochs[-1] if trial.epochs else {}
    step = int(last.get("epoch", 0))
    at = milliseconds(trial.ended)
    values = {key: value for key, value in _numbers(trial.costs).items() if key not in last}
    values |= {"epochs": float(len(trial.epochs)), "seconds": trial.seconds}
    for key, value in _numbers(trial.metrics).items():
        if key not in last:
            values[key] = value
        elif repr(float(last[key])) != repr(value):
            values[f"score_{key}"] = value
    return [MetricValue(key, value, at, step) for key, value in values.items()]


def study_params(study: StudyRow) -> dict[str, str]:
    """Collect the params of a parent run: only what can never change while the study goes on."""
    search = study.document.get("search") or {}
    params = {f"search.{key}": search.get(key) for key in ("sampler", "scheduler", "seed")}
    params["task"] = study.document.get("task")
    params["search.objectives"] = " ".join(f"{m}:{goal}" for m, goal in study.objectives.items())
    return {key: _text(value) for key, value in without_none(params).items()}


def study_values(study: StudyRow, trials: Sequence[TrialRow]) -> list[MetricValue]:
    """Collect the parent's own metrics: of each objective the best value and the baseline's."""
    ended = [trial.ended for trial in trials if trial.ended is not None]
    at = milliseconds(max(ended, default=study.created))
    explored: dict[str, TrialRow | None] = {}
    baselines = [trial for trial in trials if trial.role in BASELINE_ROLES]
    for metric, goal in study.objectives.items():
        explored[f"best_{metric}"] = best(trials, metric, goal)
        explored[f"baseline_{metric}"] = next(iter(ranked(baselines, {metric: goal})), None)
    return [
        MetricValue(key, value, at, len(ended))
        for key, trial in explored.items()
        if trial is not None and (value := value_of(trial, key.partition("_")[2])) is not None
    ]


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Keep what MLflow can take as a metric; NaN too."""
    return {key: float(value) for key, value in values.items() if isinstance(value, int | float)}


def milliseconds(time: datetime) -> int:
    """Return a time as MLflow has it: milliseconds since 1970."""
    return int(time.timestamp() * 1000)
