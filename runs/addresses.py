"""Addresses of databases and servers: made, tried, and told to nobody with their secrets."""

import os
import re
import socket
from pathlib import Path

HIDDEN = "***"
"""Stands where a secret was."""

_SECRET_VARIABLES = (
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN"),
    *("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)
_SHORTEST_SECRET = 4  # shorter ones would be found in any text

_LOGIN = re.compile(
    r"""(?x) (?<=://)
    (?: [^/\s?\#'"]* @                                  # up to the last @ before the path
    |   [^/\s:@?\#]* : (?! \d+ (?: [/?\#\s'",;)] | $)) \S* @ )  # a password with a slash in it
    """
)
_PARAMETER = re.compile(
    r"""(?xi) (?<=[?&;])
    ( [^=&;\s]* (?: pass | pwd | token | secret | key | sig | auth | cred ) [^=&;\s]* = )
    [^&;\s'"]+  # a fragment is not told either
    """
)


def without_secrets(text: str) -> str:
    """Return a text with `HIDDEN` for what must not be told.

    That is what stands before the host of an address (a user's name can be a token), the values
    of query parameters that are called like a secret, and what this process's environment keeps
    in variables such as ``MLFLOW_TRACKING_PASSWORD``.
    """
    for name in _SECRET_VARIABLES:
        secret = os.environ.get(name, "")
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, HIDDEN)
    if "://" not in text:
        return text
    return _PARAMETER.sub(rf"\1{HIDDEN}", _LOGIN.sub(f"{HIDDEN}@", text))


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file, whatever characters its path has."""
    from sqlalchemy.engine import URL

    url = URL.create("sqlite", database=str(path.absolute()))
    escaped = url.render_as_string() != f"sqlite:///{url.database}"
    # With the driver's name MLflow does not make a folder called like the escaped path.
    return url.set(drivername="sqlite+pysqlite").render_as_string() if escaped else str(url)


def sqlite_path(url: str) -> Path | None:
    """Tell the file of an SQLite database's URL, absolute; None for any other URL."""
    from sqlalchemy.engine import make_url

    if not url.startswith(("sqlite:", "sqlite+")):
        return None
    return Path(make_url(url).database or "").absolute()


def answers(address: str, seconds: float = 2.0) -> bool:
    """Return whether something takes a connection at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), seconds).close()
    except OSError:
        return False
    return True
