"""Reading the ledger's tables into records, within a transaction.

A row that says it runs is only believed while the lease of the process behind it holds.
"""

from collections.abc import Collection, Mapping
from time import time
from typing import Any

from sqlalchemy import Connection, select

from attnsearch.runs.ledger.lease import Held, held
from attnsearch.runs.ledger.records import Record, RunRow, StudyRow, TrialRow, build
from attnsearch.runs.ledger.schema import Epoch, Run, Study, StudyRun
from attnsearch.runs.ledger.states import ARM_ROLES, State
from attnsearch.spaces.file import excess


def read_places(connection: Connection, *conditions: Any) -> list[TrialRow]:
    """Read the rows of ``study_run`` that meet the conditions, with all that a place shows."""
    origin, origin_study = StudyRun.__table__.alias(), Study.__table__.alias()
    rows = connection.execute(
        select(
            *Run.__table__.columns,
            *(column.label(f"place_{column.name}") for column in StudyRun.__table__.columns),
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
    epochs = _read_epochs(connection, Run.id.in_(select(StudyRun.run_id).where(*conditions)))
    leases, now = held(connection), time()
    limits = _limits(connection, {row.place_study_id for row in rows})
    places = []
    for row in rows:
        place = {
            name.removeprefix("place_"): value
            for name, value in row._mapping.items()
            if name.startswith("place_")
        }
        origin_label = f"{row.origin_study}/{row.origin_number}: {row.origin_name}"
        changed = {
            "id": row.id,
            "place_id": row.place_id,
            "arm": row.place_arm or None,
            "violations": row.violations or _above(row, limits[row.place_study_id]),
            "values": row.place_decisions,
            "reused_from": origin_label if row.origin_name else None,
        }
        others = {**place, **changed}
        places.append(_build_run(TrialRow, row, epochs.get(row.id, []), leases, now, **others))
    return places


def _above(row: Any, limits: Mapping[str, float]) -> dict[str, float]:
    """Return which limits a trial's costs are above; those of arms are not limited."""
    amounts = {} if row.place_role in ARM_ROLES else excess(row.costs, limits)
    return {limit: amount for limit, amount in amounts.items() if amount > 0}


def _limits(connection: Connection, studies: Collection[int]) -> dict[int, dict[str, float]]:
    """Read the limits of some studies."""
    rows = connection.execute(select(Study.id, Study.document).where(Study.id.in_(studies)))
    return {
        row.id: {
            name: float(limit)
            for name, limit in (row.document.get("limits") or {}).items()
            if limit is not None
        }
        for row in rows
    }


def read_run(connection: Connection, run_id: int) -> RunRow:
    """Read one run."""
    row = connection.execute(select(*Run.__table__.columns).where(Run.id == run_id)).one()
    epochs = _read_epochs(connection, Run.id == run_id).get(run_id, [])
    return _build_run(RunRow, row, epochs, held(connection, f"run:{run_id}"), time())


def read_studies(connection: Connection, *conditions: Any) -> list[StudyRow]:
    """Read the studies that meet the conditions, oldest first."""
    leases, now = held(connection), time()
    query = select(*Study.__table__.columns).where(*conditions).order_by(Study.id)
    return [
        build(
            StudyRow,
            row._mapping,
            state=true_state("study", row.id, row.state, leases, now),
            provenance=tuple(row.provenance),
        )
        for row in connection.execute(query)
    ]


def is_dead(lease: Held | None, now: float) -> bool:
    """Return whether no living process stands behind a row that says it runs."""
    return lease is None or lease.void(now)


def true_state(
    kind: str, row_id: int, state: State, leases: Mapping[str, Held], now: float
) -> State:
    """Tell the state of a row, given that the process behind a running one may be dead."""
    dead = state == State.RUNNING and is_dead(leases.get(f"{kind}:{row_id}"), now)
    return State.INTERRUPTED if dead else state


def _read_epochs(connection: Connection, condition: Any) -> dict[int, list[dict[str, Any]]]:
    """Read the epochs of the latest attempt of some runs, oldest first."""
    epochs: dict[int, list[dict[str, Any]]] = {}
    rows = connection.execute(
        select(Epoch.run_id, Epoch.epoch, Epoch.metrics)
        .join(Run, (Run.id == Epoch.run_id) & (Run.attempt == Epoch.attempt))
        .where(condition)
        .order_by(Epoch.run_id, Epoch.epoch)
    )
    for row in rows:
        epochs.setdefault(row.run_id, []).append({"epoch": row.epoch, **row.metrics})
    return epochs


def _build_run(
    record: type[Record],
    row: Any,
    epochs: list[dict[str, Any]],
    leases: Mapping[str, Held],
    now: float,
    **others: Any,
) -> Record:
    """Build a run's record, with the state and the end that a dead driver left."""
    state = true_state("run", row.id, row.state, leases, now)
    ended = row.ended
    if state == State.INTERRUPTED and ended is None:
        lease = leases.get(f"run:{row.id}")
        ended = lease.heartbeat if lease else row.started
    return build(
        record,
        row._mapping,
        state=state,
        schedule_epochs=row.epochs,
        epochs=tuple(epochs),
        ended=ended,
        seconds=(now if ended is None else ended) - row.started,
        **others,
    )
