"""Whole studies, killed in confirm, in an ablation, and while they write their end."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.records import TrialRow
from attnsearch.search.study.session import run_study
from attnsearch.spaces import load_space
from tests.killed import command_killed_in

SPACE = """
name: killed
task: classification
data: {source: tiny.npz, image_size: 8}
network: {backbone: resnet20, width: 0.25}
insert:
  - at: layer3
    block: {choice: [none, se]}
train: {epochs: 2, batch_size: 16, lr: {choice: [0.05, 0.1]}}
search: {sampler: random, scheduler: none, trials: 3}
confirm: {top: 1, seeds: 3, controls: [baseline]}
ablation: {plans: [loco], seeds: 3}
"""


class Command:
    """`attnsearch run` in a process group of its own."""

    def __init__(self, space: Path, store: str, scratch: Path) -> None:
        environment = {
            **os.environ,
            "ATTNSEARCH_LEDGER": str(space.with_name("attnsearch.db")),
            "MLFLOW_TRACKING_URI": store,
            "TMPDIR": str(scratch),
        }
        environment.pop("RAY_ADDRESS", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "attnsearch.search.cli", "run", space.name],
            cwd=space.parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def kill_at(self, wanted: str) -> None:
        """Kills the whole group when a line begins with these words."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith(wanted):
                break
        else:
            raise AssertionError(f"{wanted!r} did not come:\n{''.join(lines)}")
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=60)

    def finish(self) -> str:
        """Lets it end by itself; returns what it printed."""
        said, _ = self.process.communicate(timeout=600)
        assert self.process.returncode == 0, said
        return said


def finished(folder: Path) -> dict[str, tuple[int, int, str]]:
    """The finished runs of the study by name: number in the ledger, attempts, and scores."""
    with Ledger(folder / "attnsearch.db") as ledger:
        rows: list[TrialRow] = ledger.trials(ledger.find_study("killed").id)
        return {
            row.name: (row.id, row.attempt, repr(row.metrics))
            for row in rows
            if row.state == "finished"
        }


@pytest.mark.slow  # three starts of Ray
@pytest.mark.timeout(900)
def test_killed_in_confirm_and_in_an_ablation_nothing_is_lost_or_repeated(
    write_space: Callable[..., Path], tmp_path: Path, mlflow_store: str, scratch: Path
) -> None:
    path = write_space(SPACE, "killed.yaml")
    Command(path, mlflow_store, scratch).kill_at("confirm 2 of 6")
    in_confirm = finished(tmp_path)
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        assert not ledger.looks(), "the test part was opened before confirm was over"
    Command(path, mlflow_store, scratch).kill_at("ablation loco 2 of 6")
    in_ablation = finished(tmp_path)
    said = Command(path, mlflow_store, scratch).finish()
    done = finished(tmp_path)

    assert any(name.startswith("arm ") for name in in_confirm)
    assert any(name.startswith("arm loco: ") for name in in_ablation)
    assert "ablation loco continues: " in said and "confirm" not in said.split("continues")[0]
    for before in (in_confirm, in_ablation):
        for name, (run_id, attempt, scores) in before.items():
            assert done[name][:2] == (run_id, attempt), f"{name} was trained again"
            # Test scores may have been added; what stood there is as it was.
            assert scores.rstrip("}") in done[name][2]
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        study = ledger.find_study("killed")
        rows = ledger.trials(study.id)
        assert study.state == "finished" and {row.state for row in rows} == {"finished"}
        assert len(rows) == 3 + 6 + 6 and len({row.id for row in rows}) == len(rows)
        assert [look.number for look in ledger.looks()] == [1]
        confirm = next(row for row in ledger.plans(study.id) if row.plan.act == "confirm")
        for runs in ledger.arm_runs(confirm).values():
            assert all(run is not None and "test_accuracy" in run.metrics for run in runs)


def without_ids(file: Path) -> bytes:
    """A file without MLflow's ids of runs, which a report has once MLflow knows them."""
    return re.sub(rb"\b[0-9a-f]{32}\b", b"", file.read_bytes())


def shown(folder: Path) -> dict[str, Any]:
    """The files of a project that a study's end writes, and what MLflow has of each run."""
    files = {
        str(file.relative_to(folder / "attnsearch-reports")): without_ids(file)
        for file in sorted(folder.glob("attnsearch-reports/*/*"))
    }
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(experiments, max_results=1000):
        artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
        name = run.info.run_name
        assert name not in files, f"{name} stands twice"
        files[name] = (run.info.status, sorted(run.data.metrics), sorted(run.data.params))
        for file in artifacts.rglob("*"):
            if file.is_file() and file.name != "provenance.json":  # of each start
                files[f"{name}: {file.relative_to(artifacts)}"] = file.stat().st_size
    return files


@pytest.mark.slow  # seven commands, each with MLflow's tables to make
@pytest.mark.timeout(900)
def test_killed_while_it_writes_its_end_all_is_whole_by_the_same_command(
    write_space: Callable[..., Path], tmp_path: Path, in_process: Any
) -> None:
    path = write_space(SPACE, "killed.yaml")
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        assert run_study(load_space(path), ledger=ledger).state == "finished"
    shutil.rmtree(tmp_path / "attnsearch-reports")
    expected = None
    for number, part in enumerate(
        # The figures are drawn into a temporary folder, and copied from there.
        (None, "attnsearch-reports/", "plots/", "artifacts/report/")
    ):
        project, scratch = tmp_path / f"project{number}", tmp_path / f"scratch{number}"
        scratch.mkdir()
        shutil.copytree(tmp_path, project, ignore=shutil.ignore_patterns("project*", "scratch*"))
        variables = {"TMPDIR": str(scratch), "ATTNSEARCH_LEDGER": "attnsearch.db"}
        variables |= {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
        if part is not None:
            command_killed_in(part, 2, "run", path.name, cwd=project, **variables)
            for file in project.glob("attnsearch-reports/*/report*"):
                whole = expected[str(file.relative_to(file.parents[1]))]
                assert without_ids(file) == whole
        subprocess.run(
            [sys.executable, "-m", "attnsearch.search.cli", "run", path.name],
            cwd=project,
            env={**os.environ, **variables},
            check=True,
        )
        expected = expected or shown(project)
        assert shown(project) == expected, part
        assert not list(scratch.iterdir()) and not list(project.rglob(".attnsearch-*"))
