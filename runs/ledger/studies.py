"""The ledger's studies: opening, continuing, finding them, and noting how they stand."""

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from time import time
from typing import Any

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from attnsearch.runs.ledger.access import Access, add, change, touch
from attnsearch.runs.ledger.database import LedgerError
from attnsearch.runs.ledger.encoding import plain
from attnsearch.runs.ledger.lease import held, release
from attnsearch.runs.ledger.reading import Drivers, read_studies
from attnsearch.runs.ledger.records import StudyRow
from attnsearch.runs.ledger.schema import Lease, Run, Study, StudyRun
from attnsearch.runs.ledger.states import STUDY_STATES, State
from attnsearch.spaces.file import Data, Search, keys_of


def study_digest(document: Mapping[str, Any], fingerprint: str) -> str:
    """Hash what the trials of a study depend on.

    Left out is what may change while a study goes on: the confirm and ablation acts and how their
    scores are compared, resources, the number of trials, and where the data lies (its fingerprint
    counts, not its path).
    """
    kept = _without(document, keys_of("plans", "statistics", "host"))
    kept["search"] = _without(kept.get("search") or {}, keys_of("trials", section=Search))
    kept["data"] = _without(kept.get("data") or {}, keys_of("host", section=Data))
    text = json.dumps([_given(kept), fingerprint], sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _without(section: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in keys}


def _given(value: Any) -> Any:
    """Leave out keys that are null: one that a later version adds changes no digest."""
    if isinstance(value, Mapping):
        return {key: _given(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_given(item) for item in value]
    return value


def close(ledger: Access) -> None:
    """Give back all leases (what still runs becomes interrupted) and disconnect."""
    with suppress(LedgerError):  # the leases then end with this process
        with ledger.database.write() as connection:
            connection.execute(delete(Lease).where(Lease.token == ledger.token))
        reconcile(ledger)
    ledger.database.close()


def open_study(
    ledger: Access,
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
        ledger: The ledger.
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
    reconcile(ledger)
    digest = study_digest(document, fingerprint)

    def write(connection: Connection) -> StudyRow:
        query = select(Study.id).where(Study.name == name, Study.digest == digest)
        if number is not None:
            query = query.where(Study.number == number)
        study_id = connection.execute(query.order_by(Study.number.desc())).scalar()
        if study_id is None or fresh:
            last = select(func.max(Study.number)).where(Study.name == name)
            study_id = add(
                connection,
                Study,
                uid=uuid.uuid4().hex,
                name=name,
                number=(connection.execute(last).scalar() or 0) + 1,
                state=State.RUNNING,
                digest=digest,
                fingerprint=fingerprint,
                fresh=fresh,
                created=time(),
            )
        other = ledger.lease(connection, f"study:{study_id}")
        if other:
            raise LedgerError(
                f"the study {name!r} is being run by {other.holder}; wait for it or end it, or "
                "give the space file another name"
            )
        starts = select(Study.provenance).where(Study.id == study_id)
        change(
            connection,
            Study,
            study_id,
            state=State.RUNNING,
            ended=None,
            space_text=space_text,
            document=dict(document),
            provenance=[*connection.execute(starts).scalar_one(), dict(provenance)],
        )
        return read_studies(connection, Study.id == study_id)[0]

    return ledger.settle(write, f"the study {name!r} could not be opened")


def studies(ledger: Access) -> list[StudyRow]:
    """List all studies, oldest first."""
    with ledger.database.read() as connection:
        return read_studies(connection)


def study(ledger: Access, study_id: int) -> StudyRow:
    """Read one study by its number in the ledger."""
    with ledger.database.read() as connection:
        return read_studies(connection, Study.id == study_id)[0]


def find_study(ledger: Access, address: str) -> StudyRow:
    """Find a study by ``name`` (the newest of that name) or ``name/number``.

    Raises:
        LedgerError: There is none; the message lists what there is.
    """
    every = studies(ledger)
    for study in reversed(every):
        if address in (study.name, study.label):
            return study
    have = ", ".join(study.label for study in every) or "none yet"
    raise LedgerError(f"there is no study {address!r} in {ledger}; there are: {have}")


def set_study_state(ledger: Access, study_id: int, state: State) -> None:
    """Set a study's state; every state but ``running`` gives its lease back."""
    if State(state) not in STUDY_STATES:
        raise ValueError(f"a study is never {state}")
    with ledger.database.write() as connection:
        ended = None if state == State.RUNNING else time()
        change(connection, Study, study_id, state=state, ended=ended)
        if state != State.RUNNING:
            release(connection, f"study:{study_id}", ledger.token)


def set_importances(
    ledger: Access, study_id: int, importances: Mapping[str, Mapping[str, float]]
) -> None:
    """Keep the parameter importances: objective -> decision -> importance in 0..1."""
    with ledger.database.write() as connection:
        values = {objective: dict(shares) for objective, shares in importances.items()}
        change(connection, Study, study_id, importances=values)


def counts(ledger: Access, study_id: int) -> dict[State, int]:
    """Count a study's runs by state."""
    with ledger.database.read() as connection:
        drivers = Drivers(connection)
        rows = connection.execute(
            select(Run.id, Run.state)
            .join(StudyRun, StudyRun.run_id == Run.id)
            .where(StudyRun.study_id == study_id)
        )
        return dict(Counter(drivers.state_of("run", row) for row in rows))


def hold(ledger: Access, resource: str) -> str | None:
    """Take a lease on something other than a run or a study, or renew it.

    Returns:
        None if it is held now, else who holds it.
    """
    with suppress(IntegrityError), ledger.database.write() as connection:
        other = ledger.lease(connection, resource)
        return None if other is None else str(other.holder)
    return "another process"  # it was quicker by a moment


def free(ledger: Access, resource: str) -> None:
    """Give back what `hold` took."""
    with ledger.database.write() as connection:
        release(connection, resource, ledger.token)


def reconcile(ledger: Access) -> int:
    """Write down what died: running rows without a living lease become ``interrupted``.

    Returns:
        How many runs and studies that were.
    """
    count = 0
    with ledger.database.read() as connection:
        drivers = Drivers(connection)
        dead = [
            (table, kind, row.id)
            for table, kind in ((Run, "run"), (Study, "study"))
            for row in connection.execute(select(table.id).where(table.state == State.RUNNING))
            if drivers.dead(f"{kind}:{row.id}")
        ]
    for table, kind, row_id in dead:
        with ledger.database.write() as connection:
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
            count += changed
    return count
