"""Access to a ledger: its database, its files, the process that works on it, its changes.

Statements are built once and take their values as parameters. To build one anew, with the key by
which SQLAlchemy finds its text, takes several times as long as SQLite takes to do it.
"""

import contextlib
import functools
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import time
from typing import Any

from sqlalchemy import (
    Connection,
    Delete,
    Insert,
    Select,
    Update,
    bindparam,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.engine import URL

from attnsearch.runs.ledger.database import Database
from attnsearch.runs.ledger.lease import Held, Holder, acquire
from attnsearch.runs.ledger.patience import Patience
from attnsearch.runs.ledger.schema import Base, Run

NEW_WORKER_SECONDS = 1.0  # a worker that is there begins sooner; a note is a wait for the disk


class Access:
    """A ledger as one object of this process works on it.

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
        self.written: set[Path] = set()  # files that were not there before

    def __str__(self) -> str:
        return str(self.database)

    def __repr__(self) -> str:
        return f"<Ledger {self}>"

    @property
    def folder(self) -> Path:
        """The folder of the ledger's file; the current folder where it is a server."""
        return self.database.path.parent if self.database.path else Path.cwd()

    @property
    def patience(self) -> Patience | None:
        """How long a ledger that is away is waited for; None outside of a running study."""
        return self.database.patience

    @contextlib.contextmanager
    def waited_for(self, note: Callable[[str], None], stop: Callable[[], bool]) -> Iterator[None]:
        """Have the ledger be waited for where it is away, for as long as the context is open."""
        self.database.patience = Patience(note, stop)
        try:
            yield
        finally:
            self.database.patience = None

    def lease(self, connection: Connection, resource: str) -> Held | None:
        """Take a lease or renew it; a living one that stands in the way is returned."""
        return acquire(connection, resource, self.token, self.holder, time())


@functools.cache
def _insertion(table: Any) -> Insert:
    return insert(table.__table__)


@functools.cache
def _change(table: Any) -> Update:
    columns = table.__table__
    return update(columns).where(columns.c.id == bindparam("row_id"))


@functools.cache
def _counted_change() -> Update:
    return _change(Run).values(revision=Run.__table__.c.revision + 1)


@functools.cache
def _claimed() -> Select[Any]:
    return select(Run.started).where(Run.id == bindparam("run_id"))


@functools.cache
def _deletion(table: Any, *names: str) -> Delete:
    columns = table.__table__
    return delete(columns).where(*(columns.c[name] == bindparam(name) for name in names))


def add(connection: Connection, table: type[Base], **values: Any) -> int:
    """Insert a row; columns that are not named get their defaults.

    Returns:
        The row's number.
    """
    key = connection.execute(_insertion(table), values).inserted_primary_key
    assert key is not None, "an INSERT of one row always has a key"
    return int(key[0])


def change(connection: Connection, table: Any, row_id: int, **values: Any) -> None:
    """Change some columns of a row."""
    connection.execute(_change(table), {"row_id": row_id, **values})


def touch(connection: Connection, run_id: int, **values: Any) -> None:
    """Change a run, and count the change, so that a mirror sees it."""
    connection.execute(_counted_change(), {"row_id": run_id, **values})


def began(ledger: Access, run_id: int) -> None:
    """Note that a worker begins with a run now, where its claim waited for one to start."""
    with ledger.database.read() as connection:
        claimed = connection.execute(_claimed(), {"run_id": run_id}).scalar_one()
    if time() - claimed.timestamp() > NEW_WORKER_SECONDS:
        with ledger.database.write() as connection:
            touch(connection, run_id, started=time())


def renew(connection: Connection, table: Any, place: Mapping[str, Any], **values: Any) -> None:
    """Put a row in its place, whether or not one is there."""
    connection.execute(_deletion(table, *place), place)
    connection.execute(_insertion(table), {**place, **values})
