"""`attnsearch combine`, from ledgers to a terminal."""

from pathlib import Path

import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.search.cli import call
from attnsearch.search.exit import DONE, WRONG_INPUT
from tests.runs import made_studies as made


def study_in(folder: Path, name: str, data: str) -> None:
    """One arm and its baseline, three seeds."""
    folder.mkdir(exist_ok=True)
    plan = made.candidates_plan(["gc@layer4"], seeds=made.CONFIRM_SEEDS[:3])
    with Ledger(folder / "attnsearch.db") as ledger:
        study = ledger.open_study(name, "", made.document(), data, made.PROVENANCE)
        made.run_plan(ledger, study, plan, made.MEANS, fingerprint=data)


def test_studies_of_several_ledgers_are_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study_in(tmp_path / "here", "polyps", "one")
    study_in(tmp_path / "there", "lesions", "two")
    monkeypatch.chdir(tmp_path / "here")
    assert call(["combine", "polyps", "lesions"]) == WRONG_INPUT
    assert "there is no study 'lesions'" in capsys.readouterr().err
    ledgers = ["--ledger", "attnsearch.db", "--ledger", str(tmp_path / "there/attnsearch.db")]
    assert call(["combine", "polyps", "lesions", *ledgers]) == DONE
    out = capsys.readouterr().out
    assert "polyps" in out and "lesions" in out and "Mean rank" in out
    assert "gc@layer4 - baseline: descriptive over 2 data sets" in out
    assert call(["combine", "polyps", "polyps"]) == WRONG_INPUT
    assert "the same images, labels and split" in capsys.readouterr().err
