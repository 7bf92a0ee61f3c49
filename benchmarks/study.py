"""The same short trials by a plain Ray Tune script, by Optuna in a loop, and by attnsearch.

    python -m benchmarks.study [--trials 24] [--epochs 3] [--workers 2] [--rounds 1]
    python -m benchmarks.study --epochs 12 --width 2 --only attnsearch

Each runs in a process and a folder of its own, in turns: `attnsearch run`, and the naive script
(`naive_study.py`), which trains the same networks on the same images for as many epochs with the
loop that a user writes. The table has the wall time from the command to its end, the CPU seconds
of all its processes, trials an hour, and the share of the ideal: what the epochs of attnsearch's
trials took in its workers, over the workers.
"""

import argparse
import contextlib
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

SPACE = """
name: study
task: classification
data: {{source: digits, image_size: 16}}
network: {{backbone: resnet20, width: {width}}}
insert:
  - at: layer3
    block: {{choice: [none, se, eca]}}
train: {{epochs: {epochs}, batch_size: 64, lr: {{float: [0.01, 0.1], log: true}}}}
search: {{sampler: tpe, scheduler: none, trials: {trials}}}
resources: {{cpus: 1, workers: {workers}}}
"""
ARMS = ("ray tune script", "optuna alone", "attnsearch")


ATTNSEARCH = ("-m", "attnsearch.search.cli", "run", "study.yaml")


def run_naive(arm: str, trials: int, workers: int) -> None:
    """Run one of the naive arms in the current folder."""
    from attnsearch.spaces import load_space
    from benchmarks.naive_study import by_optuna, by_ray

    space = load_space(Path("study.yaml"))
    search = by_ray if arm == ARMS[0] else by_optuna
    search(space.resolve(space.defaults()), trials, workers)


def trained_seconds(ledger: Path) -> float:
    """Return what the epochs of all recorded trials took in the workers."""
    from attnsearch.runs.ledger import Ledger

    with Ledger(ledger) as opened:
        (study,) = opened.studies()
        trials = opened.trials(study.id)
    return sum(float(epoch["epoch_s"]) for trial in trials for epoch in trial.epochs)


def measure(arm: str, asked: argparse.Namespace) -> tuple[float, float, float]:
    """Return wall, CPU and training seconds of one arm, the last for attnsearch alone."""
    with tempfile.TemporaryDirectory() as folder:
        keys = ("trials", "epochs", "workers", "width")
        settings = {key: getattr(asked, key) for key in keys}
        Path(folder, "study.yaml").write_text(SPACE.format(**settings), encoding="utf-8")
        places = {"ATTNSEARCH_CACHE": str(Path(folder, "cache")), "RAY_TMPDIR": folder}
        places |= {"MLFLOW_TRACKING_URI": "", "PYTHONPATH": str(Path(__file__).parents[1])}
        sizes = ("--trials", str(asked.trials), "--workers", str(asked.workers))
        naive = ("-m", "benchmarks.study", "--arm", arm, *sizes)
        said, used = Path(folder, "said.txt"), {}
        start = time.monotonic()
        with said.open("w", encoding="utf-8") as output:
            started = psutil.Popen(
                [sys.executable, *(ATTNSEARCH if arm == ARMS[2] else naive)],
                cwd=folder,
                env={name: value for name, value in (os.environ | places).items() if value},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            # Looked at again and again: nobody waits for Ray's processes and has their sum.
            while started.poll() is None:
                with contextlib.suppress(psutil.Error):
                    for process in (started, *started.children(recursive=True)):
                        with contextlib.suppress(psutil.Error):
                            times = process.cpu_times()
                            used[process.pid] = times.user + times.system
                time.sleep(0.2)
        wall = time.monotonic() - start
        if started.returncode:
            raise SystemExit(f"{arm}:\n{said.read_text(encoding='utf-8')}")
        trained = trained_seconds(Path(folder, "attnsearch.db")) if arm == ARMS[2] else 0.0
    return wall, sum(used.values()), trained


def main() -> None:
    """Run all arms in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=ARMS)
    parser.add_argument("--arm", choices=ARMS[:2], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.arm:
        run_naive(asked.arm, asked.trials, asked.workers)
        return
    arms = [asked.only] if asked.only else ARMS
    rounds: dict[str, list[tuple[float, float, float]]] = {arm: [] for arm in arms}
    for _ in range(asked.rounds):
        for arm in arms:
            rounds[arm].append(measure(arm, asked))
    trained = [times[2] for times in rounds.get(ARMS[2], [])]
    ideal = statistics.median(trained) / asked.workers if trained else math.nan
    print(f"{'':16} {'wall s':>8} {'CPU s':>8} {'trials/h':>9} {'ideal is':>9}")
    for arm, times in rounds.items():
        wall, cpu, _ = (statistics.median(values) for values in zip(*times, strict=True))
        hourly = 3600 * asked.trials / wall
        print(f"{arm:16} {wall:8.1f} {cpu:8.1f} {hourly:9.0f} {ideal / wall:8.0%}")
    print(f"ideal {ideal:.1f} s")


if __name__ == "__main__":
    main()
