"""Where trials fit, and what is said of a Ray that is gone."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from attnsearch.search.workers import cluster as cluster_file
from attnsearch.search.workers.cluster import (
    LEAST_SHARE,
    Cluster,
    ClusterError,
    Need,
    fit,
    has_cards,
    trials_a_card,
    with_need,
)


@pytest.mark.parametrize(
    ("need", "cpus", "cards", "count"),
    [
        (Need(1), 8, 0, 8),
        (Need(3), 8, 0, 2),
        (Need(0.5), 2, 0, 4),
        (Need(16), 8, 0, 0),
        (Need(1, 1), 8, 2, 2),
        (Need(1, 0.25), 8, 2, 8),
        (Need(1, 0.3), 8, 2, 6),  # three to a card, none across two
        (Need(4, 0.25), 8, 2, 2),
        (Need(1, 0.1), 32, 1, 10),
        (Need(1, 2), 8, 3, 1),
        (Need(1, 1), 8, 0, 0),
    ],
)
def test_trials_fit_by_cpus_and_by_shares_of_a_card(
    need: Need, cpus: float, cards: float, count: int
) -> None:
    assert fit(need, cpus, cards) == count


def test_threads_are_the_whole_cpus_of_a_trial() -> None:
    assert [Need(cpus).threads for cpus in (0.5, 1, 2.9)] == [1, 1, 2]


def test_a_ray_without_its_processes_is_told(tmp_path: Path) -> None:
    """A child that was killed is a zombie until somebody asks for it."""
    with subprocess.Popen(["sleep", "60"]) as child:
        cluster = Cluster(tmp_path, 1, {}, services={"raylet": psutil.Process(child.pid)})
        cluster.check()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ClusterError, match="raylet, a process of Ray, is gone"):
            cluster.check()
    with pytest.raises(ClusterError, match="raylet"):
        cluster.check()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 16 CPUs and two cards."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster_file, "available_cpus", lambda: 16)
    monkeypatch.setattr(cluster_file, "gpu_count", lambda: 2)


@pytest.mark.usefixtures("machine")
def test_auto_gives_ray_room_for_the_most_and_then_for_what_was_measured(tmp_path: Path) -> None:
    need = Need.of({"cpus": 2, "gpus": "auto"})
    assert need == Need(2, LEAST_SHARE)
    running = Cluster(tmp_path, fit(need, 16, 2), {"CPU": 1, "GPU": need.gpus})
    assert has_cards(running)
    assert has_cards(None)
    assert trials_a_card(running, need) == 4  # what two CPUs each feed
    packed = with_need(running, Need(2, 0.5), 100)
    assert (packed.workers, packed.bundle) == (4, {"CPU": 1, "GPU": 0.5})
    assert with_need(running, Need(2, 0.5), 3).workers == 3


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("address", [None, "auto"])
def test_auto_is_none_where_no_card_is_or_none_is_seen_yet(
    address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_file, "gpu_count", lambda: 2 if address else 0)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert Need.of({"cpus": 2, "gpus": "auto"}) == Need(2, 0)
    assert Need.of({"cpus": 2, "gpus": 0.5}) == Need(2, 0.5)


def test_the_files_address_comes_before_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "there:1")
    resources = {"cpus": 1, "gpus": 0}
    assert Need.of(resources).address == "there:1"
    assert Need.of(resources | {"address": None}).address == "there:1"
    assert Need.of(resources | {"address": "here:2"}).address == "here:2"
    monkeypatch.delenv("RAY_ADDRESS")
    assert Need.of(resources).address == ""


def test_a_joined_rays_cards_are_seen_by_its_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0}},
        {"Alive": True, "Resources": {"CPU": 32.0, "GPU": 4.0}},
        {"Alive": False, "Resources": {"CPU": 640.0, "GPU": 8.0}},
    ]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    running = Cluster(tmp_path, 1, {}, joined=True)
    assert has_cards(running)
    assert trials_a_card(running, Need(2)) == 4
    assert with_need(running, Need(2, 0.25), 100).workers == 16
    nodes.pop(1)
    assert not has_cards(running)


def test_a_local_ray_has_no_process_that_nothing_uses(ray_cluster: Cluster) -> None:
    family = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
    assert any("raylet" in words for words in family)
    assert not [words for words in family if "dashboard/dashboard.py" in words]


def test_a_worker_loads_no_database_and_no_statistics() -> None:
    script = (
        "import sys, attnsearch.search.workers.worker\n"
        "print([name for name in ('sqlalchemy', 'scipy.stats', 'scipy.special', 'sympy', "
        "'torch._inductor', 'optuna', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
