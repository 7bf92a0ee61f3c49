"""A training that costs nothing, a data set of a few pixels, and one Ray for all these tests."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from markupsafe import Markup
from torch import Tensor, nn

from attnsearch.runs.data.data import DataSet, Split
from attnsearch.runs.mirror.mirror import MirrorReport
from attnsearch.runs.training.optim import Diverged
from attnsearch.search.workers.cluster import Cluster, Need, running_cluster
from attnsearch.search.workers.job import Job, Jobs, Outcome, Report
from attnsearch.search.workers.stopping import should_stop
from attnsearch.search.workers.worker import Worker, make_training


class FakeTraining:
    """Trains nothing; the config says what happens: `score`, `sleep`, `fault` and `fault_at`.

    Its accuracy in epoch e is score * (1 - 2^-e).
    """

    def __init__(self, job: Job, data: DataSet, device: str, threads: int) -> None:
        self.job = job
        self.history: list[dict[str, float]] = []
        wide = job.config.get("width", 2)
        self.network = nn.Sequential(
            nn.Conv2d(1, wide, 3, padding=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(wide, 2),
        )
        self.threads = threads

    @property
    def done(self) -> bool:
        return len(self.history) >= self.job.config["train"]["epochs"]

    @property
    def result(self) -> dict[str, float]:
        return self.history[-1]

    def run_epoch(self) -> dict[str, float]:
        config, epoch = self.job.config, len(self.history) + 1
        time.sleep(config.get("sleep", 0))
        if epoch == config.get("fault_at", 1):
            _fail(config.get("fault"))
        metrics = {
            "val_accuracy": config.get("score", 0.5) * (1 - 0.5**epoch),
            "pid": float(os.getpid()),
            "threads": float(torch.get_num_threads()),
        }
        self.history.append(metrics)
        return dict(metrics)

    def costs(self) -> dict[str, float]:
        return {"params": 10.0, "macs": 20.0, "memory_mb": 1.0}

    @property
    def architecture(self) -> str:
        return "fake"

    def times(self) -> dict[str, float]:
        return {"latency_ms": 5.0}

    def evaluate(self, split: str) -> tuple[dict[str, float], dict[str, Any]]:
        said = {
            "names": ["x"],
            "labels": np.zeros(1, np.int64),
            "probabilities": np.ones((1, 2), np.float32),
        }
        return {}, said

    def result_state(self) -> dict[str, Tensor]:
        return dict(self.network.state_dict())


def _fail(fault: str | None) -> None:
    if fault == "raise":
        raise ValueError("no such thing")
    if fault == "nan":
        raise Diverged("the loss became nan")
    if fault == "memory":
        raise MemoryError
    if fault == "exit":
        os._exit(3)
    if fault == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


class JobList:
    """A source of jobs that are given, and a record of what became of them.

    Args:
        jobs: The jobs.
        scheduler: Stops them early.
        protected: Numbers of those that it does not stop.
    """

    def __init__(
        self, jobs: list[Job], scheduler: str = "none", protected: Collection[int] = ()
    ) -> None:
        self.jobs = list(jobs)
        self.scheduler = scheduler
        self.protected = protected
        self.events: list[tuple[Any, ...]] = []
        self.epochs: dict[int, list[Report]] = {job.id: [] for job in jobs}
        self.outcomes: dict[int, Outcome] = {}

    def next_job(self) -> Job | None:
        return self.jobs.pop(0) if self.jobs else None

    def exhausted(self) -> bool:
        return not self.jobs

    def started(self, job: Job) -> None:
        self.events.append(("started", job.id))

    def reported(self, job: Job, report: Report) -> bool:
        self.epochs[job.id].append(report)
        if self.scheduler == "none" or job.id in self.protected:
            return False
        curves = {
            number: {said.epoch: said.metrics.get("val_accuracy", np.nan) for said in reports}
            for number, reports in self.epochs.items()
        }
        epochs = job.config["train"]["epochs"]
        return should_stop(self.scheduler, job.id, curves, goal="max", epochs=epochs)

    def ended(self, job: Job, outcome: Outcome) -> None:
        assert job.id not in self.outcomes, "a job ends once"
        self.events.append(("ended", job.id))
        self.outcomes[job.id] = outcome

    def pids(self, job_id: int) -> set[float]:
        return {report.metrics["pid"] for report in self.epochs[job_id]}


def _data() -> DataSet:
    def split(count: int) -> Split:
        images = np.zeros((count, 4, 4, 1), np.uint8)
        return Split(images, np.zeros(count, np.int64), [str(i) for i in range(count)])

    return DataSet(
        name="dots",
        train=split(8),
        val=split(4),
        test=split(4),
        class_names=["no", "yes"],
        channels=1,
        image_size=(4, 4),
        mean=(0.5,),
        std=(0.5,),
        fingerprint="f",
        test_fingerprint="t",
        notes=[],
    )


@pytest.fixture(scope="session")
def dots() -> DataSet:
    """A data set of four by four pixels."""
    return _data()


@pytest.fixture(scope="session")
def fake_training() -> Callable[..., FakeTraining]:
    """What builds a `FakeTraining`, also in workers."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return FakeTraining


