"""`attnsearch sync` and `clean`."""

from typing import Any

import pytest

from attnsearch.runs.ledger import Ledger
from attnsearch.runs.ledger.records import StudyRow
from attnsearch.runs.ledger.requests import Ending, Place, Request
from attnsearch.runs.ledger.states import Role
from attnsearch.search import cli
from attnsearch.search.exit import DONE, FAILED, WRONG_INPUT
from attnsearch.search.terminal import keep, show

CONFIG: dict[str, Any] = {"insert": [], "network": {}, "train": {"epochs": 2}}


@pytest.fixture
def study(ledger: Ledger) -> StudyRow:
    return ledger.open_study("one", "name: one", {"task": "classification"}, "data", {})


def run(ledger: Ledger, study: StudyRow, number: int, state: str, weights: bool = False) -> int:
    claim = ledger.claim(Request(f"key{number}", CONFIG, 0, 2, study_id=study.id))
    ledger.attach(study.id, claim.run_id, Place(number, Role.TRIAL))
    path = keep.weights_folder(ledger) / f"key{number}.safetensors"
    if weights:
        ledger.write_file(path, b"w" * 1000)
    ledger.finish(claim.run_id, Ending(state, weights_path=str(path) if weights else None))  # type: ignore[arg-type]
    return claim.run_id


def test_a_trial_whose_batches_were_split_says_so(ledger: Ledger, study: StudyRow) -> None:
    claim = ledger.claim(Request("key0", CONFIG, 0, 2, study_id=study.id))
    ledger.attach(study.id, claim.run_id, Place(0, Role.TRIAL, name="000 se@layer3"))
    for epoch, pieces in ((1, {}), (2, {"micro_batches": 4.0})):
        ledger.record_epoch(claim.run_id, epoch, {"val_accuracy": 0.5, **pieces})
    ledger.finish(claim.run_id, Ending("finished", metrics={"val_accuracy": 0.5}))  # type: ignore[arg-type]
    assert "se@layer3 (4 micro-batches)" in show.study_text("one")
    assert "trained with each batch in 4 micro-batches" in show.trial_text("one", 0)


def test_checkpoints_of_interrupted_runs_are_listed_shown_and_deleted(
    ledger: Ledger, study: StudyRow, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted = run(ledger, study, 0, "interrupted")
    run(ledger, study, 1, "finished", weights=True)
    folder = ledger.checkpoint_folder("key0", interrupted)
    folder.mkdir(parents=True)
    (folder / "x.checkpoint").write_bytes(b"c" * 2_500_000)
    assert (
        keep.checkpoints_text(ledger, ledger.trials(study.id)) == "Checkpoints:  of 1 run, 2.5 MB"
    )
    assert "of 1 run, 2.5 MB" in show.study_text("one")

    assert cli.call(["clean"]) == DONE
    said = capsys.readouterr().out
    assert "checkpoints      1  2.5 MB" in said and "start over" in said
    assert folder.exists(), "nothing is deleted unasked"
    assert cli.call(["clean", "one", "--delete", "checkpoints"]) == DONE
    assert not folder.exists()
    assert (keep.weights_folder(ledger) / "key1.safetensors").exists()
    assert keep.checkpoints_text(ledger, ledger.trials(study.id)) is None
    assert cli.call(["clean", "--delete", "everything"]) == WRONG_INPUT
    (option,) = (p for p in cli.cli.commands["clean"].params if p.name == "delete")
    assert list(option.type.choices) == list(keep.KINDS)  # type: ignore[attr-defined]


def test_what_the_ledger_does_not_know_is_listed_and_nothing_else(
    ledger: Ledger, study: StudyRow
) -> None:
    run(ledger, study, 0, "finished", weights=True)
    ledger.set_study_state(study.id, "finished")  # type: ignore[arg-type]
    folder = keep.weights_folder(ledger)
    (folder / "checkpoints" / "old-9").mkdir(parents=True)
    (folder / "stray.bin").write_bytes(b"s")
    unnamed = keep.holdings_of(ledger)[keep.UNNAMED]
    assert unnamed == [folder / "checkpoints" / "old-9", folder / "stray.bin"]
    assert keep.UNNAMED not in keep.holdings_of(ledger, study), "of one study nothing is unnamed"


def test_files_of_a_shared_folder_are_not_taken_for_unnamed(
    ledger: Ledger,
    study: StudyRow,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = tmp_path_factory.mktemp("shared")
    monkeypatch.setenv("ATTNSEARCH_WEIGHTS", str(shared))
    run(ledger, study, 0, "finished", weights=True)
    (shared / "of-another-ledger.safetensors").write_bytes(b"o")
    assert keep.UNNAMED not in keep.holdings_of(ledger)


def test_nothing_that_runs_is_listed(ledger: Ledger, study: StudyRow) -> None:
    claim = ledger.claim(Request("key0", CONFIG, 0, 2, study_id=study.id))
    ledger.attach(study.id, claim.run_id, Place(0, Role.TRIAL))
    folder = ledger.checkpoint_folder("key0", claim.run_id)
    folder.mkdir(parents=True)
    assert not any(keep.holdings_of(ledger).values())


def test_sync_says_what_is_missing(
    ledger: Ledger,
    study: StudyRow,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(ledger, study, 0, "finished")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert cli.call(["sync"]) == FAILED
    assert "one/1: MLflow at http://127.0.0.1:9 does not show 1 of 1" in capsys.readouterr().err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert cli.call(["sync", "one"]) == DONE
    assert "shows all 1 runs" in capsys.readouterr().out
