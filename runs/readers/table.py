"""Which reader takes a source: one table, a built-in set or a format of files each in its line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from attnsearch.blocks.spelling import did_you_mean
from attnsearch.runs.keeping import choose
from attnsearch.runs.readers.built_in import read_digits, read_scenes
from attnsearch.runs.readers.cache import cached
from attnsearch.runs.readers.folders import read_folder
from attnsearch.runs.readers.label_tables import TABLE, label_table, read_labelled
from attnsearch.runs.readers.mask_folder import mask_folder_bytes, read_mask_folder
from attnsearch.runs.readers.npz import (
    is_npz,
    npz_bytes,
    npz_of_several,
    npz_shapes,
    read_npz,
)
from attnsearch.runs.readers.source import DataError, Given, Source
from attnsearch.runs.readers.walking import check_names, folder_bytes, folder_shapes
from attnsearch.spaces.keys import BUILT_IN, CLASSIFICATION, GIVEN, MULTILABEL, SEGMENTATION


@dataclass(frozen=True)
class Reader:
    """How one kind of source is read.

    Attributes:
        task: What the source is for.
        read: Returns the source. A built-in set takes nothing, others the path first; further
            parameters are keys of `data`, by name.
        takes: Whether a path is such a source; None for a built-in set.
        words: What it takes, for messages.
        shapes: Returns (H, W) of its images, of some of many; none where that cannot be told.
        size: Returns about how many bytes its examples take, from path and `data`, before any is
            read, and how many reading them takes beside.
    """

    task: str
    read: Callable[..., Source]
    takes: Callable[[Path], bool] | None = None
    words: str = ""
    shapes: Callable[[Path], list[tuple[int, int]]] = lambda path: []
    size: Callable[[Path, Mapping[str, Any]], tuple[int, int]] = lambda path, data: (0, 0)


READERS = {
    "digits": Reader(CLASSIFICATION, read_digits),
    "scenes": Reader(SEGMENTATION, read_scenes),
    "npz": Reader(
        CLASSIFICATION,
        read_npz,
        is_npz,
        "an .npz file in MedMNIST layout",
        npz_shapes,
        npz_bytes,
    ),
    "folder": Reader(
        CLASSIFICATION,
        read_folder,
        Path.is_dir,
        "a folder of class folders",
        folder_shapes,
        folder_bytes,
    ),
    "npz_labels": Reader(
        MULTILABEL,
        partial(read_npz, multilabel=True),
        is_npz,
        "an .npz file in MedMNIST layout with labels (N, K) of 0 and 1",
        npz_shapes,
        npz_bytes,
    ),
    "label_table": Reader(
        MULTILABEL,
        read_labelled,
        lambda path: label_table(path) is not None,
        "a folder of images with labels.csv",
        folder_shapes,
        folder_bytes,
    ),
    "mask_folder": Reader(
        SEGMENTATION,
        read_mask_folder,
        Path.is_dir,
        "a folder with images/ and masks/",
        folder_shapes,
        mask_folder_bytes,
    ),
}
"""By name; of a built-in set what `data.source` calls it, see `BUILT_IN` of `spaces`."""


def read_source(data: Mapping[str, Any], task: str) -> Source:
    """Read all examples of a source.

    Args:
        data: The `data` section of a resolved config. `source` and `image_size` are required.
        task: "classification", "segmentation" or "multilabel".

    Raises:
        DataError: If no reader takes the source, or its reader cannot read it.
    """
    readers = {name: reader for name, reader in READERS.items() if reader.task == task}
    if not readers:
        tasks = " or ".join(dict.fromkeys(reader.task for reader in READERS.values()))
        raise DataError(f"task: {task!r} has no data reader; use {tasks}")
    source, built_in = data["source"], [name for name in readers if name in BUILT_IN]
    data, evaluated = for_training(data), for_evaluation(data)
    if source is None:
        raise DataError(
            "data.source is null: this network can be checked and built, but not trained; give "
            f"{' or '.join([*built_in, 'a path'])}"
        )
    if isinstance(source, Given):
        return source.read(data, task)
    if source == GIVEN:
        raise DataError(
            "data.source: given: a program gave the data of this study, and it was not recorded; "
            "give it again, as run_study(space, data=...), or name a path"
        )
    if source in built_in:
        return readers[source].read(**_settings(readers[source], data))
    path = Path(source)
    check_names(path)
    takers = [reader for reader in readers.values() if reader.takes and reader.takes(path)]
    if not takers and not path.exists():
        raise DataError(_missing(path, built_in))
    if not takers:
        words = [reader.words for reader in readers.values() if reader.words]
        raise DataError(
            f"data.source: {path} is not {' or '.join(words)}, as task: {task} "
            f"takes{_or(built_in)}"
        )
    reader, settings = takers[0], _settings(takers[0], data)
    settings.pop("keep", None)
    try:
        size, reading = reader.size(path, data)
        size += 0 if evaluated is None else reader.size(path, evaluated)[0]
        kept = choose(data.get("keep"), size, 1 + (data.get("folds") or 0), reading)
        if kept.how != "memory":
            source_read = reader.read(path, **settings, keep=kept.how)
        elif not path.is_dir():  # one file is read faster than a folder is looked through
            source_read = reader.read(path, **settings)
        else:
            # What a folder holds is read by the same settings as class folders or as a table.
            table = {"table": True} if reader.task == MULTILABEL else {}
            source_read = cached(path, settings | table, lambda: reader.read(path, **settings))
    except OSError as error:
        raise DataError(f"data.source: {path} cannot be read: {error}") from None
    return replace(source_read, kept=kept)


def for_training(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `data` section without what is said of evaluation alone."""
    return {key: value for key, value in data.items() if not key.startswith("eval_")}


def for_evaluation(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the section that reads what validation and tests see; None where all parts are alike.

    What it calls `crop` readers take by that name.
    """
    size, crop = data.get("eval_size"), data.get("eval_crop")
    if size in (None, data["image_size"]) and crop is None:
        return None
    own = {"image_size": size or data["image_size"]} | ({} if crop is None else {"crop": crop})
    return for_training(data) | own


def native_shapes(path: Path) -> list[tuple[int, int]]:
    """Return (H, W) of a source's images, of some of many; none where that cannot be told."""
    takers = [reader for reader in READERS.values() if reader.takes and reader.takes(path)]
    return takers[0].shapes(path) if takers else []


def several_labels(path: Path) -> bool:
    """Return whether a source says of each image any number of classes: labels (N, K), a table."""
    if path.is_dir():
        table = label_table(path)
        return table is not None and table.name.lower() == TABLE
    return is_npz(path) and npz_of_several(path)


def _settings(reader: Reader, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of `data` a reader has parameters for."""
    return {key: data[key] for key in signature(reader.read).parameters if key in data}


def _missing(path: Path, built_in: list[str]) -> str:
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, [*siblings, *built_in], show=str)
    return (
        f"data.source: {path} does not exist{hint} (a path is relative to the space file, from "
        f"--set to the current folder{_or(built_in)})"
    )


def _or(built_in: list[str]) -> str:
    return f"; built in: {', '.join(built_in)}" if built_in else ""
