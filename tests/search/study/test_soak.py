"""Hundreds of trials in one study, some of which go wrong: nothing grows, nothing is left over.

    ATTNSEARCH_TRIALS=300 pytest -s -m slow tests/search/study/test_soak.py

prints how memory grows with each trial. Fewer trials, as by default, only hold the accounts.
"""

import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient
from scipy import stats

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.search.workers.folder import PREFIX

TRIALS = int(os.environ.get("ATTNSEARCH_TRIALS", "40"))
WARM = 60  # trials, in which all is imported and every pool is filled
PIECE = 20  # trials whose lowest value is one point of the growth
GROWTH = 50.0  # kB a trial that a driver or a worker may grow by
KILLED, AWAY = 0.05, 0.05  # chances a trial: of its worker's end, of an outage of MLflow's server
AWAY_SECONDS = 8.0
FAULTS = {"Raises": "a bug in my block", "Diverges": "not finite", "Hangs": "it hangs"}
WORKING = "none, se, eca, gc, cbam, simam, coordinate, axial, nonlocal, identity, conv1x1"

SPACE = """
name: soak
task: classification
data: {{source: digits, image_size: 8}}
network: {{backbone: resnet20, width: 0.25}}
insert:
  - at: layer3
    block: {{choice: [{blocks}]}}
train: {{epochs: 1, batch_size: 160, lr: {{float: [0.01, 0.1], log: true}}}}
search: {{sampler: random, scheduler: none, trials: {trials}}}
resources: {{cpus: 1, workers: 1}}
"""

BLOCKS = '''
import time

import torch
from torch import nn


class Fault(nn.Module):
    """A block that works until it trains."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.go_wrong(x) if self.training and not x.is_meta and len(x) > 2 else x


class Raises(Fault):
    """Raises."""

    def go_wrong(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a bug in my block")


class Diverges(Fault):
    """Gives NaN."""

    def go_wrong(self, x: torch.Tensor) -> torch.Tensor:
        return x * float("nan")


class Hangs(Fault):
    """Does not come back."""

    def go_wrong(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(3600)
'''

# Hangs are noticed sooner than in three minutes; tables and plots are drawn so often that what
# they leave behind would be seen.
DRIVER = """
import json
from attnsearch.runs.mirror import mirror
from attnsearch.search import run_study
from attnsearch.search.study import session
from attnsearch.search.workers import pace
from attnsearch.spaces import load_space

pace.FLOOR_SECONDS, pace.TIMES_LONGEST = 8.0, 3
mirror.TABLES_SECONDS = mirror.PLOTS_SECONDS = 15.0

class Lines:
    def __getattr__(self, name):
        return lambda *told: print(json.dumps({"event": name}), flush=True)

if __name__ == "__main__":
    bridges, make = [], session.make_proposals
    session.make_proposals = lambda *given: bridges.append(make(*given)) or bridges[-1]
    result = run_study(load_space("soak.yaml"), progress=Lines())
    states = [trial.state.name for trial in bridges[0].trials()]
    print(json.dumps({"event": "over", "state": result.state, "optuna": states}), flush=True)
"""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Doorway:
    """Stands before MLflow's server, and for some seconds it is as if that were away."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._mode, self._until = "there", 0.0
        self._open: list[socket.socket] = []
        self._entry = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._entry.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def away(self, mode: str) -> None:
        """Begins an outage; connections break."""
        self._mode, self._until = mode, time.monotonic() + AWAY_SECONDS
        opened, self._open = self._open, []
        for end in opened:
            _shut(end)

    def close(self) -> None:
        self._entry.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._entry.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        left = self._until - time.monotonic()
        with client, suppress(OSError):
            if left > 0:
                if self._mode == "hanging":
                    time.sleep(left)
                elif self._mode == "failing":
                    client.recv(65536)
                    client.sendall(
                        b"HTTP/1.1 500 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    )
                return
            with socket.create_connection(("127.0.0.1", self._server)) as server:
                self._open += [client, server]
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()
                for end in (client, server):
                    with suppress(ValueError):
                        self._open.remove(end)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while some := source.recv(65536):
            target.sendall(some)
    for end in (source, target):
        _shut(end)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[tuple[Doorway, str]]:
    """A real server with its own store, behind a doorway; and the store's address."""
    store, port = f"sqlite:///{tmp_path}/mlflow.db", free_port()
    MlflowClient(store).search_experiments()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    options = ["--backend-store-uri", store, "--artifacts-destination", str(tmp_path / "files")]
    with (tmp_path / "server.txt").open("wb") as said:
        server = subprocess.Popen(
            [*command, *options], stdout=said, stderr=said, start_new_session=True
        )
    family = psutil.Process(server.pid)
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            break
        time.sleep(0.2)
    doorway = Doorway(port)
    yield doorway, store
    doorway.close()
    for process in [*family.children(recursive=True), family]:
        with suppress(psutil.Error):
            process.kill()
    server.wait()


