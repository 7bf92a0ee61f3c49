"""Reading the ledger's tables into records, within a transaction.

A row that says it runs is only believed while the lease of the process behind it holds.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, String, bindparam, cast, select

from attnsearch.blocks.garbage import no_garbage
from attnsearch.runs.ledger.files import located
from attnsearch.runs.ledger.lease import Held, Holder, held, shared_resource
from attnsearch.runs.ledger.records import RunRow, StudyRow, TrialRow
from attnsearch.runs.ledger.schema import Epoch, Run, Study, StudyRun
from attnsearch.runs.ledger.states import ARM_ROLES, State
from attnsearch.spaces.keys import excess

_EPOCHS = (
    select(Epoch.run_id, Epoch.epoch, Epoch.metrics)
    .join(Run, (Run.id == Epoch.run_id) & (Run.attempt == Epoch.attempt))
    .order_by(Epoch.run_id, Epoch.epoch)
)
# Built once, see `access`.
_RUN = select(*Run.__table__.columns).where(Run.id == bindparam("run_id"))
_EPOCHS_OF_RUN = _EPOCHS.where(Run.id == bindparam("run_id"))


class Drivers:
    """The processes behind what runs, as a transaction finds their leases.

    Args:
        connection: The transaction.
        *resources: Whose leases to read; all, if none is named.
    """

    def __init__(self, connection: Connection, *resources: str) -> None:
        self.leases: dict[str, list[Held]] = defaultdict(list)
        for resource, lease in held(connection, *resources).items():
            self.leases[shared_resource(resource)].append(lease)
        self.now = datetime.now(UTC)

    def living(self, resource: str, but: str = "") -> list[Holder]:
        """Return the living processes behind a run or a study, oldest lease first.

        Args:
            resource: Such as ``run:12``, or ``study:3`` with all that share it.
            but: The token of a ledger object that does not count.
        """
        leases = [lease for lease in self.leases.get(resource, ()) if lease.token != but]
        return [lease.holder for lease in leases if not lease.void(self.now.timestamp())]

    def dead(self, resource: str) -> bool:
        """Return whether no living process stands behind a row that says it runs."""
        return not self.living(resource)

    def state_of(self, kind: str, row: Any) -> State:
        """Tell the state of a run or a study, given that the process behind it may be dead."""
        dead = row.state == State.RUNNING and self.dead(f"{kind}:{row.id}")
        return State.INTERRUPTED if dead else State(row.state)

    def last_sign(self, resource: str) -> datetime | None:
        """Tell when a process last renewed its lease."""
        beats = [lease.heartbeat for lease in self.leases.get(resource, ())]
        return datetime.fromtimestamp(max(beats), UTC) if beats else None


@no_garbage()
def read_places(connection: Connection, *conditions: Any) -> list[TrialRow]:
    """Read the rows of ``study_run`` that meet the conditions, with all that a place shows."""
    origin, origin_study = StudyRun.__table__.alias(), Study.__table__.alias()
    trained_at = origin_study.c.name + "/" + cast(origin_study.c.number, String)
    rows = connection.execute(
        select(
            *(column for column in Run.__table__.columns if column.name != "study_id"),
            StudyRun.id.label("place_id"),
            StudyRun.study_id,
            StudyRun.role,
            StudyRun.arm,
            StudyRun.number,
            StudyRun.name,
            StudyRun.decisions.label("values"),
            StudyRun.proposal,
            (trained_at + ": " + origin.c.name).label("reused_from"),
            StudyRun.mlflow_run_id,
        )
        .join(StudyRun, StudyRun.run_id == Run.id)
        .outerjoin(origin, origin.c.id == StudyRun.reused_from)
        .outerjoin(origin_study, origin_study.c.id == origin.c.study_id)
        .where(*conditions)
        .order_by(StudyRun.arm, StudyRun.number, StudyRun.id)
    ).all()
    placed = select(StudyRun.run_id).join(Run, Run.id == StudyRun.run_id).where(*conditions)
    # Else a run of the conditions is each epoch's, and all places are gone through for each.
    epochs = _grouped(connection.execute(_EPOCHS.where(Run.id.in_(placed.correlate(None)))))
    drivers, studies = Drivers(connection), {row.study_id for row in rows}
    query = select(Study.id, Study.document).where(Study.id.in_(studies))
    documents = {study.id: study.document for study in connection.execute(query)}
    return [
        TrialRow(
            row._mapping,
            **_standing(row, epochs, drivers),
            weights_path=located(connection, row.weights_path),
            arm=row.arm or None,
            violations=row.violations or _above(row, documents[row.study_id]),
        )
        for row in rows
    ]


def _above(row: Any, document: Mapping[str, Any]) -> dict[str, float]:
    """Return which limits of its study a trial's costs are above; those of arms are not limited.

    Args:
        row: The trial.
        document: The study's space file.
    """
    if row.role in ARM_ROLES:
        return {}
    limits = {k: v for k, v in (document.get("limits") or {}).items() if v is not None}
    return {limit: above for limit, above in excess(row.costs, limits).items() if above > 0}


def read_run(connection: Connection, run_id: int) -> RunRow:
    """Read one run."""
    row = connection.execute(_RUN, {"run_id": run_id}).one()
    epochs = _grouped(connection.execute(_EPOCHS_OF_RUN, {"run_id": run_id}))
    return RunRow(
        row._mapping,
        **_standing(row, epochs, Drivers(connection, f"run:{run_id}")),
        weights_path=located(connection, row.weights_path),
    )


def read_studies(connection: Connection, *conditions: Any) -> list[StudyRow]:
    """Read the studies that meet the conditions, oldest first."""
    drivers = Drivers(connection)
    query = select(*Study.__table__.columns).where(*conditions).order_by(Study.id)
    return [
        StudyRow(
            row._mapping,
            state=drivers.state_of("study", row),
            provenance=tuple(row.provenance),
            importances=_tested(row.importances),
        )
        for row in connection.execute(query)
    ]


def _tested(importances: dict[str, Any] | None) -> dict[str, Any] | None:
    """Leave out shares of earlier versions, plain numbers that were not held against chance."""
    return importances and {
        objective: {name: share for name, share in shares.items() if isinstance(share, dict)}
        for objective, shares in importances.items()
    }


def _grouped(rows: Iterable[Any]) -> dict[int, list[dict[str, Any]]]:
    """Return the epochs of the latest attempt of some runs, oldest first, by run."""
    epochs: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        epochs.setdefault(row.run_id, []).append({"epoch": row.epoch, **row.metrics})
    return epochs


def _standing(
    row: Any, epochs: Mapping[int, list[dict[str, Any]]], drivers: Drivers
) -> dict[str, Any]:
    """Tell how a run stands beside its columns, with the end that a dead driver left."""
    state, ended = drivers.state_of("run", row), row.ended
    if state == State.INTERRUPTED and ended is None:
        ended = drivers.last_sign(f"run:{row.id}") or row.started
    return {
        "state": state,
        "epochs": tuple(epochs.get(row.id, ())),
        "ended": ended,
        "seconds": ((ended or drivers.now) - row.started).total_seconds(),
        "schedule_epochs": row.epochs,
    }
