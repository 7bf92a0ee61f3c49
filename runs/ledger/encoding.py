"""How the ledger keeps what a database has no type for: JSON, times, words, arrays, told texts.

Times are seconds since 1970 (UTC) as double precision, JSON is kept as text: both are the same on
SQLite and PostgreSQL, and text can hold NaN, which PostgreSQL's JSON type refuses.
"""

import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Double, Enum, Text, TypeDecorator
from sqlalchemy.engine import Dialect

from attnsearch.runs.addresses import without_secrets


def plain(value: Any) -> Any:
    """Turn what JSON cannot hold (NumPy scalars and arrays, mappings, paths) into what it can."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be stored in the ledger")


class JSONText(TypeDecorator[Any]):
    """A JSON value kept as text; NaN and the infinities survive the round trip."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Encode for the database."""
        return None if value is None else json.dumps(value, default=plain)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Decode from the database."""
        return None if value is None else json.loads(value)


class Told(TypeDecorator[str]):
    """A text that is shown to people: no secret gets into the ledger, or out of an older one."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Leave secrets out of what is written."""
        return None if value is None else without_secrets(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Leave secrets out of what was written before they were left out."""
        return None if value is None else without_secrets(value)


class Moment(TypeDecorator[datetime]):
    """A time: written in seconds since 1970, as `time.time` gives them, read with its zone."""

    impl = Double
    cache_ok = True

    def process_result_value(self, value: float | None, dialect: Dialect) -> datetime | None:
        """Decode from the database."""
        return None if value is None else datetime.fromtimestamp(value, UTC)


def word(words: type[StrEnum], length: int) -> Enum:
    """Return the column type of a member of an enum, kept as text of a limited length."""
    return Enum(
        words,
        native_enum=False,
        length=length,
        validate_strings=True,
        values_callable=lambda members: [member.value for member in members],
    )


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Turn named arrays into bytes; objects are refused."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, allow_pickle=False, **{k: np.asarray(v) for k, v in arrays.items()}
    )
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """Turn what `pack` made into arrays again."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
