"""Opening the ledger's database, and saying in words what is wrong with it.

SQLite keeps its rollback journal rather than a write-ahead log. A log needs memory shared by all
readers, so it breaks on the network folders that clusters keep home directories on; the journal
works wherever file locks do, leaves one file to copy, and a commit takes about a millisecond, of
which a trial needs a handful.

Writers queue, on SQLite and on PostgreSQL, for up to `BUSY_SECONDS`: every write transaction takes
one lock at its start, so what it reads stays true until it has written, and nobody has to try
again. Where it asked only after reading, another writer could have been quicker.
"""

import importlib.util
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from time import time
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    event,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    TimeoutError as PoolTimeout,
)

from attnsearch.runs.addresses import without_secrets
from attnsearch.runs.ledger.patience import (
    LEDGER_FILE,
    LEDGER_VARIABLE,
    LedgerAway,
    LedgerError,
    Patience,
)
from attnsearch.runs.ledger.schema import SCHEMA_VERSION, Base, Schema
from attnsearch.runs.machine import install_command
from attnsearch.runs.whole import whole
from attnsearch.runs.words import printable

BUSY_SECONDS = 30.0
"""How long, in seconds, a writer waits for another process's transaction."""

_POSTGRES_DRIVERS = ("psycopg", "psycopg2", "pg8000")
_WRITE_LOCK = 0x61747473  # an arbitrary number that names our writers on a server

_SERVER_PROBLEM = "does not answer as it should; check the address and that the server runs"
_LASTING = (
    (("not a database",), "is no SQLite database; name another file or move this one away"),
    (
        ("malformed", "corrupt"),
        "is damaged; restore a copy, or save what can be read with `sqlite3 {} .recover`, or move "
        "it away and start again",
    ),
)
_PASSING = (
    (
        ("full", "no space left"),
        "cannot be written, its disk is full; free some space and run the same command again: "
        "what finished before is kept",
    ),
    (
        ("readonly", "read-only", "permission denied"),
        "may not be written; check the rights of the file and of its folder",
    ),
    (("unable to open",), "cannot be opened; check that its folder exists and may be written"),
    (
        ("locked", "lock timeout"),
        f"was locked by another process for {BUSY_SECONDS:.0f} s; end that process, or if the "
        "folder is on a network disk without file locks, put the ledger elsewhere",
    ),
    (("disk i/o",), "cannot be read or written; its disk is full, over quota or failing"),
)
"""What the database says, and what that means to the user; {} stands for the ledger.

What passes may be over in a while, see `patience.py`.
"""

# A server that is cut off says nothing; without these its connection is waited for by the quarter
# of an hour. Of libpq, in seconds and, the last, milliseconds.
_LIBPQ = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def ledger_url(url: str | Path | URL | None = None) -> URL:
    """Find the ledger's address.

    Args:
        url: A file's path, or the URL of an SQLite or PostgreSQL database; without it the
            environment's ``ATTNSEARCH_LEDGER``, else ``attnsearch.db`` in the current folder.

    Returns:
        The URL, absolute, with a driver that is installed.

    Raises:
        LedgerError: It is no such URL, or no driver for PostgreSQL is installed.
    """
    if isinstance(url, URL):
        return url
    address = str(url or os.environ.get(LEDGER_VARIABLE) or LEDGER_FILE)
    try:
        parsed = make_url(address) if "://" in address else URL.create("sqlite", database=address)
    except (ArgumentError, ValueError) as error:
        raise LedgerError(
            f"{without_secrets(address)!r} is no database URL; set {LEDGER_VARIABLE} to a "
            "file's path, sqlite:////absolute/path.db or postgresql://user:password@host/database"
        ) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise LedgerError("a ledger in memory would be lost at the end; name a file")
        return parsed.set(database=str(Path(parsed.database).expanduser().absolute()))
    if backend in ("postgresql", "postgres"):
        return _with_driver(parsed)
    raise LedgerError(
        f"a ledger on {backend!r} is not supported ({_told(parsed)}); use SQLite or PostgreSQL"
    )


