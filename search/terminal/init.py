"""`attnsearch init`: a commented space file for the user's own data."""

import json
import os
import re
import statistics
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.data import DataSet, load_data
from attnsearch.runs.readers import (
    IGNORED,
    SCENES,
    SIDE,
    SUFFIXES,
    IgnoreIndexError,
    is_mask_folder,
    walk,
)
from attnsearch.search.text import plural
from attnsearch.spaces import load_space

_SIZES = (16, 24, 28, 32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 352)
# On a CPU and on a GPU, by task.
_LARGEST = {"classification": (64, 224), "segmentation": (96, 352)}
_BUILT_IN = {"digits": 8, SCENES: SIDE}  # pixels of their images
_LOOKED_AT = 200  # image files whose size is read
_IMBALANCE = 3.0  # largest class over smallest from which accuracy misleads


class InitError(AttnsearchError):
    """A space file cannot be proposed for this data, or not be written there."""


@dataclass(frozen=True)
class Proposal:
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


def write_space(data: str, file: str) -> str:
    """Write a space file for some data, and returns what to tell the user.

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
    found = proposal.data
    return "\n".join(
        [
            f"Wrote {file} for {found.classes:,} classes and "
            f"{plural(len(found.train.labels), 'training image')}.",
            *(f"  * {note}" for note in found.notes),
            "Read it: the comments say what was chosen and why. Then:",
            f"  attnsearch check {file}",
            f"  attnsearch run {file}",
        ]
    )


def propose(data: str, target: Path) -> Proposal:
    """Look at the data and chooses settings that fit it.

    Raises:
        InitError: The data is none to propose for.
        DataError: The data cannot be read.
    """
    path = Path(data).expanduser()
    builtin = data in _BUILT_IN and not path.exists()
    if not builtin and not path.exists():
        raise InitError(
            f"{data} does not exist; DATA is a folder of class folders, or one with images/ and "
            "masks/, an .npz file in MedMNIST layout, digits or scenes"
        )
    masks = data == SCENES if builtin else path.is_dir() and is_mask_folder(path)
    task = "segmentation" if masks else "classification"
    gpus = torch.cuda.is_available()
    native = _BUILT_IN[data] if builtin else _native_size(path)
    largest = _LARGEST[task][gpus]
    image_size = _image_size(native, largest, exact=not path.is_dir())
    section: dict[str, Any] = {
        "source": data if builtin else str(path.absolute()),
        "image_size": image_size,
        "channels": None,
        "classes": None,
        "seed": 0,
        "groups": None,
        "folds": None,
        "fold": None,
        "splits": [0.7, 0.15, 0.15],
        "augment": {},
        "ignore_index": None,
    }
    try:
        found = load_data(section, task)
    except IgnoreIndexError:
        section["ignore_index"] = IGNORED
        found = load_data(section, task)
    count = len(found.train.images)
    shares = np.bincount(found.train.labels, minlength=found.classes)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Proposal(
        name=_name(data),
        source=data if builtin else _source(path, target),
        data=found,
        ignore_index=section["ignore_index"],
        native=native,
        image_size=image_size,
        stem="small" if image_size <= 48 else "imagenet",
        width=1.0 if gpus else 0.5,
        batch_size=(16 if gpus else 8) if masks else _batch_size(count, gpus),
        epochs=_epochs(count, gpus),
        imbalance=1.0 if masks else float(shares.max() / max(shares.min(), 1)),
        gpus=gpus,
        cpus=max(1, (cores or 1) // torch.cuda.device_count()) if gpus else 1,
    )


def space_text(proposal: Proposal) -> str:
    """Return the space file of a proposal."""
    if proposal.data.task == "segmentation":
        from attnsearch.search.terminal.init_masks import mask_space_text

        return mask_space_text(proposal)
    p = proposal
    data = p.data
    uneven = p.imbalance >= _IMBALANCE
    objective = "val_balanced_accuracy" if uneven else "val_accuracy"
    metric = objective.removeprefix("val_")
    names = ", ".join(data.class_names[:6]) + (", ..." if data.classes > 6 else "")
    counts = f"{len(data.train.labels)} / {len(data.val.labels)} / {len(data.test.labels)}"
    lines = [
        "# A space file for attnsearch: which blocks may stand where, and what else is searched.",
        "# A value is fixed, or searched: {choice: [a, b]}, {int: [1, 9]}, {float: [0.01, 1]}.",
        "# `attnsearch check FILE` explains it, `attnsearch run FILE` searches it.",
        "",
        f"name: {quoted(p.name)}  # the study, and its experiment in MLflow",
        "task: classification",
        "",
        f"# {data.classes} classes: {comment(names)}",
        f"# {counts} images for training / validation / test",
        "data:",
        f"  source: {quoted(p.source)}",
        f"  image_size: {p.image_size}  # {size_reason(p)}",
        "  seed: 0  # fixes the split for all runs",
        "  # Several images of one patient must not stand in two splits. If names begin with the",
        '  # patient, as in p12_scan3.png:  groups: "^([^_]+)_"',
        "  augment:",
        f"    crop: {max(1, p.image_size // 8)}  # pixels of padding before a random crop",
        *_flip_lines(p),
        "    # Also: vflip, rotate, scale, translate, brightness, contrast, noise, erase.",
        "",
        "network:",
        "  backbone: resnet18  # attnsearch sites resnet18: every place for a block",
        f"  stem: {p.stem}  # {stem_reason(p)}",
        f"  width: {p.width}  # {width_reason(p)}",
        "",
        "# WHERE and WHICH. `none` leaves a place empty; attnsearch blocks: what else there is.",
        "insert:",
        "  - at: layer4  # after the last stage, on the smallest map",
        "    block: {choice: [none, ecrm, gc, cbam]}",
        "  - at: layer[3-4].*.residual  # inside every block of stages 3 and 4",
        "    block: {choice: [none, se, eca, coordinate]}",
        "    decide: stage  # one choice for each stage; together: one for both; each: one a site",
        "  - at: layer[2-3].*.conv2  # in place of these 3x3 convolutions",
        "    block: {choice: [none, psa, scconv]}",
        "    decide: stage",
        "",
        "# Their hyperparameters; attnsearch blocks NAME explains them.",
        "blocks:",
        "  ecrm: {bank_size: {int: [10, 40], step: 10}}",
        "  gc: {ratio: {choice: [0.0625, 0.125, 0.25]}}",
        "  se: {reduction: {choice: [8, 16]}}",
        "  psa: {groups: {choice: [[1, 4, 8, 16], [1, 1, 1, 1]]}}",
        "",
        "train:",
        f"  epochs: {p.epochs}  # about {steps(p):,} steps; weak trials are stopped earlier",
        f"  batch_size: {p.batch_size}",
        "  optimizer: sgd",
        "  lr: {float: [0.01, 0.3], log: true, prior: 0.05}",
    ]
    if uneven:
        lines.append(
            f"  class_weights: balanced  # the largest class has {p.imbalance:.1f} times the "
            "images of the smallest"
        )
    lines += [
        "",
        "search:",
        "  sampler: tpe",
        "  scheduler: asha  # stops weak trials early; none: every trial runs to its end",
        f"  trials: {40 if p.gpus else 16}",
        f"  objectives: {{{objective}: max}}"
        + ("  # accuracy would favour the large classes" if uneven else ""),
        "  seed: 0",
        "",
        "# Networks that are too large need not be trained:",
        "# limits: {params: 12e6, macs: 2e9}",
        "# Combinations that make no sense:",
        "# forbid: [{layer4.block: ecrm, layer3.conv2.block: psa}]",
        "",
        "# The best few and their controls again, on seeds that the search has not seen. Verdicts",
        "# need 5 seeds; `check` says which differences so many can find.",
        "confirm: {top: 2, seeds: 5, controls: [baseline, capacity, tuned_baseline]}",
        "# Then the winner without each of its blocks; also positions, blocks, ofat, pairwise:",
        "ablation: {plans: [loco], seeds: 5}",
        f"# smallest_effect: 0.01  # the least gain of {metric} that matters",
        "",
        resources_line(p),
    ]
    return "\n".join(lines) + "\n"


def _native_size(path: Path) -> int:
    """Return median of the shorter sides of the images of a source, in pixels."""
    if path.is_dir():
        sides = [side for file in _some_images(path) if (side := _short_side(file)) is not None]
        return round(statistics.median(sides)) if sides else 32
    shape = _npz_shape(path)
    return min(shape[1:3]) if shape is not None and len(shape) >= 3 else 32


def _some_images(folder: Path) -> Iterator[Path]:
    """Yield image files from all over a folder, at most `_LOOKED_AT`."""
    files = sorted(
        place / name
        for place, _, names in walk(folder)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    )
    yield from files[:: max(1, len(files) // _LOOKED_AT)]


def _short_side(file: Path) -> int | None:
    try:
        with Image.open(file) as image:  # reads the header alone
            return int(min(image.size))
    except Exception:  # a damaged file: load_data judges it
        return None


def _npz_shape(path: Path) -> tuple[int, ...] | None:
    """Return the shape of `train_images`, from its header alone; None if it is no such archive."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("train_images.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            return tuple(read(stream)[0])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None  # load_data says what is wrong with it


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


