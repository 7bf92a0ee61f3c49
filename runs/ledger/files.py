"""Files beside a ledger: named relative to it, so that a project can be moved or copied.

Each file that is kept has a checksum in the ledger, which every reading compares. Files of earlier
releases have none. What lies outside of the ledger's folder is read and never deleted, unless this
ledger object wrote it: a copy of a project may point at the files of the original.
"""

import contextlib
import hashlib
import os
import re
from pathlib import Path

from sqlalchemy import Connection, delete, select

from attnsearch.runs.ledger.access import Access, renew
from attnsearch.runs.ledger.checksums import DamagedFile, check_file
from attnsearch.runs.ledger.patience import LedgerError
from attnsearch.runs.ledger.schema import StoredFile
from attnsearch.runs.store import Store, StoreError, is_store_named, open_store, store_folder
from attnsearch.runs.whole import unfinished, whole

FOLDER = "attnsearch-weights"
STORED = "$ATTNSEARCH_STORE/"  # before the name of a file in the store, wherever that is
CHECKPOINTS = "checkpoints"
LOGS = "attnsearch-logs"


def weights_folder(ledger: Access) -> Path:
    """Return where trained weights are kept.

    That is the folder that ATTNSEARCH_STORE or ATTNSEARCH_WEIGHTS names, or one beside the ledger.
    Where a store is reached by a URL, what lies there is a copy of what it holds.
    """
    return _weights_folder(ledger.folder)


def _weights_folder(folder: Path) -> Path:
    named = store_folder() or os.environ.get("ATTNSEARCH_WEIGHTS")
    return Path(named).absolute() if named else folder.absolute() / FOLDER


def file_name(study: str, number: int) -> str:
    """Return what files of a study are called."""
    return re.sub(r"[^\w.-]+", "_", study) + f"-{number}"


def log_file(ledger: Access, study: str, number: int) -> Path:
    """Return where the log of a study lies, beside the ledger."""
    return ledger.folder.absolute() / LOGS / f"{file_name(study, number)}.log"


def checkpoint_folder(ledger: Access, key: str, run_id: int) -> Path:
    """Return where the checkpoints of a run lie while it goes on."""
    return weights_folder(ledger) / CHECKPOINTS / f"{key}-{run_id}"


def panel_file(folder: Path, key: str) -> Path:
    """Return the picture of a finished run, by its run key."""
    return folder / f"{key}-panel.png"


def stored_name(ledger: Access, path: str | Path) -> str:
    """Return how the ledger names a file: in the store, or in its own folder if it is there."""
    return _stored_names(ledger, path)[0]


def _stored_names(ledger: Access, path: str | Path) -> list[str]:
    """Return how the ledger may name a file, first as it does now: a store may be new, or gone."""
    place, folder, weights = Path(path), ledger.folder.absolute(), weights_folder(ledger)
    inside = ledger.database.path is not None and place.is_relative_to(folder)
    names = [place.relative_to(folder).as_posix() if inside else str(place)]
    if place.is_relative_to(weights):
        name = f"{STORED}{place.relative_to(weights).as_posix()}"
        names.insert(0 if is_store_named() else 1, name)
    return names


def located(connection: Connection, name: str | None) -> str | None:
    """Return the path of a file that the ledger names.

    Earlier releases wrote absolute paths, which after a move are those of another project: a file
    of that name in this one's folder comes first.
    """
    database = connection.engine.url.database
    sqlite = connection.engine.dialect.name == "sqlite"
    folder = Path(database).parent if sqlite and database else Path.cwd()
    if name is not None and name.startswith(STORED):
        return str(_weights_folder(folder) / name.removeprefix(STORED))
    if name is None or database is None or not sqlite:
        return name
    place = folder / name
    if not place.is_relative_to(folder):
        here = _weights_folder(folder) / place.name
        return str(here if here.is_file() else place)
    return str(place)


def write_file(ledger: Access, path: Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all, and note its checksum.

    Raises:
        OSError, LedgerError: It cannot be written, or not be noted; nothing is there then that
            was not there before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    if (copy := _copy_of(ledger, path)) is not None:
        copy[0].put(copy[1], content)
    try:
        with unfinished(path.parent) as partial:
            partial.write_bytes(content)
            with ledger.database.write() as connection:
                name, *others = _stored_names(ledger, path)
                place = {"name": name}
                connection.execute(delete(StoredFile).where(StoredFile.name.in_(others)))
                renew(connection, StoredFile, place, checksum=hashlib.sha256(content).hexdigest())
                partial.replace(path)
    except (OSError, LedgerError):
        if new:  # its transaction failed after it had got its name
            path.unlink(missing_ok=True)
        raise
    if new:
        ledger.written.add(path)


def _copy_of(ledger: Access, path: Path) -> tuple[Store, str] | None:
    """Return the store of which a file is a copy, and its name there; None of other files."""
    store, folder = open_store(), weights_folder(ledger)
    if store is None or not path.is_relative_to(folder):
        return None
    return store, path.relative_to(folder).as_posix()


def fetch(ledger: Access, path: Path) -> None:
    """Have a file here that another machine has put into the store, if it is there."""
    copy, known = _copy_of(ledger, path), checksum(ledger, path)
    if copy is None or known is None:
        return
    with contextlib.suppress(OSError, DamagedFile):
        if path.is_file():
            check_file(path, known)
            return
    with contextlib.suppress(StoreError):
        content = copy[0].get(copy[1])
        if hashlib.sha256(content).hexdigest() == known:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole(path) as new:
                new.write_bytes(content)


def checksum(ledger: Access, path: str | Path) -> str | None:
    """Return the checksum that a file had when it was stored; None where none was noted."""
    names = _stored_names(ledger, path)
    query = select(StoredFile.checksum).where(StoredFile.name.in_(names))
    with ledger.database.read() as connection:
        return connection.execute(query).scalar()


def intact(ledger: Access, path: str | None) -> bool:
    """Return whether a file is there and holds what was stored."""
    if path is not None:
        fetch(ledger, Path(path))
    try:
        check_file(Path(path or ""), checksum(ledger, path or ""))
    except (DamagedFile, OSError):
        return False
    return path is not None and Path(path).is_file()


def drop_file(ledger: Access, path: Path) -> bool:
    """Delete a file of this ledger; one of somebody else is left alone.

    Returns:
        Whether it is gone.
    """
    own = path.resolve().is_relative_to(ledger.folder.resolve()) or path in ledger.written
    stored = path.is_relative_to(store_folder() or "/nowhere") or _copy_of(ledger, path)
    if own or stored:
        path.unlink(missing_ok=True)
        if (copy := _copy_of(ledger, path)) is not None:
            with contextlib.suppress(StoreError):  # it stays there, and nothing names it
                copy[0].drop(copy[1])
        with ledger.database.write() as connection:
            names = _stored_names(ledger, path)
            connection.execute(delete(StoredFile).where(StoredFile.name.in_(names)))
    return own or bool(stored)
