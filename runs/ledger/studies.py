"""The ledger's studies: opening, continuing, finding them, and noting how they stand."""

import hashlib
import json
import sqlite3
import textwrap
import uuid
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from time import time
from typing import Any

from sqlalchemy import Connection, delete, select

from attnsearch.blocks.hosts import weights_file
from attnsearch.runs.ledger.access import Access, add, change, touch
from attnsearch.runs.ledger.encoding import plain
from attnsearch.runs.ledger.key import changed_inputs
from attnsearch.runs.ledger.lease import release
from attnsearch.runs.ledger.patience import LEDGER_FILE, LedgerError
from attnsearch.runs.ledger.reading import Drivers, read_studies
from attnsearch.runs.ledger.records import StudyRow
from attnsearch.runs.ledger.schema import Lease, Run, Study
from attnsearch.runs.ledger.states import STUDY_STATES, State
from attnsearch.spaces.keys import PLAIN, Data, Search, keys_of, settled


def study_digest(document: Mapping[str, Any], fingerprint: str) -> str:
    """Hash what the trials of a study depend on.

    Left out is what may change while a study goes on: the confirm and ablation acts and how their
    scores are compared, resources, the number of trials, and where the data lies (its fingerprint
    counts, not its path). What lies in other files is compared beside it, see `inputs`.
    """
    text = json.dumps([_counted(document), fingerprint], sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _counted(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the trials of a study depend on, no path among it."""
    kept = _without(document, keys_of("plans", "statistics", "host"))
    kept["search"] = _without(kept.get("search") or {}, keys_of("trials", section=Search))
    kept["data"] = _without(kept.get("data") or {}, keys_of("host", section=Data))
    if "csv" in (kept["data"].get("groups") or {}):
        kept["data"]["groups"] = "csv"
    kept["train"] = _train(kept.get("train") or {})
    network = kept.get("network") or {}
    path, rename = weights_file(network.get("weights"))
    if path is not None:
        kept["network"] = {**network, "weights": rename or "file"}
    counted: dict[str, Any] = _without_nulls(kept)
    return counted


def _train(train: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what says nothing, so that studies from before these keys go on."""
    kept = settled(train, PLAIN)
    return kept if kept.get("speed") == "exact" else _without(kept, ("speed",))


def study_differences(before: StudyRow, now: StudyRow, files: str = "") -> list[str]:
    """Say what keeps a study from going on as another one, one phrase each.

    Args:
        before: The other one.
        now: The study.
        files: Which files differ between their data; empty where that is not known.
    """
    old, new = _flat(_counted(before.document)), _flat(_counted(now.document))
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    differ = [f"{key}: {_short(old.get(key))} (now {_short(new.get(key))})" for key in keys]
    if before.fingerprint != now.fingerprint:
        source = (now.document.get("data") or {}).get("source")
        differ.append(f"the data of {source} ({files or 'images, labels or their split'})")
    return differ + changed_inputs(before.inputs, now.inputs)


def _flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in section.items():
        deeper = isinstance(value, Mapping) and value
        flat |= _flat(value, f"{prefix}{key}.") if deeper else {f"{prefix}{key}": value}
    return flat


def _short(value: Any) -> str:
    return textwrap.shorten(json.dumps(value, default=plain), 60, placeholder=" ...")


def studies_elsewhere(ledger: Access, name: str, folders: Iterable[Path]) -> list[str]:
    """Find studies of a name in other ledgers, which are only read: ``PATH: NAME/NUMBER``.

    Args:
        ledger: The ledger.
        name: Of the study.
        folders: Where ledgers may lie, under the name that they have by default.
    """
    lines = []
    for folder in dict.fromkeys(folders):
        path = folder / LEDGER_FILE
        if path == ledger.database.path or not path.is_file():
            continue
        with suppress(sqlite3.Error), closing(_read_only(path)) as other:
            rows = other.execute("SELECT max(number) FROM study WHERE name = ?", (name,))
            lines += [f"{path}: {name}/{number}" for (number,) in rows if number]
    return lines


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)


def _without(section: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in keys}


def _without_nulls(value: Any) -> Any:
    """Leave out keys that are null: one that a later version adds changes no digest."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(item) for item in value]
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
    shared: bool = False,
) -> StudyRow:
    """Start a study, continue the one of this name, space and data, or join who runs it.

    A changed space (see `study_digest`), or changed sources of its blocks, get a new number of the
    same name; changing it back continues the earlier number. The space file as given now replaces
    the stored one.

    Args:
        ledger: The ledger.
        name: The space file's ``name``.
        space_text: The space file as given.
        document: The space file checked, with defaults.
        fingerprint: Of the data.
        provenance: Versions, hardware and command of this start; added to the earlier ones. Its
            `inputs` are those of `attnsearch.runs.ledger.inputs`.
        fresh: Start a new number in any case, and let its claims ignore other studies' runs.
        number: Continue this number of several that are alike; by default the latest.
        shared: Whether other processes that say so too may run it at the same time.

    Raises:
        LedgerError: Another living process runs this study and does not share it, or has other
            settings; or the one of that number was run on other data, or with other sources.
    """
    reconcile(ledger)
    digest = study_digest(document, fingerprint)
    with ledger.database.write() as connection:
        named = read_studies(connection, Study.name == name)
        # An earlier release took paths into the digest that it stored.
        alike = [
            row
            for row in named
            if number in (None, row.number)
            and digest in (row.digest, study_digest(row.document, row.fingerprint))
            and not changed_inputs(row.inputs, provenance.get("inputs", {}))
        ]
        study_id = alike[-1].id if alike else None
        if number is not None and study_id is None:
            raise LedgerError(
                f"the study {name}/{number} was run on other data or with another source of a "
                f"block or weights file than there is now; restore that, or run the space file "
                f"again: attnsearch run SPACE"
            )
        if study_id is None or fresh:
            study_id = add(
                connection,
                Study,
                uid=uuid.uuid4().hex,
                name=name,
                number=max((row.number for row in named), default=0) + 1,
                state=State.RUNNING,
                digest=digest,
                fingerprint=fingerprint,
                fresh=fresh,
                created=time(),
            )
        row = read_studies(connection, Study.id == study_id)[0]
        _check_company(ledger, connection, row, document, provenance, shared=shared)
        own = f"/{ledger.token}" if shared else ""
        ledger.lease(connection, f"study:{study_id}{own}")
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


def _check_company(
    ledger: Access,
    connection: Connection,
    study: StudyRow,
    document: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    shared: bool,
) -> None:
    """Refuse to run a study beside a process that does not share it, or runs it otherwise.

    What is not in the digest must be alike too: each of them plans the acts and counts the trials,
    and a run's key names what it is computed on.
    """
    resource = f"study:{study.id}"
    others = Drivers(connection).living(resource, but=ledger.token)
    if not others:
        connection.execute(delete(Lease).where(Lease.resource == resource))
        connection.execute(delete(Lease).where(Lease.resource.startswith(f"{resource}/")))
        return
    alone = Lease.token != ledger.token, Lease.resource == resource
    if not shared or connection.execute(select(Lease.token).where(*alone)).first():
        raise LedgerError(
            f"the study {study.name!r} is being run by {others[0]}; wait for it or end it, or "
            "give the space file another name"
        )
    theirs = _flat(_alike(study.document, study.provenance[-1]))
    ours = _flat(_alike(document, provenance))
    keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    if keys:
        differ = [
            f"{key}: {_short(theirs.get(key))} (here {_short(ours.get(key))})" for key in keys
        ]
        raise LedgerError(
            f"the study {study.label} is being run by {others[0]} with {'; '.join(differ)}; "
            f"processes that share a study need the same settings: run it here with those, or wait"
        )


def _alike(document: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what processes that share a study must have in common."""
    kept = _without_nulls(_without(document, keys_of("host")))
    kept["data"] = _without(kept.get("data") or {}, keys_of("host", section=Data))
    resources = document.get("resources") or {}
    kept["resources"] = {key: resources.get(key) for key in ("cpus", "gpus")}
    if resources.get("gpus"):
        names = {gpu.partition(",")[0] for gpu in provenance.get("gpus", ())}
        kept["resources"]["cards"] = sorted(names)
    return dict(kept)


def studies(ledger: Access, name: str | None = None) -> list[StudyRow]:
    """List all studies, or those of a name, oldest first."""
    with ledger.database.read() as connection:
        return read_studies(connection, *([] if name is None else [Study.name == name]))


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
    """Set a study's state; every state but ``running`` gives its lease back.

    A study that another process still runs is not interrupted by who leaves it.
    """
    if State(state) not in STUDY_STATES:
        raise ValueError(f"a study is never {state}")
    with ledger.database.write() as connection:
        if state != State.RUNNING:
            release(connection, f"study:{study_id}", ledger.token)
        others = Drivers(connection).living(f"study:{study_id}", but=ledger.token)
        if state != State.RUNNING and not others:  # what drivers that were killed left
            shares = Lease.resource.startswith(f"study:{study_id}/")
            connection.execute(delete(Lease).where(shares))
        if state != State.INTERRUPTED or not others:
            ended = None if state == State.RUNNING else time()
            change(connection, Study, study_id, state=state, ended=ended)


def drivers(ledger: Access, study_id: int) -> list[str]:
    """Name the other living processes that run a study."""
    with ledger.database.read() as connection:
        return [
            str(holder)
            for holder in Drivers(connection).living(f"study:{study_id}", but=ledger.token)
        ]


def holder_of(ledger: Access, run_id: int) -> str | None:
    """Name the other living process that trains a run, if one does."""
    resource = f"run:{run_id}"
    with ledger.database.read() as connection:
        holders = Drivers(connection, resource).living(resource, but=ledger.token)
    return str(holders[0]) if holders else None


def set_importances(
    ledger: Access, study_id: int, importances: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> None:
    """Keep which decisions matter: objective -> decision -> the fields of `Importance`."""
    with ledger.database.write() as connection:
        change(connection, Study, study_id, importances=importances)


def hold(ledger: Access, resource: str) -> str | None:
    """Take a lease on something other than a run or a study, or renew it.

    Returns:
        None if it is held now, else who holds it.
    """
    with ledger.database.write() as connection:
        other = ledger.lease(connection, resource)
        return None if other is None else str(other.holder)


def free(ledger: Access, resource: str) -> None:
    """Give back what `hold` took."""
    with ledger.database.write() as connection:
        release(connection, resource, ledger.token)


def reconcile(ledger: Access) -> int:
    """Write down what died: running rows without a living lease become ``interrupted``.

    Returns:
        How many runs and studies that were.
    """
    with ledger.database.read() as connection:
        if not _dead(connection):
            return 0
    with ledger.database.write() as connection:
        dead = _dead(connection)  # some may have been taken up since
        for table, row_id, resource, sign in dead:
            ended = sign.timestamp() if sign else time()
            change(connection, table, row_id, state=State.INTERRUPTED, ended=ended)
            if table is Run:
                touch(connection, row_id)
            connection.execute(delete(Lease).where(Lease.resource == resource))
            connection.execute(delete(Lease).where(Lease.resource.startswith(f"{resource}/")))
    return len(dead)


def _dead(connection: Connection) -> list[tuple[Any, int, str, datetime | None]]:
    """Find running rows without a living lease: table, row, resource, and their last sign."""
    drivers = Drivers(connection)
    return [
        (table, row_id, resource, drivers.last_sign(resource))
        for table, kind in ((Run, "run"), (Study, "study"))
        for row_id in connection.execute(
            select(table.id).where(table.state == State.RUNNING)
        ).scalars()
        if drivers.dead(resource := f"{kind}:{row_id}")
    ]