@pytest.fixture
def job_list() -> type[JobList]:
    """The class `JobList`."""
    return JobList


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Cluster]:
    """One Ray, with room for one trial, for all tests that run inside this process."""
    with running_cluster(Need(), 1) as running:
        yield running


def write_tiny_data(folder: Path) -> None:
    """Writes tiny.npz: two classes of eight by eight pixels that are easy to tell apart."""
    draws = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name, count in (("train", 48), ("val", 24), ("test", 8)):
        labels = np.arange(count) % 2
        images = draws.integers(0, 120, (count, 8, 8), dtype=np.uint8)
        images[labels == 1, :4] += 100
        arrays[f"{name}_images"] = images
        arrays[f"{name}_labels"] = labels[:, None]
    np.savez(folder / "tiny.npz", **arrays)


TINY = """
name: tiny
task: classification
data: {source: tiny.npz, image_size: 8}
network: {backbone: resnet20, width: 0.25}
insert:
  - at: layer3
    block: {choice: [none, se, gc]}
train: {epochs: 2, batch_size: 16, lr: 0.05}
search: {sampler: random, scheduler: none, trials: 3}
"""


@pytest.fixture
def write_space(tmp_path: Path) -> Callable[..., Path]:
    """Writes a space file, by default `TINY`, with its data beside it."""

    def write(text: str = TINY, name: str = "tiny.yaml") -> Path:
        if not (tmp_path / "tiny.npz").exists():
            write_tiny_data(tmp_path)
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


class Recorder:
    """A `Progress` that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.calls.append((name, arguments))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for called, arguments in self.calls if called == name]


@pytest.fixture
def recorder() -> Recorder:
    """A `Progress` that remembers."""
    return Recorder()


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A temporary folder short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="at-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One MLflow store for all tests: creating one takes seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    yield uri
    if before is None:
        del os.environ["MLFLOW_TRACKING_URI"]
    else:
        os.environ["MLFLOW_TRACKING_URI"] = before


class InProcess:
    """Stands for `attnsearch.search.workers.executor`: real trainings, one by one, without Ray."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.make: Callable[..., Any] = make_training

    def __call__(
        self,
        source: Jobs,
        cluster: Cluster,
        datasets: Mapping[str, DataSet],
        *,
        need: Need,
        workers: int | None = None,
        folders: Any,
        times: Any,
        longest: float,
        timeout: float | None,
        replicas: int,
        stop: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        worker = None
        while not stop() and not source.exhausted():
            job = source.next_job()
            if job is None:
                time.sleep(0.05)
                continue
            self.jobs.append(job)
            if worker is None or not worker.reset_config({"job": job}):
                worker = Worker.__new__(Worker)
                worker.setup(
                    {"job": job}, datasets=datasets, need=need, folders=folders, make=self.make
                )
            source.started(job)
            source.ended(job, self._train(worker, source, job))

    def _train(self, worker: Worker, source: Jobs, job: Job) -> Outcome:
        while True:
            report: Report = worker.step()["report"]
            stopped = bool(report.metrics) and source.reported(job, report)
            if report.state or stopped:
                state = report.state or "stopped"
                metrics = report.result if state == "finished" else report.metrics
                return Outcome(state, metrics, report, report.error, report.traceback)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[InProcess]:
    """Studies train in this process, show nothing in MLflow, and leave figures out of reports."""
    from attnsearch.runs.figures.drawing import Figure
    from attnsearch.search.study import company, session as engine
    from attnsearch.search.workers import executor

    @contextlib.contextmanager
    def no_cluster(
        need: Need, most: int, meanwhile: Callable[[], None] = lambda: None, *_: Any
    ) -> Iterator[Cluster]:
        meanwhile()
        yield Cluster(tmp_path, 1, {})

    class NoMirror:
        def __init__(self, *_: Any) -> None:
            pass

        def prepare(self) -> None:
            """Nothing."""

        def begin(self) -> None:
            pass

        def wake(self) -> None:
            pass

        def close(self, timeout: float) -> MirrorReport:
            return MirrorReport("", 0, 0, None)

    trainer = InProcess()
    monkeypatch.setattr(engine, "running_cluster", no_cluster)
    monkeypatch.setattr(engine, "LateMirror", NoMirror)
    monkeypatch.setattr(executor, "execute", trainer)
    monkeypatch.setattr(company, "HEARTBEAT_SECONDS", 1000)
    monkeypatch.setattr(Figure, "svg", lambda self: Markup("<svg></svg>"))
    threads = torch.get_num_threads()
    yield trainer
    torch.set_num_threads(threads)
