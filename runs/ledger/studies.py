"""The ledger's studies: opening, continuing, finding them, and noting how they stand."""

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any, Self

from sqlalchemy import Connection, CursorResult, delete, func, insert, select, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError

from attnsearch.runs.ledger.database import Database, LedgerError
from attnsearch.runs.ledger.lease import Holder, acquire, held, release
from attnsearch.runs.ledger.reading import is_dead, read_studies, true_state
from attnsearch.runs.ledger.records import StudyRow
from attnsearch.runs.ledger.schema import Lease, Run, Study, StudyRun, plain
from attnsearch.runs.ledger.states import STUDY_STATES, State

RACES = 20
"""Attempts at a write that another process may win; the second all but always holds."""


_NOT_OF_EXPLORING = (
    "confirm",
    "ablation",
    "resources",
    "primary_metric",
    "alpha",
    "smallest_effect",
    "margin",
    "published",
)


def study_digest(document: Mapping[str, Any], fingerprint: str) -> str:
    """Hash what the trials of a study depend on.

    Left out is what may change while a study goes on: the confirm and ablation acts and how their
    scores are compared, resources, the number of trials, and where the data lies (its fingerprint
    counts, not its path).
    """
    kept = {k: v for k, v in document.items() if k not in _NOT_OF_EXPLORING}
    kept["search"] = {k: v for k, v in (kept.get("search") or {}).items() if k != "trials"}
    kept["data"] = {k: v for k, v in (kept.get("data") or {}).items() if k != "source"}
    text = json.dumps([_given(kept), fingerprint], sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _given(value: Any) -> Any:
    """Leave out keys that are null: one that a later version adds changes no digest."""
    if isinstance(value, Mapping):
        return {key: _given(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_given(item) for item in value]
    return value


class Studies:
    """The studies of a ledger; `attnsearch.runs.ledger.ledger.Ledger` adds their runs.

    Args:
        url: A file's path or a database URL; without it ``ATTNSEARCH_LEDGER``, else
            ``attnsearch.db`` in the current folder.
        create: Whether to create a missing ledger; otherwise it is an error.

    Raises:
        LedgerError: It cannot be opened; the message says why and what to do.
    """

    def __init__(self, url: str | Path | URL | None = None, *, create: bool = True) -> None:
        self.database = Database(url, create=create)
        self.token = uuid.uuid4().hex
        self.holder = Holder.current()

    def __str__(self) -> str:
        return str(self.database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        """The folder of the ledger's file; the current folder where it is a server."""
        return self.database.path.parent if self.database.path else Path.cwd()

    def close(self) -> None:
        """Give back all leases (what still runs becomes ``interrupted``) and disconnect."""
        with suppress(LedgerError):  # the leases then end with this process
            with self.database.write() as connection:
                connection.execute(delete(Lease).where(Lease.token == self.token))
            self.reconcile()
        self.database.close()

    def open_study(
        self,
        name: str,
        space_text: str,
        document: Mapping[str, Any],
        fingerprint: str,
        provenance: Mapping[str, Any],
        *,
        fresh: bool = False,
        number: int | None = None,
    ) -> StudyRow:
        """Start a study, or continue the one of this name, space and data.

        A changed space (see `study_digest`) gets a new number of the same name; changing it back
        continues the earlier number. The space file as given now replaces the stored one.

        Args:
            name: The space file's ``name``.
            space_text: The space file as given.
            document: The space file checked, with defaults.
            fingerprint: Of the data.
            provenance: Versions, hardware and command of this start; added to the earlier ones.
            fresh: Start a new number in any case, and let its claims ignore other studies' runs.
            number: Continue this number of several that are alike; by default the latest.

        Raises:
            LedgerError: Another living process runs this study.
        """
        self.reconcile()
        digest = study_digest(document, fingerprint)
        for _ in range(RACES):
            with suppress(IntegrityError), self.database.write() as connection:
                now = time()
                query = select(Study.id).where(Study.name == name, Study.digest == digest)
                if number is not None:
                    query = query.where(Study.number == number)
                known = connection.execute(query.order_by(Study.number.desc())).scalar()
                if known is None or fresh:
                    study_id = self._insert_study(
                        connection, name, digest, fingerprint, fresh, now
                    )
                else:
                    study_id = known
                other = acquire(connection, f"study:{study_id}", self.token, self.holder, now)
                if other:
                    raise LedgerError(
                        f"the study {name!r} is being run by {other.holder}; wait for it or end "
                        "it, or give the space file another name"
                    )
                past = connection.execute(
                    select(Study.provenance).where(Study.id == study_id)
                ).scalar_one()
                connection.execute(
                    update(Study)
                    .where(Study.id == study_id)
                    .values(
                        state=State.RUNNING,
                        ended=None,
                        space_text=space_text,
                        document=dict(document),
                        provenance=[*past, dict(provenance)],
                    )
                )
                return read_studies(connection, Study.id == study_id)[0]
        raise LedgerError(f"the study {name!r} could not be opened: too many start at once")

    @staticmethod
    def _insert_study(
        connection: Connection, name: str, digest: str, fingerprint: str, fresh: bool, now: float
    ) -> int:
        last = connection.execute(
            select(func.max(Study.number)).where(Study.name == name)
        ).scalar_one_or_none()
        result = connection.execute(
            insert(Study).values(
                uid=uuid.uuid4().hex,
                name=name,
                number=(last or 0) + 1,
                state=State.RUNNING,
                digest=digest,
                fingerprint=fingerprint,
                fresh=fresh,
                space_text="",
                document={},
                provenance=[],
                created=now,
            )
        )
        return inserted(result)

    def studies(self) -> list[StudyRow]:
        """List all studies, oldest first."""
        with self.database.read() as connection:
            return read_studies(connection)

    def study(self, study_id: int) -> StudyRow:
        """Read one study by its number in the ledger."""
        with self.database.read() as connection:
            return read_studies(connection, Study.id == study_id)[0]

    def find_study(self, address: str) -> StudyRow:
        """Find a study by ``name`` (the newest of that name) or ``name/number``.

        Raises:
            LedgerError: There is none; the message lists what there is.
        """
        studies = self.studies()
        for study in reversed(studies):
            if address in (study.name, study.label):
                return study
        have = ", ".join(study.label for study in studies) or "none yet"
        raise LedgerError(f"there is no study {address!r} in {self}; there are: {have}")

    def set_study_state(self, study_id: int, state: State) -> None:
        """Set a study's state; every state but ``running`` gives its lease back."""
        if State(state) not in STUDY_STATES:
            raise ValueError(f"a study is never {state}")
        with self.database.write() as connection:
            ended = None if state == State.RUNNING else time()
            connection.execute(
                update(Study).where(Study.id == study_id).values(state=state, ended=ended)
            )
            if state != State.RUNNING:
                release(connection, f"study:{study_id}", self.token)

    def set_importances(
        self, study_id: int, importances: Mapping[str, Mapping[str, float]]
    ) -> None:
        """Keep the parameter importances: objective -> decision -> importance in 0..1."""
        with self.database.write() as connection:
            connection.execute(
                update(Study)
                .where(Study.id == study_id)
                .values(importances={k: dict(v) for k, v in importances.items()})
            )

    def counts(self, study_id: int) -> dict[State, int]:
        """Count a study's runs by state."""
        with self.database.read() as connection:
            leases, now = held(connection), time()
            rows = connection.execute(
                select(Run.id, Run.state)
                .join(StudyRun, StudyRun.run_id == Run.id)
                .where(StudyRun.study_id == study_id)
            )
            return dict(Counter(true_state("run", row.id, row.state, leases, now) for row in rows))

    def hold(self, resource: str) -> str | None:
        """Take a lease on something other than a run or a study, or renew it.

        Returns:
            None if it is held now, else who holds it.
        """
        with suppress(IntegrityError), self.database.write() as connection:
            other = acquire(connection, resource, self.token, self.holder, time())
            return None if other is None else str(other.holder)
        return "another process"  # it was quicker by a moment

    def free(self, resource: str) -> None:
        """Give back what `hold` took."""
        with self.database.write() as connection:
            release(connection, resource, self.token)

    def reconcile(self) -> int:
        """Write down what died: running rows without a living lease become ``interrupted``.

        Returns:
            How many runs and studies that were.
        """
        found = 0
        with self.database.read() as connection:
            leases, now = held(connection), time()
            dead = [
                (table, kind, row.id)
                for table, kind in ((Run, "run"), (Study, "study"))
                for row in connection.execute(select(table.id).where(table.state == State.RUNNING))
                if is_dead(leases.get(f"{kind}:{row.id}"), now)
            ]
        for table, kind, row_id in dead:
            with self.database.write() as connection:
                resource = f"{kind}:{row_id}"
                lease, now = held(connection, resource).get(resource), time()
                if lease and not (lease.void(now) and release(connection, resource, lease.token)):
                    continue  # claimed in between
                changed = connection.execute(
                    update(table)
                    .where(table.id == row_id, table.state == State.RUNNING)
                    .values(state=State.INTERRUPTED, ended=lease.heartbeat if lease else now)
                ).rowcount
                if changed and table is Run:
                    touch(connection, row_id)
                found += changed
        return found


def touch(connection: Connection, run_id: int) -> None:
    """Count a change of a run, so that a mirror sees it."""
    connection.execute(update(Run).where(Run.id == run_id).values(revision=Run.revision + 1))


def inserted(result: CursorResult[Any]) -> int:
    """Tell the number that an inserted row got."""
    key = result.inserted_primary_key
    assert key is not None, "an INSERT of one row always has a key"
    return int(key[0])
