"""The ledger: the one record of studies and runs that everything else is derived from.

A run is named by its key, which is what determines its result. **A key completes once**: whoever
needs it later is given the result. A run that was stopped early, failed or was found infeasible
keeps its row, and a new need of the same key starts a new generation beside it, so that what one
study recorded never changes under another. An interrupted run is taken up again in its row.

Claims are exclusive between processes, by compare-and-set and a lease (`lease.py`).
Reads never wait for a lease: a run or study whose driver died is read as ``interrupted``, whether
or not someone has come by since to write that down.

All methods may be called from any thread, and raise `LedgerError` when the database cannot be
read or written.
"""

import textwrap
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from attnsearch.runs.ledger.arrays import pack, unpack
from attnsearch.runs.ledger.database import LedgerError
from attnsearch.runs.ledger.lease import acquire, held, release
from attnsearch.runs.ledger.plans import Look, PlanRow, Plans
from attnsearch.runs.ledger.reading import read_places, read_run
from attnsearch.runs.ledger.records import Claim, RunRow, StudyRow, TrialRow
from attnsearch.runs.ledger.schema import Epoch, Lease, Prediction, Run, StudyRun
from attnsearch.runs.ledger.states import Role, State
from attnsearch.runs.ledger.studies import RACES, inserted, touch

__all__ = [
    "Claim",
    "LeaseLost",
    "Ledger",
    "LedgerError",
    "Look",
    "PlanRow",
    "RunRow",
    "StudyRow",
    "TrialRow",
]


class LeaseLost(LedgerError):
    """A run's lease went to another process, which trains it now; this result is not recorded."""


