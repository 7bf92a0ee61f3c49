"""What a person sees in MLflow's pages, in a real browser."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from attnsearch.runs.figures import exploring
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.mirror.mirror import Mirror
from attnsearch.runs.mirror.saved_views import study_link
from tests.runs import made_studies as made

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,  # starts MLflow's server and a browser
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium"),
]


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a made study with a confirmed winner is seen, at its server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(exploring, "study_plots", lambda *_: {})
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        study = made.open_study(ledger)
        made.run_plan(ledger, study, made.confirm_plan(), made.MEANS, "gc@layer4")
        assert Mirror(ledger).sync(study.id).problem is None
        link = study_link(ledger, ledger.study(study.id))
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    settings["MLFLOW_BACKEND_STORE_URI"] = f"sqlite:///{tmp_path / 'mlflow.db'}"
    server = subprocess.Popen(
        command,
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
                break
            except urllib.error.URLError:
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/{link}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)


def words_of(address: str, folder: Path) -> str:
    """The words on a page, once it has asked for all that it shows."""
    assert BROWSER is not None
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={folder}", "--window-size=2600,1200"]
    command += ["--virtual-time-budget=30000", address]
    page = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def test_the_link_of_a_study_shows_its_arms_with_difference_and_verdict(
    address: str, tmp_path: Path
) -> None:
    words = words_of(address, tmp_path / "browser")
    for seen in (
        "made/1: arms",  # the view's name
        "Which attention block, where in resnet18",  # the experiment's description
        *("arm gc@layer4", "arm baseline", "arm tuned baseline"),
        *("difference", "test_accuracy_mean", "attnsearch.verdict"),
    ):
        assert seen in words, words[:2000]
    assert "seed 1100000001" not in words and "Overview" not in words
