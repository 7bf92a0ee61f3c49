"""What a study costs beside its trainings as it grows: proposals, records, memory, waits.

    python -m benchmarks.scale [--trials 100 1000 10000] [--workers 1 50 500] [--seconds 0]

Everything is the product's own but the trainings, which sleep instead, and Ray, whose workers are
entries of a list. The database is SQLite in a temporary folder, or the one that `--ledger` names.
Each size is a process of its own. One line a size tells, in ms a trial, what proposing and
recording took (means of the last fifth of the trials, where a study is at its largest); how much
memory of its own the driver took with each trial over its second half; and the share of the
workers' time that was lost between trials, where trainings last (`--seconds`).

    python -m benchmarks.scale --records 10000 [--ledger postgresql+psycopg://...] [--to FOLDER]

This records trials through the ledger's own functions and nothing else: claim with place, three
epochs, the end. SQLite, and the database that is named, take turns of 100 trials, so that what
else the machine does meets both. Then `attnsearch show`, `report`, `list` and `sync` of the study
in SQLite are timed, in seconds of a CPU and as they took.
"""

import argparse
import contextlib
import heapq
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import attnsearch.search.workers
from attnsearch.runs.exports import pack_weights
from attnsearch.runs.ledger import Ending, Ledger, Place, Request, State
from attnsearch.search.study import run_study, session
from attnsearch.search.workers import Job, Jobs, Outcome, Report
from attnsearch.search.workers.cluster import Cluster
from attnsearch.search.workers.worker import interface
from attnsearch.spaces import load_space
from attnsearch.spaces.space import Space

EPOCHS = 3
TURN = 100  # trials
SAMPLE = 10  # trials from one look at the memory to the next, which takes 10 ms with 400 MB
SPACE = """
name: scale
task: classification
data: {{source: digits, image_size: 8}}
network: {{backbone: resnet20}}
insert:
  - at: layer1
    block: {{choice: [none, se, gc, eca]}}
  - at: layer2
    block: {{choice: [none, se, gc, eca]}}
  - at: layer3
    block: {{choice: [none, se, gc, eca]}}
blocks:
  se: {{reduction: {{choice: [2, 4, 8, 16]}}}}
  gc: {{ratio: {{choice: [0.125, 0.25, 0.5]}}}}
train:
  epochs: 3
  batch_size: {{choice: [64, 128, 256]}}
  speed: plain
  lr: {{float: [0.001, 1.0], log: true}}
  weight_decay: {{float: [1.0e-5, 1.0e-2], log: true}}
search: {{sampler: {sampler}, scheduler: {scheduler}, trials: {trials}}}
resources: {{cpus: 1}}
"""  # twelve decisions


