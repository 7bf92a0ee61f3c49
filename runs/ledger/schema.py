"""The ledger's tables (SQLAlchemy 2 models).

`study` is one space file's work, `run` one training (or an attempt at one), `study_run` the place
of a run in a study: a trial, or one seed of an arm. A run belongs to its key, so several studies
can point at one run; what a study calls it, and its MLflow run, stand in `study_run`. `plan` is
what an act was going to compare, `look` an opening of a test part, `analysis` one of a plan, after
which arms stop or go on.

The columns of `study`, `run`, `plan` and `look` stand in `records`, with what they mean.

A table that a later version adds needs no change to these: arms are grouped by
``study_run.role`` and ``study_run.arm``, seeds and folds stand in ``run``.
"""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Double, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from attnsearch.runs.ledger.encoding import JSONText, Moment, word
from attnsearch.runs.ledger.records import Analysis, Look, PlanRow, RunRow, StudyRow
from attnsearch.runs.ledger.states import PlanState, Role, State

SCHEMA_VERSION = 5
"""Raised by one with every change of these tables that an older release cannot work with.

Version 2 added `plan` and `look`, and arms of any length; version 3 added `stored_file`, and paths
relative to the ledger; version 4 added `data_content`, version 5 `analysis`. A ledger of an
earlier version is brought up to date when it is opened, after a copy of it was made.
"""


class Base(DeclarativeBase):
    """Base of the ledger's tables."""

    type_annotation_map: ClassVar = {
        float: Double,
        datetime: Moment,
        State: word(State, 16),
        Role: word(Role, 32),
        PlanState: word(PlanState, 16),
    }


class Schema(Base):
    """One row: the version of these tables."""

    __tablename__ = "attnsearch_schema"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    created: Mapped[float]


class Study(StudyRow, Base):
    """The table of studies."""

    __tablename__ = "study"
    __table_args__ = (UniqueConstraint("name", "number"),)


class Run(RunRow, Base):
    """The table of trainings."""

    __tablename__ = "run"
    __table_args__ = (UniqueConstraint("key", "generation"),)


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
    role: Mapped[Role]
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


class PlanRecord(PlanRow, Base):
    """The table of plans."""

    __tablename__ = "plan"
    __table_args__ = (UniqueConstraint("study_id", "hash"),)


class LookRecord(Look, Base):
    """The table of looks; ``number`` counts those of one fingerprint in all studies."""

    __tablename__ = "look"
    __table_args__ = (
        UniqueConstraint("fingerprint", "number"),
        UniqueConstraint("fingerprint", "plan_id"),
    )


class AnalysisRecord(Analysis, Base):
    """The table of analyses."""

    __tablename__ = "analysis"


class StoredFile(Base):
    """The SHA-256 of a file, which is named relative to the ledger's folder where it is in it."""

    __tablename__ = "stored_file"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    checksum: Mapped[str] = mapped_column(String(64))


class DataContent(Base):
    """What each example of a data set held, as compressed JSON: name to part and hash."""

    __tablename__ = "data_content"

    fingerprint: Mapped[str] = mapped_column(String(128), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


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
