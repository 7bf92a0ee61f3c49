"""Arrays of images and masks: what a folder of the same pixels gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.given.data import GivenData
from attnsearch.runs.readers import DataError

DRAWS = np.random.default_rng(1)
IMAGES = DRAWS.integers(0, 256, (12, 20, 16, 3), dtype=np.uint8)
MASKS = (DRAWS.random((12, 20, 16)) < 0.3).astype(np.uint8)


def load(data: Any, **keys: Any) -> DataSet:
    return load_data({"source": GivenData(data), "image_size": 16, **keys}, "segmentation")


def same(one: DataSet, other: DataSet) -> bool:
    return one.fingerprint == other.fingerprint and one.class_names == other.class_names


@pytest.mark.parametrize("keys", [{}, {"tile_overlap": 0.25, "image_size": 8}, {"channels": 1}])
def test_arrays_are_the_data_set_of_their_files(tmp_path: Path, keys: dict[str, Any]) -> None:
    for kind, arrays in (("images", IMAGES), ("masks", MASKS * 255)):
        (tmp_path / kind).mkdir()
        for number, array in enumerate(arrays):
            Image.fromarray(array).save(tmp_path / kind / f"{number:06d}.png")
    section = {"source": str(tmp_path), "image_size": 16, **keys}
    names = [f"images/{number:06d}.png" for number in range(12)]
    in_files = load_data(section, "segmentation")
    given = load({"images": IMAGES, "masks": MASKS * 255, "names": names}, **keys)
    assert same(given, in_files)


def test_a_pair_is_images_and_masks_where_the_task_is_segmentation() -> None:
    pairs = [
        (torch.from_numpy(image).permute(2, 0, 1), mask[None])
        for image, mask in zip(IMAGES, MASKS, strict=True)
    ]
    expected = load({"images": IMAGES, "masks": MASKS})
    assert same(load((IMAGES, MASKS)), expected)
    assert same(load(pairs), expected), "any object with a length and items is a Dataset"
    assert same(load((IMAGES, MASKS.astype(bool))), expected)


def test_sizes_may_differ_and_values_be_named() -> None:
    images = [IMAGES[k, : 10 + k] for k in range(12)]
    masks = [MASKS[k, : 10 + k] * np.uint8(7) for k in range(12)]
    data = load((images, masks), mask_values=[0, 7], classes=["back", "cell"])
    assert data.class_names == ["back", "cell"]
    assert data.val.masks is not None and data.train.images.shape[1:] == (16, 16, 3)
    assert {tuple(size) for size in data.val.masks.sizes} <= {(10 + k, 16) for k in range(12)}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((IMAGES, MASKS[:3]), "data: all: 3 masks for 12 images"),
        ({"images": IMAGES}, "data: all: 0 masks for 12 images"),
        ((IMAGES, MASKS[:, :5]), "data: 000000: its mask is (5, 16), the image (20, 16)"),
        ((IMAGES, MASKS / 2), "data: 000000: a mask is of type float64"),
        ((IMAGES, MASKS * 0), "no class to find"),
        ((IMAGES, MASKS * 7 + 1), "data.mask_values: [1, 8]"),
    ],
)
def test_what_does_not_fit_is_told(data: Any, words: str) -> None:
    with pytest.raises(DataError) as caught:
        load(data)
    assert words in str(caught.value)