def private_kb() -> float:
    """The memory in kB that this process shares with none."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    sizes = {name: float(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
    return sizes["Private_Clean"] + sizes["Private_Dirty"]


@dataclass
class Sleepers:
    """Executes jobs as `execute` does, with workers that sleep.

    Args:
        workers: How many there are.
        seconds: What a training takes.
    """

    workers: int
    seconds: float
    proposing: list[float] = field(default_factory=list)
    recording: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    ended: int = 0
    lost: float = 0.0
    busy: float = 0.0

    def __call__(self, source: Jobs, cluster: Any, datasets: Any, **_: Any) -> None:
        """Train the jobs of a source until it has no more."""
        weights = torch.zeros(100)
        packed = np.frombuffer(
            pack_weights({"weight": weights}, interface(datasets["data"])), np.uint8
        )
        chance = random.Random(0)
        free = [time.monotonic()] * self.workers
        running: list[tuple[float, int, Job, int]] = []
        spent = 0.0
        while True:
            while free:
                began = time.perf_counter()
                job = source.next_job()
                spent += time.perf_counter() - began
                if job is None:
                    break
                self.proposing.append(spent)
                spent = 0.0
                source.started(job)
                now = time.monotonic()
                self.lost += now - free.pop(0)
                heapq.heappush(running, (now + self.seconds / EPOCHS, len(self.proposing), job, 1))
            if not running:
                if source.exhausted():
                    return
                time.sleep(0.01)
                continue
            due, number, job, epoch = heapq.heappop(running)
            time.sleep(max(0.0, due - time.monotonic()))
            metrics = {"val_accuracy": chance.random() * epoch, "train_loss": 1.0, "epoch_s": 1.0}
            report = Report(epoch, metrics, costs={"params": 1e5, "macs": 1e6, "latency_ms": 1.0})
            if epoch == EPOCHS:
                report.state, report.weights = State.FINISHED, packed
            began = time.perf_counter()
            stops = source.reported(job, report)
            if over := stops or epoch == EPOCHS:
                source.ended(job, Outcome(report.state or State.STOPPED, metrics, report))
                free.append(due)
                self.busy += self.seconds * epoch / EPOCHS
            else:
                heapq.heappush(running, (due + self.seconds / EPOCHS, number, job, epoch + 1))
            self.recording.append(time.perf_counter() - began)
            if over:
                self.ended += 1
                if self.ended % SAMPLE == 1:
                    self.memory.append(private_kb())


def study(sampler: str, scheduler: str, trials: int, workers: int, seconds: float) -> None:
    """Runs a study in the current folder and prints its figures as JSON."""
    path = Path("scale.yaml")
    path.write_text(
        SPACE.format(sampler=sampler, scheduler=scheduler, trials=trials), encoding="utf-8"
    )
    sleepers = Sleepers(workers, seconds)

    @contextlib.contextmanager
    def cluster(
        need: Any, most: int, meanwhile: Callable[[], None] = lambda: None, *_: Any
    ) -> Iterator[Any]:
        meanwhile()
        yield Cluster(Path(), workers, {"CPU": 1.0}, most=workers)

    vars(session)["running_cluster"] = cluster
    vars(attnsearch.search.workers)["execute"] = sleepers
    start = time.monotonic()
    result = run_study(load_space(path))
    wall = time.monotonic() - start
    last = len(sleepers.proposing) // 5
    half = sleepers.memory[len(sleepers.memory) // 2 :]
    slope = statistics.linear_regression(range(len(half)), half).slope if len(half) > 1 else 0.0
    figures = {
        "trials": len(result.trials),
        "proposing_ms": 1000 * statistics.fmean(sleepers.proposing[-last:]),
        "recording_ms": 1000 * sum(sleepers.recording[-last * EPOCHS :]) / last,
        "kb_a_trial": slope / SAMPLE,
        "mb": sleepers.memory[-1] / 1000,
        "lost": sleepers.lost / (sleepers.lost + sleepers.busy) if seconds else None,
        "wall_s": wall,
    }
    print("FIGURES", json.dumps(figures), flush=True)


def timed(folder: Path, *command: str) -> tuple[float, float]:
    """Seconds of a CPU that a command of the product takes, and seconds."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    line = [sys.executable, "-m", "attnsearch.search.cli", *command]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - start


class Recorder:
    """Records trials of a made-up study, as a driver does.

    Args:
        ledger: Where.
        space: Of the study.
    """

    def __init__(self, ledger: Ledger, space: Space) -> None:
        self._ledger, self._space = ledger, space
        self._chance = random.Random(0)
        self.study = ledger.open_study(space.name, space.text, space.document, "made up", {})
        self.count = 0

    def record(self) -> None:
        """Record one trial."""
        ledger, chance, space = self._ledger, self._chance, self._space
        values: dict[str, Any] = {}
        for choice in space.decisions:
            if choice.active(values):
                values[choice.name] = (
                    chance.choice(choice.choices)
                    if choice.kind == "choice"
                    else choice.low * (choice.high / choice.low) ** chance.random()
                )
        config = space.resolve(values)
        key = f"{chance.getrandbits(256):064x}"
        claim = ledger.claim(
            Request(key, config, seed=0, epochs=EPOCHS, study_id=self.study.id),
            place=Place(self.count, values=values),
        )
        metrics: dict[str, float] = {}
        for epoch in range(1, EPOCHS + 1):
            score = chance.random() * epoch / EPOCHS
            metrics = {"train_loss": 1.0, "val_loss": 1 - score, "val_accuracy": score}
            if epoch < EPOCHS:
                ledger.record_epoch(claim.run_id, epoch, metrics)
        costs = {"params": 1e5, "macs": 1e6, "latency_ms": 1.0}
        ending = Ending(State.FINISHED, metrics, costs)
        ledger.finish(claim.run_id, ending, epochs={EPOCHS: metrics})
        self.count += 1

    def close(self) -> None:
        """End the study."""
        self._ledger.set_study_state(self.study.id, State.FINISHED)


