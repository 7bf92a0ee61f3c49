"""The same short trials by a plain Ray Tune script, by Optuna in a loop, and by attnsearch.

    python -m benchmarks.study [--trials 24] [--epochs 3] [--workers 2] [--rounds 1]

Each runs in a process and a folder of its own, in turns. The table has the wall time from the
command to its end, the CPU seconds of all its processes, trials an hour, and the share of the
ideal: what attnsearch's trainings took in the workers themselves, over the workers. The naive
script (`naive_study.py`) trains the same networks on the same images for as many epochs with
the loop that a user writes.
"""

import argparse
import contextlib
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
network: {{backbone: resnet20, width: 0.5}}
insert:
  - at: layer3
    block: {{choice: [none, se, eca]}}
train: {{epochs: {epochs}, batch_size: 64, lr: {{float: [0.01, 0.1], log: true}}}}
search: {{sampler: tpe, scheduler: none, trials: {trials}}}
resources: {{cpus: 1, workers: {workers}}}
"""
ARMS = ("ray tune script", "optuna alone", "attnsearch")


def run(arm: str, trials: int, workers: int) -> None:
    """Run one arm in the current folder; attnsearch also prints what its trainings took."""
    from attnsearch.spaces import load_space

    space = load_space(Path("study.yaml"))
    if arm == "attnsearch":
        from attnsearch.search.study import run_study
        from benchmarks.orchestration import Clock

        clock = Clock()
        run_study(space, progress=clock)
        print("TRAINING", sum(clock.training), flush=True)
        return
    from benchmarks.naive_study import by_optuna, by_ray

    search = by_ray if arm == "ray tune script" else by_optuna
    search(space.resolve(space.defaults()), trials, workers)


def measure(arm: str, asked: argparse.Namespace) -> tuple[float, float, float]:
    """Return wall, CPU and training seconds of one arm, the last for attnsearch alone."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"trials": asked.trials, "epochs": asked.epochs, "workers": asked.workers}
        Path(folder, "study.yaml").write_text(SPACE.format(**settings), encoding="utf-8")
        places = {"ATTNSEARCH_CACHE": str(Path(folder, "cache")), "RAY_TMPDIR": folder}
        places |= {"MLFLOW_TRACKING_URI": "", "PYTHONPATH": str(Path(__file__).parents[1])}
        words = ["--arm", arm, "--trials", str(asked.trials), "--workers", str(asked.workers)]
        said, used = Path(folder, "said.txt"), {}
        start = time.monotonic()
        with said.open("w", encoding="utf-8") as output:
            started = psutil.Popen(
                [sys.executable, "-m", "benchmarks.study", *words],
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
        wall, text = time.monotonic() - start, said.read_text(encoding="utf-8")
    if started.returncode:
        raise SystemExit(f"{arm}:\n{text}")
    told = [line.split()[1] for line in text.splitlines() if line.startswith("TRAINING ")]
    return wall, sum(used.values()), float(told[0]) if told else 0.0


def main() -> None:
    """Run all arms in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.arm:
        run(asked.arm, asked.trials, asked.workers)
        return
    rounds: dict[str, list[tuple[float, float, float]]] = {arm: [] for arm in ARMS}
    for _ in range(asked.rounds):
        for arm in ARMS:
            rounds[arm].append(measure(arm, asked))
    ideal = statistics.median(times[2] for times in rounds["attnsearch"]) / asked.workers
    print(f"{'':16} {'wall s':>8} {'CPU s':>8} {'trials/h':>9} {'ideal is':>9}")
    for arm, times in rounds.items():
        wall, cpu, _ = (statistics.median(values) for values in zip(*times, strict=True))
        hourly = 3600 * asked.trials / wall
        print(f"{arm:16} {wall:8.1f} {cpu:8.1f} {hourly:9.0f} {ideal / wall:8.0%}")
    print(f"ideal {ideal:.1f} s")


if __name__ == "__main__":
    main()
