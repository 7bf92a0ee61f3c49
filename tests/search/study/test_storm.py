"""A study that is killed again and again ends like one that was left alone."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.states import State

KILLS = 25
SPACE = """
name: storm
task: classification
data: {source: digits}
network: {backbone: resnet20, width: 0.5}
insert:
  - at: layer3
    block: {choice: [none, se, gc]}
train: {epochs: 12, batch_size: 32, lr: {choice: [0.05, 0.1]}}
search: {scheduler: asha, trials: 4}
confirm: {top: 1, seeds: 3}
ablation: {plans: [loco], seeds: 3}
resources: {workers: 1}
"""


def begin(folder: Path, scratch: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TMPDIR": str(scratch)}
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "ATTNSEARCH_LEDGER", "ATTNSEARCH_WEIGHTS"):
        environment.pop(name, None)
    with (folder / "said.txt").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "attnsearch.search.cli", "run", "space.yaml"],
            cwd=folder,
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def left_behind(folder: Path) -> dict[Any, Any]:
    """All that the ledger says of a study's runs, but for times."""

    def without_times(metrics: Any) -> dict[str, float]:
        ends, begin = ("_s", "latency_ms"), "system/"
        return {
            name: value
            for name, value in metrics.items()
            if not name.endswith(ends) and not name.startswith(begin)
        }

    with Ledger(folder / "attnsearch.db", create=False) as ledger:
        (study,) = ledger.studies()
        assert study.state == State.FINISHED
        rows = ledger.trials(study.id)
        (look,) = ledger.looks()
    assert look.number == 1
    return {
        row.place: (
            row.key,
            row.state,
            row.values,
            row.proposal,
            without_times(row.metrics),
            [without_times(epoch) for epoch in row.epochs],
        )
        for row in rows
    }


@pytest.mark.slow  # ten minutes: a study killed 25 times, each time with a Ray to start
@pytest.mark.timeout(3000)
def test_a_study_in_a_storm_ends_like_one_that_was_left_alone(
    tmp_path: Path, scratch: Path
) -> None:
    calm, storm = tmp_path / "calm", tmp_path / "storm"
    for folder in (calm, storm):
        folder.mkdir()
        (folder / "space.yaml").write_text(SPACE)
    assert begin(calm, scratch).wait(timeout=1200) == 0
    moments = random.Random(1)
    for _ in range(KILLS):
        process = begin(storm, scratch)
        try:
            process.wait(timeout=moments.uniform(9, 22))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert begin(storm, scratch).wait(timeout=1200) == 0
    assert left_behind(storm) == left_behind(calm)

    shown = {}
    for folder in (calm, storm):
        client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
        experiments = [e.experiment_id for e in client.search_experiments()]
        runs = client.search_runs(experiments, max_results=1000)
        shown[folder] = sorted((run.info.run_name, run.info.status) for run in runs)
    assert shown[storm] == shown[calm]
    assert "RUNNING" not in {status for _, status in shown[storm]}
    assert not list(storm.glob("attnsearch-weights/checkpoints/*/*"))
    assert not list(scratch.glob("attnsearch-*"))