def records(trials: int, other: str | None, folder: Path) -> None:
    """Records trials in SQLite and another database, and prints what that took."""
    file = folder / "scale.yaml"
    file.write_text(SPACE.format(sampler="tpe", scheduler="none", trials=trials), encoding="utf-8")
    space = load_space(file)
    names = {"SQLite": str(folder / "attnsearch.db")} | (
        {other.partition("+")[0]: other} if other else {}
    )
    print("| database | trials | ms of a CPU each | ms each |\n| --- | --- | ---: | ---: |")
    with contextlib.ExitStack() as stack:
        recorders = {
            name: Recorder(stack.enter_context(Ledger(url)), space) for name, url in names.items()
        }
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for turn in range(trials // TURN):
            for name, recorder in recorders.items():
                cpu, wall = time.process_time(), time.monotonic()
                for _ in range(TURN):
                    recorder.record()
                spent[name].append((time.process_time() - cpu, time.monotonic() - wall))
            if (turn + 1) % max(1, trials // TURN // 5) == 0:
                for name, each in spent.items():
                    cpu, wall = (
                        sum(column) / len(each) / TURN for column in zip(*each, strict=True)
                    )
                    first = (turn + 1 - len(each)) * TURN
                    print(
                        f"| {name} | {first:,} to {(turn + 1) * TURN:,} | {1000 * cpu:.1f} "
                        f"| {1000 * wall:.1f} |",
                        flush=True,
                    )
                    each.clear()
        for recorder in recorders.values():
            recorder.close()


def read(folder: Path) -> None:
    """Prints what commands take that read a study."""
    print("\n| command | s of a CPU | s |\n| --- | ---: | ---: |", flush=True)
    for command in ("list", "show scale", "report scale", "sync scale", "sync scale"):
        cpu, wall = timed(folder, *command.split())
        print(f"| {command} | {cpu:.1f} | {wall:.1f} |", flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="what a study costs beside its trainings")
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 50])
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--scheduler", default="none")
    parser.add_argument("--ledger", help="address of a database, such as PostgreSQL's")
    parser.add_argument("--records", type=int, help="record so many trials, and read them")
    parser.add_argument("--to", type=Path, help="keep what is recorded in this folder")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        study(given.sampler, given.scheduler, given.trials[0], given.workers[0], given.seconds)
        return
    if given.records:
        with tempfile.TemporaryDirectory() as folder:
            to = given.to or Path(folder)
            to.mkdir(parents=True, exist_ok=True)
            records(given.records, given.ledger, to)
            read(to)
        return
    print(
        "| trials | workers | proposing, ms | recording, ms | memory, kB a trial | MB at the end "
        "| lost | whole, s |\n|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    root = str(Path(__file__).resolve().parents[1])
    for trials in given.trials:
        for workers in given.workers:
            with tempfile.TemporaryDirectory() as folder:
                environment = {**os.environ, "PYTHONPATH": root}
                if given.ledger:
                    environment["ATTNSEARCH_LEDGER"] = given.ledger
                options = sys.argv[1:]
                command = [sys.executable, "-m", "benchmarks.scale", *options, "--one"]
                command += ["--trials", str(trials), "--workers", str(workers)]
                out = subprocess.run(
                    command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE
                ).stdout.decode()
                row = json.loads(out.partition("FIGURES ")[2].splitlines()[0])
                lost = "-" if row["lost"] is None else f"{row['lost']:.1%}"
                print(
                    f"| {row['trials']} | {workers} | {row['proposing_ms']:.1f} "
                    f"| {row['recording_ms']:.1f} | {row['kb_a_trial']:.0f} | {row['mb']:.0f} "
                    f"| {lost} | {row['wall_s']:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