class Watched:
    """What a driver and its workers hold after each trial."""

    def __init__(self, driver: psutil.Process) -> None:
        self.driver = driver
        self.family: set[psutil.Process] = set()
        self.held: list[dict[str, float]] = []
        self.workers: dict[int, list[float]] = defaultdict(list)

    def look(self) -> None:
        self.family |= set(self.driver.children(recursive=True))
        descriptors, threads = self.driver.num_fds(), self.driver.num_threads()
        held = {"kB": private(self.driver.pid), "descriptors": descriptors, "threads": threads}
        self.held.append(held)
        for worker in self.trainers():
            with suppress(OSError):
                self.workers[worker.pid].append(private(worker.pid))

    def trainers(self) -> list[psutil.Process]:
        found = []
        for process in self.driver.children(recursive=True):
            with suppress(psutil.Error):
                title = "".join(process.cmdline()[:1])  # Ray names its workers by what they do
                found += [process] if title.startswith(("ray::Worker", "ray::_Inner")) else []
        return found

    def growth(self, name: str) -> "Growth":
        return Growth([held[name] for held in self.held[WARM:]])


def private(pid: int) -> float:
    """The memory in kB that a process shares with none."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    sizes = {name: float(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
    return sizes["Private_Clean"] + sizes["Private_Dirty"]


class Growth:
    """How much a series grows with each trial, with its 95 % interval.

    Memory remembers: neighbouring samples are far from independent. So whole pieces are taken, by
    their lowest value, since drawing a plot takes tens of megabytes for a moment. The interval is
    Student's over the steps from one piece to the next.
    """

    def __init__(self, series: list[float]) -> None:
        pieces = [series[i : i + PIECE] for i in range(0, len(series) - PIECE + 1, PIECE)]
        levels = [min(piece) for piece in pieces]
        steps = [(after - before) / PIECE for before, after in pairwise(levels)]
        self.mean = statistics.fmean(steps)
        spread = statistics.stdev(steps) / len(steps) ** 0.5
        half = float(stats.t.ppf(0.975, len(steps) - 1)) * spread
        self.low, self.high = self.mean - half, self.mean + half

    def __str__(self) -> str:
        return f"{self.mean:.1f} a trial (95 %: {self.low:.1f} to {self.high:.1f})"


def soak(
    folder: Path,
    scratch: Path,
    tracking: str,
    blocks: str,
    trouble: Callable[[Watched, str], None],
) -> tuple[Watched, dict[str, Any]]:
    """Runs a study in a driver of its own, and calls `trouble` at its events."""
    (folder / "faulty.py").write_text(BLOCKS)
    (folder / "driver.py").write_text(DRIVER)
    (folder / "soak.yaml").write_text(SPACE.format(blocks=blocks, trials=TRIALS))
    environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking, "TMPDIR": str(scratch)}
    for name in ("RAY_ADDRESS", "ATTNSEARCH_LEDGER", "ATTNSEARCH_WEIGHTS"):
        environment.pop(name, None)
    with (
        (folder / "errors.txt").open("w") as errors,
        subprocess.Popen(
            [sys.executable, "driver.py"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        watched, last = Watched(psutil.Process(process.pid)), {}
        for line in process.stdout or ():
            if line.startswith("{"):
                last = json.loads(line)
                if last["event"] == "trial_ended":
                    watched.look()
                trouble(watched, last["event"])
    assert process.returncode == 0, (folder / "errors.txt").read_text()[-2000:]
    return watched, last


def settle_accounts(
    folder: Path, scratch: Path, store: str, watched: Watched, last: dict[str, Any]
) -> Counter[str]:
    """Holds ledger, Optuna and MLflow against each other, and looks for what is left over."""
    with Ledger(folder / "attnsearch.db", create=False) as ledger:
        (study,) = ledger.studies()
        rows = ledger.trials(study.id)
    assert (last["event"], last["state"], study.state) == ("over", "finished", "finished")
    assert [row.number for row in rows] == list(range(TRIALS))
    assert len({row.key for row in rows}) == TRIALS
    for row in rows:
        fault = FAULTS.get(row.values["layer3.block"].partition(":")[2])
        assert row.state == ("failed" if fault else "finished"), row.error
        assert not fault or fault in str(row.error)
        assert bool(fault) or [epoch["epoch"] for epoch in row.epochs] == [1]
    states = Counter(str(row.state) for row in rows)
    told = Counter({"finished": "COMPLETE", "failed": "FAIL"}[str(row.state)] for row in rows)
    assert Counter(last["optuna"]) == told
    client = MlflowClient(store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs: list[Any] = []
    token: str | None = None
    while token != "":
        page = client.search_runs(experiments, max_results=1000, page_token=token)
        runs, token = [*runs, *page], page.token or ""
    shown = sorted(run.info.status for run in runs if run.info.run_name != study.label)
    assert shown == sorted(str(row.state).upper() for row in rows)
    ids = {run.info.run_id: run.info.status for run in runs}
    assert all(ids[row.mlflow_run_id] == str(row.state).upper() for row in rows)

    _, alive = psutil.wait_procs(list(watched.family), timeout=20)
    assert not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not list(scratch.glob(f"{PREFIX}*"))
    assert not list(folder.glob("attnsearch-weights/checkpoints/*/*"))
    assert not list(folder.glob("**/*.tmp"))
    return states


@pytest.mark.slow  # minutes: dozens of trials
@pytest.mark.timeout(14_400)
def test_trials_of_which_some_go_wrong_leave_nothing_behind(
    tmp_path: Path, scratch: Path, mlflow_server: tuple[Doorway, str]
) -> None:
    doorway, store = mlflow_server
    chances, done = random.Random(7), Counter[str]()

    def trouble(watched: Watched, event: str) -> None:
        if event == "trial_started" and chances.random() < KILLED:
            time.sleep(chances.uniform(0, 0.6))
            for worker in watched.trainers():
                done["killed"] += 1
                worker.kill()
        # At the end it is there: what then is not shown would be told, and `sync` brings it.
        early = event == "trial_ended" and len(watched.held) < TRIALS - 5
        if early and chances.random() < AWAY:
            mode = chances.choice(("refusing", "hanging", "failing"))
            done[mode] += 1
            doorway.away(mode)

    blocks = f"{WORKING}, {', '.join(f'faulty:{name}' for name in FAULTS)}"
    address = f"http://127.0.0.1:{doorway.port}"
    watched, last = soak(tmp_path, scratch, address, blocks, trouble)
    states = settle_accounts(tmp_path, scratch, store, watched, last)
    print(f"\n{TRIALS} trials: {dict(states)}; injected: {dict(done)}")
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        begun_anew = any(row.attempt > 1 for row in ledger.trials(ledger.studies()[0].id))
    assert begun_anew == (done["killed"] > 0)
    hold_growth(watched)


@pytest.mark.slow  # minutes: dozens of trials
@pytest.mark.timeout(14_400)
def test_a_driver_and_its_worker_do_not_grow(tmp_path: Path, scratch: Path) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    watched, last = soak(tmp_path, scratch, store, WORKING, lambda *_: None)
    states = settle_accounts(tmp_path, scratch, store, watched, last)
    print(f"\n{TRIALS} trials: {dict(states)}")
    (worker,) = watched.workers.values()
    hold_growth(watched, worker)


def hold_growth(watched: Watched, worker: list[float] | None = None) -> None:
    """Prints what grows, where there are trials enough to tell, and holds it."""
    if TRIALS < WARM + 4 * PIECE:
        return
    memory = watched.growth("kB")
    lines = [f"driver: {memory} kB, {watched.held[-1]['kB'] / 1000:.0f} MB at the end"]
    lines += [f"driver: {watched.growth(name)} {name}" for name in ("descriptors", "threads")]
    if worker is not None:
        grown = Growth(worker[WARM:])
        lines.append(f"worker: {grown} kB, {worker[-1] / 1000:.0f} MB at the end")
        assert grown.low < GROWTH, grown
    print("\n".join(lines))
    assert memory.low < GROWTH, memory
    for name in ("descriptors", "threads"):
        assert watched.growth(name).low <= 0, (name, str(watched.growth(name)))


def test_growth_is_told_from_noise() -> None:
    noise = random.Random(0)
    flat = [1000 + noise.uniform(-50, 50) for _ in range(240)]
    growing = [value + 60 * place for place, value in enumerate(flat)]
    assert Growth(flat).low < 0 < Growth(flat).high
    assert 55 < Growth(growing).low < 60 < Growth(growing).high < 65
