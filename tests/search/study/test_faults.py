"""What goes wrong in a trial, and to the whole process: nothing is lost, nothing is done twice."""

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from ray import cloudpickle

from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.records import StudyRow, TrialRow
from attnsearch.runs.training.train import Training
from attnsearch.search.propose.proposals import Proposals
from attnsearch.search.study import queue, session
from attnsearch.search.study.queue import SAME_PLACE
from attnsearch.search.study.session import run_study
from attnsearch.search.workers import executor
from attnsearch.search.workers.cluster import Cluster, ClusterError
from attnsearch.search.workers.executor import execute
from attnsearch.search.workers.folder import PREFIX
from attnsearch.search.workers.job import Job
from attnsearch.search.workers.pace import TICK_SECONDS, Pace
from attnsearch.search.workers.searcher import Watch
from attnsearch.search.workers.worker import make_training
from attnsearch.spaces import load_space

TIMEOUT = 60  # seconds; more than a healthy step takes on a busy machine

FAULTY = '''
"""A block that changes its process for whatever comes next, and raises."""

import os

import torch
from torch import nn


class Taints(nn.Module):
    """Works until it trains.

    Args:
        channels: Of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and not x.is_meta and len(x) > 2:
            torch.set_num_threads(3)
            torch.backends.mkldnn.enabled = False
            torch.set_default_dtype(torch.float64)
            torch.nn.functional.relu = torch.nn.functional.gelu
            torch.nn.init.kaiming_normal_ = torch.nn.init.zeros_
            torch.nn.modules.module.register_module_forward_hook(lambda m, i, out: None)
            os.environ["OMP_NUM_THREADS"] = "3"
            raise RuntimeError("a bug in my block")
        return x * self.scale
'''

BATCH = 4  # so that it can be split once


def diverge(x: torch.Tensor, _: Path) -> torch.Tensor:
    return x * float("nan")


def leave(x: torch.Tensor, _: Path) -> torch.Tensor:
    sys.exit("enough")


def swell(x: torch.Tensor, _: Path) -> torch.Tensor:
    """Asks for more memory than there is, whatever the batch."""
    return x + torch.empty(1 << 50)[0]


def fill_card(x: torch.Tensor, _: Path) -> torch.Tensor:
    """Stands in for a card without room for a whole batch."""
    if len(x) == BATCH:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
    return x


def exceed_limit(x: torch.Tensor, _: Path) -> torch.Tensor:
    """Exceeds a limit of the process (`ulimit -v`) with a whole batch, and not with half of it."""
    used = int(Path("/proc/self/statm").read_text("utf-8").split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (384 << 20), before[1]))
    try:
        torch.empty(len(x) << 27, dtype=torch.uint8)  # 128 MiB an image
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    return x


def kill_for_memory(x: torch.Tensor, folder: Path) -> torch.Tensor:
    """Stands in for the system, which kills a process and counts it."""
    if len(x) == BATCH:
        (folder / "kills").write_text("1")
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def end(x: torch.Tensor, _: Path) -> torch.Tensor:
    os._exit(7)


def crash(x: torch.Tensor, _: Path) -> torch.Tensor:
    ctypes.string_at(0)
    return x


def hang(x: torch.Tensor, folder: Path) -> torch.Tensor:
    (folder / "hangs").touch()
    time.sleep(1000)
    return x


FAULTS: dict[str, Callable[[torch.Tensor, Path], torch.Tensor]] = {
    "se": diverge,
    "eca": leave,
    "cbam": swell,
    "simam": fill_card,
    "coordinate": exceed_limit,
    "gc": kill_for_memory,
    "identity": end,
    "conv1x1": crash,
    "nonlocal": hang,
}
"""What goes wrong in a real training of a network that has this block inserted."""

FAILED = {
    "faulty:Taints": "RuntimeError: a bug in my block (faulty.py:",
    "se": "the training loss is not finite in epoch 1 of 2",
    "eca": "SystemExit: enough (test_faults.py:",
    "cbam": "(with 2 micro-batches a batch)",
    "identity": "the worker process died without a word",
    "conv1x1": f"{SAME_PLACE}Segmentation fault (",
    "nonlocal": "no epoch in 1 min 0 s (resources.timeout): it hangs (test_faults.py:",
}
SPLIT = ("simam", "coordinate", "gc")
HEALTHY = ("none", "bottleneck1x1")
SPACE = f"""
name: faulty
task: classification
data: {{source: tiny.npz, image_size: 8}}
network: {{backbone: resnet20, width: 0.25}}
insert:
  - at: layer3
    block: {{choice: [{", ".join((*HEALTHY, *FAILED, *SPLIT))}], prior: "faulty:Taints"}}
train: {{epochs: 2, batch_size: {BATCH}, lr: 0.05}}
search: {{sampler: grid, scheduler: none, trials: 20}}
resources: {{timeout: {TIMEOUT}}}
"""


