"""`.ci/audit` asks an index of advisories, and lists the packages where there is none."""

import http.server
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[1] / ".ci" / "audit"


@pytest.fixture
def index() -> Iterator[str]:
    """A server that stands in for osv.dev and knows of no advisory."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
        server.shutdown()


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The programs of an environment, of which pip lists one package."""
    (tmp_path / "python").symlink_to(sys.executable)
    program(tmp_path / "pip", "echo torch==1.0")
    return tmp_path


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def audit(environment: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [AUDIT, environment],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("status", [0, 1])
def test_where_the_index_answers_the_packages_are_audited(
    environment: Path, index: str, status: int
) -> None:
    program(environment / "pip-audit", f'echo "$@"; exit {status}')
    done = audit(environment, ADVISORIES=index, PIP_AUDIT=str(environment / "pip-audit"))
    assert done.returncode == status, done.stderr
    words = done.stdout.split()
    assert words[2:] == ["-s", "osv", "--osv-url", index]
    assert words[0] == "--path" and Path(words[1]).is_dir()


def test_where_it_does_not_they_are_listed(environment: Path) -> None:
    done = audit(environment, ADVISORIES="http://127.0.0.1:9/v1/query")
    assert done.returncode == 0 and "cannot be reached" in done.stdout
    assert done.stdout.splitlines()[-1] == "torch==1.0"