def steps(p: Proposal) -> int:
    """Return about how many steps a full training has."""
    return p.epochs * max(1, len(p.data.train.labels) // p.batch_size)


def size_reason(p: Proposal) -> str:
    """Return why images get this size."""
    if p.image_size == p.native:
        return "the images' own size"
    if p.image_size > p.native:
        return f"enlarged from {p.native} pixels: the last stage sees an eighth of it"
    limited = not p.gpus and p.native > _LARGEST[p.data.task][0]
    why = "; small, since there is no GPU here: raise it where there is one" if limited else ""
    return f"the images' shorter side has {p.native} pixels (median){why}"


def stem_reason(p: Proposal) -> str:
    """Return what the stem does."""
    if p.stem == "small":
        return "3x3 without pooling: the images are small already"
    return "7x7, stride 2, pooling: quarters the map before stage 1"


def width_reason(p: Proposal) -> str:
    """Return why the network has this width."""
    return "the published width" if p.gpus else "half the published width: no GPU here"


def _flip_lines(p: Proposal) -> list[str]:
    if p.source == "digits":
        return ["    flip: false  # a mirrored digit is another sign"]
    return ["    flip: true  # false where left and right differ in meaning"]


def resources_line(p: Proposal) -> str:
    """Return what a trial gets."""
    if p.gpus:
        return f"resources: {{cpus: {p.cpus}, gpus: 1}}  # per trial; gpus: 0.5 puts two on a GPU"
    return f"resources: {{cpus: {p.cpus}, gpus: 0}}  # per trial: one trial on each CPU core"


def _name(data: str) -> str:
    stem = Path(data).expanduser().absolute().name.removesuffix(".npz") or "data"
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-._")[:60]
    return name or "data"


def _source(path: Path, target: Path) -> str:
    """Return the data as the file names it: relative where it lies beside or below the file."""
    path, folder = path.absolute(), target.absolute().parent
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def quoted(text: str) -> str:
    """Return a text as a YAML scalar that is read as text."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", text)
    reserved = text.lower() in ("true", "false", "null")
    return text if plain and not reserved else json.dumps(text, ensure_ascii=False)


def comment(text: str) -> str:
    """Return a text on one line, whatever a folder is called."""
    return "".join(char if char.isprintable() else "?" for char in text)
