"""What Optuna's own tools read of a study is what the ledger holds."""

import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from attnsearch.runs.addresses import sqlite_url
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.records import StudyRow
from attnsearch.runs.ledger.requests import Ending, Place, Request
from attnsearch.runs.results import best
from attnsearch.search.propose import storage as storage_module
from attnsearch.search.propose.storage import StorageError, Stored, fill, write_storage
from attnsearch.spaces import load_space

SPACE = """
name: stored
task: classification
data: {source: digits}
network: {backbone: resnet20}
insert:
  - {at: layer3, block: {choice: [none, gc, ecrm]}}
blocks: {ecrm: {bank_size: {int: [10, 40], step: 10}}}
train: {epochs: 3, lr: {float: [0.01, 1.0], log: true}}
search: {trials: 9}
"""
CURVE = (0.2, 0.5, 0.7)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "attnsearch.db")


def opened(ledger: Ledger, tmp_path: Path, **changes: Any) -> StudyRow:
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)
    document = load_space(file).document | changes
    return ledger.open_study("stored", SPACE, document, "data" * 16, {})


def trial(
    ledger: Ledger,
    study: StudyRow,
    number: int,
    state: str | None,
    score: float | None = None,
    values: dict[str, Any] | None = None,
    *,
    role: str = "trial",
    arm: str | None = None,
    **ending: Any,
) -> None:
    """A run in its place, with as much of its curve as its state leaves it."""
    config = {"insert": [{"block": "gc", "name": "layer3", "at": "layer3"}], "train": {"lr": 0.1}}
    key = f"{role} {arm} {number}"
    claim = ledger.claim(Request(key, config=config, seed=3, epochs=3, study_id=study.id))
    place = Place(number, role, arm, None, values or {})
    ledger.attach(study.id, claim.run_id, place)
    epochs = {"finished": 3, "stopped": 2}.get(state or "", 1)
    for epoch, value in enumerate(CURVE[:epochs], start=1):
        ledger.record_epoch(claim.run_id, epoch, {"val_accuracy": value})
    if state is not None:
        metrics = {} if score is None else {"val_accuracy": score, "val_loss": float("nan")}
        costs = {"params": 100 + number}
        ledger.finish(claim.run_id, Ending(state, metrics=metrics, costs=costs, **ending))


def filled(ledger: Ledger, study: StudyRow) -> tuple[optuna.storages.InMemoryStorage, Stored]:
    storage = optuna.storages.InMemoryStorage()
    return storage, fill(storage, ledger, study)


def view_of(ledger: Ledger, study: StudyRow) -> optuna.Study:
    return optuna.load_study(study_name="stored/1", storage=filled(ledger, study)[0])


def test_all_trials_with_their_ranges_values_curves_and_states(
    ledger: Ledger, tmp_path: Path
) -> None:
    study = opened(ledger, tmp_path)
    gc = {"layer3.block": "gc", "train.lr": 0.1}
    ecrm = {"layer3.block": "ecrm", "layer3.ecrm.bank_size": 20, "train.lr": 0.02}
    trial(ledger, study, 0, "finished", 0.7, {"layer3.block": "none", "train.lr": 0.1})
    trial(ledger, study, 1, "stopped", 0.5, gc)
    trial(ledger, study, 2, "finished", 0.9, ecrm)
    trial(ledger, study, 3, "finished", 0.9, {**gc, "train.lr": 0.3})  # the earlier of equals
    trial(ledger, study, 4, "failed", None, gc, error="the loss is nan")
    trial(ledger, study, 5, "infeasible", None, gc, violations={"limits.params": 0.4})
    trial(ledger, study, 6, "interrupted", None, gc)
    trial(ledger, study, 7, None, None, gc)
    trial(ledger, study, 0, "finished", 0.6, {"train.lr": 0.5}, role="tuning", arm="tuned")
    storage, stored = filled(ledger, study)
    assert stored.trials == {"stored/1": 8, "stored/1 tuning tuned": 1}
    assert stored.narrowed is None
    view = optuna.load_study(study_name="stored/1", storage=storage)
    states = [each.state.name for each in view.trials]
    assert states == [
        *("COMPLETE", "PRUNED", "COMPLETE", "COMPLETE"),
        *("FAIL", "PRUNED", "WAITING", "RUNNING"),
    ]
    assert view.direction.name == "MAXIMIZE"
    assert view.metric_names == ["val_accuracy"]
    second = view.trials[2]
    assert second.params == ecrm
    assert second.distributions == {
        "layer3.block": CategoricalDistribution(["none", "gc", "ecrm"]),
        "layer3.ecrm.bank_size": IntDistribution(10, 40, step=10),
        "train.lr": FloatDistribution(0.01, 1.0, log=True),
    }
    assert second.value == 0.9
    assert second.intermediate_values == {1: 0.2, 2: 0.5, 3: 0.7}
    assert second.user_attrs["inserted"] == "gc@layer3"
    assert (second.user_attrs["place"], second.user_attrs["params"]) == ("trial", 102)
    assert "val_loss" not in second.user_attrs  # JSON has no word for NaN
    assert second.datetime_complete is not None
    assert second.datetime_start is not None
    assert view.trials[1].value == 0.5
    assert view.trials[4].user_attrs["error"] == "the loss is nan"
    assert view.trials[5].constraints == {"limits.params": 0.4}
    chosen = best(ledger.trials(study.id), "val_accuracy", "max")
    assert chosen is not None
    assert view.best_trial.number == chosen.number == 2
    tuning = optuna.load_study(study_name="stored/1 tuning tuned", storage=storage)
    (tuned,) = tuning.trials
    assert (tuned.params, tuned.user_attrs["arm"]) == ({"train.lr": 0.5}, "tuned")


