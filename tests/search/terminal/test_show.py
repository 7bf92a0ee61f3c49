"""`attnsearch show` of a study."""

import json

import pytest

from attnsearch.runs.ledger import Ledger
from attnsearch.search.terminal import show
from attnsearch.search.terminal.show import study_text
from tests.runs import made_studies as made


def test_the_luck_of_the_best_is_told_before_and_after_confirm(ledger: Ledger) -> None:
    """Below the leaderboard; as JSON the same sentence."""
    study, plan = made.open_study(ledger), made.confirm_plan()
    made.explore(ledger, study)
    text = " ".join(study_text("made").split())
    assert "4.00 points, all of its lead over the median trial" in text
    ledger.store_plan(study.id, plan)
    made.run_arm(ledger, study, plan, "baseline", made.spread("baseline", 5, 0.8))
    text = " ".join(study_text("made").split())
    assert "Luck of the draw: trial 001" in text and "5 runs of 1 arm" in text
    assert json.loads(study_text("made", as_json=True))["luck"] in text


def test_a_long_study_lists_the_first_and_says_where_the_rest_is(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.explore(ledger, made.open_study(ledger))
    places = ["gc@layer4", "se@layer3", "baseline", "gc@layer3"]  # three finished, one stopped
    whole = study_text("made")
    assert all(place in whole for place in places) and "more trial" not in whole
    monkeypatch.setattr(show, "LISTED", 2)
    short = study_text("made")
    leaders = short.partition("Luck")[0].partition("val_accuracy  params")[2]
    assert [place in leaders for place in places[:3]] == [True, True, False]
    assert "1 more trial: attnsearch show made --json" in short
    assert len(json.loads(study_text("made", as_json=True))["trials"]) == len(places)
