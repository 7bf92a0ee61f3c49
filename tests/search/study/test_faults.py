"""What goes wrong in a trial, and to the whole process: nothing is lost, nothing is done twice."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import safetensors.numpy
from mlflow import MlflowClient

from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.search.study.session import run_study
from attnsearch.search.workers.cluster import Cluster, ClusterError
from attnsearch.search.workers.executor import execute
from attnsearch.search.workers.folder import PREFIX
from attnsearch.search.workers.job import Job, Outcome
from attnsearch.spaces import load_space

FAULTY = '''
"""Blocks that go wrong in training, once a real step is taken."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn


class Fault(nn.Module):
    """A block that works until it trains.

    Args:
        channels: Of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and not x.is_meta and len(x) > 2:
            x = self.go_wrong(x)
        return x * self.scale

    def go_wrong(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class Raises(Fault):
    """Raises."""

    def go_wrong(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a bug in my block")


class Diverges(Fault):
    """Gives NaN."""

    def go_wrong(self, x: torch.Tensor) -> torch.Tensor:
        return x * float("nan")


class Swells(Fault):
    """Asks for more memory than there is."""

    def go_wrong(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.empty(1 << 50)[0]


class Exits(Fault):
    """Takes the process with it."""

    def go_wrong(self, x: torch.Tensor) -> torch.Tensor:
        os._exit(7)


class Killed(Fault):
    """Is killed once, as the system does when memory runs out."""

    def go_wrong(self, x: torch.Tensor) -> torch.Tensor:
        before = Path(__file__).with_name("killed")
        if not before.exists():
            before.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x


class Interrupts(Fault):
    """Raises what no `except Exception` catches."""

    def go_wrong(self, x: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt


class Taints(Fault):
    """Changes its process for whatever comes next."""

    def go_wrong(self, x: torch.Tensor) -> torch.Tensor:
        torch.set_num_threads(3)
        torch.backends.mkldnn.enabled = False
        torch.set_default_dtype(torch.float64)
        torch.nn.functional.relu = torch.nn.functional.gelu
        torch.nn.init.kaiming_normal_ = torch.nn.init.zeros_
        torch.nn.modules.module.register_module_forward_hook(lambda m, i, out: None)
        os.environ["OMP_NUM_THREADS"] = "3"
        return x


class Sleeps(Fault):
    """Takes its time."""

    def go_wrong(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.1)
        return x
'''


@pytest.fixture
def faulty_space(write_space: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Writes a space whose candidates are blocks of FAULTY, with its data and its module."""

    def write(*blocks: str, **search: Any) -> Path:
        (tmp_path / "faulty.py").write_text(FAULTY)
        named = ", ".join(["none", *(f"faulty:{block}" for block in blocks)])
        given = ", ".join(f"{key}: {value}" for key, value in search.items())
        return write_space(
            textwrap.dedent(
                f"""
                name: faulty
                task: classification
                data: {{source: tiny.npz, image_size: 8}}
                network: {{backbone: resnet20, width: 0.25}}
                insert:
                  - at: layer3
                    block: {{choice: [{named}]}}
                train: {{epochs: 2, batch_size: 16, lr: 0.05}}
                search: {{{given}}}
                """
            )
        )

    return write


def test_each_fault_is_one_failed_trial_and_the_search_goes_on(
    faulty_space: Callable[..., Path], ray_cluster: Cluster, mlflow_store: str, tmp_path: Path
) -> None:
    path = faulty_space(
        *("Raises", "Interrupts", "Diverges", "Swells", "Exits", "Killed"),
        sampler="grid",
        scheduler="asha",
        trials=7,
    )
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        result = run_study(load_space(path), ledger=ledger)  # type: ignore[arg-type]
        ended = {row.values["layer3.block"].rpartition(":")[2]: row for row in result.trials}
        states = Counter(run.state for run in ledger.trials(result.study.id))
    assert result.state == "finished"
    assert states == {"finished": 2, "failed": 5}
    assert (ended["none"].state, ended["none"].attempt) == ("finished", 1)
    assert (ended["Killed"].state, ended["Killed"].attempt) == ("finished", 2)
    assert ended["Exits"].attempt == 3
    for block, words in {
        "Raises": "a bug in my block",
        "Interrupts": "KeyboardInterrupt (faulty.py:",
        "Diverges": "not finite",
        "Swells": "out of memory",
        "Exits": "the worker process died",
    }.items():
        assert ended[block].state == "failed"
        assert words in str(ended[block].error)
    shown = _mlflow_states(mlflow_store, result.study.uid)
    assert sorted(shown) == ["FAILED"] * 5 + ["FINISHED"] * 3


