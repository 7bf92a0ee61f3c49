"""What an export scores on data with labels or masks: `attnsearch evaluate`.

Data is read as that of a study. Where it is the data that the network comes from, by its
fingerprint, it is split as there, so that no training image counts unless it is asked for.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnsearch.runs.data import DataSet, Split, read_groups, split_source
from attnsearch.runs.exports.export import METRICS, load_export
from attnsearch.runs.exports.weights import ExportError
from attnsearch.runs.keeping import take_rows
from attnsearch.runs.metrics import THRESHOLD, secondary_labels, secondary_metrics
from attnsearch.runs.readers import (
    NO_PART,
    PARTS,
    DataError,
    Source,
    classes_there,
    for_evaluation,
    for_training,
    listing,
    read_source,
)
from attnsearch.runs.statistics import class_intervals, mean_interval, share_interval
from attnsearch.runs.training import (
    evaluate_classes,
    evaluate_labels,
    evaluate_masks,
    own_metric,
)
from attnsearch.spaces.keys import MULTILABEL, SEGMENTATION, is_share, own_metrics

LEVEL = 0.95
ALL = "all"


@dataclass(frozen=True)
class Score:
    """One figure.

    Attributes:
        value: NaN where it is undefined.
        interval: Its ends at `LEVEL`, over patients or else images; None where there is none.
        images: Of how many images.
    """

    value: float
    interval: tuple[float, float] | None
    images: int


@dataclass
class Evaluated:
    """What an export scores.

    Attributes:
        data: What a person calls the data.
        part: The part that counts: `train`, `val`, `test` or `all`.
        images: How many images count.
        groups: Of how many patients, by `data.groups`; None where an image is one.
        metrics: By name.
        classes: Of a classification each class's recall, by its name; of masks of several classes
            each one's Dice; of any number of classes an image each one's average precision.
        notes: What a reader should know, one sentence each.
    """

    data: str
    part: str
    images: int
    groups: int | None
    metrics: dict[str, Score]
    classes: dict[str, Score]
    notes: list[str] = field(default_factory=list)


def evaluate_export(
    export: str | Path, data: str | Path, *, part: str | None = None, groups: str | None = None
) -> Evaluated:
    """Score an export on data with labels or masks.

    Args:
        export: What `attnsearch export` wrote.
        data: As `data.source` of a space file: a built-in set, a `.npz` or a folder. Not all
            classes need be there, nor a training part.
        part: `train`, `val`, `test` or `all`; None takes the test part where there is one, else
            the validation part, else all images.
        groups: Which images are one patient's: a regular expression or a `.csv`, as
            `data.groups`; None takes the export's own, where it fits.

    Raises:
        ExportError: If the export cannot be loaded, or the data has no such part.
        DataError: If the data cannot be read, or has other classes.
    """
    network: Any = load_export(export)
    names = list(network.class_names)
    source, notes = _read(network, data)
    parts, own = _parts(source, network, data, Path(export))
    chosen = part or next((p for p in ("test", "val") if (parts == PARTS.index(p)).any()), ALL)
    rows = np.arange(len(parts)) if chosen == ALL else np.flatnonzero(parts == PARTS.index(chosen))
    if not len(rows):
        counted = [p for number, p in enumerate(PARTS) if (parts == number).any()]
        raise ExportError(
            f"{data}: has no images of a {chosen} part; there is {listing([*counted, ALL])}"
        )
    if own and chosen != "test":
        trained = chosen in ("train", ALL)
        why = "was trained on" if trained else "was chosen by, so they look better than they are"
        notes.append(f"the scores are of images that this network {why}")
    elif own:
        notes.append("this is the data of its study; the test part is split off as there")
    owners = _owners(network, source, groups, notes)
    taken = None if owners is None else [owners[row] for row in rows]
    masks, shown = None, rows
    if source.masks is not None:
        masks = source.masks.take(rows, keep_original=True)
        shown = np.flatnonzero(np.isin(source.masks.image, rows))
    images = take_rows(source.images, shown)
    split = Split(images, source.labels[rows], [source.names[row] for row in rows], taken, masks)
    setting = split, torch.from_numpy(np.array(images)), network.preprocess.normalisation
    theirs = own_metrics(network.config)
    if masks is not None:
        scores = _of_masks(*evaluate_masks(network, *setting, names, own=theirs), names)
    elif network.config["task"] == MULTILABEL:
        kept = evaluate_labels(network, *setting, names)[1]
        scores = _of_labels(kept, names, notes)
    else:
        kept = evaluate_classes(network, *setting)[1]
        scores = _of_classes(kept, names)
    for called, name in theirs.items() if masks is None else ():
        value = own_metric(name, kept["probabilities"], kept["labels"])
        scores[0][called] = Score(value, None, len(rows))
    patients = None if taken is None else len(set(taken))
    return Evaluated(source.name, chosen, len(rows), patients, *scores, notes)


def _read(network: Any, data: str | Path, *, trained: bool = False) -> tuple[Source, list[str]]:
    """Return all examples, their labels those of the network, and notes.

    Args:
        network: From `load_export`.
        data: As for `evaluate_export`.
        trained: As it is trained on them, not as validation sees them.
    """
    names, config = list(network.class_names), dict(network.config["data"])
    segments = network.config["task"] == SEGMENTATION
    config |= {"source": str(data), "channels": network.interface.channels, "keep": None}
    if not trained:
        shown = {"image_size": list(network.interface.image_size), "crop": network.interface.crop}
        config |= {key: value for key, value in shown.items() if value is not None}
    config = for_training(config)
    if segments:
        # Two classes may have any two values; which, the masks tell.
        config |= {"classes": config.get("classes") if len(names) == 2 else names}
        source = read_source(config, SEGMENTATION)
        if len(source.class_names or ()) != len(names):
            raise DataError(
                f"{data}: has masks of the classes {listing(source.class_names or ())}, the "
                f"network tells {listing(names)} apart"
            )
        return source, list(source.notes)
    task, path = network.config["task"], Path(data)
    classes = None
    if path.is_dir():
        classes = names if task == MULTILABEL else classes_there(path, names)
    source = read_source(config | {"classes": classes, "evaluated": True}, task)
    notes = list(source.notes)
    source.labels, said = _labels(source, names, str(data))
    return source, notes + said


def _labels(
    source: Source, names: Sequence[str], data: str
) -> tuple[NDArray[np.int64], list[str]]:
    """Return the labels in the network's order, by the names of classes where there are any."""
    labels, given = source.labels, source.class_names
    if labels.ndim == 2:
        return _columns(labels, given or [*names], names, data)
    numbers = [str(label) for label in range(1, len(given or ()) + 1)]
    counted = given == numbers and given != names  # counted from 1, or so it seemed
    if given is None or (counted and not {*given} <= {*names}):
        if counted and len(numbers) != len(names):
            labels = labels + 1  # with fewer classes than the network's they may count from 0
        given = [*names] if given is None or counted else given
    if unknown := [name for name in given if name not in names]:
        raise DataError(
            f"{data}: the classes {listing(unknown)} are none of the network's, "
            f"{listing(names, 10)}"
        )
    if labels.min() < 0 or labels.max() >= len(given):
        wrong = int(labels.min() if labels.min() < 0 else labels.max())
        raise DataError(f"{data}: label {wrong} is none of the network's {len(names)} classes")
    order = np.array([names.index(name) for name in given])
    missing = [name for k, name in enumerate(names) if k not in order[labels]]
    return order[labels], [f"no images of class {listing(missing)}"] if missing else []


