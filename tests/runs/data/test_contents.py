"""A change of a data set is told by the names of its files."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnsearch.runs.data.contents import content_changes, example_contents
from attnsearch.runs.data.data import load_data

PARTS = ("train", "val", "test")


def write(path: Path, seed: int, mask: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 256, (12, 10), dtype=np.uint8)
    Image.fromarray(255 * (pixels > 128).astype(np.uint8) if mask else pixels).save(path)


def of(folder: Path, task: str) -> dict[str, str]:
    return example_contents(load_data({"source": str(folder), "image_size": 8}, task))


def test_files_that_were_changed_moved_added_and_removed_are_named(tmp_path: Path) -> None:
    seeds = itertools.count()
    for part in PARTS:
        for label in "ab":
            for number in range(4):
                write(tmp_path / part / label / f"{number}.png", next(seeds))
    before = of(tmp_path, "classification")
    assert content_changes(before, of(tmp_path, "classification")) == ""
    write(tmp_path / "train" / "a" / "1.png", 1000)
    write(tmp_path / "val" / "b" / "new.png", 1001)
    (tmp_path / "test" / "a" / "3.png").unlink()
    said = content_changes(before, of(tmp_path, "classification"))
    assert said == "changed: train/a/1.png; new: val/b/new.png; gone: test/a/3.png"
    moved = {name: entry.replace("train", "val") for name, entry in before.items()}
    assert content_changes(before, moved).startswith(
        "in another part: train/a/0.png, train/a/1.png, tr"
    )
    assert content_changes(before, moved).endswith(" and 5 more")


@pytest.mark.parametrize("changed", ["images/a2.png", "masks/a2.png"])
@pytest.mark.parametrize("tile", [None, 0.25])
def test_a_mask_is_part_of_its_image(tmp_path: Path, changed: str, tile: float | None) -> None:
    for part in PARTS:
        for number in range(4):
            for kind in ("images", "masks"):
                write(tmp_path / part / kind / f"{part[0]}{number}.png", number, kind == "masks")
    (tmp_path / "train" / changed).parent.mkdir(exist_ok=True)
    config = {"source": str(tmp_path), "image_size": 8, "tile_overlap": tile}
    before = example_contents(load_data(config, "segmentation"))
    place = tmp_path / "train" / changed.replace("a2", "t2")
    write(place, 1000, mask="masks" in changed)
    said = content_changes(before, example_contents(load_data(config, "segmentation")))
    assert said.startswith("changed: ") and "t2" in said and "," not in said
