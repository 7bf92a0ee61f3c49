"""Saved views are what MLflow's page reads, and a person's own ones keep their room."""

import json
from pathlib import Path

import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.mirror.saved_views import (
    SavedView,
    saved_views,
    study_link,
    view_links,
    view_tags,
)
from tests.runs import made_studies as made


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "attnsearch.db")


def views_of(ledger: Ledger) -> dict[str, SavedView]:
    study = ledger.find_study("made")
    views = saved_views(study, ledger.trials(study.id), ledger.plans(study.id))
    return {view.name: view for view in views}


def test_before_confirm_the_trials_and_the_studies(ledger: Ledger) -> None:
    study = made.open_study(ledger)
    made.explore(ledger, study)
    views = views_of(ledger)
    assert list(views) == ["made/1: trials", "Studies"]
    trials = views["made/1: trials"]
    assert trials.order == "metrics.`val_accuracy`" and not trials.ascending
    assert {"metrics.`val_accuracy`", "metrics.`params`"} <= set(trials.columns)
    assert f"tags.`attnsearch.study` = '{study.uid}'" in trials.query
    for role in ("study", "arm", "tuning", "confirm", "ablation"):
        assert f"tags.`attnsearch.role` != '{role}'" in trials.query
    assert "'trial'" not in trials.query and "'plain'" not in trials.query
    assert study_link(ledger, study).endswith(
        f"?viewStateShareKey={study.uid}-trials&workflowType=machine_learning"
    )


def test_with_plans_the_arms_with_interval_and_verdict(ledger: Ledger) -> None:
    study = made.open_study(ledger)
    ledger.store_plan(study.id, made.confirm_plan())
    views = views_of(ledger)
    arms = views["made/1: arms"]
    assert set(arms.columns) >= {
        *(f"metrics.`test_accuracy_{end}`" for end in ("mean", "low", "high")),
        *(f"metrics.`{name}`" for name in ("difference", "difference_low", "difference_high")),
        "tags.`attnsearch.verdict`",
    }
    assert arms.order == "metrics.`test_accuracy_mean`"
    assert set(views["Studies"].columns) >= {
        *("metrics.`best_val_accuracy`", "metrics.`baseline_val_accuracy`"),
        *("metrics.`difference`", "tags.`attnsearch.verdict`"),
    }
    assert f"{study.uid}-arms" in study_link(ledger, study)
    assert f"viewStateShareKey={study.uid}-arms" in view_links("7", [arms])
    assert "#/experiments/7/runs" in view_links("7", [arms])


def test_a_goal_of_less_lists_the_least_first(ledger: Ledger) -> None:
    search = {"objectives": {"val_loss": "min", "params": "min"}}
    made.open_study(ledger, search=search)
    trials = views_of(ledger)["made/1: trials"]
    assert trials.ascending and trials.order == "metrics.`val_loss`"
    assert trials.columns.count("metrics.`params`") == 1


def test_a_view_is_kept_in_mlflows_envelope(ledger: Ledger) -> None:
    made.open_study(ledger)
    key, value = views_of(ledger)["Studies"].tag
    assert key == "mlflow.sharedViewState.attnsearch-studies"
    envelope = json.loads(value)
    assert envelope["name"] == "Studies"
    assert isinstance(envelope["createdAt"], int)
    state = json.loads(envelope["state"])  # JSON in JSON, as MLflow's page writes it
    assert state["searchFilter"] == "tags.`attnsearch.role` = 'study'"
    assert state["orderByKey"] == "attributes.start_time" and state["orderByAsc"] is False


def test_old_views_of_ours_make_room_and_a_persons_stay(ledger: Ledger) -> None:
    made.open_study(ledger)
    views = list(views_of(ledger).values())
    own = {"mlflow.sharedViewState.mine": '{"name": "My view"}', "other": "tag"}
    assert view_tags(views, own) == dict(view.tag for view in views)
    shown = own | dict(view.tag for view in views)
    assert view_tags(views, shown) == {}
    for number in range(40):
        envelope = json.dumps({"name": "x", "createdAt": number, "state": "{}"})
        shown[f"mlflow.sharedViewState.uid{number}-trials"] = envelope
    gone = view_tags(views, shown)
    assert set(gone.values()) == {None}
    oldest = {f"mlflow.sharedViewState.uid{number}-trials" for number in range(len(gone))}
    assert gone.keys() == oldest
    kept = [key for key in shown if key not in gone and key.startswith("mlflow.shared")]
    assert len(kept) == 24 + 1  # and the person's