EPOCHS = 12
SLOW = f"""
name: tiny
task: classification
data: {{source: tiny.npz, image_size: 8}}
network: {{backbone: resnet20, width: 0.25}}
insert: [{{at: layer3, block: {{choice: [none, se]}}}}]
train: {{epochs: {EPOCHS}, batch_size: 4, lr: {{float: [0.01, 0.1]}}}}
search: {{sampler: random, scheduler: none, trials: 4}}
"""


class Impatient:
    """A clock on which the limit of a hang is over soon."""

    def __init__(self, hangs: Path) -> None:
        self.hangs, self.ahead = hangs, 0.0

    def __call__(self) -> float:
        if self.ahead < 1.5 * TIMEOUT and self.hangs.exists():
            self.ahead += TICK_SECONDS
        return time.monotonic() + self.ahead


class Faulty:
    """Makes trainings that go wrong in their first step.

    Attributes:
        folder: Where they leave marks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, job: Job, data: DataSet, device: str, threads: int) -> Training:
        training = make_training(job, data, device, threads)
        blocks = [entry["block"] for entry in job.config["insert"]]
        fault = FAULTS.get(blocks[0]) if blocks else None

        def hook(network: torch.nn.Module, given: tuple[torch.Tensor]) -> Any:
            (x,) = given
            return (fault(x, self.folder),) if network.training and not x.is_meta else given

        if fault is not None:
            training.network.register_forward_pre_hook(hook)
        return training


@pytest.mark.slow  # minutes: real workers are killed, hang, run out of memory
@pytest.mark.timeout(600)
def test_each_fault_is_one_failed_trial_and_the_others_finish(
    write_space: Callable[..., Path],
    ray_cluster: Cluster,
    mlflow_store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recorder: Any,
) -> None:
    """The first of them leaves its process in disorder, which the ones after it do not feel."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    # Beside the file, as Python's and an installed module are called; they win.
    for name in ("random", "profile", "safetensors"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('shadowed')")
    kills = tmp_path / "kills"
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(executor, "execute", partial(executor.execute, make=Faulty(tmp_path)))
    counting = partial(Watch, memory_kills=lambda: int(kills.exists()))
    monkeypatch.setattr(executor, "Watch", counting)
    impatient = partial(Pace, clock=Impatient(tmp_path / "hangs"))
    monkeypatch.setattr(executor, "Pace", impatient)
    monkeypatch.setattr(executor, "HANG_SECONDS", 1.0)
    monkeypatch.setattr(queue, "LOST_MAX", 1)
    made: list[Proposals] = []
    make = session.make_proposals
    monkeypatch.setattr(
        session, "make_proposals", lambda *given: made.append(make(*given)) or made[-1]
    )
    space = load_space(write_space(SPACE))
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        result = run_study(space, ledger=ledger, progress=recorder)
        # The study's own process trains nothing.
        assert torch.nn.functional.relu is not torch.nn.functional.gelu
        ended = {row.values["layer3.block"]: row for row in result.trials}

    assert result.state == "finished"
    states = {block: str(row.state) for block, row in ended.items()}
    assert states == dict.fromkeys((*HEALTHY, *SPLIT), "finished") | dict.fromkeys(
        FAILED, "failed"
    )
    for block, words in FAILED.items():
        assert words in str(ended[block].error), block
    swollen = str(ended["cbam"].error)
    assert (
        swollen.startswith("out of memory: ") and f"tried to allocate {4 << 50} bytes" in swollen
    )
    assert "the process has held" in swollen
    again = {block for block, row in ended.items() if row.attempt > 1}
    assert again == {*SPLIT, "cbam", "identity", "conv1x1"}
    pieces = {
        block: [epoch.get("micro_batches", 1) for epoch in row.epochs]
        for block, row in ended.items()
        if row.epochs
    }
    assert pieces == {block: [2, 2] if block in SPLIT else [1, 1] for block in (*HEALTHY, *SPLIT)}
    reasons = [end.reason for _, end in recorder.of("trial_ended") if end.state == "interrupted"]
    assert sum("in 2 micro-batches" in str(reason) for reason in reasons) == 4

    # The same in MLflow and in Optuna, each with its reason.
    errors = {row.number: row.error for row in result.trials}
    runs = [
        run
        for run in _mlflow_runs(mlflow_store, result.study.uid)
        if "attnsearch.seed" in run.data.tags
    ]
    assert {
        int(run.data.tags["attnsearch.number"]): (run.info.status, run.data.tags.get("error"))
        for run in runs
    } == {row.number: ("FAILED" if row.error else "FINISHED", row.error) for row in result.trials}
    assert len(runs) == len(result.trials) == len(FAILED) + len(SPLIT) + len(HEALTHY)
    marked = {
        int(run.data.tags["attnsearch.number"])
        for run in runs
        if run.data.tags.get("attnsearch.micro_batches") == "2"
    }
    assert marked == {ended[block].number for block in SPLIT}
    trials = made[0].trials()
    assert {trial.number: trial.user_attrs.get("error") for trial in trials} == errors
    assert Counter(trial.state.name for trial in trials) == {
        "FAIL": len(FAILED),
        "COMPLETE": len(trials) - len(FAILED),
    }

    # What came after the block that changed its process is what it is without it.
    later = ended["bottleneck1x1"]
    assert later.number > ended["faulty:Taints"].number
    data = load_data(space.document["data"], space.task)
    threads = torch.get_num_threads()
    alone = Training(later.config, data, threads=1)
    alone.run_epoch(), alone.run_epoch()
    torch.set_num_threads(threads)
    assert later.metrics["val_loss"] == alone.result["val_loss"]


@pytest.mark.slow  # a Ray of its own
def test_a_record_that_cannot_be_written_ends_the_execution_with_its_own_error(
    ray_cluster: Cluster, dots: DataSet, fake_training: Any, job_list: Any
) -> None:
    source = job_list([Job(n, {"sleep": 0.2, "train": {"epochs": 500}}) for n in range(2)])

    def broken(*_: Any) -> None:
        raise OSError("the disk is full")

    source.reported = broken
    start = time.monotonic()
    with pytest.raises(OSError, match="the disk is full"):
        execute(source, ray_cluster, {"data": dots}, workers=1, make=fake_training)
    assert time.monotonic() - start < 60
    assert source.outcomes[0].state == "interrupted"


@pytest.mark.slow  # workers are started again and again
def test_workers_that_cannot_start_end_the_execution_instead_of_failing_every_job(
    ray_cluster: Cluster, dots: DataSet, fake_training: Any, job_list: Any
) -> None:
    source = job_list([Job(n, {"train": {"epochs": 1}}) for n in range(5)])
    with pytest.raises(ClusterError, match="cannot be started or kept"):
        execute(source, ray_cluster, {"data": Poison()}, workers=1, make=fake_training)  # type: ignore[dict-item]
    assert {outcome.state for outcome in source.outcomes.values()} <= {"lost", "interrupted"}


class Poison:
    """Ends whatever process unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


SESSION = """
import sys
from attnsearch.search import run_study
from attnsearch.spaces import load_space

class Lines:
    def __getattr__(self, name):
        return lambda *a: print(name, *(getattr(x, "number", "") for x in a[:1]), flush=True)

if __name__ == "__main__":
    result = run_study(load_space("tiny.yaml"), progress=Lines())
    print("RESULT", result.state, "|", result.message, flush=True)
"""


class Session:
    """`run_study` in a process group of its own."""

    def __init__(self, folder: Path, store: str) -> None:
        (folder / "session.py").write_text(SESSION)
        environment = {
            **os.environ,
            "ATTNSEARCH_LEDGER": str(folder / "attnsearch.db"),
            "MLFLOW_TRACKING_URI": store,
            "TMPDIR": str(_short(folder)),
        }
        environment.pop("RAY_ADDRESS", None)
        self.process = subprocess.Popen(
            [sys.executable, "session.py"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []

    def wait_for(self, wanted: str, times: int = 1) -> None:
        """Reads lines until one has come so often."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            times -= line.startswith(wanted)
            if not times:
                return
        raise AssertionError(f"{wanted!r} did not come:\n" + "\n".join(self.lines))

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def finish(self) -> str:
        """Lets it end by itself; returns what it printed last."""
        rest, _ = self.process.communicate(timeout=200)
        self.lines += rest.splitlines()
        return self.lines[-1]


def _short(folder: Path) -> Path:
    """A temporary folder of this test's own, short enough for Ray's sockets."""
    short = Path(f"/tmp/at-{os.getpid()}-{abs(hash(folder)) % 10**6}")
    short.mkdir(exist_ok=True)
    return short


def _mlflow_runs(store: str, uid: str) -> list[Run]:
    client = MlflowClient(store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1000)
    return [run for run in runs if uid in run.data.tags.values()]


def _mlflow_states(store: str, uid: str) -> list[str]:
    return [run.info.status for run in _mlflow_runs(store, uid)]


def _gone(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still run after so many seconds."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def slow_study(write_space: Callable[..., Path], tmp_path: Path) -> Iterator[Path]:
    """A space of four trials of about two seconds each."""
    yield write_space(SLOW)
    shutil.rmtree(_short(tmp_path), ignore_errors=True)


@pytest.mark.timeout(600)
def test_killed_and_stopped_a_study_completes_without_loss_or_repetition(
    slow_study: Path,
    mlflow_store: str,
    tmp_path: Path,
    ray_cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGKILL of the whole process group in mid-study, Ctrl-C in the same study, and its end.

    Both signals reach the whole group, Ray's processes included.
    """
    first = Session(tmp_path, mlflow_store)
    first.wait_for("trial_ended")
    first.wait_for("epoch")
    family = first.descendants()
    os.killpg(first.process.pid, signal.SIGKILL)
    first.process.wait(timeout=30)
    assert not _gone(family, 30), "processes of Ray outlived the driver"
    study, before = _interrupted(tmp_path)
    assert before, "a trial had ended"

    second = Session(tmp_path, mlflow_store)
    second.wait_for("epoch")
    family = second.descendants()
    asked = time.monotonic()
    os.killpg(second.process.pid, signal.SIGINT)
    last = second.finish()
    assert time.monotonic() - asked < 60
    assert last.startswith("RESULT interrupted | stopped after"), "\n".join(second.lines)
    assert "run it again to go on from there" in last
    assert second.process.returncode == 0
    assert not _gone(family, 10)
    same, after = _interrupted(tmp_path)
    assert same.id == study.id and before.keys() <= after.keys()
    assert "RUNNING" not in _mlflow_states(mlflow_store, study.uid)

    monkeypatch.setattr(tempfile, "tempdir", str(_short(tmp_path)))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        result = run_study(load_space(slow_study), ledger=ledger)  # type: ignore[arg-type]
        assert result.message == "4 trials: 4 finished"
        rows = ledger.trials(study.id)
    assert (result.state, result.study.id) == ("finished", study.id)
    assert [row.number for row in rows] == list(range(4))
    assert len({row.key for row in rows}) == 4
    assert {row.state for row in rows} == {"finished"}
    for row in rows:
        assert [epoch["epoch"] for epoch in row.epochs] == [*range(1, EPOCHS + 1)]
        if row.id in before:
            assert (row.ended, row.attempt) == (before[row.id].ended, before[row.id].attempt)
    assert sorted(_mlflow_states(mlflow_store, study.uid)) == ["FINISHED"] * 5
    assert not list(_short(tmp_path).glob(f"{PREFIX}*")), "left by the killed process"


def _interrupted(folder: Path) -> tuple[StudyRow, dict[int, TrialRow]]:
    """The study, which nobody runs any more, and its finished runs by their number."""
    with Ledger(folder / "attnsearch.db") as ledger:
        study = ledger.find_study("tiny")
        rows = ledger.trials(study.id)
    assert study.state == "interrupted"
    assert {row.state for row in rows} <= {"interrupted", "finished"}
    return study, {row.id: row for row in rows if row.state == "finished"}


@pytest.mark.slow  # a Ray of its own, twice
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_ray_that_is_killed_ends_the_study_as_interrupted(
    slow_study: Path, mlflow_store: str, tmp_path: Path, name: str
) -> None:
    session = Session(tmp_path, mlflow_store)
    session.wait_for("epoch")
    family = session.descendants()
    next(process for process in family if process.name() == name).kill()
    asked = time.monotonic()
    last = session.finish()
    assert time.monotonic() - asked < 60
    assert "is gone" in "\n".join(session.lines) and "the same command goes on" in last
    assert not _gone(family, 10)
    _interrupted(tmp_path)
