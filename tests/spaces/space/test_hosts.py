"""Settings of the published hosts: what fits together, and where a file says what does not."""

import pytest

from attnsearch.blocks.build.architecture import canonical_architecture
from attnsearch.spaces import SpaceError
from tests.spaces.conftest import Load

FILE = """\
name: hosts
task: {task}
data: {{source: null, image_size: {size}, channels: 3, classes: 2}}
network:
  backbone: {backbone}
  {setting}
insert: []
"""


def text(
    backbone: str, setting: str = "weights: null", size: int | str = 128, task: str = ""
) -> str:
    segments = backbone in ("medt", "logo", "axial_unet", "gated_axial_unet")
    task = task or ("segmentation" if segments else "classification")
    return FILE.format(backbone=backbone, setting=setting, size=size, task=task)


@pytest.mark.parametrize(
    ("written", "place", "words"),
    [
        (text("medt", size=96), "3:34: data.image_size", ["96", "multiples of 128"]),
        (text("scnet101", size=64), "3:34: data.image_size", ["64", "at least 97"]),
        (
            text("scnet101", size="128, eval_size: 64"),
            "3:50: data.eval_size",
            ["eval_size is 64", "at least 97"],
        ),
        (
            text("axial_resnet26", size="64, eval_size: 96"),
            "3:38: data.eval_size",
            ["positions", "remove it"],
        ),
        (text("logo", task="classification"), "2:7: task", ["logo", "task: segmentation"]),
        (text("medt", "decoder: fpn"), "6:3: network.decoder", ["decoder of its own"]),
        (text("medt", "width: 1.5"), "6:10: network.width", ["multiple of 1", "is 2"]),
        (text("medt", "width: m"), "6:10: network.width", ["number above 0"]),
        (
            text("axial_resnet26", "width: {float: [0.5, 1.0]}"),
            "network.width",
            ["cannot share", "choice"],
        ),
        (text("axial_resnet26", "width: xl"), "6:10: network.width", ["xl", "s, m or l"]),
        (text("logo", "learn_gates: true"), "6:3: network.learn_gates", ["no gates"]),
        (text("axial_unet", "joint_patches: true"), "network.joint_patches", ["no patches"]),
        (text("scnet50", "stem: deep"), "6:9: network.stem", ["imagenet, small"]),
    ],
)
def test_what_does_not_fit_is_said_where_it_stands(
    load: Load, written: str, place: str, words: list[str]
) -> None:
    with pytest.raises(SpaceError) as raised:
        load(written)
    assert len(raised.value.problems) == 1
    message = str(raised.value)
    assert place in message
    for word in words:
        assert word in message


def test_a_network_with_a_decoder_gets_no_other(load: Load) -> None:
    network = load(text("medt")).resolve({})["network"]
    assert network["decoder"] is None
    assert network["stem"] == "medt"
    assert load(text("resnet18", task="segmentation")).resolve({})["network"]["decoder"] == "unet"


def test_letters_are_names_of_widths(load: Load) -> None:
    letters = {
        written: canonical_architecture(
            load(text("axial_resnet50", f"width: {written}")).resolve({})
        )
        for written in ("s", "m", "l", "1.0", "1.5", "2")
    }
    assert letters["s"] == letters["1.0"]
    assert letters["m"] == letters["1.5"]
    assert letters["l"] == letters["2"]
    assert letters["s"] != letters["m"]
    choice = load(text("axial_resnet50", "width: {choice: [1, 1.5, 2]}"))
    assert [decision.name for decision in choice.decisions] == ["network.width"]


@pytest.mark.parametrize(
    ("size", "taken"),
    [("96", 96), ("[96, 96]", 96), ("[96, 160]", [96, 160]), ("[160, 96]", [160, 96])],
)
def test_a_size_is_one_number_or_height_and_width(load: Load, size: str, taken: object) -> None:
    assert load(text("resnet18", size=size)).document["data"]["image_size"] == taken
    space = load(text("resnet18"), f"data.image_size={size}")
    assert space.resolve({})["data"]["image_size"] == taken


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("[96]", "data.image_size: [96]: must be a number of pixels or [height, width]"),
        ("[8, 9, 3]", "[8, 9, 3]: must be a number of pixels or [height, width]"),
        ("96x160", "'96x160': must be a number of pixels or [height, width]"),
        ("[96, 0]", "data.image_size.1: 0 is out of range"),
        ("[a, 96]", "data.image_size.0: found 'a', expected a whole number"),
        ("[96, 5000]", "data.image_size.1: 5000 is out of range"),
    ],
)
def test_what_is_no_size_is_told(load: Load, size: str, words: str) -> None:
    with pytest.raises(SpaceError) as caught:
        load(text("resnet18", size=size))
    assert words in str(caught.value)
    assert len(caught.value.problems) == 1
