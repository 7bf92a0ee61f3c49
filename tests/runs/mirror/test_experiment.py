"""What an experiment says of its studies, and what a person wrote there stays."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.mirror.experiment import data_input, description, experiment_tags
from tests.runs import made_studies as made


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "attnsearch.db")


def test_the_data_has_its_name_digest_and_split_sizes_and_no_path(ledger: Ledger) -> None:
    study = made.open_study(ledger)
    parts = ["train"] * 5 + ["val"] * 2 + ["test"] * 3
    contents = {f"{number}.png": f"{part} abc" for number, part in enumerate(parts)}
    ledger.note_contents(study.fingerprint, lambda: contents)
    data = data_input(ledger, study)
    assert (data.name, data.digest, data.source_type) == ("set_1", "datadatadatadata", "local")
    assert json.loads(data.source) == {"uri": "set_1"}
    told = json.loads(data.profile)
    assert told == {
        **{"train": 5, "val": 2, "test": 3, "image_size": 16},
        "fingerprint": study.fingerprint,
    }
    assert "somewhere" not in "".join(data)


@pytest.mark.parametrize(
    ("source", "name", "kind"),
    [("digits", "digits", "code"), ("/a/b/scans.npz", "scans.npz", "local")],
)
def test_other_sources_and_a_ledger_without_contents(
    ledger: Ledger, source: str, name: str, kind: str
) -> None:
    study = made.open_study(ledger, data={"source": source, "image_size": [24, 32]})
    data = data_input(ledger, study)
    assert (data.name, data.source_type) == (name, kind)
    assert json.loads(data.profile)["image_size"] == [24, 32]
    assert "train" not in json.loads(data.profile)


@pytest.mark.parametrize(
    "change", [lambda tags: tags, lambda tags: {**tags, "mlflow.experimentKind": "classification"}]
)
def test_what_a_person_wrote_or_chose_stays(
    ledger: Ledger, change: Callable[[dict[str, Any]], dict[str, str]]
) -> None:
    study = made.open_study(ledger)
    tags = experiment_tags(study, [], {})
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert tags["mlflow.note.content"] == description(study)
    assert "where in resnet18" in description(study) and "on set_1" in description(study)
    present = change(tags)
    assert experiment_tags(study, [], present) == {}
    mine = {**present, "mlflow.note.content": "My notes."}
    assert experiment_tags(study, [], mine) == {}
    older = {**present, "mlflow.note.content": "Words of then.\n\n*Written by attnsearch.*"}
    assert experiment_tags(study, [], older) == {"mlflow.note.content": description(study)}
