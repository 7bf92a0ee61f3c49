"""What the ledger returns: frozen records, detached from the database.

The columns of a study, a run, a plan, a look and an analysis are stated here, once, with what they
mean; the tables of `schema` are made of these records, and a record holds a row of its table.
"""

from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from attnsearch.blocks.naming import shown_name
from attnsearch.runs.ledger.encoding import JSONText, Told
from attnsearch.runs.ledger.states import PlanState, Role, State, lost
from attnsearch.runs.statistics import Plan
from attnsearch.spaces.keys import CLASSIFICATION, default_objective


class Record:
    """A frozen record: a row's columns, and what else a reader needs to know beside them.

    Args:
        columns: The row, column -> value.
        **others: What is no column, or is told otherwise than it is stored.
    """

    __allow_unmapped__ = True  # what is no column may stand among the columns

    def __init__(self, columns: Mapping[Any, Any], **others: Any) -> None:
        vars(self).update({**columns, **others})

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __repr__(self) -> str:
        # Its documents run over pages.
        own = vars(self)
        called = getattr(self, "shown", None) or next(
            own[key] for key in ("name", "key", "id") if key in own
        )
        state = f": {own['state']}" if "state" in own else ""
        return f"<{type(self).__name__} {called}{state}>"


class StudyRow(Record):
    """A study.

    Attributes:
        id: Its number in the ledger.
        uid: Names it outside of the ledger, in MLflow.
        name: The space file's ``name``.
        number: 1 for the first study of that name, 2 for the next, whose space or data differ.
        state: How it stands; interrupted where its driver died.
        digest: Of what exploring depends on.
        fingerprint: Of the data.
        fresh: Whether it ignores what other studies finished (``--fresh``).
        space_text: The space file as given, comments included.
        document: The space file checked, with defaults.
        provenance: Versions, hardware and command of each start, oldest first.
        importances: Objective -> decision -> the fields of `Importance`, if they were computed.
        created: When it was first started.
        ended: When it ended, if it did.
        mlflow_uri: The MLflow store that shows it, without secrets.
        mlflow_experiment_id: Its experiment there.
        mlflow_run_id: Its parent run there.
        mirrored: A digest of what that run shows.
    """

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True)
    name: Mapped[str] = mapped_column(String(250))
    number: Mapped[int]
    state: Mapped[State]
    digest: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[str] = mapped_column(String(128))
    fresh: Mapped[bool]
    space_text: Mapped[str] = mapped_column(Text, default="")
    document: Mapped[dict[str, Any]] = mapped_column(JSONText, default=dict)
    provenance: Mapped[tuple[dict[str, Any], ...]] = mapped_column(JSONText, default=list)
    importances: Mapped[dict[str, dict[str, dict[str, float]]] | None] = mapped_column(JSONText)
    created: Mapped[datetime]
    ended: Mapped[datetime | None]
    mlflow_uri: Mapped[str | None] = mapped_column(Told)
    mlflow_experiment_id: Mapped[str | None] = mapped_column(String(64))
    mlflow_run_id: Mapped[str | None] = mapped_column(String(64))
    mirrored: Mapped[str | None] = mapped_column(String(64))

    @property
    def speed(self) -> str | None:
        """Which arithmetic `train.speed` chose for all its runs, and what that gains."""
        raced = (start["speed"] for start in self.provenance if start.get("speed"))
        told = (record["text"] for record in raced if record["tried"] or record.get("note"))
        return next(told, None)

    @property
    def packing(self) -> dict[str, Any] | None:
        """What `resources.gpus: auto` came to at last, and what was measured for it."""
        told = [start["packing"] for start in self.provenance if start.get("packing")]
        return told[-1] if told else None

    @property
    def kept(self) -> str | None:
        """Where its last start kept the images, where that is not plainly in memory."""
        return self.provenance[-1].get("kept") if self.provenance else None

    @property
    def inputs(self) -> dict[str, str]:
        """What it reads from files beside the data, as its last start found them."""
        return dict(self.provenance[-1].get("inputs", {})) if self.provenance else {}

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


