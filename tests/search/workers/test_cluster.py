"""Where trials fit, and what is said of a Ray that is gone."""

import os
import subprocess
from pathlib import Path

import psutil
import pytest

from attnsearch.search.workers.cluster import (
    Cluster,
    ClusterError,
    Need,
    fit,
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
