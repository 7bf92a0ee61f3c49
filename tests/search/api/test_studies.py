"""Studies from a program: paths, mappings and spaces, callbacks, results as frames."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.search import Progress, ablate, check_study, run_study, study as acts
from attnsearch.spaces import Space, SpaceError, load_space
from tests.spaces.space.test_opening import DOCUMENT


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the acts were called with, in place of a study."""
    calls: list[dict[str, Any]] = []
    for name in ("run_study", "ablate"):
        monkeypatch.setattr(acts, name, lambda what, **more: calls.append({"what": what, **more}))
    return calls


def test_a_path_and_a_mapping_stand_for_a_space(
    given: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(load_space(DOCUMENT).text)
    for what in (path, str(path), DOCUMENT, load_space(DOCUMENT)):
        run_study(what, ledger=tmp_path / "a.db")
    assert [call["what"].name for call in given] == ["made"] * 4
    assert all(isinstance(call["what"], Space) for call in given)
    run_study(path, overrides=["train.epochs=7"], ledger=str(tmp_path / "a.db"))
    assert given[-1]["what"].document["train"]["epochs"] == 7
    with pytest.raises(SpaceError, match="there is no such file"):
        run_study("nowhere.yaml")


def test_a_ledger_is_given_as_a_path_or_open(given: list[dict[str, Any]], tmp_path: Path) -> None:
    run_study(DOCUMENT, ledger=tmp_path / "a.db")
    ablate("made", ledger=str(tmp_path / "a.db"))
    with Ledger(tmp_path / "b.db") as ledger:
        run_study(DOCUMENT, ledger=ledger)
        ablate("made", ledger=ledger)
        assert ledger.studies() == [], "a ledger that was given stays open"
    assert [Path(str(call["ledger"])).name for call in given] == ["a.db", "a.db", "b.db", "b.db"]


def test_a_forecast_is_an_object_and_a_text() -> None:
    forecast = check_study(DOCUMENT, overrides=["train.epochs=1"])
    assert forecast.runs.trials == 2
    assert repr(forecast).startswith("<Forecast made: 2 trials, at most ")
    assert str(forecast).startswith("the space is sound: study made, classification.")
    assert str(forecast).rstrip().endswith("run_study(space)")


class Count(Progress):
    """Counts trials, and wants the end after so many."""

    def __init__(self, most: int) -> None:
        self.left = most

    def trial_ended(self, *_: Any) -> None:
        self.left -= 1
        self.stop = not self.left


def test_a_callback_ends_a_study_which_goes_on_with_the_same_call(
    in_process: object, write_space: Callable[..., Path], tmp_path: Path
) -> None:
    path, ledger = write_space(), tmp_path / "attnsearch.db"
    first = run_study(path, ledger=ledger, callbacks=[Count(1)])
    assert (first.state, len(first.trials)) == ("interrupted", 1)
    again = run_study(path, ledger=ledger)
    assert again.state == "finished"
    assert again.study.id == first.study.id
    best = again.best_trial
    assert best is not None and best.number == again.best
    assert again.frame()["number"].tolist() == [row.number for row in again.trials]
    assert again.leaderboard()["number"][0] == again.best
    assert again.tables()["leaderboard"].equals(again.leaderboard())
    assert repr(again).startswith(f"<SessionResult {again.study.label}: finished, ")
    assert f"best {best.shown}" in repr(again)
    assert (again.export(tmp_path / "best") / "weights.safetensors").is_file()
