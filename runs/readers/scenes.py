"""Semi-synthetic pictures with exact masks, for segmentation without a download.

Real handwritten digits (scikit-learn's) are laid on crops of the two photographs that scikit-learn
ships, darker or brighter than what lies below them, beside bars that are no digits. Photographs
and digits are real, their combination is not: a network that does well here has shown that it
trains, not that it will do well on anybody's images.

The parts share neither digits nor ground: each has scenes from a strip of the photographs of its
own.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnsearch.runs.readers.digits import FULL, load_pixels, shipped_files
from attnsearch.runs.readers.images import ImageSize, resize, to_channels
from attnsearch.runs.readers.mask_folder import whole_masks
from attnsearch.runs.readers.source import PARTS, Source
from attnsearch.spaces.keys import BUILT_IN

COUNTS = {"train": 160, "val": 80, "test": 120}
STRIPS = {"train": (0.0, 0.6), "val": (0.6, 0.8), "test": (0.8, 1.0)}
SIDE = BUILT_IN["scenes"].side
DIGITS_MAX = 3
BARS_MAX = 3
DIGIT_SIDES = (20, 40)
CONTRAST = (0.25, 0.55)  # of the full range, between a digit and its ground


def read_scenes(image_size: ImageSize, seed: int = 0, channels: int | None = None) -> Source:
    """Return the scenes, with two classes: background and digit.

    Args:
        image_size: Scenes are made at 96 pixels and resized to so many, or (height, width).
        seed: `data.seed`, makes the training and validation scenes. The test part is always the
            same.
        channels: 1 or 3; None takes 3.
    """
    photographs = _photographs()
    digits = load_pixels()[0] / FULL
    order = np.random.RandomState(0).permutation(len(digits))
    shares = np.cumsum([0.6, 0.2]) * len(order)
    own = np.split(order, shares.astype(int))
    pictures, masks, parts = [], [], []
    for number, part in enumerate(PARTS):
        draws = np.random.RandomState([number, 0 if part == "test" else seed])
        for _ in range(COUNTS[part]):
            picture, mask = _scene(photographs, STRIPS[part], digits[own[number]], draws)
            pictures.append(picture)
            masks.append(mask)
            parts.append(number)
    resized = [resize(picture, image_size) for picture in pictures]
    return Source(
        name=BUILT_IN["scenes"].title,
        images=to_channels(np.stack(resized), channels or 3),
        labels=np.zeros(len(parts), dtype=np.int64),
        names=[f"{PARTS[part]}/{row:04d}" for row, part in enumerate(parts)],
        parts=np.array(parts, dtype=np.int64),
        class_names=["background", "digit"],
        digests=[
            hashlib.sha256(picture.data).digest() + hashlib.sha256(mask.data).digest()
            for picture, mask in zip(pictures, masks, strict=True)
        ],
        notes=["scenes are semi-synthetic: real digits on real photographs, put together"],
        masks=whole_masks(masks, image_size),
    )


def _photographs() -> list[NDArray[np.uint8]]:
    """Give two photographs (427, 640, 3), from scikit-learn's files where they still lie.

    Importing the package for them takes more than a second of a core.
    """
    files = shipped_files("images/china.jpg", "images/flower.jpg")
    if files:
        return [np.asarray(Image.open(file)) for file in files]
    from sklearn.datasets import load_sample_images

    return [np.asarray(image) for image in load_sample_images().images]


def _scene(
    photographs: list[NDArray[np.uint8]],
    strip: tuple[float, float],
    digits: NDArray[np.float64],
    draws: np.random.RandomState,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a picture (96, 96, 3) and its mask (96, 96)."""
    photograph = photographs[draws.randint(len(photographs))]
    height, width = photograph.shape[:2]
    left, right = (int(share * width) for share in strip)
    top = draws.randint(height - SIDE)
    start = draws.randint(left, max(left + 1, right - SIDE))
    picture = photograph[top : top + SIDE, start : start + SIDE].astype(np.float64) / 255
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for _ in range(draws.randint(BARS_MAX + 1)):
        _paint(picture, _bar(draws), draws)
    for _ in range(draws.randint(1, DIGITS_MAX + 1)):
        side = draws.randint(DIGIT_SIDES[0], DIGIT_SIDES[1] + 1)
        digit = digits[draws.randint(len(digits))]
        ink = resize(digit.astype(np.float32), side, Image.Resampling.BICUBIC).clip(0, 1)
        layer = np.zeros((SIDE, SIDE))
        y, x = draws.randint(SIDE - side + 1, size=2)
        layer[y : y + side, x : x + side] = ink
        _paint(picture, layer, draws)
        mask[layer > 0.5] = 1
    return np.rint(picture.clip(0, 1) * 255).astype(np.uint8), mask


def _bar(draws: np.random.RandomState) -> NDArray[np.float64]:
    """Return the ink (96, 96) of a straight bar, as thick as a digit's stroke."""
    centre, angle = draws.randint(16, SIDE - 16, size=2), draws.uniform(0, np.pi)
    length, thick = draws.uniform(8, 20), draws.uniform(1.5, 4)
    y, x = np.mgrid[:SIDE, :SIDE] - centre[:, None, None]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    inside: NDArray[np.float64] = np.minimum(length - abs(along), thick - abs(across)).clip(0, 1)
    return inside


def _paint(
    picture: NDArray[np.float64], ink: NDArray[np.float64], draws: np.random.RandomState
) -> None:
    """Lay ink on a picture (96, 96, 3), in place, away from the brightness below it."""
    below = picture[ink > 0.5].mean() if (ink > 0.5).any() else 0.5
    step = draws.uniform(*CONTRAST) * (1 if below < 0.5 else -1)
    tint = step + draws.uniform(-0.08, 0.08, size=3)
    picture += ink[..., None] * tint