def _columns(
    labels: NDArray[np.int64], given: Sequence[str], names: Sequence[str], data: str
) -> tuple[NDArray[np.int64], list[str]]:
    """Return labels (N, K) of 0 and 1 with the network's classes as their columns."""
    if {*given} != {*names} or labels.shape[1] != len(names):
        raise DataError(
            f"{data}: has labels of {labels.shape[1]} classes, {listing(given, 10)}; needed is 0 "
            f"or 1 for each of the network's {len(names)}, {listing(names, 10)}"
        )
    labels = labels[:, [given.index(name) for name in names]]
    missing = [name for name, count in zip(names, labels.sum(0), strict=True) if not count]
    return labels, [f"no images of class {listing(missing)}"] if missing else []


def _parts(
    source: Source, network: Any, data: str | Path, export: Path
) -> tuple[NDArray[np.int64], bool]:
    """Return the part of each example, and whether this is the data of the network's study."""
    try:
        recorded = json.loads((export / METRICS).read_text(encoding="utf-8"))
        fingerprint = recorded.get("data_fingerprint")
    except (OSError, ValueError, AttributeError):
        fingerprint = None
    own, task = network.config["data"], network.config["task"]
    own = own | {"classes": list(network.class_names)} if source.masks is None else own
    trained, shown = source, None
    if fingerprint and for_evaluation(own):
        trained, shown = _read(network, data, trained=True)[0], source

    def split_by(fold: int | None) -> DataSet:
        return split_source(trained, own | {"fold": fold}, task, shown)

    for fold in dict.fromkeys([own.get("fold"), None]) if fingerprint else ():
        try:
            if split_by(fold).fingerprint == fingerprint:
                split = split_by(own.get("fold"))
                break
        except DataError:
            continue  # it cannot be what was trained on
    else:
        return source.parts, False
    part_of = {n: k for k, part in enumerate(PARTS) for n in getattr(split, part).names}
    return np.array([part_of.get(name, NO_PART) for name in source.names]), True