class Ledger(Plans):
    """Studies, plans and runs in an SQLite file or a PostgreSQL database.

    Args:
        url: A file's path or a database URL; without it ``ATTNSEARCH_LEDGER``, else
            ``attnsearch.db`` in the current folder.
        create: Whether to create a missing ledger; otherwise it is an error.

    Raises:
        LedgerError: It cannot be opened; the message says why and what to do.
    """

    def claim(
        self,
        key: str,
        *,
        config: Mapping[str, Any],
        seed: int,
        epochs: int,
        fold: int | None = None,
        study_id: int | None = None,
        fresh: bool = False,
        unusable: Collection[int] = (),
    ) -> Claim:
        """Ask for a run: train it, take its known result, or learn that another trains it.

        Args:
            key: The run key.
            config: The resolved config.
            seed: Of the run.
            epochs: Of the full schedule.
            fold: The fold left out, if the data is folded.
            study_id: The study that needs it; an interrupted run of that study is taken up again.
            fresh: Ignore what was trained for other studies.
            unusable: Finished runs to ignore, because what is needed of them is gone.
        """
        for _ in range(RACES):
            with suppress(IntegrityError), self.database.write() as connection:
                query = select(Run.id, Run.generation, Run.state, Run.study_id)
                rows = connection.execute(query.where(Run.key == key).order_by(Run.generation))
                every = rows.all()
                rows_here = [row for row in every if not fresh or row.study_id == study_id]
                for row in reversed(rows_here):
                    if row.state == State.FINISHED and row.id not in unusable:
                        return Claim("finished", read_run(connection, row.id))
                now = time()
                resumable = None
                for row in rows_here:
                    if row.state == State.RUNNING:
                        lease = held(connection, f"run:{row.id}").get(f"run:{row.id}")
                        if lease and not lease.void(now):
                            run = read_run(connection, row.id)
                            return Claim("busy", run, str(lease.holder))
                    if not row.state.ended and row.study_id == study_id:
                        resumable = row.id
                if resumable is None:
                    generation = every[-1].generation + 1 if every else 1
                    resumable = self._insert_run(
                        connection, key, generation, config, seed, epochs, fold, study_id, now
                    )
                run_id = resumable
                other = acquire(connection, f"run:{run_id}", self.token, self.holder, now)
                if other:
                    return Claim("busy", read_run(connection, run_id), str(other.holder))
                self._start(connection, run_id, now)
                return Claim("claimed", read_run(connection, run_id))
        raise LedgerError(f"the run {key[:12]} could not be claimed: too many ask at once")

    @staticmethod
    def _insert_run(
        connection: Connection,
        key: str,
        generation: int,
        config: Mapping[str, Any],
        seed: int,
        epochs: int,
        fold: int | None,
        study_id: int | None,
        now: float,
    ) -> int:
        result = connection.execute(
            insert(Run).values(
                key=key,
                generation=generation,
                attempt=0,
                study_id=study_id,
                state=State.RUNNING,
                config=dict(config),
                seed=seed,
                fold=fold,
                epochs=epochs,
                metrics={},
                costs={},
                violations={},
                started=now,
                revision=0,
            )
        )
        return inserted(result)

    def _start(self, connection: Connection, run_id: int, now: float) -> None:
        connection.execute(
            update(Run)
            .where(Run.id == run_id)
            .values(
                state=State.RUNNING,
                attempt=Run.attempt + 1,
                revision=Run.revision + 1,
                host=self.holder.host,
                started=now,
                ended=None,
                metrics={},
                costs={},
                violations={},
                error=None,
                traceback=None,
                weights_path=None,
            )
        )
        connection.execute(delete(Prediction).where(Prediction.run_id == run_id))

    def heartbeat(self, run_ids: Iterable[int] = ()) -> list[int]:
        """Renew all leases of this ledger object; call it every `HEARTBEAT_SECONDS`.

        Args:
            run_ids: The runs that the caller believes to hold.

        Returns:
            Those of them whose lease is lost; another process trains them.
        """
        with self.database.write() as connection:
            mine = update(Lease).where(Lease.token == self.token)
            connection.execute(mine.values(heartbeat=time()))
            query = select(Lease.resource).where(Lease.token == self.token)
            holding = set(connection.execute(query).scalars())
        return [run_id for run_id in run_ids if f"run:{run_id}" not in holding]

    def record_epoch(self, run_id: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Record the metrics of one epoch; recording it again replaces them.

        Raises:
            LeaseLost: The run is not held by this ledger object any more.
        """
        with self.database.write() as connection:
            known = connection.execute(
                select(Run.attempt, Epoch.epoch)
                .select_from(Run)
                .join(Lease, Lease.resource == f"run:{run_id}")
                .outerjoin(
                    Epoch,
                    (Epoch.run_id == Run.id)
                    & (Epoch.attempt == Run.attempt)
                    & (Epoch.epoch == epoch),
                )
                .where(Run.id == run_id, Lease.token == self.token)
            ).one_or_none()
            if known is None:
                raise LeaseLost(f"run {run_id} is not held by this process any more")
            place = {"run_id": run_id, "attempt": known.attempt, "epoch": epoch}
            values = {
                "metrics": {k: v for k, v in metrics.items() if k != "epoch"},
                "recorded": time(),
            }
            if known.epoch is None:
                connection.execute(insert(Epoch).values(**place, **values))
            else:
                connection.execute(update(Epoch).filter_by(**place).values(**values))
            touch(connection, run_id)

    def finish(
        self,
        run_id: int,
        state: State,
        *,
        metrics: Mapping[str, Any] | None = None,
        costs: Mapping[str, Any] | None = None,
        violations: Mapping[str, float] | None = None,
        error: str | None = None,
        traceback: str | None = None,
        predictions: Mapping[str, Mapping[str, np.ndarray]] | None = None,
        weights_path: str | Path | None = None,
    ) -> None:
        """End a run that was claimed, once.

        Args:
            run_id: The run.
            state: How it ended; an interrupted one can be taken up again.
            metrics: Its scores.
            costs: Its costs.
            violations: Limit -> amount; positive means violated.
            error: Why it failed, in a sentence.
            traceback: Where.
            predictions: Split -> arrays, for instance ``{"val": {"names": ..., "labels": ...,
                "probabilities": ...}}``; text and numbers only, never objects.
            weights_path: Where its trained weights lie.

        Raises:
            LeaseLost: The run is not held by this ledger object any more.
        """
        if State(state) == State.RUNNING:
            raise ValueError(f"the run {run_id} cannot end as {state}")
        packed = {split: pack(arrays) for split, arrays in (predictions or {}).items()}
        with self.database.write() as connection:
            if not release(connection, f"run:{run_id}", self.token):
                raise LeaseLost(
                    f"run {run_id} is not held by this process any more; its result as "
                    f"'{state}' was not recorded"
                )
            connection.execute(
                update(Run)
                .where(Run.id == run_id)
                .values(
                    state=state,
                    metrics=dict(metrics or {}),
                    costs=dict(costs or {}),
                    violations=dict(violations or {}),
                    error=error,
                    traceback=traceback,
                    weights_path=None if weights_path is None else str(weights_path),
                    ended=time(),
                )
            )
            for split, data in packed.items():
                connection.execute(
                    insert(Prediction).values(run_id=run_id, split=split, data=data)
                )
            touch(connection, run_id)

    def set_weights_path(self, run_id: int, path: str | Path | None) -> None:
        """Note where a run's weights lie now; None once they are deleted."""
        with self.database.write() as connection:
            connection.execute(
                update(Run)
                .where(Run.id == run_id)
                .values(weights_path=None if path is None else str(path))
            )

    def run(self, run_id: int) -> RunRow:
        """Read one run by its number in the ledger."""
        with self.database.read() as connection:
            return read_run(connection, run_id)

    def finished_keys(self, keys: Collection[str], study_id: int | None = None) -> set[str]:
        """Tell which of some keys have a finished run.

        Args:
            keys: The run keys.
            study_id: Count only what was trained for this study.
        """
        query = select(Run.key).where(Run.state == State.FINISHED)
        if study_id is not None:
            query = query.where(Run.study_id == study_id)
        wanted, found = sorted(set(keys)), set()
        with self.database.read() as connection:
            for start in range(0, len(wanted), 500):
                some = Run.key.in_(wanted[start : start + 500])
                found |= set(connection.execute(query.where(some)).scalars())
        return found

    def predictions(self, run_id: int) -> dict[str, dict[str, np.ndarray]]:
        """Read a run's stored predictions: split -> arrays."""
        query = select(Prediction.split, Prediction.data).where(Prediction.run_id == run_id)
        with self.database.read() as connection:
            return {row.split: unpack(row.data) for row in connection.execute(query)}

    def attach(
        self,
        study_id: int,
        run_id: int,
        *,
        number: int,
        role: Role = Role.TRIAL,
        arm: str | None = None,
        name: str | None = None,
        values: Mapping[str, Any] | None = None,
        proposal: Mapping[str, Any] | None = None,
    ) -> int:
        """Give a run its place in a study, or point that place at another run.

        Args:
            study_id: The study.
            run_id: The run, of this study or reused from an earlier one.
            number: The trial's number in the study, or the run's in its arm.
            role: What it is in the study for.
            arm: The arm's label; None for a trial. Role, arm and number name the place.
            name: A name a person can read, unique in the study; without it
                ``012 ecrm@layer4 psa@layer3`` for a trial, ``arm gc@layer4 seed 2`` for an arm.
            values: The decisions: name -> value.
            proposal: What the proposer wants to remember about it.

        Returns:
            The number of the place in the ledger.
        """
        place = {"study_id": study_id, "role": role, "arm": arm or "", "number": number}
        fields = {
            "run_id": run_id,
            "decisions": dict(values or {}),
            "proposal": dict(proposal or {}),
        }
        with self.database.write() as connection:
            fields["name"] = name or _place_name(connection, run_id, number, arm)
            here = [getattr(StudyRun, column) == value for column, value in place.items()]
            known = connection.execute(
                select(StudyRun.id, StudyRun.run_id, StudyRun.reused_from).where(*here)
            ).one_or_none()
            if known is None or known.run_id != run_id:
                fields["reused_from"] = _origin(connection, run_id)
            if known is not None:
                changed = update(StudyRun).where(StudyRun.id == known.id)
                connection.execute(changed.values(**fields, mirrored_revision=-1))
                return int(known.id)
            result = connection.execute(insert(StudyRun).values(**place, **fields, created=time()))
            return inserted(result)

    def trials(self, study_id: int) -> list[TrialRow]:
        """Read a study's runs in their places: trials first, then arms, by number."""
        with self.database.read() as connection:
            return read_places(connection, StudyRun.study_id == study_id)


def _place_name(connection: Connection, run_id: int, number: int, arm: str | None) -> str:
    """Name a place for a person, within the length that the column and MLflow's lists take."""
    run = connection.execute(select(Run.config, Run.seed, Run.fold).where(Run.id == run_id)).one()
    if arm is None:
        # Imported here: it brings torch, which listing a ledger does not need.
        from attnsearch.blocks.build import describe

        return f"{number:03d} {textwrap.shorten(describe(run.config), 200, placeholder=' ...')}"
    fold = "" if run.fold is None else f" fold {run.fold}"
    return f"arm {textwrap.shorten(arm, 200, placeholder=' ...')} seed {run.seed}{fold}"


def _origin(connection: Connection, run_id: int) -> int | None:
    """Find the place that a run was trained for: the first in the study it belongs to."""
    query = select(StudyRun.id).join(Run, Run.id == StudyRun.run_id).where(Run.id == run_id)
    query = query.order_by(StudyRun.study_id != Run.study_id, StudyRun.id)
    return connection.execute(query).scalars().first()
