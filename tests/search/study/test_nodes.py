"""A cluster of several nodes, real ones on the loopback interface, of which one is killed."""

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.machine import environment
from attnsearch.search.workers.cluster import SETTINGS
from tests.search.command import SLEEPY

SPACE = """
name: nodes
task: classification
data: {source: tiny.npz, image_size: 8}
network: {backbone: resnet20, width: 0.25}
insert:
  - at: layer3
    block: {choice: [none, "sleepy:Sleeps"]}
train: {epochs: 6, batch_size: 16, lr: 0.05}
search: {sampler: grid, scheduler: none, trials: 2}
"""


class Nodes:
    """Ray's head, which trains nothing, and nodes with room for one trial each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        memory = {"object_store_memory": 100 * 2**20}
        self._memory = memory
        self._count = 1
        self._far: list[subprocess.Popen[bytes]] = []
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, **memory},
        )
        self.address: str = self.cluster.address

    def add(self) -> Any:
        """Start a node, with an address of its own; a driver connects to one of its own."""
        self._count += 1
        return self.cluster.add_node(
            num_cpus=1, node_ip_address=f"127.0.0.{self._count}", **self._memory
        )

    def add_far(self, *hidden: Path) -> subprocess.Popen[bytes]:
        """Start a node as on another machine: in these folders it sees nothing of ours."""
        self._count += 1
        mounts = [f"mount -t tmpfs none {shlex.quote(str(folder))}" for folder in hidden]
        ray = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start"]
        ray += [f"--address={self.address}", f"--node-ip-address=127.0.0.{self._count}"]
        ray += ["--num-cpus=1", f"--object-store-memory={100 * 2**20}", "--block"]
        far = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", " && ".join([*mounts, f"exec {shlex.join(ray)}"])],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._far.append(far)
        return far

    def kill_far(self, node: subprocess.Popen[bytes]) -> None:
        """End such a node by its raylet, which takes the others along."""
        for process in psutil.Process(node.pid).children(recursive=True):
            if process.name() == "raylet":
                process.kill()
        node.wait(timeout=60)

    def close(self) -> None:
        for node in self._far:
            if node.poll() is None:
                self.kill_far(node)
        self.cluster.shutdown()

    def kill(self, node: Any, *, whole: bool = False) -> None:
        """End a node as a power cut does, as far as processes can: its Ray, or all of it."""
        (raylet,) = node.all_processes["raylet"]
        family = [psutil.Process(raylet.process.pid)]
        for process in [*family, *(family[0].children(recursive=True) if whole else [])]:
            process.kill()


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with environment({**SETTINGS, "OMP_NUM_THREADS": "1"}):
        nodes = Nodes()
        try:
            yield nodes
        finally:
            nodes.close()


class Run:
    """`attnsearch run` on the cluster."""

    def __init__(
        self, path: Path, address: str, store: str, *options: str, **variables: str
    ) -> None:
        environment = {
            **os.environ,
            "RAY_ADDRESS": address,
            "ATTNSEARCH_LEDGER": str(path.with_name("attnsearch.db")),
            "MLFLOW_TRACKING_URI": store,
            **variables,
        }
        self._ledger = environment["ATTNSEARCH_LEDGER"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "attnsearch.search.cli", "run", path.name, *options],
            cwd=path.parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for_epoch(self, trial: int) -> None:
        """Wait until the ledger has an epoch of a trial that goes on."""
        for _ in range(2000):
            time.sleep(0.1)
            if "://" in self._ledger or Path(self._ledger).exists():
                with Ledger(self._ledger) as ledger:
                    rows = [row for study in ledger.studies() for row in ledger.trials(study.id)]
                if any(row.number == trial and row.epochs and not row.ended for row in rows):
                    return
        self.process.kill()
        raise AssertionError(f"trial {trial} did not begin:\n{self.process.communicate()[0]}")

    def finish(self) -> str:
        said, _ = self.process.communicate(timeout=400)
        assert self.process.returncode == 0, said
        return said


@pytest.mark.slow  # a Ray of three nodes
@pytest.mark.timeout(600)
@pytest.mark.parametrize("away", [0, 20], ids=["another node", "a node that comes back"])
def test_a_node_that_is_killed_costs_no_trial(
    nodes: Nodes,
    write_space: Callable[..., Path],
    tmp_path: Path,
    mlflow_store: str,
    away: int,
) -> None:
    (tmp_path / "sleepy.py").write_text(SLEEPY)
    path = write_space(SPACE, "nodes.yaml")
    first = nodes.add()
    run = Run(path, nodes.address, mlflow_store)
    run.wait_for_epoch(1)
    nodes.kill(first)
    time.sleep(away)  # nothing can train meanwhile
    nodes.add()
    said = run.finish()
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        study = ledger.find_study("nodes")
        rows = ledger.trials(study.id)
    assert study.state == "finished", said
    assert [row.state for row in rows] == ["finished"] * 2, said
    assert "trial 001 interrupted" in said and "the machine that trained it was lost" in said
    assert [epoch["epoch"] for epoch in rows[1].epochs] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow  # a Ray of three nodes
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0,
    reason="folders of its own for a node take the right to unshare(2)",
)
@pytest.mark.parametrize("named", ["", "fsspec+file"], ids=["reports", "a store"])
def test_checkpoints_travel_from_a_node_that_does_not_see_the_drivers_disk(
    named: str,
    nodes: Nodes,
    write_space: Callable[..., Path],
    tmp_path: Path,
    scratch: Path,
    mlflow_store: str,
) -> None:
    (tmp_path / "sleepy.py").write_text(SLEEPY)
    path, weights = write_space(SPACE, "nodes.yaml"), tmp_path / "attnsearch-weights"
    weights.mkdir()
    first = nodes.add_far(weights, scratch)
    store = tmp_path / "store"
    variables = {"ATTNSEARCH_STORE": f"{named}://{store}"} if named else {}
    run = Run(path, nodes.address, mlflow_store, TMPDIR=str(scratch), **variables)
    run.wait_for_epoch(1)
    for _ in range(300):  # what lies here came with a report
        if saved := sorted((store if named else weights).glob("checkpoints/*/*.checkpoint")):
            break
        time.sleep(0.1)
    assert saved
    nodes.kill_far(first)
    nodes.add_far(weights, scratch)
    said = run.finish()
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        rows = ledger.trials(ledger.find_study("nodes").id)
    assert [row.state for row in rows] == ["finished"] * 2, said
    assert "trial 001 interrupted" in said, said  # Ray may have missed the worker first
    assert rows[1].attempt == 1, "it went on, and was not begun anew"
    assert [epoch["epoch"] for epoch in rows[1].epochs] == [1, 2, 3, 4, 5, 6]
    assert not list(weights.glob("checkpoints/*/*")) and not list(store.glob("checkpoints/*/*"))
    told = "127.0.0.2 do not see this machine's disk" in said
    assert told == (not named), said
    kept = sorted(file.name for file in weights.glob("*.safetensors"))
    assert kept and [file.name for file in sorted(store.glob("*.safetensors"))] == kept * bool(
        named
    )


HERE = """
import os
from pathlib import Path

