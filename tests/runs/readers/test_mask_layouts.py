"""Where images and masks are found, and where folders are classes though they look like them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnsearch.runs.readers.folders import read_folder
from attnsearch.runs.readers.mask_pairs import find_pairs, is_mask_folder
from attnsearch.runs.readers.source import NO_PART, PARTS, DataError

Write = Callable[[str], None]


@pytest.fixture
def photo(tmp_path: Path) -> Write:
    draws = np.random.default_rng(0)
    return lambda name: save(tmp_path / name, draws.integers(0, 256, 400))


@pytest.fixture
def mask(tmp_path: Path) -> Write:
    return lambda name: save(tmp_path / name, np.arange(400) // 100 % 2 * 255)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.reshape(20, 20).astype(np.uint8)).save(path)


LAYOUTS = {
    "a folder for each patient": ("p{i}/images/{i}.png", "p{i}/masks/{i}.png"),
    "a prefix beside": ("{i}.png", "mask_{i}.png"),
    "an addition without a word beside": ("{i}.png", "{i}_L.png"),
    "by pixels alone": ("photos/x{i}.png", "outlines/x{i}_o.png"),
    "Ground Truth": ("Original/{i}.png", "Ground_Truth/{i}.png"),
    "DRIVE": ("images/{i}_training.png", "1st_manual/{i}_manual1.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_are_found_where_people_have_them(
    layout: str, tmp_path: Path, photo: Write, mask: Write
) -> None:
    image, truth = LAYOUTS[layout]
    for i in range(1, 13):
        photo(image.format(i=i))
        mask(truth.format(i=i))
        if layout == "DRIVE":
            mask(f"mask/{i}_training_mask.png")
    assert is_mask_folder(tmp_path)
    pairs, _ = find_pairs(tmp_path)
    found = {pair.name: pair.mask.relative_to(tmp_path).as_posix() for pair in pairs}
    assert found == {image.format(i=i): truth.format(i=i) for i in range(1, 13)}
    with pytest.raises(DataError, match="task: segmentation"):
        read_folder(tmp_path, 8)


def test_the_parts_of_nnunet_and_of_sides_with_parts_below(
    tmp_path: Path, photo: Write, mask: Write
) -> None:
    for i in range(4):
        for end in ("Tr", "Ts"):
            photo(f"nn/images{end}/c{end}{i}_0000.png")
            mask(f"nn/labels{end}/c{end}{i}.png")
        for part in ("train", "val2017"):
            photo(f"coco/images/{part}/{part}{i}.png")
            mask(f"coco/annotations/{part}/{part}{i}.png")
    for folder, parts in (("nn", {"train", "test"}), ("coco", {"train", "val"})):
        assert {PARTS[pair.part] for pair in find_pairs(tmp_path / folder)[0]} == parts


def test_one_channel_of_several_is_chosen_by_a_rule_with_two_sides(
    tmp_path: Path, photo: Write, mask: Write
) -> None:
    for i in range(4):
        photo(f"imagesTr/c{i}_0000.png")
        photo(f"imagesTr/c{i}_0001.png")
        mask(f"labelsTr/c{i}.png")
    with pytest.raises(DataError, match=r'data\.mask_name: "\{\}_0000 -> \{\}"'):
        find_pairs(tmp_path)
    pairs, notes = find_pairs(tmp_path, "{}_0001 -> {}")
    assert [pair.image.name for pair in pairs] == [f"c{i}_0001.png" for i in range(4)]
    assert "images without a mask were left out: 4" in notes


@pytest.mark.parametrize("write", ["photo", "mask"])
def test_classes_with_equal_file_names_are_classes(
    write: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for name in ("cat", "dog"):
        for i in range(6):
            request.getfixturevalue(write)(f"{name}/{i}.png")
    assert not is_mask_folder(tmp_path)
    assert read_folder(tmp_path, 8).class_names == ["cat", "dog"]


def test_folders_called_like_masks_are_classes_where_the_space_file_says_so(
    tmp_path: Path, photo: Write
) -> None:
    for name in ("image", "label"):
        for i in range(4):
            photo(f"{name}/{i}.png")
    with pytest.raises(DataError, match=r"task: segmentation.*data\.classes"):
        read_folder(tmp_path, 8)
    assert read_folder(tmp_path, 8, classes=["image", "label"]).class_names == ["image", "label"]


def test_numbered_folders_that_hold_the_same_folders_are_patients(
    tmp_path: Path, photo: Write
) -> None:
    for patient in range(8863, 8869):
        photo(f"{patient}/0/x{patient}.png")
        if patient % 3:
            photo(f"{patient}/1/y{patient}.png")
    source = read_folder(tmp_path, 8)
    assert source.class_names == ["0", "1"]
    assert source.labels.tolist() == [int(name.split("/")[1]) for name in source.names]


def test_classes_that_hold_the_same_folders_stay_classes_until_told(
    tmp_path: Path, photo: Write
) -> None:
    for name in ("cat", "dog"):
        for place in ("indoor", "outdoor"):
            photo(f"{name}/{place}/{name}{place}.png")
    source = read_folder(tmp_path, 8)
    assert source.class_names == ["cat", "dog"]
    assert any("data.classes: [indoor, outdoor]" in note for note in source.notes)
    told = read_folder(tmp_path, 8, classes=["indoor", "outdoor"])
    assert told.labels.tolist() == [0, 1, 0, 1]


def test_classes_may_hold_their_parts(tmp_path: Path, photo: Write) -> None:
    for name in ("cat", "dog"):
        for part in ("train", "test"):
            photo(f"{name}/{part}/{name}{part}.png")
    source = read_folder(tmp_path, 8)
    assert source.class_names == ["cat", "dog"]
    assert NO_PART not in source.parts
    assert [PARTS[part] for part in source.parts] == ["test", "train", "test", "train"]


def test_of_two_names_that_look_alike_a_part_that_has_both_has_two_classes(
    tmp_path: Path, photo: Write
) -> None:
    for name in ("Cat", "cat", "dog"):
        photo(f"{name}/1.png")
    source = read_folder(tmp_path, 8)
    assert source.class_names == ["Cat", "cat", "dog"]
    assert any("'Cat' and 'cat' differ" in note for note in source.notes)
    with pytest.raises(DataError, match="written differently: 'dog' for 'DOG'"):
        read_folder(tmp_path, 8, classes=["cat", "DOG"])
