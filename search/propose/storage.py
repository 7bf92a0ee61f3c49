"""A study as an Optuna storage: one SQLite file for `optuna-dashboard` and `optuna.load_study`.

It is written from the ledger, as a view that nothing is read back from. The trials of the search
are one Optuna study, and each arm whose training settings were tuned is another.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.blocks.naming import describe, shown_name
from attnsearch.runs.addresses import sqlite_url
from attnsearch.runs.ledger import SEARCH_ROLES, Ledger, Role, State, StudyRow, TrialRow
from attnsearch.runs.results import finite, value_of
from attnsearch.runs.whole import temporary_folder, whole
from attnsearch.search.propose.objectives import Objectives
from attnsearch.search.propose.proposals import as_trial
from attnsearch.search.propose.samplers import quiet
from attnsearch.spaces import Decision, SpaceError, dump, load_space

_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
MARK = "attnsearch.study"  # the attribute of a study in a storage of ours: whose it is


class StorageError(AttnsearchError):
    """An Optuna storage cannot be written."""


@dataclass(frozen=True)
class Stored:
    """What was written.

    Attributes:
        trials: Trials by the name of the Optuna study, the search's first.
        narrowed: Why ranges are only as wide as the values tried, if they are.
    """

    trials: Mapping[str, int]
    narrowed: str | None


def write_storage(ledger: Ledger, study: StudyRow, path: Path) -> Stored:
    """Write a study's trials as an Optuna storage, whole or not at all.

    Args:
        ledger: Where the study is recorded.
        study: The study.
        path: The SQLite file; replaced if it is a storage of this study, and of nothing else.

    Raises:
        StorageError: The file holds something else or cannot be written, or there is no trial.
    """
    _check_free(path, study)
    try:
        with whole(path) as place:
            with quiet():
                hurried = {"connect_args": {"factory": _Hurried}}
                storage = RDBStorage(sqlite_url(place), engine_kwargs=hurried)
            stored = fill(storage, ledger, study)
            storage.engine.dispose()
    except OSError as error:
        raise StorageError(f"{path}: the storage cannot be written ({error})") from error
    return stored


def fill(storage: BaseStorage, ledger: Ledger, study: StudyRow) -> Stored:
    """Write a study's trials into an empty storage.

    Raises:
        StorageError: There is no trial.
    """
    rows = ledger.trials(study.id)
    searched = [row for row in rows if row.role in SEARCH_ROLES]
    if not searched:
        raise StorageError(
            f"study {study.label} has explored no trial, so there is nothing that Optuna could "
            f"show; `attnsearch show {study.label}` says how far it is"
        )
    groups = {study.label: searched}
    for row in rows:
        if row.role == Role.TUNING:
            groups.setdefault(f"{study.label} tuning {row.arm}", []).append(row)
    decisions, narrowed = _decisions(study, [row for group in groups.values() for row in group])
    objectives = Objectives(study.objectives)
    beside = next((row for row in rows if row.role == Role.BASELINE), None)
    directions = [_DIRECTIONS[goal] for goal in study.objectives.values()]
    for name, group in groups.items():
        with quiet():
            view = optuna.create_study(storage=storage, study_name=name, directions=directions)
            view.set_metric_names(list(objectives.names))
        view.set_user_attr(MARK, study.uid)
        if beside is not None:  # what was not proposed is no trial of the search
            scores = {metric: value_of(beside, metric) for metric in objectives.names}
            view.set_user_attr("baseline", scores)
        for row in sorted(group, key=lambda row: row.number):
            view.add_trial(_trial(row, objectives, decisions))
    return Stored({name: len(group) for name, group in groups.items()}, narrowed)


def _check_free(path: Path, study: StudyRow) -> None:
    """Refuse a file that is no storage of this study alone."""
    if not path.parent.is_dir():
        raise StorageError(f"{path}: there is no folder {path.parent}; make it first")
    if not path.exists():
        return
    owners: set[Any] = set()
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database,
    ):
        owners = set(
            database.execute(
                "SELECT value_json FROM studies LEFT JOIN study_user_attributes AS mark "
                "ON mark.study_id = studies.study_id AND mark.key = ?",
                (MARK,),
            )
        )
    if owners != {(f'"{study.uid}"',)}:
        raise StorageError(
            f"{path}: holds something else than the trials of {study.label}; give another --to, "
            "or move it away"
        )


class _Hurried(sqlite3.Connection):
    """A connection that does not wait for the disk: the file gets its name once it is whole."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.execute("PRAGMA synchronous = OFF")


def _trial(
    row: TrialRow, objectives: Objectives, decisions: Mapping[str, Decision]
) -> FrozenTrial:
    """Return a run as a trial of Optuna; one that is not over runs there, or waits."""
    curve = objectives.curve(row.epochs)
    state = row.state if row.state.ended else State.STOPPED
    result = objectives.told(state, curve, row.metrics, row.costs, row.violations)
    trial = as_trial(decisions, row.values, result, len(objectives.names))
    trial.datetime_start = _local(row.started)
    trial.datetime_complete = _local(row.ended or row.started)
    if not row.state.ended:
        trial.values = trial.datetime_complete = None
        trial.state = TrialState.RUNNING
        if row.state == State.INTERRUPTED:
            trial.state, trial.datetime_start = TrialState.WAITING, None
    told = {
        "name": row.shown,
        "inserted": shown_name(describe(row.config)),
        "place": row.role,
        "arm": row.arm,
        "number": row.number,
        "state": row.state,
        "seed": row.seed,
        "error": row.error,
        "mlflow_run_id": row.mlflow_run_id,
        **row.costs,
        **row.metrics,
    }
    trial.user_attrs = {key: value for key, value in finite(told).items() if value is not None}
    return trial


def _local(time: datetime) -> datetime:
    """Return a time as Optuna keeps it: this machine's, without its zone."""
    return time.astimezone().replace(tzinfo=None)


def _decisions(
    study: StudyRow, rows: Sequence[TrialRow]
) -> tuple[dict[str, Decision], str | None]:
    """Return a study's decisions by name, and why they are only as wide as the values tried.

    They are read from the recorded space file, without the data and the other files that it names.
    """
    narrowed, decisions = None, {}
    try:
        decisions = _recorded(study)
    except SpaceError as error:
        narrowed = f"the recorded space file cannot be read here ({str(error).splitlines()[0]})"
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.values.items():
            if name not in decisions:
                values.setdefault(name, []).append(value)
    return decisions | {name: _tried(name, tried) for name, tried in values.items()}, narrowed


def _recorded(study: StudyRow) -> dict[str, Decision]:
    document = study.document
    data = document["data"]
    image = {key: data[key] for key in ("image_size", "augment") if key in data}
    alone = {
        "data": {"source": None, "channels": 3, "classes": 2, **image},
        "network": {**document["network"], "weights": None},
        "confirm": None,
        "ablation": None,
    }
    with temporary_folder() as folder:
        file = folder / "space.yaml"
        file.write_text(dump({**document, **alone}), encoding="utf-8")
        return {decision.name: decision for decision in load_space(file).decisions}


def _tried(name: str, values: Sequence[Any]) -> Decision:
    """Return a decision between the values that were tried."""
    kinds = {type(value) for value in values}
    if kinds <= {int, float}:
        kind = "float" if float in kinds else "int"
        return Decision(name, kind, low=min(values), high=max(values))  # type: ignore[arg-type]
    choices = {repr(value): value for value in values}
    return Decision(name, "choice", tuple(choices.values()))
