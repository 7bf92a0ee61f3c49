"""Many writes to an SQLite store of MLflow's as one transaction.

MLflow ends a transaction with each call, five for a run: 20 times it waits for the disk. It has
no call for several runs, but all its calls take their sessions from one place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_turns = Lock()  # all clients of a process share a store


def sessions_of(client: "MlflowClient") -> Any:
    """Return the private part of an SQLite store from which all sessions come.

    None where this MLflow has none: then each call is a transaction, and only time is lost.
    """
    from mlflow.store.db import utils

    store = getattr(getattr(client, "_tracking_client", None), "store", None)
    there = hasattr(store, "ManagedSessionMaker") and hasattr(utils, "_get_managed_session_maker")
    return store if there else None


@contextmanager
def together(client: "MlflowClient") -> Iterator[None]:
    """Let what this thread writes meanwhile be one transaction, which an error undoes whole.

    Within it each of MLflow's own transactions is a savepoint, so that what it undoes is undone
    alone. Other threads and processes that write wait, as MLflow lets them (20 s); none that
    reads does.

    Args:
        client: Of an SQLite store, with `sessions_of` it.
    """
    from mlflow.store.db.utils import _get_managed_session_maker
    from sqlalchemy.orm import sessionmaker

    store = sessions_of(client)
    with _turns, store.ManagedSessionMaker(read_only=False) as session:
        sessions, thread = store.ManagedSessionMaker, get_ident()
        connection = session.connection()
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # Python's driver begins at the first change
        joined = sessionmaker(connection, join_transaction_mode="create_savepoint")
        # No kind of database: what MLflow sets for SQLite, the outer session has set.
        inner: Any = _get_managed_session_maker(joined, None)  # type: ignore[no-untyped-call]

        def choose(read_only: bool = True) -> Any:
            return (inner if get_ident() == thread else sessions)(read_only=read_only)

        store.ManagedSessionMaker = choose
        try:
            yield
        finally:
            store.ManagedSessionMaker = sessions
