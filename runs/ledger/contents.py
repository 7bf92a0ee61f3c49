"""What the examples of a data set held when a study was run, by its fingerprint."""

import json
import zlib
from collections.abc import Callable, Mapping

from sqlalchemy import select

from attnsearch.runs.ledger.access import Access, renew
from attnsearch.runs.ledger.schema import DataContent


def contents_of(ledger: Access, fingerprint: str) -> dict[str, str] | None:
    """Return what each example held, by its name; None where that was not noted."""
    query = select(DataContent.content).where(DataContent.fingerprint == fingerprint)
    with ledger.database.read() as connection:
        packed = connection.execute(query).scalar()
    return None if packed is None else json.loads(zlib.decompress(packed))


def note_contents(
    ledger: Access, fingerprint: str, contents: Callable[[], Mapping[str, str]]
) -> None:
    """Note what each example holds, unless that is noted already."""
    if contents_of(ledger, fingerprint) is None:
        packed = zlib.compress(json.dumps(contents()).encode())
        with ledger.database.write() as connection:
            renew(connection, DataContent, {"fingerprint": fingerprint}, content=packed)