def test_the_baseline_beside_a_search_is_no_trial_of_it(ledger: Ledger, tmp_path: Path) -> None:
    study = opened(ledger, tmp_path)
    trial(ledger, study, 0, "finished", 0.99, role="baseline", arm="plain")
    trial(ledger, study, 0, "finished", 0.9, {"layer3.block": "gc", "train.lr": 0.1})
    view = view_of(ledger, study)
    assert view.best_value == 0.9
    assert view.user_attrs["baseline"] == {"val_accuracy": 0.99}


def test_what_breaks_a_limit_is_not_the_best(ledger: Ledger, tmp_path: Path) -> None:
    study = opened(ledger, tmp_path)
    values = {"layer3.block": "gc", "train.lr": 0.1}
    trial(ledger, study, 0, "finished", 0.8, values)
    trial(ledger, study, 1, "finished", 0.9, values, violations={"limits.params": 0.1})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert view_of(ledger, study).best_trial.number == 0


def test_several_objectives(ledger: Ledger, tmp_path: Path) -> None:
    search = {"objectives": {"val_accuracy": "max", "params": "min"}}
    study = opened(ledger, tmp_path, search=search)
    for number, score in enumerate((0.7, 0.9, 0.8)):
        trial(ledger, study, number, "finished", score, {"train.lr": 0.1})
    view = view_of(ledger, study)
    assert sorted(each.number for each in view.best_trials) == [0, 1]
    assert view.trials[1].values == [0.9, 101.0]


def test_a_space_that_cannot_be_read_any_more_leaves_the_values(
    ledger: Ledger, tmp_path: Path
) -> None:
    away = [{"at": "layer3", "block": {"choice": ["none", "gone_blocks:Gate"]}}]
    study = opened(ledger, tmp_path, insert=away)
    for number, lr in enumerate((0.1, 0.4)):
        values = {"layer3.block": "gone_blocks:Gate", "train.lr": lr}
        trial(ledger, study, number, "finished", 0.5, values)
    storage, stored = filled(ledger, study)
    assert stored.narrowed is not None
    assert "gone_blocks" in stored.narrowed
    (first, _) = optuna.load_study(study_name="stored/1", storage=storage).trials
    assert first.distributions == {
        "layer3.block": CategoricalDistribution(["gone_blocks:Gate"]),
        "train.lr": FloatDistribution(0.1, 0.4),
    }


def test_only_its_own_file_is_written_anew_and_whole(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = opened(ledger, tmp_path)
    with pytest.raises(StorageError, match="explored no trial"):
        write_storage(ledger, study, tmp_path / "study.db")
    values = {"layer3.block": "gc", "train.lr": 0.1}
    trial(ledger, study, 0, "finished", 0.8, values)
    to = tmp_path / "an odd % name?#.db"
    write_storage(ledger, study, to)
    trial(ledger, study, 1, "finished", 0.9, values)
    write_storage(ledger, study, to)
    view = optuna.load_study(study_name="stored/1", storage=sqlite_url(to))
    assert [each.value for each in view.trials] == [0.8, 0.9]
    assert (view.best_trial.number, view.best_params) == (1, values)
    others = {"text": b"hello", "empty": b"", "ledger": ledger.database.path.read_bytes()}
    for kind, content in others.items():
        (tmp_path / kind).write_bytes(content)
    mine = tmp_path / "mine.db"
    mine.write_bytes(to.read_bytes())
    with closing(sqlite3.connect(mine)) as database, database:
        database.execute("INSERT INTO studies (study_name) VALUES ('my own beside it')")
    for file in [*(tmp_path / kind for kind in others), mine]:
        before = file.read_bytes()
        with pytest.raises(StorageError, match="holds something else than the trials of stored/1"):
            write_storage(ledger, study, file)
        assert file.read_bytes() == before
    with pytest.raises(StorageError, match="there is no folder"):
        write_storage(ledger, study, tmp_path / "no" / "study.db")
    before = to.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage_module, "fill", full)
    monkeypatch.setattr(storage_module, "RDBStorage", lambda *_, **__: None)
    with pytest.raises(StorageError, match="cannot be written"):
        write_storage(ledger, study, to)
    assert to.read_bytes() == before
    assert not list(tmp_path.glob(".attnsearch-*"))
