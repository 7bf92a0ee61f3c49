"""The places of runs in studies: trials, and the seeds of arms."""

import textwrap
from time import time

from sqlalchemy import Connection, select

from attnsearch.blocks.naming import describe
from attnsearch.runs.ledger.access import Access, add, change
from attnsearch.runs.ledger.reading import read_places
from attnsearch.runs.ledger.records import Place, TrialRow
from attnsearch.runs.ledger.schema import Run, StudyRun


def attach(ledger: Access, study_id: int, run_id: int, place: Place) -> int:
    """Give a run its place in a study, or point that place at another run.

    Args:
        ledger: The ledger.
        study_id: The study.
        run_id: The run, of this study or reused from an earlier one.
        place: The place.

    Returns:
        The number of the place in the ledger.
    """
    where = {
        "study_id": study_id,
        "role": place.role,
        "arm": place.arm or "",
        "number": place.number,
    }
    with ledger.database.write() as connection:
        values = {
            "run_id": run_id,
            "name": place.name or _name(connection, run_id, place),
            "decisions": dict(place.values),
            "proposal": dict(place.proposal),
        }
        query = select(StudyRun.id, StudyRun.run_id).filter_by(**where)
        earlier = connection.execute(query).one_or_none()
        if earlier is None or earlier.run_id != run_id:
            values["reused_from"] = _origin(connection, run_id)
        if earlier is None:
            return add(connection, StudyRun, **where, **values, created=time())
        change(connection, StudyRun, earlier.id, **values, mirrored_revision=-1)
        return int(earlier.id)


def trials(ledger: Access, study_id: int) -> list[TrialRow]:
    """Read a study's runs in their places: trials first, then arms, by number."""
    with ledger.database.read() as connection:
        return read_places(connection, StudyRun.study_id == study_id)


def _name(connection: Connection, run_id: int, place: Place) -> str:
    """Name a place for a person, within the length that the column and MLflow's lists take."""
    run = connection.execute(select(Run.config, Run.seed, Run.fold).where(Run.id == run_id)).one()
    if place.arm is None:
        inserted = textwrap.shorten(describe(run.config), 200, placeholder=" ...")
        return f"{place.number:03d} {inserted}"
    fold = "" if run.fold is None else f" fold {run.fold}"
    return f"arm {textwrap.shorten(place.arm, 200, placeholder=' ...')} seed {run.seed}{fold}"


def _origin(connection: Connection, run_id: int) -> int | None:
    """Find the place that a run was trained for: the first in the study it belongs to."""
    query = select(StudyRun.id).join(Run, Run.id == StudyRun.run_id).where(Run.id == run_id)
    query = query.order_by(StudyRun.study_id != Run.study_id, StudyRun.id)
    return connection.execute(query).scalars().first()
