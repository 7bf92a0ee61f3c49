"""Colour-coded masks: each colour is the class that the palette says, or an error tells it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.readers.mask_colors import propose_colors
from attnsearch.runs.readers.source import IGNORED, DataError

BLACK, RED, GREEN, WHITE = (0, 0, 0), (255, 0, 0), (0, 255, 0), (255, 255, 255)
PALETTE = {"background": [*BLACK], "vessel": [*RED], "lesion": [*GREEN]}
SIDE = 16


def bands(*colors: tuple[int, int, int]) -> NDArray[np.uint8]:
    rows = np.repeat(np.array(colors, np.uint8), SIDE // len(colors), axis=0)
    return np.repeat(rows[:, None], SIDE, axis=1)


def made(folder: Path, mask: NDArray[np.uint8], mode: str = "RGB", ending: str = "png") -> Path:
    for number in range(8):
        for side in ("images", "masks"):
            (folder / side).mkdir(exist_ok=True)
        pixels = np.random.RandomState(number).randint(0, 256, mask.shape).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        image = Image.fromarray(mask)
        image = image.quantize(8) if mode == "P" else image.convert(mode)
        image.save(folder / "masks" / f"{number}.{ending}")
    return folder


def load(folder: Path, **data: Any) -> DataSet:
    config = {"source": str(folder), "image_size": SIDE, "splits": [0.5, 0.25, 0.25]}
    return load_data({**config, "mask_colors": PALETTE, **data}, "segmentation")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_colour_is_the_class_that_the_palette_says(mode: str, tmp_path: Path) -> None:
    data = load(made(tmp_path, bands(GREEN, BLACK, RED, BLACK), mode))
    assert data.class_names == [*PALETTE]
    assert data.test.masks is not None
    assert data.test.masks.original(0)[:: SIDE // 4, 0].tolist() == [2, 0, 1, 0]


def test_the_order_of_the_palette_is_that_of_the_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnsearch.runs.readers.cache.SMALLEST_MB", 0)
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    made(folder, bands(GREEN, BLACK, RED, BLACK))
    turned = dict(reversed(PALETTE.items()))
    first, second = load(folder), load(folder, mask_colors=turned)
    assert second.class_names == [*turned]
    assert second.test.masks is not None
    assert second.test.masks.original(0)[:: SIDE // 4, 0].tolist() == [0, 2, 1, 2]
    assert first.fingerprint != second.fingerprint


def test_what_is_called_ignore_does_not_count(tmp_path: Path) -> None:
    folder = made(tmp_path, bands(GREEN, WHITE, RED, BLACK))
    data = load(folder, mask_colors={"ignore": [*WHITE], **PALETTE})
    assert data.class_names == [*PALETTE]
    assert data.test.masks is not None
    assert data.test.masks.original(0)[:: SIDE // 4, 0].tolist() == [2, IGNORED, 1, 0]


def test_a_colour_of_no_class_is_told_once_with_its_pixels(tmp_path: Path) -> None:
    folder = made(tmp_path, bands(GREEN, WHITE, RED, BLACK))
    with pytest.raises(DataError) as caught:
        load(folder)
    told = str(caught.value)
    assert "[255, 255, 255] (512 pixels in 8 of 8 masks, such as masks/0.png)" in told
    assert told.count("data.mask_colors") == 1
    assert "add each as a class, or one as `ignore`" in told


def test_files_that_do_not_keep_colours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not keep the colours"):
        load(made(tmp_path, bands(GREEN, BLACK, RED, BLACK), ending="jpg"))


def test_a_palette_is_proposed_for_few_colours_alone(tmp_path: Path) -> None:
    files = []
    for name, pixels in {
        "few": bands(GREEN, BLACK),
        "grey": bands(WHITE, BLACK),
        "many": np.random.RandomState(0).randint(0, 256, (SIDE, SIDE, 3)).astype(np.uint8),
    }.items():
        files.append(tmp_path / f"{name}.png")
        Image.fromarray(pixels).save(files[-1])
    few, grey, many = files
    assert propose_colors([few, grey]) == {
        "background": [0, 0, 0],
        "color_1": [0, 255, 0],
        "color_2": [255, 255, 255],
    }
    assert propose_colors([grey]) is None
    assert propose_colors([few, many]) is None
