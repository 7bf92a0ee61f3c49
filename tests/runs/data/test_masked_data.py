"""Data sets with masks: what `load_data` makes of images and tiles."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.data.duplicates import find_duplicates
from attnsearch.runs.readers.source import DataError

SIDE = 20


def fill(folder: Path, count: int = 12, light: int = 200) -> None:
    """Images of a bright square on noise, as bright in all."""
    draws = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[4:12, 6:14] = 255
        picture = np.full((SIDE, SIDE, 3), light, np.uint8)
        picture[draws.integers(2, 18, 40), draws.integers(2, 18, 40)] = light + 20
        Image.fromarray(picture).save(folder / f"images/p{number // 2}_{number:02d}.png")
        Image.fromarray(mask).save(folder / f"masks/p{number // 2}_{number:02d}.png")


def load(folder: Path, **options: Any) -> DataSet:
    data = {"source": str(folder), "image_size": 16, "splits": [0.5, 0.25, 0.25], **options}
    return load_data(data, "segmentation")


def test_what_a_tile_has_beyond_its_image_is_not_in_the_statistics(tmp_path: Path) -> None:
    fill(tmp_path)
    whole = load(tmp_path, image_size=SIDE)
    padded = load(tmp_path, image_size=64, tile_overlap=0.25)
    assert padded.image_size == (64, 64)
    assert padded.mean == pytest.approx(whole.mean) and padded.std == pytest.approx(whole.std)


def test_equal_images_are_found_by_their_tiles_and_named_once(tmp_path: Path) -> None:
    fill(tmp_path)
    data = load(tmp_path, image_size=12, tile_overlap=0.25)
    assert len(data.train.images) > len(data.train)
    first, other = data.train.names[2], data.test.names[1]
    content = (tmp_path / first).read_bytes()
    (tmp_path / other).write_bytes(content)
    data = load(tmp_path, image_size=12, tile_overlap=0.25)
    pairs = find_duplicates({"train": data.train, "test": data.test})
    exact = [pair.names for pair in pairs if pair.exact]
    assert (first, other) in exact
    assert len({pair.names[1] for pair in pairs}) == len(pairs)
    # Padding makes all images alike, and is not looked at.
    padded = load(tmp_path, image_size=64, tile_overlap=0.25)
    assert find_duplicates({"train": padded.train, "test": padded.test}) == []


def test_a_development_part_has_masks_and_no_test_images(tmp_path: Path) -> None:
    fill(tmp_path)
    pattern = {"pattern": "^(p[0-9]+)_"}
    data = load(tmp_path, splits=None, folds=3, development=0.34, groups=pattern)
    assert len(data.test) == 0 and data.test.masks is not None and data.test.masks.images == 0
    assert data.val.masks is not None and data.val.masks.original(0).shape == (SIDE, SIDE)
    assert not set(data.train.groups or ()) & set(data.val.groups or ())


def test_validation_masks_that_are_ignored_altogether_are_an_error(tmp_path: Path) -> None:
    for part, values in (("train", (0, 1, 2)), ("val", (9,)), ("test", (0, 1, 2))):
        for kind in ("images", "masks"):
            (tmp_path / part / kind).mkdir(parents=True)
        for number in range(3):
            mask = np.resize(np.array(values, np.uint8), (SIDE, SIDE))
            Image.fromarray(mask).save(tmp_path / f"{part}/masks/{number}.png")
            noise = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / f"{part}/images/{number}.png")
    with pytest.raises(DataError, match="no validation mask has a pixel that counts"):
        load(tmp_path, classes=["background", "a", "b"], ignore_index=9)
