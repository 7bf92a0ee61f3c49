"""Studies from a program: paths, mappings and spaces, callbacks, results as frames."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnsearch.runs.data import load_data
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.readers import DataError
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


def test_given_data_stand_for_the_source_and_keep_their_own_size(
    given: list[dict[str, Any]], tmp_path: Path
) -> None:
    images, labels = np.zeros((30, 12, 10), np.uint8), np.arange(30) % 3
    images += labels[:, None, None].astype(np.uint8)
    nameless = {**DOCUMENT, "data": {"seed": 4}}
    path = tmp_path / "x.yaml"
    path.write_text("name: x\ntask: classification\nnetwork: {backbone: resnet20}\n")
    for space in (nameless, path, load_space(DOCUMENT), DOCUMENT):
        run_study(space, data=(images, labels), ledger=tmp_path / "a.db")
    sections = [call["what"].document["data"] for call in given]
    assert [section["source"] for section in sections] == ["given"] * 4
    assert [section["image_size"] for section in sections] == [[12, 10], [12, 10], 8, 8]
    assert sections[0]["seed"] == 4
    for section in sections:
        data = load_data(section)
        assert (data.classes, sum(map(len, (data.train, data.val, data.test)))) == (3, 30)
    ablate("x", data=(images, labels), ledger=tmp_path / "a.db")
    assert load_data({"source": given[-1]["data"], "image_size": 8}).classes == 3


@pytest.mark.slow  # three studies, in this process
def test_the_same_arrays_go_on_and_others_begin_a_study_beside_it(
    in_process: object, tmp_path: Path
) -> None:
    draws = np.random.default_rng(0)
    images, labels = draws.integers(0, 256, (40, 8, 8), dtype=np.uint8), np.arange(40) % 2
    space = {**DOCUMENT, "network": {"backbone": "resnet20", "width": 0.25}, "data": {}}
    space |= {"train": {"epochs": 1}, "resources": {"workers": 1}}
    ledger = tmp_path / "attnsearch.db"
    first = run_study(space, data=(images, labels), ledger=ledger)
    assert first.state == "finished"
    assert first.best_trial is not None
    assert first.best_trial.config["data"]["source"] == "given"
    again = run_study(space, data={"images": images.copy(), "labels": labels}, ledger=ledger)
    assert (again.study.id, len(again.trials)) == (first.study.id, len(first.trials))
    images[0] += 1
    other = run_study(space, data=(images, labels), ledger=ledger)
    assert other.study.number == 2
    assert any("differs in the data of given (changed: 0000" in note for note in other.notes)
    with pytest.raises(DataError, match="it was not recorded; give it again"):
        ablate("made/1", seeds=1, ledger=ledger)


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
