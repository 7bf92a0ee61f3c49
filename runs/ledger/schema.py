"""The ledger's tables (SQLAlchemy 2 models).

`study` is one space file's work, `run` one training (or an attempt at one), `study_run` the place
of a run in a study: a trial, or one seed of an arm. A run belongs to its key, so several studies
can point at one run; what a study calls it, and its MLflow run, stand in `study_run`. `plan` is
what an act was going to compare, `look` an opening of a test part.

A table that a later version adds needs no change to these: arms are grouped by
``study_run.role`` and ``study_run.arm``, seeds and folds stand in ``run``.

Times are seconds since 1970 (UTC) as double precision, JSON is kept as text: both are the same on
SQLite and PostgreSQL, and text can hold NaN, which PostgreSQL's JSON type refuses.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from attnsearch.runs.ledger.states import PlanState, Role, State

SCHEMA_VERSION = 2
"""Raised by one with every change of these tables that an older release cannot work with.

Version 2 added `plan` and `look`, and arms of any length. A ledger of an earlier version is
brought up to date when it is opened.
"""


def plain(value: Any) -> Any:
    """Turn what JSON cannot hold (NumPy scalars and arrays, mappings, paths) into what it can."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be stored in the ledger")


class JSONText(TypeDecorator[Any]):
    """A JSON value kept as text; NaN and the infinities survive the round trip."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Encode for the database."""
        return None if value is None else json.dumps(value, default=plain)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Decode from the database."""
        return None if value is None else json.loads(value)


class Word(TypeDecorator[Any]):
    """A member of an enum of words, kept as text of a limited length."""

    impl = String
    cache_ok = True

    def __init__(self, words: type[StrEnum], length: int) -> None:
        super().__init__(length)
        self.words = words

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Encode for the database."""
        return None if value is None else self.words(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        """Decode from the database."""
        return None if value is None else self.words(value)


class Base(DeclarativeBase):
    """Base of the ledger's tables."""

    type_annotation_map: ClassVar = {float: Double}


class Schema(Base):
    """One row: the version of these tables."""

    __tablename__ = "attnsearch_schema"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    created: Mapped[float]


class Study(Base):
    """One space file's work."""

    __tablename__ = "study"
    __table_args__ = (UniqueConstraint("name", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True)  # names the study outside, in MLflow
    name: Mapped[str] = mapped_column(String(250))
    number: Mapped[int]
    state: Mapped[State] = mapped_column(Word(State, 16))
    digest: Mapped[str] = mapped_column(String(64))  # of what exploring depends on
    fingerprint: Mapped[str] = mapped_column(String(128))  # of the data
    fresh: Mapped[bool]
    space_text: Mapped[str] = mapped_column(Text, default="")
    document: Mapped[Any] = mapped_column(JSONText, default=dict)
    provenance: Mapped[Any] = mapped_column(
        JSONText, default=list
    )  # one entry per start, oldest first
    importances: Mapped[Any | None] = mapped_column(JSONText)
    created: Mapped[float]
    ended: Mapped[float | None]
    mlflow_uri: Mapped[str | None] = mapped_column(Text)
    mlflow_experiment_id: Mapped[str | None] = mapped_column(String(64))
    mlflow_run_id: Mapped[str | None] = mapped_column(String(64))
    mirrored: Mapped[str | None] = mapped_column(String(64))  # what the parent run shows


class Run(Base):
    """One training. ``(key, generation)`` is unique; a key completes once per generation."""

    __tablename__ = "run"
    __table_args__ = (UniqueConstraint("key", "generation"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(64))
    generation: Mapped[int]
    attempt: Mapped[int] = mapped_column(default=0)  # counts the starts of this generation
    study_id: Mapped[int | None] = mapped_column(ForeignKey("study.id"))  # it was trained for
    state: Mapped[State] = mapped_column(Word(State, 16), index=True)
    config: Mapped[Any] = mapped_column(JSONText)
    seed: Mapped[int] = mapped_column(BigInteger)
    fold: Mapped[int | None]
    epochs: Mapped[int]  # of the full schedule
    metrics: Mapped[Any] = mapped_column(JSONText, default=dict)  # the run's scores
    costs: Mapped[Any] = mapped_column(JSONText, default=dict)
    violations: Mapped[Any] = mapped_column(
        JSONText, default=dict
    )  # limit -> amount, positive = violated
    error: Mapped[str | None] = mapped_column(Text)
    traceback: Mapped[str | None] = mapped_column(Text)
    weights_path: Mapped[str | None] = mapped_column(Text)
    host: Mapped[str | None] = mapped_column(String(255))
    started: Mapped[float]
    ended: Mapped[float | None]
    revision: Mapped[int] = mapped_column(
        default=0
    )  # counts the changes; a mirror compares it with what it has shown


class Epoch(Base):
    """The metrics of one epoch of one attempt."""

    __tablename__ = "epoch"

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    metrics: Mapped[Any] = mapped_column(JSONText)
    recorded: Mapped[float]


class Prediction(Base):
    """Per-example predictions of a run on one split, as a compressed ``.npz``."""

    __tablename__ = "prediction"

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"), primary_key=True)
    split: Mapped[str] = mapped_column(String(32), primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class StudyRun(Base):
    """The place of a run in a study: a trial, or one seed of an arm."""

    __tablename__ = "study_run"
    __table_args__ = (
        UniqueConstraint("study_id", "role", "arm", "number"),
        UniqueConstraint("study_id", "name"),
        Index("study_run_run_id", "run_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"))
    role: Mapped[Role] = mapped_column(Word(Role, 32))
    arm: Mapped[str] = mapped_column(Text)  # "" for a trial: NULLs would not be unique
    number: Mapped[int]
    name: Mapped[str] = mapped_column(String(250))
    decisions: Mapped[Any] = mapped_column(JSONText)
    proposal: Mapped[Any] = mapped_column(JSONText)
    reused_from: Mapped[int | None] = mapped_column(ForeignKey("study_run.id"))
    created: Mapped[float]
    mlflow_run_id: Mapped[str | None] = mapped_column(String(64))
    mirrored_revision: Mapped[int] = mapped_column(default=-1)
    mirrored_attempt: Mapped[int] = mapped_column(default=0)
    mirrored_epoch: Mapped[int] = mapped_column(default=-1)


class PlanRecord(Base):
    """A plan of an act as it was stored; what it says never changes."""

    __tablename__ = "plan"
    __table_args__ = (UniqueConstraint("study_id", "hash"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    act: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))
    document: Mapped[Any] = mapped_column(JSONText)
    created: Mapped[float]
    state: Mapped[PlanState] = mapped_column(Word(PlanState, 16))
    winner: Mapped[str | None] = mapped_column(Text)
    ranking: Mapped[Any | None] = mapped_column(JSONText)  # [label, validation mean], best first
    frozen: Mapped[float | None]  # when the winner was
    superseded: Mapped[float | None]  # when another plan of the act took its place


class LookRecord(Base):
    """An opening of a test part; ``number`` counts those of one fingerprint in all studies."""

    __tablename__ = "look"
    __table_args__ = (
        UniqueConstraint("fingerprint", "number"),
        UniqueConstraint("fingerprint", "plan_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(128))  # of the test examples and labels
    number: Mapped[int]
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    plan_id: Mapped[int] = mapped_column(ForeignKey("plan.id"))
    opened: Mapped[float]


class Lease(Base):
    """Who works on what: ``run:12``, ``study:3``, ``mirror:3``."""

    __tablename__ = "lease"

    resource: Mapped[str] = mapped_column(String(64), primary_key=True)
    token: Mapped[str] = mapped_column(String(32), index=True)
    host: Mapped[str] = mapped_column(String(255))
    machine: Mapped[str] = mapped_column(Text)
    pid: Mapped[int]
    process_started: Mapped[float]
    heartbeat: Mapped[float]
