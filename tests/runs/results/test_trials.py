"""Tables: every run in its row, the best first, budgets kept apart."""

from pathlib import Path

import pandas as pd
import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.requests import Ending, Place, Request
from attnsearch.runs.ledger.states import Role, State
from attnsearch.runs.results.ranking import best
from attnsearch.runs.results.trials import (
    leaderboard,
    leaderboard_files,
    leaderboard_note,
    markdown,
    trials_frame,
)


def test_the_frame_has_a_row_a_run_and_a_column_a_decision(made_up: Ledger) -> None:
    frame = trials_frame(made_up, made_up.find_study("digits"))
    assert frame["number"].tolist() == [0, 1, 2, 3, 4, 5]
    assert list(frame.columns) == [
        *("number", "name", "state", "val_accuracy", "val_loss", "gc.ratio", "psa.kernels"),
        *("params", "macs", "epochs", "seconds", "error", "mlflow_run_id"),
    ]
    assert frame["epochs"].tolist() == [3, 3, 1, 0, 3, 0]
    assert frame.loc[1, "gc.ratio"] == 0.25
    assert pd.isna(frame.loc[0, "gc.ratio"])
    assert frame.loc[2, "psa.kernels"] == "[3, 5]"
    assert pd.isna(frame.loc[3, "val_accuracy"])


def test_the_best_of_the_full_schedule_leads_whatever_a_stopped_run_had(made_up: Ledger) -> None:
    study = made_up.find_study("digits")
    frame = leaderboard(study, made_up.trials(study.id))
    assert frame["number"].tolist() == [1, 4, 0, 2, 3, 5]


def test_the_best_follows_the_goal(made_up: Ledger) -> None:
    trials = made_up.trials(made_up.find_study("digits").id)
    first, lowest = best(trials, "val_accuracy", "max"), best(trials, "val_accuracy", "min")
    assert first is not None
    assert lowest is not None
    assert (first.number, lowest.number) == (1, 0)
    assert best(trials, "val_dice", "max") is None


def test_arms_do_not_enter_the_searchs_table(made_up: Ledger) -> None:
    study = made_up.find_study("digits")
    run_id = made_up.claim(Request("arm", config={}, seed=9, epochs=3, study_id=study.id)).run_id
    made_up.attach(study.id, run_id, Place(number=0, role="confirm", arm="gc@layer4"))
    made_up.finish(run_id, Ending("finished", metrics={"val_accuracy": 1.0}))
    trials = made_up.trials(study.id)
    assert len(leaderboard(study, trials)) == 6
    assert len(trials_frame(made_up, study)) == 7
    winner = best(trials, "val_accuracy", "max")
    assert winner is not None
    assert winner.number == 1


FILES = {"leaderboard.csv", "leaderboard.md", "leaderboard.json"}


def test_the_files_hold_what_the_frame_holds(made_up: Ledger, tmp_path: Path) -> None:
    study = made_up.find_study("digits")
    frame = leaderboard(study, made_up.trials(study.id))
    for name, text in leaderboard_files(frame).items():
        (tmp_path / name).write_text(text)
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    assert table["name"].tolist() == frame["name"].tolist()
    assert table["val_accuracy"].tolist()[:4] == pytest.approx([0.8, 0.7, 0.6, 0.9])
    again = pd.read_json(tmp_path / "leaderboard.json", orient="split")
    assert again["params"].tolist() == [3000, 4000, 1000, 2000, 1000, 1000]
    lines = (tmp_path / "leaderboard.md").read_text().splitlines()
    assert lines[0].startswith("| number | name | state | val_accuracy | val_loss |")
    assert "mlflow_run_id" not in lines[0]  # empty throughout
    assert lines[2].startswith("| 1 | 001 gc@layer4 | finished | 0.8 | 0.2 | 0.25 |")
    assert r"the loss is nan \| at epoch 1" in lines[6]
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1


def test_a_study_without_runs_has_an_empty_table(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "empty.db")
    study = ledger.open_study("empty", "", {"task": "segmentation"}, "data", {})
    frame = trials_frame(ledger, study)
    assert len(frame) == 0
    assert "val_dice" in frame
    assert leaderboard_files(frame).keys() == FILES
    assert markdown(frame).count("\n") == 2
    assert "no runs yet" in leaderboard_note(study, [])


def test_the_summary_names_the_winners_and_warns(made_up: Ledger) -> None:
    study = made_up.find_study("digits")
    text = leaderboard_note(study, made_up.trials(study.id))
    assert "3 finished, 1 stopped, 1 failed, 1 infeasible" in text
    assert "Best `val_accuracy` (max): **0.8** by `001 gc@layer4`" in text
    assert "psa@layer3" not in text  # stopped early


def test_what_is_above_a_limit_as_measured_after_training_is_not_the_best(tmp_path: Path) -> None:
    """The best score has a latency above the limit; of the baseline the same holds."""
    limits = {"latency_ms": 10, "params": None}
    document = {"search": {"objectives": {"val_accuracy": "max"}}, "limits": limits}
    made = [("plain", 0.9, 12.0), ("trial", 0.8, 9.0), ("trial", 0.95, 15.0), ("trial", 0.5, 1.0)]
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        study = ledger.open_study("limited", "", document, "data", {})
        other = ledger.open_study("free", "", {"search": document["search"]}, "data", {})
        for number, (role, score, latency) in enumerate(made):
            request = Request(str(number), config={}, seed=0, epochs=1, study_id=study.id)
            claim = ledger.claim(request)
            for home in (study, other):
                ledger.attach(home.id, claim.run_id, Place(number, Role(role), name=str(number)))
            costs = {"latency_ms": latency, "params": 1e9}
            ending = Ending(State.FINISHED, metrics={"val_accuracy": score}, costs=costs)
            ledger.finish(claim.run_id, ending)
        trials, free = ledger.trials(study.id), ledger.trials(other.id)

    assert [trial.over for trial in trials] == [
        "over limits.latency_ms by 20.0%",
        "",
        "over limits.latency_ms by 50.0%",
        "",
    ]
    winner = best(trials, "val_accuracy", "max")
    assert winner is not None and winner.number == 1
    frame = leaderboard(study, trials)
    assert frame["number"].tolist() == [1, 3, 2, 0]
    assert frame["error"].tolist()[2] == "over limits.latency_ms by 50.0%"
    note = leaderboard_note(study, trials)
    assert "**0.8** by" in note and "0.95" not in note

    # A run stands to the limits of the study that it is in, not of the one that trained it.
    assert not any(trial.over for trial in free)
    winner = best(free, "val_accuracy", "max")
    assert winner is not None and winner.number == 2
