"""Files beside a ledger: named relative to it, so that a project can be moved or copied.

Each file that is kept has a checksum in the ledger, which every reading compares. Files of earlier
releases have none. What lies outside of the ledger's folder is read and never deleted, unless this
ledger object wrote it: a copy of a project may point at the files of the original.
"""

import hashlib
import os
import re
from pathlib import Path

from sqlalchemy import Connection, delete, select

from attnsearch.runs.ledger.access import Access, renew
from attnsearch.runs.ledger.checksums import DamagedFile, check_file
from attnsearch.runs.ledger.patience import LedgerError
from attnsearch.runs.ledger.schema import StoredFile
from attnsearch.runs.whole import unfinished

FOLDER = "attnsearch-weights"
CHECKPOINTS = "checkpoints"
LOGS = "attnsearch-logs"


def weights_folder(ledger: Access) -> Path:
    """Return where trained weights are kept: ATTNSEARCH_WEIGHTS, or a folder beside the ledger."""
    return _weights_folder(ledger.folder)


def _weights_folder(folder: Path) -> Path:
    named = os.environ.get("ATTNSEARCH_WEIGHTS")
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
    """Return how the ledger names a file: relative to its own folder, where it lies in that."""
    place, folder = Path(path), ledger.folder.absolute()
    inside = ledger.database.path is not None and place.is_relative_to(folder)
    return place.relative_to(folder).as_posix() if inside else str(place)


def located(connection: Connection, name: str | None) -> str | None:
    """Return the path of a file that the ledger names.

    Earlier releases wrote absolute paths, which after a move are those of another project: a file
    of that name in this one's folder comes first.
    """
    database = connection.engine.url.database
    if name is None or database is None or connection.engine.dialect.name != "sqlite":
        return name
    folder = Path(database).parent
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
    try:
        with unfinished(path.parent) as partial:
            partial.write_bytes(content)
            with ledger.database.write() as connection:
                place = {"name": stored_name(ledger, path)}
                renew(connection, StoredFile, place, checksum=hashlib.sha256(content).hexdigest())
                partial.replace(path)
    except (OSError, LedgerError):
        if new:  # its transaction failed after it had got its name
            path.unlink(missing_ok=True)
        raise
    if new:
        ledger.written.add(path)


def checksum(ledger: Access, path: str | Path) -> str | None:
    """Return the checksum that a file had when it was stored; None where none was noted."""
    query = select(StoredFile.checksum).where(StoredFile.name == stored_name(ledger, path))
    with ledger.database.read() as connection:
        return connection.execute(query).scalar()


def intact(ledger: Access, path: str | None) -> bool:
    """Return whether a file is there and holds what was stored."""
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
    if own:
        path.unlink(missing_ok=True)
        with ledger.database.write() as connection:
            name = stored_name(ledger, path)
            connection.execute(delete(StoredFile).where(StoredFile.name == name))
    return own
