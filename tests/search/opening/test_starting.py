"""What a search begins with: given configs, published places, and earlier studies."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from attnsearch.runs.ledger import Ledger, Role, State
from attnsearch.search.opening.starting import Beginning
from attnsearch.search.plans.first import StartError, starts_of
from attnsearch.search.study.exploring import make_proposals
from attnsearch.spaces import Space, dump

BASE: dict[str, Any] = {
    "name": "begins",
    "task": "classification",
    "data": {"source": "digits", "image_size": 16},
    "network": {"backbone": "resnet20", "stem": "small", "width": 0.25},
    "insert": [
        {"at": "layer3", "block": {"choice": ["none", "ecrm", "se"]}},
        {
            "at": "layer[2-3].*.conv2",
            "name": "conv",
            "block": {"choice": ["none", "psa", "scconv"]},
            "decide": "stage",
        },
    ],
    "blocks": {"psa": {"kernels": [3, 5], "groups": [1, 1]}},
    "train": {"epochs": 4, "lr": {"float": [0.01, 1.0], "log": True}},
}


def space(first: Any = None, **search: Any) -> Space:
    search = {"first": first, "trials": 16, **search}
    return Space.from_dict({**BASE, "search": {k: v for k, v in search.items() if v is not None}})


def config(**blocks: str) -> dict[str, Any]:
    """A resolved config with these blocks."""
    values = {"layer3.block": "none", "conv.layer2.block": "none", "conv.layer3.block": "none"}
    values |= {"train.lr": 0.25}
    values |= {f"{place.replace('_', '.')}.block": block for place, block in blocks.items()}
    return space().resolve(values)


def written(path: Path, config: dict[str, Any]) -> str:
    path.write_text(dump(config), encoding="utf-8")
    return str(path)


def origins(of: Space, trials: int = 16) -> list[str]:
    return [origin for origin, _ in starts_of(of, trials)]


PUBLISHED = [
    "psa in place of every 3x3 convolution, published",
    "scconv in place of every 3x3 convolution, published",
    "ecrm after the last stage, published",
]


def test_published_places_come_first_by_default_and_take_a_quarter_at_most() -> None:
    assert origins(space()) == origins(space(["published"])) == PUBLISHED
    assert origins(space(), trials=8) == PUBLISHED[:2]
    assert origins(space(), trials=3) == origins(space([])) == []
    grid = Space.from_dict(
        {**BASE, "train": {"lr": {"choice": [0.1, 0.2]}}, "search": {"sampler": "grid"}}
    )
    assert origins(grid) == []
    assert "first" not in space().document["search"]  # so that studies of before go on


def test_configs_come_where_they_are_named_with_the_values_that_give_them(tmp_path: Path) -> None:
    own = written(tmp_path / "best.yaml", config(layer3="se", conv_layer2="psa"))
    (name, values), *rest = starts_of(space([own, "published"]), 16)
    assert name == "best.yaml" and [origin for origin, _ in rest] == PUBLISHED
    assert values == {
        "layer3.block": "se",
        "conv.layer2.block": "psa",
        "conv.layer3.block": "none",
        "train.lr": 0.25,
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c["insert"].append({"at": "layer1", "block": "eca"}),
            "no network of this space",
        ),
        (lambda c: c["network"].update(backbone="resnet32"), "no network of this space"),
        (lambda c: c["train"].update(lr=3.0), "no network of this space"),
        (lambda c: c["train"].update(lr={"choice": [0.1, 0.2]}), "has choices (train.lr)"),
        (lambda c: c.update(task="nothing"), "task"),
    ],
)
def test_a_config_that_the_space_has_not_is_refused(
    tmp_path: Path, change: Any, words: str
) -> None:
    other = config(layer3="se")
    change(other)
    path = written(tmp_path / "other.yaml", other)
    with pytest.raises(StartError) as error:
        starts_of(space([path]), 16)
    assert words in str(error.value) and "search.first: " in str(error.value)


def row(number: int, score: float, state: State = State.FINISHED, **blocks: str) -> Any:
    return SimpleNamespace(
        number=number,
        place_id=number,
        role=Role.TRIAL,
        arm=None,
        state=state,
        config=config(**blocks),
        epochs=[{"epoch": epoch, "val_accuracy": score} for epoch in (1, 2)],
        metrics={"val_accuracy": score},
        costs={"params": 1000.0},
        violations={},
        over={},
    )


ROWS = [row(0, 0.6), row(1, 0.8, layer3="se"), row(2, 0.7, conv_layer3="psa")]
ROWS += [row(3, 0.1, State.STOPPED, layer3="ecrm"), row(4, 0.9, State.FAILED, layer3="se")]


def learn(of: Space, rows: Any = ROWS, **study: Any) -> tuple[Any, list[str], dict[str, Any]]:
    """Begin a search after one study; return its proposals, what was said, and the record."""
    study = {
        "id": 1,
        "uid": "u" * 8,
        "label": "before/1",
        "state": State.FINISHED,
        "fingerprint": "data",
        "objectives": {"val_accuracy": "max"},
        "document": of.document,
        **study,
    }
    ledger = SimpleNamespace(
        find_study=lambda name: SimpleNamespace(**study), trials=lambda i: rows
    )
    proposals, said = make_proposals(of, [of.baseline()]), []
    beginning = Beginning(of, 16, proposals, said.append)
    record = beginning.learn(cast(Ledger, ledger), "data")
    beginning.say([])
    return proposals, said, record


def test_trials_of_the_same_data_are_told_and_noted() -> None:
    proposals, said, record = learn(space(**{"from": ["before"]}))
    told = proposals.trials()
    assert [trial.values for trial in told] == [[0.6], [0.8], [0.7], [0.1]]
    assert (
        said[0]
        == "learns from before/1: 4 trials told; 1 trial of networks that this space has not"
    )
    assert "psa in place of every 3x3" in said[1]
    assert record == {"from": [{"study": "before/1", "uid": "u" * 8, "what": "4 trials told"}]}


@pytest.mark.parametrize(
    ("search", "study"),
    [({}, {"fingerprint": "other"}), ({"sampler": "nsga2"}, {}), ({"sampler": "random"}, {})],
)
def test_of_other_data_and_for_other_samplers_the_best_are_tried_first(
    search: Any, study: Any
) -> None:
    of = space(**{"from": ["before"], "first": [], **search})
    proposals, said, _ = learn(of, **study)
    assert proposals.trials() == [] and "its best 3 configs tried first" in said[0]
    asked = [proposals.ask() for _ in range(4)]
    assert [one.origin for one in asked] == ["", *(f"before/1 trial {n}" for n in (1, 2, 0))]
    assert asked[1].values["layer3.block"] == "se"


def test_other_epochs_are_other_scores() -> None:
    of = space(**{"from": ["before"]})
    longer = {**of.document, "train": {**of.document["train"], "epochs": 40}}
    proposals, said, _ = learn(of, document=longer)
    assert proposals.trials() == [] and "tried first" in said[0]


@pytest.mark.parametrize(
    ("study", "words"),
    [
        ({"document": {"task": "segmentation"}}, "is for segmentation"),
        ({"objectives": {"val_accuracy": "max", "params": "min"}}, "has the objectives"),
        ({"state": State.RUNNING}, "still runs"),
        ({"rows": []}, "has 0 trials, none of a network of this space"),
        ({"rows": ROWS[4:]}, "has 1 trial, none of a network of this space"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(study: Any, words: str) -> None:
    with pytest.raises(StartError, match=words) as error:
        learn(space(**{"from": ["before"]}), **study)
    assert "search.from: before/1" in str(error.value)
