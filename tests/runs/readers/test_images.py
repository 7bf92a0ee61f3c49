"""How an image becomes the pixels that a network is shown."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnsearch.runs.readers.images import before_crop, decode, resize


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def as_papers_say(pixels: np.ndarray, shorter: int, side: int) -> np.ndarray:
    """Resize the shorter side, the ratio kept, then cut out the middle: torchvision's steps."""
    image = Image.fromarray(pixels)
    width, height = image.size
    wide, tall = shorter, shorter
    if width <= height:
        tall = int(shorter * height / width)
    else:
        wide = int(shorter * width / height)
    image = image.resize((wide, tall), Image.Resampling.BILINEAR)
    top, left = round((tall - side) / 2.0), round((wide - side) / 2.0)
    return np.asarray(image)[top : top + side, left : left + side]


@pytest.mark.parametrize(
    "shape", [(375, 500, 3), (500, 333, 3), (64, 64), (31, 97), (224, 224, 3), (40, 33, 3)]
)
@pytest.mark.parametrize("crop", [256, 0.875, 1.0, 300])
def test_the_middle_is_that_of_papers_pixel_by_pixel(
    shape: tuple[int, ...], crop: int | float
) -> None:
    pixels = noise(*shape)
    shorter = int(crop) if crop > 1 else int(224 / crop)
    expected = as_papers_say(pixels, shorter, 224)
    np.testing.assert_array_equal(resize(pixels, 224, crop=crop), expected)


def test_a_rectangle_is_cut_from_what_covers_its_surroundings() -> None:
    assert before_crop((100, 100), (50, 100), 60) == (120, 120)
    assert before_crop((100, 400), (50, 100), 0.5) == (100, 400)
    assert resize(noise(100, 400), (50, 100), crop=0.5).shape == (50, 100)


def test_a_long_image_is_not_resized_as_a_whole() -> None:
    """Its shorter side of 256 pixels would make 1.5 GB of it."""
    assert resize(noise(1, 2000, 3), 224, crop=256).shape == (224, 224, 3)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photograph_is_reduced_no_further_than_its_crop_allows(
    tmp_path: Path, orientation: int
) -> None:
    """A JPEG file is read at a half of its size or less, and lies on its side or does not."""
    smooth = np.add.outer(np.arange(600), np.arange(1600))[..., None] * [0.1, 0.05, 0.08]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth.astype(np.uint8)).save(path, quality=95, exif=exif)
    upright = smooth.astype(np.uint8)
    upright = np.rot90(upright, -1) if orientation == 6 else upright
    shown = decode(path, (24, 32), 30).pixels.astype(int)
    expected = resize(upright, (24, 32), crop=30).astype(int)
    assert shown.shape == (24, 32, 3)
    assert abs(shown - expected).max() <= 4
