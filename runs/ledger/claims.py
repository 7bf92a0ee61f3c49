"""The ledger's runs: claiming them, what came of them, and their places in studies.

A run is named by its key, which is what determines its result. **A key completes once**: whoever
needs it later is given the result. A run that was stopped early, failed or was found infeasible
keeps its row, and a new need of the same key starts a new generation beside it, so that what one
study recorded never changes under another. An interrupted run is taken up again in its row, and so
is one whose worker was lost: what the machine did is not what the training did.

Claims are exclusive between processes, by a lease (`lease.py`).

Its places are a trial of a study, or one seed of an arm; several studies may place one run.
"""

import textwrap
import zlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from time import time
from typing import Any
from zipfile import BadZipFile

import numpy as np
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from attnsearch.blocks.naming import describe
from attnsearch.runs.ledger.access import Access, add, change, renew, touch
from attnsearch.runs.ledger.encoding import pack, unpack
from attnsearch.runs.ledger.files import stored_name
from attnsearch.runs.ledger.lease import release
from attnsearch.runs.ledger.patience import LedgerError
from attnsearch.runs.ledger.reading import Drivers, read_places, read_run
from attnsearch.runs.ledger.records import RunRow, TrialRow
from attnsearch.runs.ledger.requests import Claim, Ending, Place, Request
from attnsearch.runs.ledger.schema import Epoch, Lease, Prediction, Run, StudyRun
from attnsearch.runs.ledger.states import SEARCH_ROLES, State, lost

DAMAGE = BadZipFile, zlib.error, ValueError, EOFError, KeyError, OSError, NotImplementedError
"""What reading damaged predictions raises; a zip file has a checksum for each array."""

# Built once, see `access`.
_OF_KEY = (
    select(Run.id, Run.generation, Run.state, Run.study_id, Run.attempt, Run.error)
    .where(Run.key == bindparam("key"))
    .order_by(Run.generation)
)
_ATTEMPT = select(Run.attempt).where(Run.id == bindparam("run_id"))
_HELD_ATTEMPT = _ATTEMPT.join(Lease, Lease.resource == bindparam("resource")).where(
    Lease.token == bindparam("token")
)
_AT_PLACE = select(StudyRun.run_id).where(
    StudyRun.study_id == bindparam("study_id"),
    StudyRun.role.in_(bindparam("roles", expanding=True)),
    StudyRun.arm == bindparam("arm"),
    StudyRun.number == bindparam("number"),
)
_PLACED = select(
    StudyRun.id, StudyRun.run_id, StudyRun.name, StudyRun.decisions, StudyRun.proposal
).where(
    *(
        getattr(StudyRun, column) == bindparam(column)
        for column in ("study_id", "role", "arm", "number")
    )
)
_NAMED_BY = select(Run.config, Run.seed, Run.fold).where(Run.id == bindparam("run_id"))
_ORIGIN = (
    select(StudyRun.id)
    .join(Run, Run.id == StudyRun.run_id)
    .where(Run.id == bindparam("run_id"))
    .order_by(StudyRun.study_id != Run.study_id, StudyRun.id)
)


class LeaseLost(LedgerError):
    """A run's lease went to another process, which trains it now; this result is not recorded."""


