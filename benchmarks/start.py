"""How long the commands take to answer, a study to begin, and its second act to follow the first.

    python -m benchmarks.start [--rounds 3] [--python OTHER ...]

runs `--help`, `check` of the shipped file and a study of it in turns, each in a process of its
own; with `--python` also with the interpreters of other environments, to have two versions side by
side in one run. Of the study: from the command to the first training step, in seconds and in CPU
seconds of all its processes, and from the last step of exploring to the first of the next act.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPACE = Path(__file__).parents[1] / "spaces" / "resnet.yaml"
SMALL = ("search.trials=4", "train.epochs=2", "confirm.epochs=2", "confirm.seeds=1")
NAMES = ("help", "check", "first step", "its CPU s", "second act")


def study(space: str, begun: float) -> None:
    """Run a small study of a file as the command does, and print when it trained.

    Args:
        space: The file.
        begun: When the command was given, by the clock that all processes share: when a process
            began is known to the second only.
    """
    import psutil

    from attnsearch.search.terminal import run as command
    from attnsearch.search.terminal.progress import PlainProgress

    process = psutil.Process()
    times: dict[str, list[tuple[float, float]]] = {"first": [], "second": []}
    cpu: list[float] = []

    class Watching(PlainProgress):
        def epoch(self, trial, epoch, metrics):  # type: ignore[no-untyped-def]
            now = time.monotonic()
            times["second" if trial.act else "first"].append((now - metrics["epoch_s"], now))
            if not cpu:
                for one in (process, *process.children(recursive=True)):
                    used = one.cpu_times()
                    cpu.append(used.user + used.system)

    command.open_progress = Watching
    command.run_space(space, SMALL, fresh=False, until="confirm")
    first = min(start for start, _ in times["first"])
    gap = min(start for start, _ in times["second"]) - max(end for _, end in times["first"])
    print(json.dumps([first - begun, sum(cpu), gap]), flush=True)


def measure(python: str) -> list[float]:
    """Return the figures of one round with an interpreter."""
    answers: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        places = {"ATTNSEARCH_CACHE": str(Path(folder, "cache")), "PYTHONPATH": ""}

        def call(*words: str) -> str:
            start = time.monotonic()
            done = subprocess.run(
                [python, *words],
                cwd=folder,
                env=os.environ | places,
                check=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            answers.append(time.monotonic() - start)
            return done.stdout

        command = ("-m", "attnsearch.search.cli")
        call(*command, "--help")
        call(*command, "check", str(SPACE))
        begun = str(time.monotonic())
        said = call(str(Path(__file__).resolve()), "--study", str(SPACE), "--begun", begun)
    return [*answers[:2], *json.loads(said.strip().splitlines()[-1])]


def main() -> None:
    """Measure each environment in turns, and print medians and the least."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", action="append", default=[])
    parser.add_argument("--study", help=argparse.SUPPRESS)
    parser.add_argument("--begun", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.study:
        study(asked.study, asked.begun)
        return
    pythons = [*asked.python, sys.executable]
    figures: dict[str, list[list[float]]] = {python: [] for python in pythons}
    for _ in range(asked.rounds):
        for python in pythons:
            figures[python].append(measure(python))
    for python, rounds in figures.items():
        print(python)
        for name, values in zip(NAMES, zip(*rounds, strict=True), strict=True):
            print(f"  {name:12} {statistics.median(values):6.2f}  least {min(values):.2f}")


if __name__ == "__main__":
    main()
