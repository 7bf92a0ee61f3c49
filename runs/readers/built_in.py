"""The data sets that come with attnsearch: digits and scenes; no download.

Digits: scikit-learn's handwritten digits, 1,797 images of 8x8 in 10 classes.

From the test set of the UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak,
1998). Only a small part is used for training, so that a network does not score near 100% after a
few epochs, which would leave nothing to compare.

Scenes: semi-synthetic pictures with exact masks, for segmentation.

Real handwritten digits (scikit-learn's) are laid on crops of the two photographs that scikit-learn
ships, darker or brighter than what lies below them, beside bars that are no digits. Photographs
and digits are real, their combination is not: a network that does well here has shown that it
trains, not that it will do well on anybody's images.

The parts share neither digits nor ground: each has scenes from a strip of the photographs of its
own.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnsearch.runs.readers.images import Crop, ImageSize, resize, to_channels
from attnsearch.runs.readers.mask_folder import whole_masks
from attnsearch.runs.readers.source import NO_PART, PARTS, Source
from attnsearch.spaces.keys import BUILT_IN

DIGIT_COUNTS = {"train": 160, "val": 400, "test": 500}
FULL = 16  # the brightest pixel value

SCENE_COUNTS = {"train": 160, "val": 80, "test": 120}
STRIPS = {"train": (0.0, 0.6), "val": (0.6, 0.8), "test": (0.8, 1.0)}
SIDE = BUILT_IN["scenes"].side
DIGITS_MAX = 3
BARS_MAX = 3
DIGIT_SIDES = (20, 40)
CONTRAST = (0.25, 0.55)  # of the full range, between a digit and its ground


def read_digits(
    image_size: ImageSize,
    seed: int = 0,
    channels: int | None = None,
    crop: Crop | None = None,
) -> Source:
    """Return the digits, upscaled, with a stratified split of fixed sizes.

    Args:
        image_size: Images are resized to so many pixels, or (height, width).
        seed: `data.seed`, chooses training and validation images. The test part is always the
            same, so no seed ever trains on another one's test images.
        channels: 1 or 3; None takes 1.
        crop: As `resize` takes it.
    """
    levels, labels = load_pixels()
    pixels = np.rint(levels * (255 / FULL)).astype(np.uint8)
    parts = np.full(len(labels), NO_PART)
    for part, key in (("test", [0]), ("val", [1, seed]), ("train", [2, seed])):
        _fill(parts, labels, PARTS.index(part), DIGIT_COUNTS[part], key)
    used = np.flatnonzero(parts != NO_PART)
    images = np.stack([resize(pixels[i], image_size, crop=crop)[..., None] for i in used])
    return Source(
        name="digits",
        images=to_channels(images, channels or 1),
        labels=labels[used],
        names=[f"digits/{i:06d}" for i in used],
        parts=parts[used],
        class_names=[str(label) for label in range(10)],
        digests=[hashlib.sha256(pixels[i].data).digest() for i in used],
        notes=[],
    )


def load_pixels() -> tuple[np.ndarray, np.ndarray]:
    """Return grey levels from 0 to 16 (N, 8, 8) and labels (N,).

    From scikit-learn's file if it lies where it used to: importing the package for a table of
    57 KB takes more than a second of a core.
    """
    files = shipped_files("data/digits.csv.gz")
    if files:
        table = np.loadtxt(files[0], delimiter=",")
        return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images, np.asarray(bunch.target, dtype=np.int64)


def shipped_files(*names: str) -> list[Path]:
    """Return data files of scikit-learn without importing it; none unless all lie where they did.

    Args:
        names: Relative to its folder `datasets`.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        return []
    files = [Path(package.origin).parent / "datasets" / name for name in names]
    return files if all(file.is_file() for file in files) else []


def _fill(parts: np.ndarray, labels: np.ndarray, part: int, count: int, key: list[int]) -> None:
    """Give `part` the same number of free images of each class."""
    classes = np.unique(labels)
    for label in classes:
        free = np.flatnonzero((labels == label) & (parts == NO_PART))
        # RandomState: its stream is frozen, so the split is the same in every version of numpy.
        chosen = np.random.RandomState([*key, label]).permutation(free)[: count // len(classes)]
        parts[chosen] = part


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
        for _ in range(SCENE_COUNTS[part]):
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
