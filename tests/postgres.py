"""A private PostgreSQL server for tests, of the installed programs, in a folder of its own."""

import contextlib
import importlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any


class Missing(Exception):
    """No server can be started here; the text says why."""


class Postgres:
    """A server on the loopback interface; `stop` and `start` make it go away and come back.

    Raises:
        Missing: PostgreSQL or its driver is not installed, or it does not start.
    """

    def __init__(self) -> None:
        self._bin = _programs()
        self._account = _account()
        self.folder = Path(tempfile.mkdtemp(prefix="at-pg-", dir="/tmp"))
        if self._account:
            shutil.chown(self.folder, self._account["user"], self._account["group"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        data = str(self.folder / "data")
        self._run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8")
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = ["-k", str(self.folder), "-p", str(self.port), "-h", "127.0.0.1", "-F"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self._bin / "postgres", "-D", self.folder / "data", *options],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a test's Ctrl-C is not meant for it
                **self._account,
            )
        asked = [self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        for _ in range(200):
            if subprocess.run(asked, check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise Missing(f"PostgreSQL does not start: {(self.folder / 'log').read_text()[-500:]}")

    def stop(self) -> None:
        """End the server and with it all its connections, as `immediate` does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(timeout=30)
            self.process = None

    def new_database(self) -> str:
        """Return the URL of a database that is empty."""
        name = f"test_{uuid.uuid4().hex}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", name)
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        """End the server and remove its folder."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._bin / program, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **self._account,
        )
        if done.returncode:
            raise Missing(f"PostgreSQL's {program} failed: {done.stderr.strip()[-500:]}")


def _programs() -> Path:
    """Return the newest installed server's folder of programs; Debian keeps it off the path."""
    try:
        importlib.import_module("psycopg")
    except ImportError as error:
        raise Missing("the driver is missing: pip install 'psycopg[binary]'") from error
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4])
    )
    initdb = shutil.which("initdb") or (folders[-1] if folders else None)
    if initdb is None:
        raise Missing("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return Path(initdb).resolve().parent


def _account() -> dict[str, Any]:
    """Return how to run as somebody else, where this is root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise Missing("PostgreSQL refuses root, and there is no account 'postgres' or 'nobody'")
