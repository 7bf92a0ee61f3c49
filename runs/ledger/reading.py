"""Reading the ledger's tables into records, within a transaction.

A row that says ``running`` is only believed while the lease of the process behind it holds.
"""

from collections.abc import Mapping
from time import time
from typing import Any

from sqlalchemy import Connection, select

from attnsearch.runs.ledger.lease import Held, held
from attnsearch.runs.ledger.records import RunRow, StudyRow, TrialRow, run_fields, study_row
from attnsearch.runs.ledger.schema import Epoch, Run, Study, StudyRun
from attnsearch.runs.ledger.states import State


def read_places(connection: Connection, *conditions: Any) -> list[TrialRow]:
    """Read the rows of ``study_run`` that meet the conditions, with all that a place shows."""
    origin, origin_study = StudyRun.__table__.alias(), Study.__table__.alias()
    rows = connection.execute(
        select(
            *Run.__table__.columns,
            StudyRun.id.label("place_id"),
            StudyRun.study_id.label("place_study_id"),
            *(
                getattr(StudyRun, name)
                for name in ("role", "arm", "number", "name", "decisions", "proposal")
            ),
            StudyRun.mlflow_run_id,
            origin.c.name.label("origin_name"),
            origin_study.c.name.label("origin_study"),
            origin_study.c.number.label("origin_number"),
        )
        .join(StudyRun, StudyRun.run_id == Run.id)
        .outerjoin(origin, origin.c.id == StudyRun.reused_from)
        .outerjoin(origin_study, origin_study.c.id == origin.c.study_id)
        .where(*conditions)
        .order_by(StudyRun.arm, StudyRun.number, StudyRun.id)
    ).all()
    epochs = read_epochs(connection, Run.id.in_(select(StudyRun.run_id).where(*conditions)))
    leases, now = held(connection), time()
    return [
        TrialRow(
            **{
                **run_row_fields(row._asdict(), epochs.get(row.id, []), leases, now),
                "study_id": row.place_study_id,
            },
            place_id=row.place_id,
            role=row.role,
            arm=row.arm or None,
            number=row.number,
            name=row.name,
            values=row.decisions,
            proposal=row.proposal,
            reused_from=(
                f"{row.origin_study}/{row.origin_number}: {row.origin_name}"
                if row.origin_name
                else None
            ),
            mlflow_run_id=row.mlflow_run_id,
        )
        for row in rows
    ]


def read_epochs(connection: Connection, condition: Any) -> dict[int, list[dict[str, Any]]]:
    """Read the epochs of the latest attempt of some runs, oldest first."""
    found: dict[int, list[dict[str, Any]]] = {}
    rows = connection.execute(
        select(Epoch.run_id, Epoch.epoch, Epoch.metrics)
        .join(Run, (Run.id == Epoch.run_id) & (Run.attempt == Epoch.attempt))
        .where(condition)
        .order_by(Epoch.run_id, Epoch.epoch)
    )
    for row in rows:
        found.setdefault(row.run_id, []).append({"epoch": row.epoch, **row.metrics})
    return found


def run_row_fields(
    row: Mapping[str, Any], epochs: list[dict[str, Any]], leases: Mapping[str, Held], now: float
) -> dict[str, Any]:
    """Collect the fields of a `RunRow`, with the state and the end that a dead driver left."""
    state = true_state("run", row["id"], row["state"], leases, now)
    lease = leases.get(f"run:{row['id']}")
    if state == State.INTERRUPTED and row["ended"] is None:
        row = {**row, "ended": lease.heartbeat if lease else row["started"]}
    return run_fields(row, epochs, state=state, now=now)


def is_dead(lease: Held | None, now: float) -> bool:
    """Return whether no living process stands behind a row that says ``running``."""
    return lease is None or lease.void(now)


def true_state(
    kind: str, row_id: int, state: State, leases: Mapping[str, Held], now: float
) -> State:
    """Tell the state of a row, given that the process behind a running one may be dead."""
    dead = state == State.RUNNING and is_dead(leases.get(f"{kind}:{row_id}"), now)
    return State.INTERRUPTED if dead else state


def read_run(connection: Connection, run_id: int) -> RunRow:
    """Read one run."""
    row = connection.execute(select(*Run.__table__.columns).where(Run.id == run_id)).one()
    leases, now = held(connection, f"run:{run_id}"), time()
    epochs = read_epochs(connection, Run.id == run_id).get(run_id, [])
    return RunRow(**run_row_fields(row._asdict(), epochs, leases, now))


def read_studies(connection: Connection, *conditions: Any) -> list[StudyRow]:
    """Read the studies that meet the conditions, oldest first."""
    leases, now = held(connection), time()
    query = select(*Study.__table__.columns).where(*conditions).order_by(Study.id)
    return [
        study_row(row._asdict(), state=true_state("study", row.id, row.state, leases, now))
        for row in connection.execute(query)
    ]