def claim(
    ledger: Access,
    request: Request,
    *,
    fresh: bool = False,
    unusable: Collection[int] = (),
    goes_on: tuple[int, int] | None = None,
    place: Place | None = None,
    proposed: bool = False,
) -> Claim:
    """Ask for a run: train it, take its known result, or learn that another trains it.

    What drivers of one study share, they share by this: in one transaction the run gets its
    holder and its place.

    Args:
        ledger: The ledger.
        request: The run. An interrupted or lost one of the same study is taken up again.
        fresh: Ignore what was trained for other studies.
        unusable: Finished runs to ignore, because what is needed of them is gone.
        goes_on: An interrupted run, and how many of its epochs need not be trained again. Where it
            is the one that is claimed, this is not another attempt.
        place: Its place in the study; the run stands there from now on.
        proposed: Whether the place was chosen just now, and may have been by another driver too.
    """
    with ledger.database.write() as connection:
        rows = connection.execute(_OF_KEY, {"key": request.key}).all()
        there = _run_at(connection, request.study_id, place)
        if proposed and there is not None and there.key != request.key:
            return Claim("taken", there)
        if there is not None and _ended_as(there, request):
            return Claim("ended", there)
        candidates = [row for row in rows if not fresh or row.study_id == request.study_id]
        for row in reversed(candidates):
            if row.state == State.FINISHED and row.id not in unusable:
                _put(connection, request.study_id, row.id, place)
                return Claim("finished", read_run(connection, row.id))
        resumable = None
        for row in candidates:
            drivers = Drivers(connection, f"run:{row.id}")  # all are as many as there are workers
            if drivers.state_of("run", row) == State.RUNNING:
                (holder,) = drivers.living(f"run:{row.id}")
                if there is None:
                    _put(connection, request.study_id, row.id, place)
                return Claim("busy", read_run(connection, row.id), str(holder))
            if (not row.state.ended or lost(row)) and row.study_id == request.study_id:
                resumable = row
        generation = rows[-1].generation + 1 if rows else 1
        begun = {"state": State.RUNNING, "started": time()}
        run_id = (
            add(connection, Run, **vars(request), generation=generation, **begun)
            if resumable is None
            else resumable.id
        )
        other = ledger.lease(connection, f"run:{run_id}")
        if other:
            return Claim("busy", read_run(connection, run_id), str(other.holder))
        same, epochs = goes_on or (None, 0)
        attempt = (0 if resumable is None else resumable.attempt) + int(run_id != same)
        anew = {"attempt": attempt, "host": ledger.holder.host, "ended": None}
        touch(connection, run_id, **vars(Ending(State.RUNNING)) | begun | anew)
        if resumable is not None:
            connection.execute(delete(Prediction).where(Prediction.run_id == run_id))
            latest = select(Run.attempt).where(Run.id == run_id).scalar_subquery()
            again = delete(Epoch).where(Epoch.run_id == run_id, Epoch.attempt == latest)
            connection.execute(again.where(Epoch.epoch > epochs))
        _put(connection, request.study_id, run_id, place)
        return Claim("claimed", read_run(connection, run_id))


def interrupted(ledger: Access, key: str, study_id: int | None) -> int | None:
    """Return the run of a key that a claim of this study would take up again, if there is one."""
    query = select(Run.id).where(Run.key == key, Run.study_id == study_id)
    query = query.where(Run.state.in_([state for state in State if not state.ended]))
    with ledger.database.read() as connection:
        return connection.execute(query.order_by(Run.generation.desc())).scalars().first()


def heartbeat(ledger: Access, run_ids: Iterable[int] = ()) -> list[int]:
    """Renew all leases of this ledger object; call it every `HEARTBEAT_SECONDS`.

    Args:
        ledger: The ledger.
        run_ids: The runs that the caller believes to hold.

    Returns:
        Those of them whose lease is lost; another process trains them.
    """
    with ledger.database.write() as connection:
        connection.execute(
            update(Lease).where(Lease.token == ledger.token).values(heartbeat=time())
        )
        query = select(Lease.resource).where(Lease.token == ledger.token)
        holding = set(connection.execute(query).scalars())
    return [run_id for run_id in run_ids if f"run:{run_id}" not in holding]


def record_epoch(ledger: Access, run_id: int, epoch: int, metrics: Mapping[str, Any]) -> None:
    """Record the metrics of one epoch; recording it again replaces them.

    Raises:
        LeaseLost: The run is not held by this ledger object any more.
    """
    with ledger.database.write() as connection:
        held = {"resource": f"run:{run_id}", "run_id": run_id, "token": ledger.token}
        attempt = connection.execute(_HELD_ATTEMPT, held).scalar()
        if attempt is None:
            raise LeaseLost(f"run {run_id} is not held by this process any more")
        _write_epoch(connection, run_id, attempt, epoch, metrics)
        touch(connection, run_id)


