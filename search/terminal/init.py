"""`attnsearch init`: a commented space file for the user's own data."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from attnsearch.runs.data import DataSet, balance_text, class_counts, groups_in_names, load_data
from attnsearch.runs.machine import available_cpus
from attnsearch.runs.metrics import why_undefined
from attnsearch.runs.readers import (
    IGNORED,
    DataError,
    IgnoreIndexError,
    MaskValuesError,
    check_names,
    class_folders_with_masks,
    classes_in_doubt,
    is_mask_folder,
    listing,
    named_parts,
    native_shapes,
    several_labels,
)
from attnsearch.search.terminal.asked import NOTHING, Asked, InitError, options_for
from attnsearch.search.terminal.budget import HOURS, budget_of
from attnsearch.search.terminal.init_masks import colors_of, labels_of
from attnsearch.search.terminal.tiles import Tiling, tiling_of
from attnsearch.search.text import render
from attnsearch.spaces import load_space
from attnsearch.spaces.keys import BUILT_IN, CLASSIFICATION, MULTILABEL, SEGMENTATION, Data

_SIZES = (16, 24, 28, 32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 352)
_LEAST_ASPECT = 1.5  # of a rectangle; a square squeezes others little
_LEAST_STEPS = 300  # of a segmentation: with 40 it is no better than marking everything
_LEAST_EPOCHS = (6, 10)  # on a CPU and on a GPU
_SIDES = {"left", "right", "l", "r"}
# On a CPU and on a GPU, by task.
_LARGEST = {CLASSIFICATION: (64, 224), MULTILABEL: (64, 224), SEGMENTATION: (96, 352)}


BRATS = (0, 1, 2, 4)
"""Labels of the BraTS challenges up to 2022: there is no 3."""


@dataclass(frozen=True)
class SpaceProposal:
    """What is proposed for a data set, and from what.

    Attributes:
        name: Of the study.
        source: As `data.source` says it.
        data: The data set at `image_size`.
        ignore_index: The mask value that seems not to count, or None.
        native: Median of the shorter sides of the images, in pixels.
        image_size: Pixels of the shorter side.
        rectangle: (H, W) to train at, where all images share a shape far from square.
        shape: Theirs, (H, W).
        stem: `small` or `imagenet`.
        width: Width multiplier.
        batch_size: Images a step.
        epochs: Of a full training.
        least_epochs: With fewer, a training tells nothing.
        epoch_steps: Training steps of an epoch.
        imbalance: Training images of the largest class over those of the smallest.
        balance: How many both have, in words; of masks empty.
        gpus: Whether this machine has a GPU.
        cpus: CPU cores of a trial.
        groups: `data.groups`, or None.
        groups_why: From what they are known.
        keys: Further keys of `data`.
        tiling: Whether images are cut into tiles.
        notes: What to tell beside the notes of the data.
    """

    name: str
    source: str
    data: DataSet
    ignore_index: int | None
    native: int
    image_size: int
    rectangle: tuple[int, int] | None
    shape: tuple[int, int] | None
    stem: str
    width: float
    batch_size: int
    epochs: int
    least_epochs: int
    epoch_steps: int
    imbalance: float
    balance: str
    gpus: bool
    cpus: int
    groups: str | None
    groups_why: str
    keys: dict[str, Any]
    tiling: Tiling
    notes: list[str]

    @property
    def steps(self) -> int:
        """Training steps of a full training."""
        return self.epochs * self.epoch_steps

    @property
    def uneven(self) -> bool:
        """Whether accuracy would favour the large classes."""
        return self.imbalance >= 3

    @property
    def metric(self) -> str:
        """What whole images are measured by: AUROC of uneven classes, where parts allow it."""
        if self.data.task == MULTILABEL:
            return "map"
        if not self.uneven:
            return "accuracy"
        parts = (self.data.val, self.data.test)
        ranks = not any(
            why_undefined("auroc", p.labels, None, self.data.class_names) for p in parts
        )
        return "auroc" if ranks else "balanced_accuracy"

    @property
    def sided(self) -> bool:
        """Whether mirroring may change the label, as of a chest: its image is grey."""
        names = {
            word for name in self.data.class_names for word in re.split(r"[^a-z]+", name.lower())
        }
        grey = self.data.channels == 1 and self.data.task != SEGMENTATION
        return grey or not names.isdisjoint(_SIDES)

    @property
    def limited(self) -> bool:
        """Whether images are smaller than they could be because there is no GPU."""
        shrunk = self.rectangle != self.shape or self.native > _LARGEST[self.data.task][0]
        return not self.gpus and shrunk


def write_space(data: str, file: str, asked: Asked = NOTHING, hours: float = HOURS) -> str:
    """Write a space file for some data, and return what to tell the user.

    A few training steps are measured, so that all acts end in time.

    Args:
        data: `digits` or `scenes`, an .npz file, a folder of class folders, or one with images/
            and masks/, or with labels.csv.
        file: The file to write; it must not exist.
        asked: What the user says of the data.
        hours: In which all acts are to end at most.

    Raises:
        InitError: The file exists or cannot be written, or the data is none to propose for.
        DataError: The data cannot be read.
    """
    target = Path(file)
    if target.exists():
        raise InitError(f"{file} exists already and is left alone; choose another name for --to")
    if not target.absolute().parent.is_dir():
        raise InitError(f"{file} cannot be written: there is no folder {target.absolute().parent}")
    try:
        proposal = propose(data, target, asked)
    except DataError as error:
        raise DataError(f"{error}{options_for(str(error))}") from None
    try:
        with target.open("x", encoding="utf-8") as stream:
            stream.write(space_text(proposal))
    except OSError as error:
        raise InitError(f"{file} cannot be written: {error.strerror}") from None
    try:
        budget = budget_of(load_space(target), proposal.data, hours, proposal.least_epochs)
        proposal = replace(proposal, epochs=budget.epochs, notes=[*proposal.notes, *budget.words])
        target.write_text(space_text(proposal), encoding="utf-8")
    except BaseException:
        target.unlink()
        raise
    return render("terminal", "init.txt", file=file, data=proposal.data, notes=proposal.notes)


def propose(data: str, target: Path, asked: Asked = NOTHING) -> SpaceProposal:
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
            "masks/, or with labels.csv, an .npz file in MedMNIST layout, digits or scenes"
        )
    if not builtin:
        check_names(path)
    task = BUILT_IN[data].task if builtin else asked.task or _task(path, asked)
    masks = task == SEGMENTATION
    gpus = torch.cuda.is_available()
    shapes = [(BUILT_IN[data].side,) * 2] if builtin else native_shapes(path) or [(32, 32)]
    exact = not path.is_dir()  # an array's images share a shape: that of the training part
    native = min(shapes[0]) if exact else round(median(map(min, shapes)))
    largest = _LARGEST[task][gpus]
    image_size = _image_size(native, largest, exact=exact)
    rectangle = _rectangle(shapes, largest)
    image_size = min(rectangle) if rectangle else image_size
    source = data if builtin else str(path.absolute())
    keys = (labels_of(path) if masks and path.is_dir() else {}) | asked.keys()
    colors = {}
    if (
        masks
        and path.is_dir()
        and keys.keys().isdisjoint(("classes", "mask_values", "mask_colors"))
    ):
        keys |= (colors := colors_of(path, asked.mask_name))
    size = [*rectangle] if rectangle else image_size
    section = Data.model_validate({"source": source, "image_size": size}).model_dump() | keys
    try:
        images = load_data(section, task)
    except IgnoreIndexError:
        section["ignore_index"] = IGNORED
        images = load_data(section, task)
    except MaskValuesError as error:
        if error.values != BRATS:
            raise
        section["mask_values"] = keys["mask_values"] = [*BRATS]
        images = load_data(section, task)
    tiling = tiling_of(images, gpus)
    if tiling.overlap:
        section["tile_overlap"] = tiling.overlap
        images = load_data(section, task)
    images, groups, why, notes = _grouped(images, section, asked.groups)
    if colors:
        notes = [
            f"masks are colour-coded, {images.classes} colours: name their classes in "
            f"data.mask_colors, or `ignore` what does not count",
            *notes,
        ]
    count = len(images.train.images)
    counts = class_counts(images.train.labels, images.classes)
    batch_size = (16 if gpus else 8) if masks else _batch_size(count, gpus)
    steps = max(1, count // batch_size)  # an epoch
    fewest = math.ceil(_LEAST_STEPS / steps) if masks else 0
    epochs = max(_epochs(count, gpus), fewest)
    return SpaceProposal(
        name=_name(data),
        source=data if builtin else _source(path, target),
        data=images,
        ignore_index=section["ignore_index"],
        native=native,
        image_size=image_size,
        rectangle=rectangle,
        shape=shapes[0] if rectangle else None,
        stem="small" if image_size <= 48 else "imagenet",
        width=1.0 if gpus else 0.5,
        batch_size=batch_size,
        epochs=epochs,
        least_epochs=max(_LEAST_EPOCHS[gpus], fewest),
        epoch_steps=steps,
        imbalance=1.0 if masks else float(counts.max() / max(counts.min(), 1)),
        balance="" if masks else balance_text(counts, images.class_names),
        gpus=gpus,
        cpus=max(1, available_cpus() // torch.cuda.device_count()) if gpus else 1,
        groups=groups,
        groups_why=why,
        keys={k: v for k, v in keys.items() if k not in ("ignore_index", *["classes"] * masks)},
        tiling=tiling,
        notes=[*notes, *([tiling.words] if tiling.words else [])],
    )


def space_text(proposal: SpaceProposal) -> str:
    """Return the space file of a proposal."""
    return render("terminal", f"{proposal.data.task}.yaml", p=proposal) + "\n"


def _task(path: Path, asked: Asked) -> str:
    """Return what the data is for.

    Raises:
        InitError: It may be for either, or classes may be either of two sorts of folders.
    """
    if not path.is_dir():
        return MULTILABEL if several_labels(path) else CLASSIFICATION
    if asked.mask_name or asked.mask_values or asked.mask_colors:
        return SEGMENTATION
    if is_mask_folder(path):
        if names := class_folders_with_masks(path):
            raise InitError(
                f"{path}: {listing(names)} hold images with masks beside them: say "
                f"--task classification, which leaves the masks out, or --task segmentation"
            )
        return SEGMENTATION
    if several_labels(path):
        return MULTILABEL
    doubt = None if asked.classes else classes_in_doubt(path)
    if doubt is not None:
        outer, inner = map(listing, doubt)
        raise InitError(
            f"{path}: the folders {outer} all hold the folders {inner}: say which are "
            f"the classes, --classes {','.join(doubt[0])} or --classes {','.join(doubt[1])}"
        )
    return CLASSIFICATION


def _grouped(
    images: DataSet, section: dict[str, Any], asked: str | None
) -> tuple[DataSet, str | None, str, list[str]]:
    """Return the data in groups, `data.groups`, whence they are known, and notes."""
    if asked == "none":
        return images, None, "", []
    splits = (images.train, images.val, images.test)
    if asked is not None:
        spec = (
            {"csv": str(Path(asked).absolute())} if asked.endswith(".csv") else {"pattern": asked}
        )
        return load_data({**section, "groups": spec}, images.task), asked, "as asked", []
    names = [name for split in splits for name in split.names]
    pattern, kind = None, "folders above the classes"
    if images.task != MULTILABEL:
        classes = [images.class_names[label] for split in splits for label in split.labels]
        pattern = _folders_above(names, classes)
    if pattern is None:
        named = groups_in_names(names)
        if named is None:
            return images, None, "", []
        pattern, kind = named.pattern, named.kind
    try:
        grouped = load_data({**section, "groups": {"pattern": pattern}}, images.task)
    except DataError as error:
        return images, None, "", [f"names tell groups ({kind}), which are not used: {error}"]
    told = f"groups by names ({kind}): see whether they are patients, or say --groups none"
    return grouped, pattern, f"names tell them: {kind}", [told]


def _folders_above(names: Sequence[str], classes: Sequence[str]) -> str | None:
    """Return the pattern of the folders that class folders lie in, where these are patients."""
    paths = [name.split("/") for name in names]
    for depth, pattern in ((1, "^([^/]+)/"), (2, "^[^/]+/([^/]+)/")):
        below = all(
            len(path) > depth + 1 and path[depth] == name and path[depth - 1] != name
            for path, name in zip(paths, classes, strict=True)
        )
        if below and not named_parts([path[depth - 1] for path in paths[:1]]):
            return pattern
    return None


def _image_size(native: int, largest: int, *, exact: bool) -> int:
    if exact and native <= largest:
        return max(native, _SIZES[0])
    return max((size for size in _SIZES if size <= min(native, largest)), default=_SIZES[0])


def _rectangle(shapes: Sequence[tuple[int, int]], largest: int) -> tuple[int, int] | None:
    """Return (H, W) for images that share a shape far from square; None for a square.

    It has about as many pixels as the largest square that is proposed, so training costs no more.
    """
    height, width = shapes[0]
    if len(set(shapes)) > 1 or max(shapes[0]) < _LEAST_ASPECT * min(shapes[0]):
        return None
    scale = largest / math.sqrt(height * width)
    if scale >= 1:
        sides = height, width
    else:
        sides = round(scale * height / 16) * 16, round(scale * width / 16) * 16
    return sides if min(sides) >= _SIZES[0] and max(sides) <= 4096 else None


def _batch_size(count: int, gpus: bool) -> int:
    if count >= 20_000 and gpus:
        return 128
    return 64 if count >= 2_000 else 32 if count >= 300 else 16


def _epochs(count: int, gpus: bool) -> int:
    """Return epochs that show each network enough images to tell weak from strong."""
    images, most = (400_000, 60) if gpus else (20_000, 20)
    return min(max(round(images / max(count, 1)), _LEAST_EPOCHS[gpus]), most)


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
