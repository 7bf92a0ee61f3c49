"""Two mistakes in one value are two messages, and nothing that follows from what stands in."""

from pathlib import Path

import pytest

from attnsearch.spaces import SpaceError, load_space

SOUND = """\
name: t
task: classification
data: {source: digits, image_size: 16}
network: {backbone: resnet18, stem: small, width: 0.25}
insert:
  - at: layer4
    block: {choice: [none, se, gc]}
"""


def messages(folder: Path, text: str) -> list[str]:
    (folder / "s.yaml").write_text(text)
    with pytest.raises(SpaceError) as caught:
        load_space(folder / "s.yaml")
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("sound", "wrong", "keys"),
    [
        ("image_size: 16", "classes: [1, 2]", ["data.classes.0", "data.classes.1"]),
        (
            "width: 0.25",
            "width: {choice: [a, b]}",
            ["network.width.choice.0", "network.width.choice.1"],
        ),
        ("image_size: 16", "splits: [a, b, 1]", ["data.splits.0", "data.splits.1"]),
        (
            "image_size: 16",
            "augment: {rotate: 900, noise: 7}",
            ["data.augment.noise", "data.augment.rotate"],
        ),
        (
            "name: t\n",
            "name: t\ntrain: {class_weights: [a, b]}\n",
            ["train.class_weights.0", "train.class_weights.1"],
        ),
    ],
)
def test_two_mistakes_in_one_value_are_two_messages(
    sound: str, wrong: str, keys: list[str], tmp_path: Path
) -> None:
    told = messages(tmp_path, SOUND.replace(sound, wrong))
    assert sorted(line.partition(": ")[0] for line in told) == keys


@pytest.mark.parametrize(
    ("sound", "wrong", "remedy"),
    [
        ("{choice: [none, se, gc]}", "[none, gc]", "to search it write {choice: [none, gc]}"),
        ("{choice: [none, se, gc]}", "{choice: [null, gc]}", "is written none"),
        ("width: 0.25", "width: half", "network.width: 'half': must be a multiplier, a searched"),
        ("name: t\n", "name: t\nsearch: {form: [a]}\n", "did you mean 'from'?"),
        ("name: t\n", "name: t\nsearch: {x: 1}\n", "sampler, scheduler, settings, first, from, "),
        ("{choice: [none, se, gc]}", "null", "is written none"),
        ("name: t\n", "name: t\ntrain:\n", "write what belongs under train, or remove the key"),
        ("name: t\n", "name: t\nresources:\n", "under resources, or remove the key"),
        ("name: t\n", "name: t\ntrain: {lr: [0.1, 0.2]}\n", "write {choice: [0.1, 0.2]}"),
    ],
)
def test_what_people_write_is_told_with_the_remedy(
    sound: str, wrong: str, remedy: str, tmp_path: Path
) -> None:
    (told,) = messages(tmp_path, SOUND.replace(sound, wrong))
    assert remedy in told


@pytest.mark.parametrize(
    ("key", "value", "taken"),
    [
        ("grad_clip", 1.0, None),
        ("lr", 0.3, 0.1),  # null takes that of sgd
        ("step_epochs", 2, 3),  # and a third of the epochs
    ],
)
def test_null_may_be_chosen_where_it_is_the_default(
    key: str, value: float, taken: float | None, tmp_path: Path
) -> None:
    train = f"train: {{epochs: 9, schedule: step, {key}: {{choice: [null, {value}]}}}}\n"
    (tmp_path / "s.yaml").write_text(SOUND + train)
    space = load_space(tmp_path / "s.yaml")
    name = f"train.{key}"
    found = [space.resolve({**space.defaults(), name: one})["train"][key] for one in (None, value)]
    assert found == [taken, value]


def test_a_name_that_gets_too_long_with_its_places_is_refused(tmp_path: Path) -> None:
    long = SOUND.replace("at: layer4", f"at: layer*\n    decide: stage\n    name: {'n' * 198}")
    (told,) = messages(tmp_path, long)
    assert "insert.0.name" in told and "205 characters" in told