class RunRow(Record):
    """A training: what was asked for, and what came out.

    A key completes once per generation.

    Attributes:
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
        metrics: The scores: the last epoch's, or the chosen checkpoint's.
        costs: ``params``, ``macs``, ``latency_ms``, ``memory_mb`` and the like.
        violations: Limit -> amount; positive means violated.
        error: Why it failed, in a sentence.
        traceback: Where, if it was an exception.
        weights_path: The trained weights, if they were kept.
        host: The host that trains or trained it.
        started: When a worker began with the latest attempt.
        ended: When it ended, if it did.
        revision: Counts the changes; a mirror compares it with what it has shown.
        epochs: The metrics of each epoch trained, oldest first, with its number as ``epoch``.
        seconds: How long it ran, so far if it still runs.
    """

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(64))
    generation: Mapped[int]
    attempt: Mapped[int] = mapped_column(default=0)
    study_id: Mapped[int | None] = mapped_column(ForeignKey("study.id"))
    state: Mapped[State] = mapped_column(index=True)
    config: Mapped[dict[str, Any]] = mapped_column(JSONText)
    seed: Mapped[int] = mapped_column(BigInteger)
    fold: Mapped[int | None]
    schedule_epochs: Mapped[int] = mapped_column("epochs")
    metrics: Mapped[dict[str, Any]] = mapped_column(JSONText, default=dict)
    costs: Mapped[dict[str, Any]] = mapped_column(JSONText, default=dict)
    violations: Mapped[dict[str, float]] = mapped_column(JSONText, default=dict)
    error: Mapped[str | None] = mapped_column(Told)
    traceback: Mapped[str | None] = mapped_column(Told)
    weights_path: Mapped[str | None] = mapped_column(Text)
    host: Mapped[str | None] = mapped_column(String(255))
    started: Mapped[datetime]
    ended: Mapped[datetime | None]
    revision: Mapped[int] = mapped_column(default=0)
    epochs: tuple[dict[str, Any], ...]
    seconds: float

    @property
    def over(self) -> str:
        """The limits that it violates and by how much; empty where it keeps all."""
        above = [(limit, amount) for limit, amount in self.violations.items() if amount > 0]
        return ", ".join(f"over {limit} by {amount:.1%}" for limit, amount in above)

    @property
    def micro_batches(self) -> int:
        """Into how many a batch was split at most, where memory ran out; 1 where it did not."""
        return int(max((epoch.get("micro_batches", 1) for epoch in self.epochs), default=1))

    @property
    def settled(self) -> bool:
        """Whether nothing more will come of it: not where a loss of its worker ended it."""
        return self.state.ended and not lost(self)

    @property
    def run_id(self) -> int:
        """The same as `id`; reads better beside a study's."""
        return self.id


class TrialRow(RunRow):
    """A run in its place in a study.

    ``study_id`` is the study that it stands in here, whoever trained it, and ``violations`` are
    of that study's limits, also where its costs were measured only after it had been trained.

    Attributes:
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

    @property
    def shown(self) -> str:
        """The name with the word for people: ``000 baseline`` where ``000 plain`` is stored."""
        return shown_name(self.name)


class Analysis(Record):
    """What an analysis of a plan has settled.

    Attributes:
        plan_id: The plan.
        number: Counted from 1.
        size: Seeds of each arm that it looked at.
        settled: Contrast -> why it needs no more seeds, of those that this analysis settled.
        seeds: Label of an arm -> its seeds from then on, until the next analysis.
        made: When.
    """

    plan_id: Mapped[int] = mapped_column(ForeignKey("plan.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int]
    settled: Mapped[dict[str, str]] = mapped_column(JSONText)
    seeds: Mapped[dict[str, int]] = mapped_column(JSONText)
    made: Mapped[datetime]


class PlanRow(Record):
    """A plan of an act as it was stored; what it says never changes.

    Attributes:
        id: Its number in the ledger.
        study_id: The study it belongs to.
        act: What it was made by: ``confirm`` or ``ablation``.
        name: Its name among the plans of the act.
        hash: Of all that it says.
        document: The plan as JSON.
        created: When it was stored.
        state: How far it has come.
        winner: The label of the arm that was frozen as the winner, if one was.
        ranking: The candidates with their validation means, the best first; None stands for a
            mean that a failed run left undefined.
        frozen: When the winner was.
        superseded: When another plan of the same act and name took its place, if one did.
        plan: What it says.
        analyses: Those made so far, of a plan that has any before its last seed.
    """

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    act: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))
    document: Mapped[dict[str, Any]] = mapped_column(JSONText)
    created: Mapped[datetime]
    state: Mapped[PlanState]
    winner: Mapped[str | None] = mapped_column(Text)
    ranking: Mapped[tuple[tuple[str, float | None], ...]] = mapped_column(JSONText, nullable=True)
    frozen: Mapped[datetime | None]
    superseded: Mapped[datetime | None]
    plan: Plan
    analyses: tuple[Analysis, ...] = ()

    @property
    def current(self) -> bool:
        """Whether no other plan has taken its place."""
        return self.superseded is None

    def seeds_of(self, label: str) -> int:
        """Return how many seeds an arm has, as far as that is decided."""
        if self.plan.interim is None:
            return len(self.plan.seeds)
        label = self.plan.arm(label).equals or label
        return self.analyses[-1].seeds[label] if self.analyses else self.plan.interim.sizes[0]

    def runs_of(self, label: str) -> int:
        """Return how many runs an arm has, as far as that is decided."""
        return self.seeds_of(label) * len(self.plan.folds)


class Look(Record):
    """An opening of a test part.

    Attributes:
        id: Its number in the ledger.
        fingerprint: Of the test examples and their labels.
        number: 1 for the first of this test part, in whatever study.
        study_id: The study that opened it.
        plan_id: The plan that asked for it.
        opened: When.
    """

    id: Mapped[int] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(128))
    number: Mapped[int]
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    plan_id: Mapped[int] = mapped_column(ForeignKey("plan.id"))
    opened: Mapped[datetime]
