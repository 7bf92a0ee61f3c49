"""Makes the pictures of README.md from a real study, anew.

    python -m benchmarks.readme_pictures terminal        a run, as its live table shows it half way
    python -m benchmarks.readme_pictures pages FOLDER    report and MLflow of the study in FOLDER

FOLDER is where `attnsearch run spaces/resnet.yaml` has ended. Pages are taken by headless Chromium
(`chromium` on the path). With `--also DIR`, `pages` writes the report on a phone and in the dark
there too, to be looked at.
"""

import argparse
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from attnsearch.search.study import TrialInfo, run_study
from attnsearch.search.terminal.progress import LiveProgress
from attnsearch.spaces import load_space

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
STUDY = "resnet-digits"
ENDED = 8  # trials, after which the table is drawn
COLUMNS = 100
ASSISTANT = 512  # pixels that MLflow's assistant takes, which opens by itself in a new profile
READY_SECONDS = 60


class Photographer(LiveProgress):
    """Draws the table once enough trials have ended and all workers have told an epoch."""

    def __init__(self) -> None:
        console = Console(
            file=io.StringIO(), record=True, width=COLUMNS, force_terminal=True, highlight=False
        )
        super().__init__(console)
        self.picture: str | None = None

    def epoch(self, trial: TrialInfo, epoch: int, metrics: Any) -> None:
        """Draw it, and end the run."""
        super().epoch(trial, epoch, metrics)
        running = list(self._running.values())
        busy = self.study is not None and len(running) == self.study.workers
        ready = busy and self._done >= ENDED and all(run.curve for run in running)
        if self.picture is None and ready:
            self._console.print(self._draw())
            self.picture = self._console.export_svg(title="attnsearch run spaces/resnet.yaml")
            os.kill(os.getpid(), signal.SIGINT)

    def study_ended(self, end: Any) -> None:
        """Say nothing."""


def terminal() -> None:
    """Run the space of the README until the picture is taken."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # workers end later
        os.chdir(folder)
        photographer = Photographer()
        run_study(load_space(ROOT / "spaces" / "resnet.yaml"), progress=photographer)
        os.chdir(ROOT)
    if photographer.picture is None:
        sys.exit("the study ended before its picture was taken")
    (IMAGES / "terminal.svg").write_text(photographer.picture, encoding="utf-8")


def shoot(url: str, file: Path, width: int, height: int, *options: str) -> None:
    """Save a page as Chromium shows it in a window of that size."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not on the path")
    size, wait = f"--window-size={width},{height}", "--virtual-time-budget=20000"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", size, wait]
    subprocess.run(
        [chromium, *flags, *options, f"--screenshot={file}", url],
        check=True,
        timeout=300,
        stderr=subprocess.DEVNULL,
    )
    shrink(file)


def crop(file: Path, right: int) -> None:
    """Cut so many pixels off the right of a picture."""
    from PIL import Image

    picture = Image.open(file)
    picture.crop((0, 0, picture.width - right, picture.height)).save(file, optimize=True)


def shrink(file: Path) -> None:
    """Save a picture of a page with 256 colours, a third of its size."""
    from PIL import Image

    Image.open(file).convert("RGB").quantize(256).save(file, optimize=True)


def pages(folder: Path, also: Path | None) -> None:
    """Take the report and MLflow's page of the study."""
    attnsearch = Path(sys.executable).with_name("attnsearch")
    with tempfile.TemporaryDirectory() as made:
        words = [attnsearch, "report", STUDY, "--format", "html", "--to", made]
        subprocess.run(words, cwd=folder, check=True)
        report = f"file://{made}/report.html"
        shoot(report, IMAGES / "report.png", 1200, 1160)
        if also is not None:
            shoot(report, also / "report-phone.png", 390, 2400)
            shoot(
                report,
                also / "report-dark.png",
                1200,
                2400,
                "--blink-settings=preferredColorScheme=0",
            )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [attnsearch, "ui", "--port", str(port)]
    server = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health")
        shoot(study_link(server), IMAGES / "mlflow-study.png", 2000, 760)
        crop(IMAGES / "mlflow-study.png", ASSISTANT)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)


def study_link(server: "subprocess.Popen[str]") -> str:
    """Return the address of the study's arms that `attnsearch ui` prints."""
    assert server.stdout is not None, "it was asked for"
    for line in server.stdout:
        address = line.split()[-1] if line.split() else ""
        if address.startswith("http") and line.startswith(f"{STUDY}/"):
            return address
    sys.exit("`attnsearch ui` printed no link to the study")


def wait_for(url: str) -> None:
    """Return once a server answers."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    sys.exit(f"no answer from {url}")


def main(words: Sequence[str] | None = None) -> None:
    """Make the pictures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["terminal", "pages"])
    parser.add_argument("folder", nargs="?", type=Path, default=Path())
    parser.add_argument("--also", type=Path)
    given = parser.parse_args(words)
    if given.what == "terminal":
        terminal()
    else:
        pages(given.folder, given.also)


if __name__ == "__main__":
    main()
