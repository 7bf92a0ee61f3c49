"""Arms in MLflow: a run each above its seeds, once, whatever dies or is edited."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from sqlalchemy import update

from attnsearch.runs import report
from attnsearch.runs.figures import exploring
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.schema import Study, StudyRun
from attnsearch.runs.mirror import store as tracking
from attnsearch.runs.mirror.mirror import Mirror
from attnsearch.runs.statistics.plan import Plan
from tests.runs import made_studies as made

SEEDS = made.CONFIRM_SEEDS[:3]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    tracking.Store(f"sqlite:///{path}")
    return path


@pytest.fixture
def ledger(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A ledger whose study has a confirmation of two arms, beside an MLflow store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(exploring, "study_plots", lambda *_: {})
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    ledger = Ledger(tmp_path / "attnsearch.db")
    made.tune(ledger, made.open_study(ledger))
    made.run_plan(ledger, made.open_study(ledger), plan(), made.MEANS, "gc@layer4")
    return ledger


def plan() -> Plan:
    whole = made.confirm_plan(seeds=SEEDS)
    arms = (whole.arms[0], whole.arms[2])
    return replace(whole, arms=arms, contrasts=whole.contrasts[:1])


def shown(folder: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "made")
    return list(client.search_runs([experiment.experiment_id]))


def named(runs: list[Run], name: str) -> Run:
    (found,) = [run for run in runs if run.info.run_name == name]
    return found


def parents(runs: list[Run]) -> dict[str, str]:
    """Name of a run -> name of the run above it."""
    names = {run.info.run_id: run.info.run_name for run in runs}
    above = {run.info.run_name: run.data.tags.get("mlflow.parentRunId") for run in runs}
    return {name: names[parent] for name, parent in above.items() if parent}


def test_seeds_stand_below_their_arm_with_its_mean_and_verdict(
    ledger: Ledger, tmp_path: Path
) -> None:
    assert Mirror(ledger).sync(1).problem is None
    runs = shown(tmp_path)
    above = "tuning tuned_baseline"
    expected = {"arm gc@layer4": "made/1", "arm baseline": "made/1", above: "made/1"}
    expected |= {"tuning 000": above, "tuning 001": above}
    for label in ("gc@layer4", "baseline"):
        expected |= {f"arm {label} seed {seed}": f"arm {label}" for seed in SEEDS}
    assert parents(runs) == expected
    states = {run.info.run_name: run.info.status for run in runs}
    assert states.pop("made/1") == "RUNNING" and set(states.values()) == {"FINISHED"}

    tables = report("made", ledger)
    row = tables["arms"].set_index("arm").loc["gc@layer4"]
    arm = named(runs, "arm gc@layer4")
    metrics = arm.data.metrics
    assert metrics["n"] == 3 and metrics["failed"] == 0
    for name, column in {
        "test_accuracy_mean": "mean",
        "test_accuracy_sd": "sd",
        "test_accuracy_low": "mean_low",
        "test_accuracy_high": "mean_high",
        "difference": "difference",
        "difference_low": "low",
        "p_adjusted": "p_adjusted",
        "params": "params",
    }.items():
        assert metrics[name] == pytest.approx(row[column]), name
    assert arm.data.tags["attnsearch.verdict"].startswith("suggestive (better")
    assert arm.data.params["layer4.block"] == "gc"
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    parent = named(runs, "made/1").info.run_id
    files = {item.path for item in client.list_artifacts(parent, "report")}
    assert {"report/report.html", "report/report.tex", "report/report.csv"} <= files
    note = named(runs, "made/1").data.tags["mlflow.note.content"]
    assert note.startswith("- It is not shown that gc@layer4 helps")
    shown_first = named(runs, "made/1").data
    ends = {"test_accuracy": ("_mean", "_low", "_high"), "difference": ("", "_low", "_high")}
    names = [f"{name}{end}" for name, own in ends.items() for end in own]
    means = {name: metrics[name] for name in names}
    means["baseline_test_accuracy_mean"] = metrics["test_accuracy_mean"] - metrics["difference"]
    assert shown_first.metrics == pytest.approx(means)
    for tag in ("attnsearch.verdict", "attnsearch.inserted", "attnsearch.reference"):
        assert shown_first.tags[tag] == arm.data.tags[tag]
    assert arm.inputs.dataset_inputs[0].dataset.name == "set_1"
    ids = set(tables["runs"]["mlflow_run_id"])
    assert ids == {
        run.info.run_id for run in runs if re.search(r" (seed )?\d+$", run.info.run_name)
    }


def test_nothing_is_shown_twice_after_a_crash(ledger: Ledger, tmp_path: Path) -> None:
    Mirror(ledger).sync(1)
    before = {run.info.run_id for run in shown(tmp_path)}
    assert Mirror(ledger).sync(1).problem is None
    with ledger.database.write() as connection:  # killed before it could note what it had shown
        connection.execute(update(StudyRun).values(mirrored_revision=-1, mlflow_run_id=None))
        connection.execute(update(Study).values(mirrored=None))
    assert Mirror(ledger).sync(1).problem is None
    runs = shown(tmp_path)
    assert {run.info.run_id for run in runs} == before and len(runs) == 12
    history = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_metric_history(
        named(runs, "arm baseline").info.run_id, "test_accuracy_mean"
    )
    assert len(history) == 1


def test_an_edited_plan_gets_arms_of_its_own(ledger: Ledger, tmp_path: Path) -> None:
    Mirror(ledger).sync(1)
    first = plan()
    slower = {**first.arms[0].config, "train": {"epochs": 6, "lr": 0.01}}
    other = replace(first, arms=(replace(first.arms[0], config=slower), first.arms[1]))
    row = ledger.store_plan(1, other)
    made.run_arm(ledger, ledger.study(1), other, "gc@layer4", [0.9, 0.9, 0.91], epochs=6)
    ledger.open_test("test1", row.id)
    assert Mirror(ledger).sync(1).problem is None
    runs = shown(tmp_path)
    above = parents(runs)
    assert [run.info.run_name for run in runs].count("arm baseline") == 1
    arms = [run for run in runs if run.data.tags.get("attnsearch.role") == "arm"]
    by_rate = {run.data.params.get("train.lr"): run for run in arms if "gc" in run.info.run_name}
    assert set(by_rate) == {"0.1", "0.01"}
    children = [name for name in above if name.startswith("arm gc@layer4 seed")]
    assert len(children) == 6


def test_an_arm_in_the_bin_stays_there(ledger: Ledger, tmp_path: Path) -> None:
    Mirror(ledger).sync(1)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client.delete_run(named(shown(tmp_path), "arm baseline").info.run_id)
    with ledger.database.write() as connection:
        connection.execute(update(Study).values(mirrored=None))
    assert Mirror(ledger).sync(1).problem is None
    assert "arm baseline" not in {run.info.run_name for run in shown(tmp_path)}
