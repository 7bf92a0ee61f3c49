"""What the ledger returns: frozen records, detached from the database."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from attnsearch.runs.ledger.states import Role, State
from attnsearch.spaces.file import CLASSIFICATION, default_objective

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")


@dataclass(frozen=True)
class StudyRow:
    """A study.

    Args:
        id: Its number in the ledger.
        uid: Names it outside of the ledger, in MLflow.
        name: The space file's ``name``.
        number: 1 for the first study of that name, 2 for the next, whose space or data differ.
        state: How it stands; interrupted where its driver died.
        fingerprint: Of the data.
        fresh: Whether it ignores what other studies finished (``--fresh``).
        space_text: The space file as given, comments included.
        document: The space file checked, with defaults.
        provenance: Versions, hardware and command of each start, oldest first.
        importances: Objective -> decision -> importance in 0..1, if they were computed.
        created: When it was first started.
        ended: When it ended, if it did.
        mlflow_uri: The MLflow store that shows it.
        mlflow_experiment_id: Its experiment there.
        mlflow_run_id: Its parent run there.
    """

    id: int
    uid: str
    name: str
    number: int
    state: State
    fingerprint: str
    fresh: bool
    space_text: str
    document: dict[str, Any]
    provenance: tuple[dict[str, Any], ...]
    importances: dict[str, dict[str, float]] | None
    created: datetime
    ended: datetime | None
    mlflow_uri: str | None
    mlflow_experiment_id: str | None
    mlflow_run_id: str | None

    @property
    def label(self) -> str:
        """Name and number, as `Ledger.find_study` takes them: ``digits/2``."""
        return f"{self.name}/{self.number}"

    @property
    def objectives(self) -> dict[str, str]:
        """Metric -> ``max`` or ``min``; the first is the one the scheduler follows."""
        declared = (self.document.get("search") or {}).get("objectives")
        if declared:
            return dict(declared)
        return default_objective(self.document.get("task") or CLASSIFICATION)


@dataclass(frozen=True)
class RunRow:
    """A training: what was asked for, and what came out.

    Args:
        id: Its number in the ledger.
        key: What determines its result (`attnsearch.runs.ledger.key.run_key`).
        generation: 1, or more where the key was trained anew.
        attempt: How often this generation was started.
        study_id: The study it was trained for.
        state: How it stands; interrupted where its driver died.
        config: The resolved config.
        seed: Of initialisation, order, augmentation and dropout.
        fold: The fold left out, if the data is folded.
        schedule_epochs: The length of the full schedule.
        epochs: The metrics of each epoch trained, oldest first, with its number as ``epoch``.
        metrics: The scores: the last epoch's, or the chosen checkpoint's.
        costs: ``params``, ``macs``, ``latency_ms``, ``memory_mb`` and the like.
        violations: Limit -> amount; positive means violated.
        error: Why it failed, in a sentence.
        traceback: Where, if it was an exception.
        weights_path: The trained weights, if they were kept.
        started: When the latest attempt began.
        ended: When it ended, if it did.
        seconds: How long it ran, so far if it still runs.
    """

    id: int
    key: str
    generation: int
    attempt: int
    study_id: int | None
    state: State
    config: dict[str, Any]
    seed: int
    fold: int | None
    schedule_epochs: int
    epochs: tuple[dict[str, Any], ...]
    metrics: dict[str, Any]
    costs: dict[str, Any]
    violations: dict[str, float]
    error: str | None
    traceback: str | None
    weights_path: str | None
    started: datetime
    ended: datetime | None
    seconds: float

    @property
    def over(self) -> str:
        """The limits that it violates and by how much; empty where it keeps all."""
        above = [(limit, amount) for limit, amount in self.violations.items() if amount > 0]
        return ", ".join(f"over {limit} by {amount:.1%}" for limit, amount in above)

    @property
    def run_id(self) -> int:
        """The same as `id`; reads better beside a study's."""
        return self.id


@dataclass(frozen=True)
class TrialRow(RunRow):
    """A run in its place in a study.

    ``study_id`` is the study that it stands in here, whoever trained it, and ``violations`` are
    of that study's limits, also where its costs were measured only after it had been trained.

    Args:
        place_id: Number of this place in the ledger.
        role: What it is in the study for.
        arm: The arm's label; None for a trial.
        number: The trial's number in the study, or the run's in its arm.
        name: A name a person can read, unique in the study: ``012 ecrm@layer4``.
        values: The decisions: name -> value.
        proposal: What the proposer noted about it.
        reused_from: Where the result was trained, if not here: ``digits/1: 012 ecrm@layer4``.
        mlflow_run_id: The run that shows it.
    """

    place_id: int
    role: Role
    arm: str | None
    number: int
    name: str
    values: dict[str, Any]
    proposal: dict[str, Any]
    reused_from: str | None
    mlflow_run_id: str | None

    @property
    def place(self) -> tuple[str, str | None, int]:
        """Role, arm and number, which name its place in the study."""
        return self.role, self.arm, self.number


@dataclass(frozen=True)
class Request:
    """A run that is asked for.

    Args:
        key: The run key.
        config: The resolved config.
        seed: Of the run.
        epochs: Of the full schedule.
        fold: The fold left out, if the data is folded.
        study_id: The study that needs it.
    """

    key: str
    config: Mapping[str, Any]
    seed: int
    epochs: int
    fold: int | None = None
    study_id: int | None = None


@dataclass(frozen=True)
class Place:
    """Where a run stands in a study.

    Args:
        number: The trial's number in the study, or the run's in its arm.
        role: What it is in the study for.
        arm: The arm's label; None for a trial. Role, arm and number name the place.
        name: A name a person can read, unique in the study; without it
            ``012 ecrm@layer4 psa@layer3`` for a trial, ``arm gc@layer4 seed 2`` for an arm.
        values: The decisions: name -> value.
        proposal: What the proposer wants to remember about it.
    """

    number: int
    role: Role = Role.TRIAL
    arm: str | None = None
    name: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    proposal: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Args:
        state: An interrupted run can be taken up again.
        metrics: Its scores.
        costs: Its costs.
        violations: Limit -> amount; positive means violated.
        error: Why it failed, in a sentence.
        traceback: Where.
        weights_path: Where its trained weights lie.
    """

    state: State
    metrics: Mapping[str, Any] = field(default_factory=dict)
    costs: Mapping[str, Any] = field(default_factory=dict)
    violations: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    traceback: str | None = None
    weights_path: str | None = None


@dataclass(frozen=True)
class Claim:
    """The answer to a claim on a key.

    Args:
        outcome: ``claimed``: train it and call `Ledger.finish`. ``finished``: its result is
            known and stands in `run`. ``busy``: another process trains it now.
        run: The run of the key.
        holder: Who trains it, if it is busy.
    """

    outcome: str
    run: RunRow
    holder: str | None = None

    @property
    def run_id(self) -> int:
        """The run's number in the ledger."""
        return self.run.id


def when(seconds: float) -> datetime:
    """Return seconds since 1970 as a time with its zone (UTC)."""
    return datetime.fromtimestamp(seconds, UTC)


def build(record: type[Record], columns: Mapping[Any, Any], **others: Any) -> Record:
    """Build a record from the columns that have its fields' names; times get their zone.

    Args:
        record: A frozen dataclass of this room.
        columns: A row.
        others: What does not stand in the row as it is.
    """
    values = {**columns, **others}
    names = {item.name: item.type for item in fields(record)}
    for name, kind in names.items():
        if kind in (datetime, datetime | None) and values[name] is not None:
            values[name] = when(values[name])
    return record(**{name: values[name] for name in names})
