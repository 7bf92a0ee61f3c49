"""scikit-learn's handwritten digits: 1,797 images of 8x8 in 10 classes; no download.

From the test set of the UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak,
1998). Only a small part is used for training, so that a network does not score near 100% after a
few epochs, which would leave nothing to compare.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from attnsearch.runs.readers.images import Crop, ImageSize, resize, to_channels
from attnsearch.runs.readers.source import NO_PART, PARTS, Source

COUNTS = {"train": 160, "val": 400, "test": 500}
FULL = 16  # the brightest pixel value


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
    images = np.stack([resize(image, image_size, crop=crop) for image in pixels])[..., None]
    parts = np.full(len(labels), NO_PART)
    for part, key in (("test", [0]), ("val", [1, seed]), ("train", [2, seed])):
        _fill(parts, labels, PARTS.index(part), COUNTS[part], key)
    used = np.flatnonzero(parts != NO_PART)
    return Source(
        name="digits",
        images=to_channels(images[used], channels or 1),
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
