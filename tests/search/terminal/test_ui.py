import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from contextlib import closing
from pathlib import Path

import pytest

from attnsearch.runs.addresses import without_secrets
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.search.cli import call
from attnsearch.search.exit import DONE, WRONG_INPUT
from attnsearch.search.terminal import ui


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ledger in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("ATTNSEARCH_LEDGER", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    Ledger().close()
    return tmp_path


@pytest.fixture
def port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_server_gets_the_absolute_store_and_one_worker(
    ledger: Path,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started = []

    def execve(path: str, words: list[str], environment: dict[str, str]) -> None:
        started.append((path, words, environment))
        raise SystemExit(0)

    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(SystemExit):
        call(["ui", "--port", str(port)])
    ((path, words, environment),) = started
    assert path == words[0] == sys.executable
    options = dict(zip(words[4::2], words[5::2], strict=True))
    assert options == {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
    }
    assert environment["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{ledger / 'mlflow.db'}"
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert f"http://localhost:{port}" in capsys.readouterr().out


def test_open_waits_for_the_server_and_opens_the_newest_study(
    ledger: Path,
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    links = {
        "b/1": "#/experiments/2/runs?viewStateShareKey=u-arms&workflowType=machine_learning",
        "a/1": "#/experiments/1/runs?viewStateShareKey=v-trials&workflowType=machine_learning",
    }
    monkeypatch.setattr(ui, "synchronised", lambda: ("sqlite:///mlflow.db", links))
    monkeypatch.setattr(os, "execve", lambda *_: None)
    opened = tmp_path / "opened"
    browser = tmp_path / "browser.py"
    browser.write_text(f"import sys; open({str(opened)!r}, 'w').write(sys.argv[1])")
    monkeypatch.setenv("BROWSER", f"{sys.executable} {browser} %s")
    call(["ui", "--port", str(port), "--open"])
    told = capsys.readouterr().out
    for label, link in links.items():
        assert f"{label}: http://localhost:{port}/{link}" in told
    time.sleep(0.5)
    assert not opened.exists()  # nothing answers yet
    with closing(socket.create_server(("127.0.0.1", port))):
        deadline = time.monotonic() + 60
        while not (opened.exists() and opened.read_text()):
            assert time.monotonic() < deadline, "no browser was opened"
            time.sleep(0.1)
    assert opened.read_text() == f"http://localhost:{port}/{links['b/1']}"


def test_open_at_a_server_that_runs_elsewhere(
    ledger: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    links = {"b/1": "#/experiments/2/runs?viewStateShareKey=u-arms"}
    monkeypatch.setattr(ui, "synchronised", lambda: ("http://records.example", links))
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) is not None)
    assert call(["ui", "--open"]) == DONE
    assert opened == [f"http://records.example/{links['b/1']}"]
    told = capsys.readouterr()
    assert opened[0] in told.out and "no browser could be opened here" in told.err


def test_a_port_in_use_is_refused_with_a_free_one(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert call(["ui", "--port", str(port)]) == WRONG_INPUT
        (line,) = capsys.readouterr().err.splitlines()
        assert f"port {port} on 127.0.0.1 cannot be used" in line
        free = int(line.rpartition("--port ")[2])
        ui.check_address("127.0.0.1", free)


def test_an_unknown_host_is_refused(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["ui", "--host", "no.such.host.invalid"]) == WRONG_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "--host no.such.host.invalid" in line


def test_a_server_that_runs_elsewhere_is_named(
    ledger: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://records.example:5000")
    assert call(["ui"]) == DONE
    assert "http://records.example:5000" in capsys.readouterr().out


def test_a_database_s_password_goes_to_the_server_alone(
    ledger: Path, port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "postgresql://anna:s3cr3t@records.example/mlflow"
    monkeypatch.setattr(ui, "synchronised", lambda: (address, {}))
    started: list[tuple[list[str], dict[str, str]]] = []

    def execve(_path: str, words: list[str], environment: dict[str, str]) -> None:
        started.append((words, environment))

    monkeypatch.setattr(os, "execve", execve)
    call(["ui", "--port", str(port)])
    ((words, environment),) = started
    assert environment["MLFLOW_BACKEND_STORE_URI"] == address
    told = capsys.readouterr()
    assert "records.example" in told.out
    assert "s3cr3t" not in " ".join(words) + told.out + told.err

    monkeypatch.setattr(ui, "synchronised", lambda: (without_secrets(address), {}))
    assert call(["ui", "--port", str(port)]) == WRONG_INPUT
    assert "set MLFLOW_TRACKING_URI" in capsys.readouterr().err


def test_without_a_ledger_there_is_nothing_to_browse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATTNSEARCH_LEDGER", raising=False)
    assert call(["ui"]) == WRONG_INPUT
    assert "attnsearch.db" in capsys.readouterr().err


@pytest.mark.slow
def test_the_server_answers_and_ctrl_c_ends_it(ledger: Path, port: int) -> None:
    script = "from attnsearch.search.cli import main; main()"
    server = subprocess.Popen(
        [sys.executable, "-c", script, "ui", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        answer = None
        while answer is None and time.monotonic() < deadline:
            time.sleep(0.5)
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as response:
                    answer = response.read()
            except urllib.error.URLError:
                assert server.poll() is None, "the server has ended"
        assert answer == b"OK"
        os.killpg(server.pid, signal.SIGINT)
        server.wait(timeout=30)
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
    with closing(socket.socket()) as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
