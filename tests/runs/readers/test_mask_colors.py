"""Colour-coded masks: each colour is the class that the palette says, or an error tells it."""

from collections.abc import Sequence
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


def indexed(
    folder: Path, palettes: Sequence[Sequence[int]], values: Sequence[int] = (0, 1)
) -> None:
    """Images and masks of mode P, each with its own palette; every mask holds all values."""
    for number, palette in enumerate(palettes):
        for side in ("images", "masks"):
            (folder / side).mkdir(exist_ok=True)
        mask = np.resize(np.array(values, np.uint8), (SIDE, SIDE))
        Image.fromarray(mask).save(folder / "images" / f"{number}.png")
        image = Image.fromarray(mask, "L").convert("P")
        image.putdata(mask.ravel().tolist())
        image.putpalette(palette)
        image.save(folder / "masks" / f"{number}.png")


AHEAD, AROUND = [0, 0, 0, 255, 255, 255], [255, 255, 255, 0, 0, 0]


def test_a_value_with_two_colours_is_no_class(tmp_path: Path) -> None:
    """Programs number colours as they come, so that black is 0 in one file and 1 in another."""
    indexed(tmp_path, [AHEAD, AROUND] * 4)
    with pytest.raises(DataError, match=r"0 is \[0, 0, 0\] in masks/0.png and \[255, 255, 255\]"):
        load(tmp_path, mask_colors=None)
    files = sorted((tmp_path / "masks").iterdir())
    proposed = propose_colors(files)
    assert proposed == {"background": [0, 0, 0], "color_1": [255, 255, 255]}
    data = load(tmp_path, mask_colors=proposed)
    masks = data.train.masks
    assert masks is not None
    assert {tuple(np.unique(mask)) for mask in masks.resized} == {(0, 1)}
    assert len(np.unique(masks.resized[:, 0, 0])) == 2  # by colour, and not by value
    counting = load(tmp_path, mask_colors=None, mask_values=[0, 1])  # who insists is believed
    assert counting.train.masks is not None
    assert len(np.unique(counting.train.masks.resized[:, 0, 0])) == 1


@pytest.mark.parametrize(
    ("values", "proposed"),
    [((0, 1), None), ((0, 1, 255), None), ((0, 38, 75), 3), ((1, 2), 2)],
)
def test_values_with_one_palette_are_classes_where_they_are_counted_from_0(
    values: tuple[int, ...], proposed: int | None, tmp_path: Path
) -> None:
    palette = [channel for value in range(256) for channel in (value, 255 - value, 7)]
    indexed(tmp_path, [palette] * 4, values)
    found = propose_colors(sorted((tmp_path / "masks").iterdir()))
    assert (found and len(found)) == proposed