def _owners(
    network: Any, source: Source, groups: str | None, notes: list[str]
) -> list[str] | None:
    """Return the patient of each example, None where an image is one."""
    if groups is not None:
        kind = "csv" if groups.lower().endswith(".csv") else "pattern"
        owners, said = read_groups({kind: groups}, source.names)
        notes += said
        return owners
    own: Mapping[str, str] | None = network.config["data"].get("groups")
    if not own:
        return None
    try:
        return read_groups(own, source.names)[0]
    except DataError as error:
        notes.append(
            f"each image counts as a patient of its own, since the export's groups do not fit "
            f"({error}); say which images are one patient's with --groups"
        )
        return None


def _of_classes(
    kept: Mapping[str, Any], names: Sequence[str]
) -> tuple[dict[str, Score], dict[str, Score]]:
    shares, labels, groups = kept["probabilities"], kept["labels"], kept.get("groups")
    values = secondary_metrics(shares, labels)
    intervals = class_intervals(list(values), shares, labels, groups, LEVEL)
    metrics = {
        name: Score(value, _within(name, intervals[name]), len(labels))
        for name, value in values.items()
    }
    right, classes = shares.argmax(1) == labels, {}
    for k, name in enumerate(names):
        own = labels == k
        if own.any():
            owners = None if groups is None else np.array(groups, dtype=object)[own].tolist()
            interval = share_interval(right[own], owners, LEVEL)
            classes[name] = Score(float(right[own].mean()), interval, int(own.sum()))
    return metrics, classes


def _of_labels(
    kept: Mapping[str, Any], names: Sequence[str], notes: list[str]
) -> tuple[dict[str, Score], dict[str, Score]]:
    """Return the metrics of any number of classes an image, and each class's AP."""
    shares, labels, groups = kept["probabilities"], kept["labels"], kept.get("groups")
    notes.append(
        f"a class counts as said from a probability of {THRESHOLD:g} on, in F1 and both accuracies"
    )

    def scored(values: Mapping[str, float], columns: slice) -> dict[str, Score]:
        own = shares[:, columns], labels[:, columns]
        intervals = class_intervals(list(values), *own, groups, LEVEL)
        return {
            name: Score(value, _within(name, intervals[name]), len(labels))
            for name, value in values.items()
        }

    classes = {}
    for k, name in enumerate(names):
        column = slice(k, k + 1)
        value = secondary_labels(shares[:, column], labels[:, column])["map"]
        if np.isfinite(value):
            classes[name] = scored({"map": value}, column)["map"]
    return scored(secondary_labels(shares, labels), slice(None)), classes


def _of_masks(
    values: Mapping[str, float], kept: Mapping[str, Any], names: Sequence[str]
) -> tuple[dict[str, Score], dict[str, Score]]:
    groups, images = kept.get("groups"), len(kept["names"])

    def score(name: str, value: float, each: NDArray[np.float64] | None) -> Score:
        interval = None if each is None else mean_interval(each, groups, LEVEL)
        count = images if each is None else int(np.isfinite(each).sum())
        return Score(value, _within(name, interval), count)

    by_class: dict[str, Score] = {}
    for k, name in enumerate(names) if "dice_classes" in kept else ():
        each = kept["dice_classes"][:, k]
        if np.isfinite(each).any():
            by_class[name] = score("dice", float(np.nanmean(each)), each)
    own = {
        name: value
        for name, value in values.items()
        if name in kept or name.endswith("_pooled") or not name.startswith(("dice_", "iou_"))
    }
    return {name: score(name, value, kept.get(name)) for name, value in own.items()}, by_class


def _within(name: str, interval: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return an interval without what a share cannot be."""
    if interval is None or not is_share(name):
        return interval
    return max(0.0, interval[0]), min(1.0, interval[1])