import ray
import torch
from torch import nn


class Here(nn.Module):
    \"\"\"Notes on which node it is made to be trained.

    Args:
        channels: Of the input.
        kernel: Of the pooling; two trials differ in it.
    \"\"\"

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(kernel, 1, kernel // 2)
        if ray.is_initialized():
            with (Path(__file__).parent / "nodes.txt").open("a") as file:
                file.write(ray.get_runtime_context().get_node_id() + "\\n")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        import time

        if self.training and not x.is_meta and len(x) > 2:
            time.sleep(0.5)
        return self.pool(x)
"""

MANY = """
name: many
task: classification
data: {source: tiny.npz, image_size: 8}
network: {backbone: resnet20, width: 0.25}
insert:
  - at: layer3
    block: {choice: [none, "here:Here"]}
    params: {"here:Here": {kernel: {choice: [1, 3, 5, 7, 9, 11, 13]}}}
train: {epochs: 4, batch_size: 16, lr: 0.05}
search: {sampler: grid, scheduler: none, trials: 8}
"""


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """The address of an MLflow server, a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    command += ["--artifacts-destination", str(tmp_path / "files")]
    with (tmp_path / "server.txt").open("wb") as said:
        server = subprocess.Popen(command, stdout=said, stderr=said)
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            break
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}"
    family = psutil.Process(server.pid)
    for process in [*family.children(recursive=True), family]:
        with contextlib.suppress(psutil.Error):
            process.kill()
    server.wait()


@pytest.mark.slow  # a Ray of four nodes, a database and an MLflow server
@pytest.mark.timeout(900)
def test_records_agree_to_the_last_run_though_a_node_dies_and_another_joins(
    nodes: Nodes,
    write_space: Callable[..., Path],
    tmp_path: Path,
    postgres_url: str,
    mlflow_server: str,
) -> None:
    """All is named by keys of the file and by variables; every part is a process of its own."""
    (tmp_path / "here.py").write_text(HERE)
    path = write_space(MANY, "many.yaml")
    first, _ = nodes.add(), nodes.add()
    address = f"resources.address={nodes.address}"
    run = Run(path, "nowhere:1", mlflow_server, "--set", address, ATTNSEARCH_LEDGER=postgres_url)
    run.wait_for_epoch(1)
    nodes.kill(first, whole=True)
    new = nodes.add()
    said = run.finish()
    assert "has joined" in said and "is gone" in said, said
    assert new.node_id in (tmp_path / "nodes.txt").read_text().split(), "the new one is used"
    with Ledger(postgres_url) as ledger:
        study = ledger.find_study("many")
        rows = ledger.trials(study.id)
    assert study.state == "finished"
    assert [row.state for row in rows] == ["finished"] * 8, said
    assert [epoch["epoch"] for row in rows for epoch in row.epochs] == [1, 2, 3, 4] * 8
    lost = [line for line in said.splitlines() if "interrupted" in line]
    assert 1 <= len(lost) <= 2, "those that ran there, one retry each"
    assert all("the machine that trained it was lost" in line for line in lost), lost

    from mlflow import MlflowClient

    client = MlflowClient(mlflow_server)
    for row in rows:
        shown = client.get_run(str(row.mlflow_run_id))
        assert shown.info.status == "FINISHED"
        assert shown.data.metrics["val_accuracy"] == row.metrics["val_accuracy"]
    command = [sys.executable, "-m", "attnsearch.search.cli", "optuna", "many", "--to", "o.db"]
    variables = {**os.environ, "ATTNSEARCH_LEDGER": postgres_url}
    subprocess.run(command, cwd=tmp_path, env=variables, check=True)

    import optuna

    seen = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/o.db")
    values = sorted(value for trial in seen.trials for value in trial.values)
    assert values == pytest.approx(sorted(row.metrics["val_accuracy"] for row in rows))
