"""A space in a file, in a mapping, in classes: the same space, and mistakes where they stand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from attnsearch.blocks import GlobalContext
from attnsearch.spaces import Data, Entry, Network, Space, SpaceError, SpaceFile, Train, load_space
from attnsearch.spaces.space.opening import as_space

DOCUMENT: dict[str, Any] = {
    "name": "made",
    "task": "classification",
    "data": {"source": "digits", "image_size": 8},
    "network": {"backbone": "resnet20"},
    "insert": [{"at": "layer3", "block": {"choice": ["none", "gc"]}}],
    "train": {"epochs": 2},
}


def test_a_file_a_mapping_and_classes_are_one_space(tmp_path: Path) -> None:
    in_file = tmp_path / "space.yaml"
    in_file.write_text(Space.from_dict(DOCUMENT).text)
    classes = SpaceFile(
        name="made",
        task="classification",
        data=Data(source="digits", image_size=8),
        network=Network(backbone="resnet20"),
        insert=[Entry(at="layer3", block={"choice": ["none", "gc"]})],
        train=Train(epochs=2),
    )
    spaces = [as_space(what) for what in (in_file, str(in_file), DOCUMENT, classes)]
    assert all(space.document == spaces[0].document for space in spaces)
    assert as_space(spaces[0]) is spaces[0]


def test_what_python_writes_otherwise_than_yaml_is_taken() -> None:
    written = {
        **DOCUMENT,
        "data": {"source": Path("digits"), "image_size": (8, 16)},
        "insert": ({"at": "layer3", "block": {"choice": ("none", GlobalContext)}},),
        "train": {"epochs": np.int64(3), "lr": np.float64(0.1)},
    }
    document = Space.from_dict(written).document
    assert document["data"]["image_size"] == [8, 16]
    own = "attnsearch.blocks.mechanisms.global_context:GlobalContext"
    assert document["insert"][0]["block"]["choice"] == ["none", own]
    assert (document["train"]["epochs"], document["train"]["lr"]) == (3, 0.1)


def test_the_text_that_is_recorded_loads_the_same_space(tmp_path: Path) -> None:
    space = Space.from_dict({**DOCUMENT, "train": {"lr": {"float": (1e-4, 0.1), "log": True}}})
    path = tmp_path / "again.yaml"
    path.write_text(space.text)
    assert load_space(path).document == space.document


def test_mistakes_of_a_mapping_are_told_by_their_keys_all_at_once() -> None:
    with pytest.raises(SpaceError) as caught:
        load_space({**DOCUMENT, "train": {"epochs": 0, "lrr": 1}})
    first, second = str(caught.value).splitlines()
    assert first.startswith("the space: train.epochs: 0 is out of range")
    assert second.startswith("the space: train.lrr: unknown key 'lrr'; did you mean 'lr'?")
    assert [problem.line for problem in caught.value.problems] == [None, None]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train", {"lr": object()}, "train.lr: <object object at "),
        ("blocks", {3: {}}, "blocks: the key 3 is not text"),
        ("name", "\ud800", "name: '\\ud800' holds half of a surrogate pair"),
        ("train", {"lr": float("nan")}, "train.lr: '.nan' is not a finite number"),
    ],
)
def test_what_no_file_can_hold_is_refused(key: str, value: Any, words: str) -> None:
    with pytest.raises(SpaceError) as caught:
        load_space({**DOCUMENT, key: value})
    assert str(caught.value).startswith(f"the space: {words}")


def test_a_class_that_no_worker_can_import_is_refused() -> None:
    class Here(nn.Module):
        """Not in a file's top level."""

    with pytest.raises(
        SpaceError, match=r"insert\.0\.block: the class .*Here is defined where no"
    ):
        load_space({**DOCUMENT, "insert": [{"at": "layer3", "block": Here}]})


def test_overrides_change_a_mapping_and_no_space_that_is_loaded() -> None:
    assert as_space(DOCUMENT, ["train.epochs=5"]).document["train"]["epochs"] == 5
    assert DOCUMENT["train"]["epochs"] == 2
    with pytest.raises(SpaceError, match=r"--set train\.epochs=5: the space is loaded already"):
        as_space(load_space(DOCUMENT), ["train.epochs=5"])


def test_members_that_an_override_makes_useless_are_left_out_of_a_mapping_too() -> None:
    """As of a file: `ablate STUDY --set network.width=...` loads a study's document."""
    choice = {"at": "layer3.*.conv2", "block": {"choice": ["none", "gc", "psa"]}}
    document = {**DOCUMENT, "insert": [choice], "blocks": {"psa": {"groups": [1, 4, 8, 16]}}}
    space = load_space(document, ["network.width=0.25"])
    assert space.document["insert"][0]["block"]["choice"] == ["none", "gc"]
    assert "psa is left out" in space.warnings[0]


def test_a_space_is_shown_in_a_line() -> None:
    assert repr(load_space(DOCUMENT)) == ("<Space made: classification, resnet20, 1 decision>")
