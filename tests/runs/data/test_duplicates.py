"""Copies of an image in another part are found, and other images are left alone."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from attnsearch.runs.data.data import DataSet, Split, load_data
from attnsearch.runs.data.duplicates import (
    Duplicate,
    duplicate_notes,
    duplicates_in,
    find_duplicates,
)

CIFAR = Path(__file__).parents[4] / "shared" / "data" / "cifar10_small.npz"
Images = NDArray[np.uint8]


def split(images: Images, part: str, labels: int = 0) -> Split:
    names = [f"{part}/{index:06d}" for index in range(len(images))]
    return Split(images, np.full(len(images), labels, dtype=np.int64), names)


def changed(image: Images, how: str) -> Images:
    picture = Image.fromarray(image)
    if how == "compressed":
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=60)
        picture = Image.open(stream)
    elif how == "brightened":
        picture = ImageEnhance.Brightness(picture).enhance(1.15)
    elif how == "resized":
        small = picture.resize((3 * picture.width // 4, 3 * picture.height // 4))
        picture = small.resize(picture.size)
    elif how == "noisy":
        noise = np.random.default_rng(0).normal(0, 5, image.shape)
        return np.clip(image + noise, 0, 255).astype(np.uint8)
    return np.array(picture)


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load_data({"source": "digits", "image_size": 32})


@pytest.mark.parametrize("how", ["equal", "compressed", "brightened", "resized", "noisy"])
def test_a_copy_is_found_whatever_was_done_to_it(digits: DataSet, how: str) -> None:
    test = digits.test.images[:40].copy()
    train = digits.train.images[:40].copy()
    train[7] = changed(test[3, :, :, 0], how)[..., None]
    found = find_duplicates({"train": split(train, "train"), "test": split(test, "test", 1)})
    names = ("train/000007", "test/000003")
    assert found == [Duplicate(("train", "test"), names, how == "equal", same_class=False)]
    word = "equal" if how == "equal" else "nearly equal"
    sign = "=" if how == "equal" else "~"
    (note,) = duplicate_notes(found)
    start = f"1 of the test images {word} an image of train; 1 of them with another label: "
    assert note.startswith(f"{start}test/000003 {sign} train/000007; ")
    assert (
        "label of each such pair is wrong" if how == "equal" else "may only look alike"
    ) in note


def layouts(count: int, seed: int, kind: str) -> Images:
    """Different pictures of 48 pixels with one layout."""
    draws = np.random.default_rng(seed)
    rows, columns = np.mgrid[:48, :48]
    content = np.stack(
        [
            np.array(
                Image.fromarray(draws.integers(90, 150, (6, 6), np.uint8)).resize((48, 48), 3)
            )
            for _ in range(count)
        ]
    ).astype(float)
    if kind == "black corner":
        shown = (rows + columns > 45) * (60 + content / 2)
    elif kind == "outline":  # two bright lungs in a grey chest
        lungs = [np.hypot(rows - 24, (columns - at) * 1.6) < 15 for at in (14, 34)]
        shown = content / 2 + 100 * (lungs[0] | lungs[1])
    else:  # bright frame
        inside = (abs(rows - 24) < 18) & (abs(columns - 24) < 18)
        shown = np.where(inside, content / 2, 250)
    return np.clip(shown, 0, 255).astype(np.uint8)[..., None]


@pytest.mark.parametrize("kind", ["black corner", "outline", "bright frame"])
def test_a_common_layout_makes_no_copies_and_hides_none(kind: str) -> None:
    train, test = layouts(60, 0, kind), layouts(40, 1, kind)
    assert find_duplicates({"train": split(train, "train"), "test": split(test, "test")}) == []
    train[7] = changed(test[3, :, :, 0], "compressed")[..., None]
    train[9] = test[5]
    found = find_duplicates({"train": split(train, "train"), "test": split(test, "test")})
    pairs = {pair.names: pair.exact for pair in found}
    assert pairs == {
        ("train/000007", "test/000003"): False,
        ("train/000009", "test/000005"): True,
    }


def test_flat_and_different_images_are_no_duplicates(digits: DataSet) -> None:
    flat = np.full((5, 32, 32, 1), 80, dtype=np.uint8)
    assert find_duplicates({"train": split(flat, "train"), "val": split(flat + 1, "val")}) == []
    found = find_duplicates({"train": digits.train, "test": digits.test})
    assert len(found) <= 1
    assert find_duplicates({"train": digits.train, "test": split(flat[:0], "test")}) == []


def test_every_fold_is_looked_at(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 16, 16), dtype=np.uint8)
    images[30:] = images[:10]
    np.savez(tmp_path / "x.npz", train_images=images, train_labels=np.arange(40)[:, None] % 2)
    config: dict[str, Any] = {
        "source": str(tmp_path / "x.npz"), "image_size": 16, "folds": 4, "fold": None,
    }  # fmt: skip
    told = " ".join(duplicates_in(load_data(config), config, "classification"))
    named = {name for name in range(30, 40) if f"train/{name:06d}" in told}
    assert "test images equal an image of train" in told
    assert len(named) >= 5


@pytest.mark.skipif(not CIFAR.exists(), reason="needs ../shared/data/cifar10_small.npz")
def test_the_known_near_duplicates_of_cifar10_are_found() -> None:
    data = load_data({"source": str(CIFAR), "image_size": 32})
    found = find_duplicates({"train": data.train, "test": data.test})
    assert [pair.names for pair in found] == [
        ("train/001111", "test/000847"),
        ("train/003271", "test/001223"),
    ]


def test_a_copy_is_found_where_evaluation_sees_it_cropped(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 20), ("val", 4), ("test", 4)):
        arrays[f"{part}_images"] = draws.integers(0, 256, (count, 12, 16, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(count) % 2
    arrays["test_images"][2] = arrays["train_images"][8]
    np.savez(tmp_path / "set.npz", **arrays)
    config = {"source": str(tmp_path / "set.npz"), "image_size": 12, "folds": None, "fold": None}
    expected = duplicates_in(load_data(config), config, "classification")
    assert "test/000002 = train/000008" in expected[0]
    for more in ({"eval_crop": 0.5}, {"eval_size": 20}):
        cropped = {**config, **more}
        assert duplicates_in(load_data(cropped), cropped, "classification") == expected