def test_a_users_block_changes_nothing_for_the_next_trial(
    faulty_space: Callable[..., Path], ray_cluster: Cluster, job_list: Any, tmp_path: Path
) -> None:
    space = load_space(faulty_space("Taints"))
    (decision,) = space.decisions
    data = load_data(space.document["data"], space.task)
    # Beside the file, as Python's and an installed module are called; they win.
    for name in ("random", "profile", "safetensors"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('shadowed')")
    blocks = ("none", "faulty:Taints", "none", "none")
    jobs = [
        Job(number, space.resolve({**space.defaults(), decision.name: block}))
        for number, block in enumerate(blocks)
    ]
    source = job_list(jobs)
    execute(source, ray_cluster, {"data": data}, workers=1, folders=[str(tmp_path)])
    first, _, *after = (source.outcomes[number] for number in range(4))
    assert {outcome.state for outcome in (first, *after)} == {"finished"}, first.error
    for outcome in after:
        assert outcome.metrics["val_loss"] == first.metrics["val_loss"]
        assert _tensors(outcome) == _tensors(first)


def _tensors(outcome: Outcome) -> dict[str, bytes]:
    """The weights of a finished job, to the last bit."""
    state = safetensors.numpy.load(outcome.report.weights.tobytes())  # type: ignore[union-attr]
    return {name: tensor.tobytes() for name, tensor in state.items()}


def test_a_worker_survives_what_is_raised_and_is_replaced_after_a_crash(
    ray_cluster: Cluster, dots: DataSet, fake_training: Any, job_list: Any
) -> None:
    faults = [None, "raise", "memory", None, "segfault", None]
    jobs = [
        Job(n, {"fault": fault, "fault_at": 2, "train": {"epochs": 3}})
        for n, fault in enumerate(faults)
    ]
    source = job_list(jobs)
    execute(source, ray_cluster, {"data": dots}, workers=1, make=fake_training)
    states = [source.outcomes[n].state for n in range(len(jobs))]
    assert states == ["finished", "failed", "failed", "finished", "lost", "finished"]
    before = {pid for n in range(5) for pid in source.pids(n)}
    assert len(before) == 1, "one warm process"
    assert source.pids(5) != before
    crash = source.outcomes[4]
    assert crash.place.startswith("Segmentation fault (conftest.py:")
    assert crash.error == f"the worker process crashed: {crash.place}"
    assert "run_epoch" in str(crash.traceback)


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


def _mlflow_states(store: str, uid: str) -> list[str]:
    client = MlflowClient(store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1000)
    return [run.info.status for run in runs if uid in run.data.tags.values()]


def _gone(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still run after so many seconds."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def slow_study(faulty_space: Callable[..., Path], tmp_path: Path) -> Iterator[Path]:
    """A space of four trials of about two seconds each."""
    path = faulty_space("Sleeps", sampler="random", scheduler="none", trials=4)
    text = path.read_text().replace("lr: 0.05", "lr: {float: [0.01, 0.1]}")
    path.write_text(text.replace("epochs: 2", "epochs: 4"))
    yield path
    shutil.rmtree(_short(tmp_path), ignore_errors=True)


@pytest.mark.timeout(600)
def test_ctrl_c_stops_within_seconds_and_the_study_goes_on_from_there(
    slow_study: Path, mlflow_store: str, tmp_path: Path, ray_cluster: Cluster
) -> None:
    """The signal reaches the whole foreground group, Ray's processes included."""
    session = Session(tmp_path, mlflow_store)
    session.wait_for("epoch")
    family = session.descendants()
    asked = time.monotonic()
    os.killpg(session.process.pid, signal.SIGINT)
    last = session.finish()
    assert time.monotonic() - asked < 30
    assert last.startswith("RESULT interrupted | stopped after"), "\n".join(session.lines)
    assert "run it again to go on from there" in last
    assert session.process.returncode == 0
    assert not _gone(family, 10)
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        study = ledger.find_study("faulty")
        assert study.state == "interrupted"
        states = {run.state for run in ledger.trials(study.id)}
        assert states <= {"interrupted", "finished"}
        assert "RUNNING" not in _mlflow_states(mlflow_store, study.uid)
        result = run_study(load_space(slow_study), ledger=ledger)  # type: ignore[arg-type]
    assert (result.state, result.study.id) == ("finished", study.id)
    assert [row.number for row in result.trials] == list(range(4))


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
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        study = ledger.find_study("faulty")
        assert study.state == "interrupted"
        assert {run.state for run in ledger.trials(study.id)} <= {"interrupted", "finished"}


@pytest.mark.timeout(600)
def test_killed_a_study_completes_without_loss_or_repetition(
    slow_study: Path,
    mlflow_store: str,
    tmp_path: Path,
    ray_cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGKILL of the whole process group in mid-study, then the same study once more."""
    first = Session(tmp_path, mlflow_store)
    first.wait_for("trial_ended")
    first.wait_for("epoch")
    family = first.descendants()
    os.killpg(first.process.pid, signal.SIGKILL)
    first.process.wait(timeout=30)
    assert not _gone(family, 30), "processes of Ray outlived the driver"
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        study = ledger.find_study("faulty")
        assert study.state == "interrupted"
        assert "running" not in {run.state for run in ledger.trials(study.id)}
        before = {row.id: row for row in ledger.trials(study.id) if row.state == "finished"}
    assert before

    monkeypatch.setattr(tempfile, "tempdir", str(_short(tmp_path)))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        result = run_study(load_space(slow_study), ledger=ledger)  # type: ignore[arg-type]
        assert result.message == "4 trials: 4 finished"
        study = ledger.find_study("faulty")
        rows = ledger.trials(study.id)
    assert study.state == "finished"
    assert [row.number for row in rows] == list(range(4))
    assert len({row.key for row in rows}) == 4
    assert {row.state for row in rows} == {"finished"}
    for row in rows:
        assert [epoch["epoch"] for epoch in row.epochs] == [1, 2, 3, 4]
        if row.id in before:
            assert (row.ended, row.attempt) == (before[row.id].ended, before[row.id].attempt)
    assert sorted(_mlflow_states(mlflow_store, study.uid)) == ["FINISHED"] * 5
    assert not list(_short(tmp_path).glob(f"{PREFIX}*")), "left by the killed process"
