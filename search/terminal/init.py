"""`attnsearch init`: a commented space file for the user's own data."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.data import DataSet, load_data
from attnsearch.runs.machine import available_cpus
from attnsearch.runs.readers import (
    IGNORED,
    IgnoreIndexError,
    check_names,
    is_mask_folder,
    native_side,
)
from attnsearch.search.text import render
from attnsearch.spaces import load_space
from attnsearch.spaces.keys import BUILT_IN, CLASSIFICATION, SEGMENTATION, Data

_SIZES = (16, 24, 28, 32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 352)
# On a CPU and on a GPU, by task.
_LARGEST = {"classification": (64, 224), "segmentation": (96, 352)}


class InitError(AttnsearchError):
    """A space file cannot be proposed for this data, or not be written there."""


@dataclass(frozen=True)
class SpaceProposal:
    """What is proposed for a data set, and from what.

    Attributes:
        name: Of the study.
        source: As `data.source` says it.
        data: The data set at `image_size`.
        ignore_index: The mask value that seems not to count, or None.
        native: Median of the shorter sides of the images, in pixels.
        image_size: Pixels.
        stem: `small` or `imagenet`.
        width: Width multiplier.
        batch_size: Images a step.
        epochs: Of a full training.
        imbalance: Training images of the largest class over those of the smallest.
        gpus: Whether this machine has a GPU.
        cpus: CPU cores of a trial.
    """

    name: str
    source: str
    data: DataSet
    ignore_index: int | None
    native: int
    image_size: int
    stem: str
    width: float
    batch_size: int
    epochs: int
    imbalance: float
    gpus: bool
    cpus: int

    @property
    def limited(self) -> bool:
        """Whether images are smaller than they could be because there is no GPU."""
        return not self.gpus and self.native > _LARGEST[self.data.task][0]


def write_space(data: str, file: str) -> str:
    """Write a space file for some data, and return what to tell the user.

    Args:
        data: `digits` or `scenes`, an .npz file, a folder of class folders, or one with images/
            and masks/.
        file: The file to write; it must not exist.

    Raises:
        InitError: The file exists or cannot be written, or the data is none to propose for.
        DataError: The data cannot be read.
    """
    target = Path(file)
    if target.exists():
        raise InitError(f"{file} exists already and is left alone; choose another name for --to")
    if not target.absolute().parent.is_dir():
        raise InitError(f"{file} cannot be written: there is no folder {target.absolute().parent}")
    proposal = propose(data, target)
    text = space_text(proposal)
    try:
        with target.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise InitError(f"{file} cannot be written: {error.strerror}") from None
    try:
        load_space(target)
    except BaseException:
        target.unlink()
        raise
    return render("terminal", "init.txt", file=file, data=proposal.data)


def propose(data: str, target: Path) -> SpaceProposal:
    """Look at the data and choose settings that fit it.

    Raises:
        InitError: The data is none to propose for.
        DataError: The data cannot be read.
    """
    path = Path(data).expanduser()
    builtin = data in BUILT_IN and not path.exists()
    if not builtin and not path.exists():
        raise InitError(
            f"{data} does not exist; DATA is a folder of class folders, or one with images/ and "
            "masks/, an .npz file in MedMNIST layout, digits or scenes"
        )
    if not builtin:
        check_names(path)
    masks = not builtin and path.is_dir() and is_mask_folder(path)
    task = BUILT_IN[data].task if builtin else SEGMENTATION if masks else CLASSIFICATION
    masks = task == SEGMENTATION
    gpus = torch.cuda.is_available()
    native = BUILT_IN[data].side if builtin else native_side(path) or 32
    largest = _LARGEST[task][gpus]
    image_size = _image_size(native, largest, exact=not path.is_dir())
    source = data if builtin else str(path.absolute())
    section = Data.model_validate({"source": source, "image_size": image_size}).model_dump()
    try:
        images = load_data(section, task)
    except IgnoreIndexError:
        section["ignore_index"] = IGNORED
        images = load_data(section, task)
    count = len(images.train)
    counts = np.bincount(images.train.labels, minlength=images.classes)
    return SpaceProposal(
        name=_name(data),
        source=data if builtin else _source(path, target),
        data=images,
        ignore_index=section["ignore_index"],
        native=native,
        image_size=image_size,
        stem="small" if image_size <= 48 else "imagenet",
        width=1.0 if gpus else 0.5,
        batch_size=(16 if gpus else 8) if masks else _batch_size(count, gpus),
        epochs=_epochs(count, gpus),
        imbalance=1.0 if masks else float(counts.max() / max(counts.min(), 1)),
        gpus=gpus,
        cpus=max(1, available_cpus() // torch.cuda.device_count()) if gpus else 1,
    )


def space_text(proposal: SpaceProposal) -> str:
    """Return the space file of a proposal."""
    return render("terminal", f"{proposal.data.task}.yaml", p=proposal) + "\n"


def _image_size(native: int, largest: int, *, exact: bool) -> int:
    if exact and native <= largest:
        return max(native, _SIZES[0])
    return max((size for size in _SIZES if size <= min(native, largest)), default=_SIZES[0])


def _batch_size(count: int, gpus: bool) -> int:
    if count >= 20_000 and gpus:
        return 128
    return 64 if count >= 2_000 else 32 if count >= 300 else 16


def _epochs(count: int, gpus: bool) -> int:
    """Return epochs that show each network enough images to tell weak from strong."""
    images, least, most = (400_000, 10, 60) if gpus else (20_000, 6, 20)
    return min(max(round(images / max(count, 1)), least), most)


def _name(data: str) -> str:
    stem = Path(data).expanduser().absolute().name.removesuffix(".npz") or "data"
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-._")[:60]
    return name or "data"


def _source(path: Path, target: Path) -> str:
    """Return the data as the file names it: relative where it lies beside or below the file."""
    path, folder = path.absolute(), target.absolute().parent
    if not path.is_relative_to(folder):
        return str(path)
    text = path.relative_to(folder).as_posix()
    return f"./{text}" if text in BUILT_IN else text  # a folder called digits is not the set
