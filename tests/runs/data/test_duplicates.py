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
    assert duplicate_notes(found) == [
        f"1 of the test images {word} an image of train; 1 of them with another label: "
        f"test/000003 {sign} train/000007; leave them out, or keep what belongs together in one "
        "part with data.groups"
    ]


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
