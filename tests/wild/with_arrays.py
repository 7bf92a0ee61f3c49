"""Images and labels in an .npz file, as people write it: one function a layout."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.wild.making import SIDE, Example, Made, Pixels, layout, picture


def arrays(
    root: Path,
    classes: Sequence[str],
    shape: tuple[int, ...] = (SIDE, SIDE),
    label: Callable[[NDArray[np.int64]], Pixels] = lambda kinds: kinds,
    parts: Sequence[str] = ("train", "val", "test"),
    channels: int = 1,
) -> Made:
    """Write an .npz file in MedMNIST layout; `label` turns class indices into what it holds."""
    made = Made(root / "arrays.npz", classes, channels)
    held: dict[str, Pixels] = {}
    for part, key, count in zip(("train", "val", "test"), parts, (24, 8, 8), strict=True):
        kinds = np.arange(count) % len(classes)
        numbers = enumerate(kinds.tolist(), len(made.examples))
        held[f"{key}_images"] = np.stack([picture(kind, i, shape) for i, kind in numbers])
        held[f"{key}_labels"] = label(kinds)
        made.examples += [
            Example(f"{part}/{i:06d}", None, classes[kind], part)
            for i, kind in enumerate(kinds.tolist())
        ]
    np.savez(made.data, **held)
    return made


@layout()
def medmnist(root: Path) -> Made:
    return arrays(root, ["0", "1", "2"], label=lambda kinds: kinds[:, None])


@layout(r"(?i)one-hot")
def one_hot_labels(root: Path) -> Made:
    return arrays(root, ["0", "1", "2"], label=lambda kinds: np.eye(3, dtype=np.uint8)[kinds])


@layout(r"(?i)labels? .*from 1")
def labels_from_one(root: Path) -> Made:
    return arrays(root, ["1", "2", "3"], label=lambda kinds: kinds + 1)


@layout(r"(?i)RGBA|alpha|transparen")
def rgba_arrays(root: Path) -> Made:
    return arrays(root, ["0", "1"], (SIDE, SIDE, 4), channels=3)


@layout()
def valid_arrays(root: Path) -> Made:
    return arrays(root, ["0", "1"], parts=("train", "valid", "test"))


def swollen(root: Path, megabytes: int) -> Path:
    """Write an .npz file, a thousandth of what it expands to: black images of 1 MB each."""
    path = root / "swollen.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for part, count in (("train", megabytes), ("val", 2), ("test", 2)):
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, 1024, 1024)}
            with archive.open(f"{part}_images.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array_header_1_0(stream, header)
                for _ in range(count):
                    stream.write(bytes(2**20))
            with archive.open(f"{part}_labels.npy", "w") as stream:
                np.lib.format.write_array(stream, np.arange(count) % 2)
    return path
