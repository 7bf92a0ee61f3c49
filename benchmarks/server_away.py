"""What a study's training loses while its MLflow server is away.

    python -m benchmarks.server_away [--trials 12] [--rounds 3]

The same search of tiny trials runs with a local store and with a server that refuses, hangs, fails
(500) or does so after two seconds, in turns, each in a process of its own. Of each the
table has the time from the first trial's start to the last one's end, what the trials took
themselves, and both over the local store's, as medians of the rounds. What the end of a study
waits for its records (30 s at most) is not training and not in it.
"""

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from attnsearch.search.study import run_study
from attnsearch.spaces import load_space
from benchmarks.orchestration import SPACE, Clock

SERVERS = ("local store", "refusing", "hanging", "failing", "slow")
SLOW_S = 2.0


@contextlib.contextmanager
def server(kind: str) -> Iterator[str | None]:
    """Run a server that is away in its way; its address, None for the local store."""
    if kind == "local store":
        yield None
        return
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        if kind == "refusing":  # bound, and not listening
            yield address
            return
        if kind == "hanging":
            taken.listen(1000)
            yield address
            return

    class Answers(BaseHTTPRequestHandler):
        def answer(self) -> None:
            if kind == "slow":
                time.sleep(SLOW_S)
            self.send_error(500)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    away = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=away.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{away.server_port}"
    away.shutdown()


def study(trials: int) -> None:
    """Run the search in the current folder and print both times."""
    path = Path("away.yaml")
    path.write_text(SPACE.format(sampler="random", trials=trials, epochs=3), encoding="utf-8")
    clock = Clock()
    run_study(load_space(path), progress=clock)
    print("TIMES", clock.ended[-1] - clock.began[0], sum(clock.training), flush=True)


def measure(kind: str, trials: int) -> tuple[float, float]:
    """Return seconds of a search's trials, from first to last, and of their training."""
    with tempfile.TemporaryDirectory() as folder, server(kind) as address:
        places = {"MLFLOW_TRACKING_URI": address} if address else {}
        command = [sys.executable, "-m", "benchmarks.server_away", "--study", str(trials)]
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
        out = subprocess.run(
            command, cwd=folder, env=environment | places, check=True, stdout=subprocess.PIPE
        ).stdout.decode()
    wall, training = out.partition("TIMES ")[2].split()[:2]
    return float(wall), float(training)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="training while the MLflow server is away")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--study", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.study:
        study(arguments.study)
        return
    times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in SERVERS}
    for _ in range(arguments.rounds):
        for kind in SERVERS:
            times[kind].append(measure(kind, arguments.trials))
    local = [statistics.median(values) for values in zip(*times["local store"], strict=True)]
    print("| server | first to last trial | trials themselves |\n|---|---:|---:|")
    for kind, values in times.items():
        wall, training = (statistics.median(each) for each in zip(*values, strict=True))
        print(
            f"| {kind} | {wall:.1f} s, {wall / local[0]:.2f} | "
            f"{training:.1f} s, {training / local[1]:.2f} |"
        )


if __name__ == "__main__":
    main()