def finish(
    ledger: Access,
    run_id: int,
    ending: Ending,
    *,
    epochs: Mapping[int, Mapping[str, Any]] | None = None,
    predictions: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> None:
    """End a run that was claimed, once.

    Args:
        ledger: The ledger.
        run_id: The run.
        ending: How it ended, and what came of it.
        epochs: The metrics of its last epochs, those that `record_epoch` has not been given.
        predictions: Split -> arrays, for instance ``{"val": {"names": ..., "labels": ...,
            "probabilities": ...}}``; text and numbers only, never objects.

    Raises:
        LeaseLost: The run is not held by this ledger object any more.
    """
    if State(ending.state) == State.RUNNING:
        raise ValueError(f"the run {run_id} cannot end as {ending.state}")
    packed = {split: pack(arrays) for split, arrays in (predictions or {}).items()}
    with ledger.database.write() as connection:
        if not release(connection, f"run:{run_id}", ledger.token):
            raise LeaseLost(
                f"run {run_id} is not held by this process any more; its result as "
                f"'{ending.state}' was not recorded"
            )
        values = vars(ending)
        if ending.weights_path is not None:
            values = values | {"weights_path": stored_name(ledger, ending.weights_path)}
        if epochs:
            attempt = connection.execute(_ATTEMPT, {"run_id": run_id}).scalar_one()
            for epoch, metrics in epochs.items():
                _write_epoch(connection, run_id, attempt, epoch, metrics)
        touch(connection, run_id, **values, ended=time())
        for split, data in packed.items():
            connection.execute(insert(Prediction).values(run_id=run_id, split=split, data=data))


def add_test(
    ledger: Access,
    run_id: int,
    metrics: Mapping[str, float],
    predictions: Mapping[str, np.ndarray],
) -> None:
    """Add what a finished run's network says about the test part.

    Args:
        ledger: The ledger.
        run_id: The run; its other scores stay as they are.
        metrics: Scores, named ``test_<metric>``.
        predictions: Arrays as `finish` takes them, kept as the split ``test``.
    """
    wrong = [name for name in metrics if not name.startswith("test_")]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no score on the test part")
    data = pack(predictions)
    with ledger.database.write() as connection:
        stored = connection.execute(select(Run.metrics).where(Run.id == run_id)).scalar_one()
        scores = {name: float(value) for name, value in metrics.items()}
        touch(connection, run_id, metrics={**stored, **scores})
        renew(connection, Prediction, {"run_id": run_id, "split": "test"}, data=data)


def set_weights_path(ledger: Access, run_id: int, path: str | Path | None) -> None:
    """Note where a run's weights lie now; None once they are deleted."""
    with ledger.database.write() as connection:
        name = None if path is None else stored_name(ledger, path)
        change(connection, Run, run_id, weights_path=name)


def run(ledger: Access, run_id: int) -> RunRow:
    """Read one run by its number in the ledger."""
    with ledger.database.read() as connection:
        return read_run(connection, run_id)


def finished_keys(ledger: Access, keys: Collection[str], study_id: int | None = None) -> set[str]:
    """Tell which of some keys have a finished run.

    Args:
        ledger: The ledger.
        keys: The run keys.
        study_id: Count only what was trained for this study.
    """
    query = select(Run.key).where(Run.state == State.FINISHED)
    if study_id is not None:
        query = query.where(Run.study_id == study_id)
    with ledger.database.read() as connection:
        return set(keys) & set(connection.execute(query).scalars())


def predictions(ledger: Access, run_id: int) -> dict[str, dict[str, np.ndarray]]:
    """Read a run's stored predictions: split -> arrays.

    Raises:
        LedgerError: They are damaged; the checksums that they carry tell.
    """
    query = select(Prediction.split, Prediction.data).where(Prediction.run_id == run_id)
    with ledger.database.read() as connection:
        try:
            return {row.split: unpack(row.data) for row in connection.execute(query)}
        except DAMAGE as error:
            raise LedgerError(
                f"the predictions of run {run_id} in the ledger {ledger} are damaged ({error}); "
                f"restore a copy of the ledger, or train the run anew (--fresh)"
            ) from error


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
    with ledger.database.write() as connection:
        return _attach(connection, study_id, run_id, place)


def trials(ledger: Access, study_id: int, but: Collection[int] = ()) -> list[TrialRow]:
    """Read a study's runs in their places: trials first, then arms, by number.

    Args:
        ledger: The ledger.
        study_id: The study.
        but: Places to leave out, by their numbers in the ledger.
    """
    with ledger.database.read() as connection:
        return read_places(
            connection, StudyRun.study_id == study_id, *([StudyRun.id.not_in(but)] if but else [])
        )


def _write_epoch(
    connection: Connection, run_id: int, attempt: int, epoch: int, metrics: Mapping[str, Any]
) -> None:
    place = {"run_id": run_id, "attempt": attempt, "epoch": epoch}
    kept = {name: value for name, value in metrics.items() if name != "epoch"}
    renew(connection, Epoch, place, metrics=kept, recorded=time())


def _attach(connection: Connection, study_id: int, run_id: int, place: Place) -> int:
    where = {
        "study_id": study_id,
        "role": place.role,
        "arm": place.arm or "",
        "number": place.number,
    }
    values = {
        "run_id": run_id,
        "name": place.name or _name(connection, run_id, place),
        "decisions": dict(place.values),
        "proposal": dict(place.proposal),
    }
    earlier = connection.execute(_PLACED, where).one_or_none()
    if earlier is not None and values.items() <= dict(earlier._mapping).items():
        return int(earlier.id)
    if earlier is None or earlier.run_id != run_id:
        values["reused_from"] = _origin(connection, run_id)
    if earlier is None:
        return add(connection, StudyRun, **where, **values, created=time())
    change(connection, StudyRun, earlier.id, **values, mirrored_revision=-1)
    return int(earlier.id)


def _put(connection: Connection, study_id: int | None, run_id: int, place: Place | None) -> None:
    """Give a run its place, if it has one."""
    if place is not None and study_id is not None:
        _attach(connection, study_id, run_id, place)


def _ended_as(run: RunRow, request: Request) -> bool:
    """Return whether a run is one that is asked for, and ended without a full schedule."""
    same = (run.key, run.study_id) == (request.key, request.study_id)
    return same and run.settled and run.state != State.FINISHED


def _run_at(connection: Connection, study_id: int | None, place: Place | None) -> RunRow | None:
    """Read the run that stands at a place; trials are numbered together, whatever their role."""
    if place is None:
        return None
    roles = SEARCH_ROLES if place.role in SEARCH_ROLES else {place.role}
    where = {"study_id": study_id, "arm": place.arm or "", "number": place.number}
    run_id = connection.execute(_AT_PLACE, {**where, "roles": list(roles)}).scalar()
    return None if run_id is None else read_run(connection, run_id)


def _name(connection: Connection, run_id: int, place: Place) -> str:
    """Name a place for a person, within the length that the column and MLflow's lists take."""
    run = connection.execute(_NAMED_BY, {"run_id": run_id}).one()
    if place.arm is None:
        inserted = textwrap.shorten(describe(run.config), 200, placeholder=" ...")
        return f"{place.number:03d} {inserted}"
    fold = "" if run.fold is None else f" fold {run.fold}"
    return f"arm {textwrap.shorten(place.arm, 200, placeholder=' ...')} seed {run.seed}{fold}"


def _origin(connection: Connection, run_id: int) -> int | None:
    """Find the place that a run was trained for: the first in the study it belongs to."""
    return connection.execute(_ORIGIN, {"run_id": run_id}).scalars().first()
