"""`--set KEY=VALUE`."""

from pathlib import Path

import pytest

from attnsearch.spaces import SpaceError, load_space

TEXT = """\
name: test
task: classification
data: {source: digits, image_size: 16}
network: {backbone: resnet18, stem: small, width: 0.5}
insert:
  - {at: layer4, block: {choice: [none, gc]}}
  - {at: layer3, block: se}
train: {epochs: 6}
"""


def test_an_override_replaces_a_value(load):
    space = load(TEXT, "train.epochs=3", "name=other")
    assert space.document["train"]["epochs"] == 3
    assert space.name == "other"


def test_the_last_override_wins(load):
    assert load(TEXT, "train.epochs=3", "train.epochs=4").document["train"]["epochs"] == 4


def test_a_value_is_yaml(load):
    space = load(TEXT, "train.lr={float: [1e-3, 1e-1], log: true}", "data.augment.flip=true")
    assert [d.name for d in space.decisions] == ["layer4.block", "train.lr"]
    assert space.document["data"]["augment"] == {"flip": True}


def test_a_number_names_a_member_of_a_list(load):
    space = load(TEXT, "insert.0.block=gc", "insert.1.block=eca")
    assert not space.decisions
    assert [entry["block"] for entry in space.resolve({})["insert"]] == ["gc", "eca"]


def test_a_section_that_the_file_does_not_have_is_made(load):
    assert load(TEXT, "search.trials=3").document["search"]["trials"] == 3
    assert load(TEXT, "confirm={}").document["confirm"]["seeds"] == 5


def test_a_key_of_a_file_may_hold_dots(load, tmp_path):
    (tmp_path / "my_gate.py").write_text(
        "from torch import nn\n\n\nclass Gate(nn.Module):\n"
        "    def __init__(self, channels, strength=1.0):\n        super().__init__()\n\n"
        "    def forward(self, x):\n        return x\n"
    )
    text = TEXT + "blocks:\n  'my_gate:Gate': {strength: 0.5}\n"
    space = load(text, "insert.1.block='my_gate:Gate'", "blocks.my_gate:Gate.strength=0.25")
    assert space.resolve({"layer4.block": "none"})["insert"][1]["params"] == {
        "my_gate:Gate": {"strength": 0.25}
    }


def test_an_override_can_mend_the_file(load):
    broken = TEXT.replace("epochs: 6", "epochs: -6, lr: .inf")
    assert load(broken, "train.epochs=1", "train.lr=0.1").document["train"]["lr"] == 0.1


def test_an_override_can_fill_an_empty_file(load):
    space = load(
        "", "name=x", "task=classification", "data.source=digits", "network.backbone=resnet20"
    )
    assert space.name == "x"


def test_paths_of_an_override_are_relative_to_the_current_folder(tmp_path, monkeypatch):
    study, here = tmp_path / "study", tmp_path / "here"
    study.mkdir()
    here.mkdir()
    (study / "space.yaml").write_text(TEXT.replace("source: digits", "source: a.npz"))
    monkeypatch.chdir(here)
    path = study / "space.yaml"
    assert load_space(path).document["data"]["source"] == str(study / "a.npz")
    overridden = load_space(path, ["data.source=../b.npz"])
    assert overridden.document["data"]["source"] == str(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("override", "found", "remedy"),
    [
        ("train.epoch=3", "'epoch'", "did you mean 'epochs'?"),
        ("train.epochs", "KEY=VALUE", "--set train.epochs=3"),
        ("=3", "KEY=VALUE", "--set train.epochs=3"),
        ("train.epochs=[3", "'[3'", "not closed"),
        ("train.epochs={a: 1, a: 2}", "'a'", "remove one"),
        ("train.epochs=ten", "'ten'", "a whole number"),
        ("train.epochs.x=3", "train.epochs: is 6", "no key 'x'"),
        ("insert.2.block=gc", "insert: is a list of 2", "0 to 1"),
        ("insert.first.block=gc", "'first'", "0 to 1"),
        ("insert.0.block=gcc", "'gcc'", "gc"),
        ("network.backbone=resnet19", "'resnet19'", "resnet18"),
        ("data.source=digitz", "'digitz'", "digits"),
        ("blocks={gc: {ratoi: 1}}", "'ratoi'", "ratio"),
        ("network.weights=nowhere.pth", "nowhere.pth", "relative to"),
    ],
)
def test_a_mistake_in_an_override_names_the_override(override, found, remedy, load):
    with pytest.raises(SpaceError) as caught:
        load(TEXT, override)
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"--set {override}: ")
    assert found in str(problem)
    assert remedy in str(problem)
    assert problem.line is None


def test_what_the_file_says_wrong_keeps_its_own_place(load):
    with pytest.raises(SpaceError) as caught:
        load(TEXT.replace("epochs: 6", "epochs: 0"), "train.lr=-1")
    assert [(p.file, p.line) for p in caught.value.problems] == [
        ("--set train.lr=-1", None),
        ("space.yaml", 8),
    ]


def test_overrides_leave_the_text_of_the_file_as_it_was_given(load):
    space = load(TEXT, "train.epochs=3")
    assert space.text == TEXT
    assert Path("space.yaml").read_text(encoding="utf-8") == TEXT


NARROW = TEXT.replace(
    "  - {at: layer3, block: se}",
    "  - {at: 'layer[2-3].*.conv2', block: {choice: [none, psa, scconv]}, decide: stage}\n"
    "blocks: {psa: {groups: {choice: [[1, 4, 8, 16], [1, 1, 1, 1]], prior: [1, 4, 8, 16]}}}",
)


def test_a_value_that_an_override_makes_useless_is_left_out_with_a_warning(load):
    assert "psa.groups" in str([d.name for d in load(NARROW).decisions])
    space = load(NARROW, "network.width=0.125")
    (warning,) = [text for text in space.warnings if "left out" in text]
    assert warning.startswith("blocks.psa.groups: [1,4,8,16] is left out")
    assert "out_channels/4=4" in warning
    assert space.document["blocks"]["psa"]["groups"]["choice"] == [[1, 1, 1, 1]]


def test_a_block_that_an_override_makes_useless_is_left_out_of_its_choice(load):
    text = NARROW.replace("[1, 4, 8, 16], [1, 1, 1, 1]", "[1, 4, 8, 16]")
    space = load(text, "network.width=0.125")
    assert space.document["insert"][1]["block"]["choice"] == ["none", "scconv"]
    small = load(NARROW, "data.image_size=8", "network.stem=imagenet")
    assert any("insert.1.block: scconv is left out" in text for text in small.warnings)


@pytest.mark.parametrize(
    ("text", "override", "words"),
    [
        (NARROW, "insert.1.block=psa", "psa"),
        (NARROW, "blocks.psa.groups={choice: [[1, 7, 8, 16], [1, 1, 1, 1]]}", "can stand nowhere"),
        (NARROW.replace("none, psa, scconv", "psa"), "network.width=0.125", "groups[2]=8"),
    ],
    ids=["a fixed block", "a choice of the override", "the only member"],
)
def test_what_is_asked_for_is_not_left_out(load, text, override, words):
    text = text.replace("[[1, 4, 8, 16], [1, 1, 1, 1]], prior: [1, 4, 8, 16]", "[[1, 4, 8, 16]]")
    with pytest.raises(SpaceError, match=words.replace("[", r"\[")):
        load(text, override, "network.width=0.125")


def test_without_an_override_it_is_a_mistake(load):
    with pytest.raises(SpaceError, match="can stand nowhere"):
        load(NARROW.replace("width: 0.5", "width: 0.125"))