def _told(url: URL) -> str:
    """Write an address for people."""
    return without_secrets(url.render_as_string(hide_password=False))


def _with_driver(url: URL) -> URL:
    """Choose an installed PostgreSQL driver, unless the URL names one."""
    named = url.drivername.partition("+")[2]
    drivers = (named,) if named else _POSTGRES_DRIVERS
    for driver in drivers:
        if importlib.util.find_spec(driver):
            return url.set(drivername=f"postgresql+{driver}")
    raise LedgerError(
        f"the ledger {_told(url)} needs the PostgreSQL driver {named or _POSTGRES_DRIVERS[0]!r}, "
        "which is not installed; run: pip install 'psycopg[binary]'"
    )


class Database:
    """A connection pool to the ledger's tables, created where they are missing.

    Args:
        url: As for `ledger_url`.
        create: Whether to create a missing database; otherwise it is an error.

    Raises:
        LedgerError: The database cannot be reached, is none, is damaged, or belongs to another
            version of attnsearch.
    """

    def __init__(self, url: str | Path | URL | None = None, *, create: bool = True) -> None:
        self.url = ledger_url(url)
        self.path = Path(self.url.database or "") if self.sqlite else None
        self.patience: Patience | None = None
        if self.path is not None:
            self._check_path(self.path, create)
        with self.explained():
            self._reading = self._engine()
            # The same pool; marks the connections whose transactions take the write lock at once.
            self._writing = self._reading.execution_options(attnsearch_write=True)
            self._prepare(create)

    def __str__(self) -> str:
        return str(self.path or _told(self.url))

    @property
    def sqlite(self) -> bool:
        """Whether the ledger is an SQLite file."""
        return self.url.get_backend_name() == "sqlite"

    def close(self) -> None:
        """Close all connections."""
        self._reading.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads: one consistent view of the tables."""
        with self.explained(), self._reading.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes; committed at the end, undone by an exception.

        Raises:
            LedgerError: It could not be written.
        """
        number: int | None = None
        whole = False
        try:
            with self.explained(), self._writing.begin() as connection:
                if not self.sqlite:
                    # In one question: the time that each takes to the server and back adds up.
                    row = connection.exec_driver_sql(
                        f"SELECT set_config('lock_timeout', '{BUSY_SECONDS:.0f}s', true), "
                        f"pg_advisory_xact_lock({_WRITE_LOCK}), pg_current_xact_id()::text"
                    ).one()
                    number = int(row[2])
                yield connection
                whole = True
        except LedgerAway:
            if not (whole and number is not None and self._committed(number)):
                raise

    def _committed(self, number: int) -> bool:
        """Return whether a server committed a transaction whose connection broke in the commit."""

        def ask() -> bool:
            with self.read() as connection:
                query = f"SELECT pg_xact_status('{number}')"
                state = connection.exec_driver_sql(query).scalar()
            if state == "in progress":
                raise LedgerAway(f"the ledger {self} has not decided a transaction yet")
            return state == "committed"

        return bool(self.patience.attempt(ask) if self.patience else ask())

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn the database's errors into a `LedgerError` that says what to do."""
        try:
            yield
        except IntegrityError:  # no fault of the database
            raise
        except (DBAPIError, PoolTimeout) as error:
            raise self._explained(error) from error

    def _engine(self) -> Engine:
        if not self.sqlite:
            libpq = "psycopg" in self.url.drivername
            timeouts = {key: value for key, value in _LIBPQ.items() if libpq}
            for key in self.url.query:
                timeouts.pop(key, None)
            return create_engine(self.url, pool_pre_ping=True, connect_args=timeouts)
        engine = create_engine(self.url, connect_args={"timeout": BUSY_SECONDS})

        @event.listens_for(engine, "connect")
        def connect(connection: Any, _record: Any) -> None:
            # The driver would begin transactions on its own, and too late; `begin` below does.
            connection.isolation_level = None
            connection.execute("PRAGMA foreign_keys = ON")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            write = connection.get_execution_options().get("attnsearch_write")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

        return engine

    @staticmethod
    def _check_path(path: Path, create: bool) -> None:
        if str(path) != printable(str(path)):
            raise LedgerError(
                f"the ledger {printable(str(path))} lies in a folder whose name is not UTF-8, "
                "which the records cannot name; rename the folder"
            )
        if not path.parent.is_dir():
            raise LedgerError(
                f"the ledger {path} cannot be made: there is no folder {path.parent}"
            )
        if path.is_dir():
            raise LedgerError(f"the ledger {path} is a folder; name a file")
        if not create and not path.exists():
            raise LedgerError(
                f"there is no ledger {path}: nothing was run in this folder yet. Change to the "
                f"folder of the study, set {LEDGER_VARIABLE}, or start with `attnsearch run SPACE`"
            )

    def _prepare(self, create: bool) -> None:
        """Create the tables, or those that are new; safe with several processes at once."""
        with self.read() as connection:
            if self._version(connection) == SCHEMA_VERSION:
                return
        with self.write() as connection:
            version = self._version(connection)
            if version == SCHEMA_VERSION:
                return
            if version is not None and version > SCHEMA_VERSION:
                raise LedgerError(
                    f"the ledger {self} has version {version} of the tables, this attnsearch "
                    f"works with version {SCHEMA_VERSION}; update attnsearch: "
                    f"{install_command()} --upgrade"
                )
            if version is not None:
                self._keep_copy(version)
                Base.metadata.create_all(connection)  # those that are missing
                if not self.sqlite:  # which does not limit texts
                    connection.execute(text("ALTER TABLE study_run ALTER COLUMN arm TYPE TEXT"))
                connection.execute(update(Schema).values(version=SCHEMA_VERSION))
                return
            if not create:
                raise LedgerError(f"{self} holds no ledger; name another ({LEDGER_VARIABLE})")
            taken = set(inspect(connection).get_table_names()) & set(Base.metadata.tables)
            if taken:
                raise LedgerError(
                    f"{self} is the database of another program (it has a table "
                    f"{min(taken)!r} that is not ours); name another ({LEDGER_VARIABLE})"
                )
            Base.metadata.create_all(connection)
            connection.execute(insert(Schema).values(version=SCHEMA_VERSION, created=time()))

    def _keep_copy(self, version: int) -> None:
        """Copy the file of an earlier version beside it, before it is changed.

        A server's tables are changed in one transaction; its copies are its administrator's.
        """
        if self.path is None:
            return
        try:
            with (
                whole(self.path.with_name(f"{self.path.name}.version-{version}")) as new,
                closing(sqlite3.connect(self.path)) as old,
                closing(sqlite3.connect(new)) as copy,
            ):
                old.backup(copy)
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(
                f"the ledger {self} is of version {version} and has to be brought up to date, but "
                f"a copy of it cannot be made first ({error}); free some space in "
                f"{self.path.parent}, or see to its rights. The ledger is as it was"
            ) from error

    @staticmethod
    def _version(connection: Connection) -> int | None:
        if not inspect(connection).has_table(Schema.__tablename__):
            return None
        return connection.execute(select(Schema.version)).scalar()

    def _explained(self, error: DBAPIError | PoolTimeout) -> LedgerError:
        """Say what happened and what to do, in the words of the user's problem."""
        said = str(getattr(error, "orig", None) or error).strip()
        low = said.lower()

        def told(problems: Sequence[tuple[Sequence[str], str]]) -> str | None:
            return next((text for words, text in problems if any(w in low for w in words)), None)

        lasting, passing = told(_LASTING), told(_PASSING)
        if not self.sqlite and isinstance(error, OperationalError | InterfaceError | PoolTimeout):
            passing = passing or _SERVER_PROBLEM
        kind = LedgerAway if passing and not lasting else LedgerError
        problem = lasting or passing or ("cannot be used" if self.sqlite else _SERVER_PROBLEM)
        return kind(without_secrets(f"the ledger {self} {problem.format(self)} ({said})"))
