"""What a trained network says of a user's images, as files: `attnsearch predict`.

Segmentation gives one index PNG for each image, at its size: the value of a pixel is the class, in
the order of the export's class names, and a palette makes it visible. Classification gives one
table.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attnsearch.runs.exports.export import load_export
from attnsearch.runs.exports.inputs import ImageFile, find_images, read_inputs, read_picture
from attnsearch.runs.exports.weights import ExportError
from attnsearch.runs.readers import SUFFIXES, listing
from attnsearch.runs.training import (
    Normalisation,
    classes_of,
    enlarged_logits,
    mask_image,
    mask_palette,
    overlay,
    predict,
)

TABLE, CLASSES = "predictions.csv", "classes.csv"
OVERLAYS, PROBABILITIES = "overlays", "probabilities"


@dataclass(frozen=True)
class Predicted:
    """What was written.

    Attributes:
        folder: Where.
        images: Of how many images.
        faults: For each image that could not be read its name and the reason.
        files: What there is now, in words.
        notes: What a reader should know of how, one sentence each.
    """

    folder: Path
    images: int
    faults: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def predict_images(
    export: str | Path,
    images: Sequence[str | Path],
    to: str | Path,
    *,
    probabilities: bool = False,
    overlays: bool = False,
) -> Predicted:
    """Write what an export says of images.

    An image that cannot be read is left out, and the others go on.

    Args:
        export: What `attnsearch export` wrote.
        images: Files and folders.
        to: The folder; created. Nothing in it is overwritten.
        probabilities: Segmentation: also `probabilities/NAME.npz`, float16 (K, h, w).
        overlays: Segmentation: also `overlays/NAME.png`, the mask over its image.

    Raises:
        ExportError: If the export cannot be loaded, an image does not exist, two images would
            give the same file, a file exists, or the folder cannot be written.
    """
    network: Any = load_export(export)
    notes: list[str] = []
    files = find_images(images, notes)
    folder = Path(to)
    try:
        if network.config["task"] == "segmentation":
            done = _write_masks(
                network, files, folder, probabilities=probabilities, overlays=overlays
            )
            return replace(done, notes=notes)
        if probabilities or overlays:
            raise ExportError(
                f"{export} tells the class of an image: {TABLE} has its probabilities anyway, and "
                f"there is no mask to lay over; leave out --probabilities and --overlays"
            )
        return replace(_write_table(network, files, folder), notes=notes)
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written ({error})") from error


def segment_files(
    network: nn.Module, files: Sequence[ImageFile]
) -> Iterator[tuple[ImageFile, NDArray[np.uint8], NDArray[np.float32]] | str]:
    """Yield the mask of each image file at its own size; tiles are put together.

    Args:
        network: From `load_export`, of a segmentation.
        files: From `find_images`.

    Yields:
        The file, its mask (h, w) and the probabilities (K, h, w); or, for an image that cannot be
        read, its name and the reason.
    """
    normalisation = normalisation_of(network)
    for inputs, faults in read_inputs(network, files):
        yield from faults
        if not inputs.files:
            continue
        found = enlarged_logits(network, inputs.masks, inputs.images, normalisation)
        for number, logits in found:
            yield inputs.files[number], classes_of(logits), logits.softmax(0).cpu().numpy()


def normalisation_of(network: nn.Module) -> Normalisation:
    """Return how the images of an export are normalised."""
    preprocess: Any = network.preprocess
    normalisation: Normalisation = preprocess.normalisation
    return normalisation


def output_names(files: Sequence[ImageFile]) -> list[str]:
    """Return what the mask of each image is called, without the ending.

    The image's name without its ending; with it where two images differ in nothing else.

    Raises:
        ExportError: If two images have the same name.
    """
    stems = [_stem(PurePosixPath(file.name)) for file in files]
    counts = Counter(stems)
    names = [
        file.name if counts[stem] > 1 else stem for file, stem in zip(files, stems, strict=True)
    ]
    if same := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ExportError(
            f"two images are called {listing(same, 3)}; give the folder that holds them all, or "
            f"a folder of their own to each with --to"
        )
    return names


def _stem(name: PurePosixPath) -> str:
    """Return a name without the ending of an image; the dots of an identifier are no ending."""
    return str(name.with_suffix("") if name.suffix.lower() in SUFFIXES else name)


def check_free(folder: Path, targets: Sequence[str]) -> None:
    """Refuse to write over a file.

    Raises:
        ExportError: If one of the files exists, or the folder is none.
    """
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder}: is a file; give a folder")
    there = [name for name in targets if (folder / name).exists()]
    if there:
        raise ExportError(
            f"{folder}: {listing(there, 3)} would be overwritten; give another folder, or remove "
            f"what is there"
        )


def _write_masks(
    network: nn.Module,
    files: Sequence[ImageFile],
    folder: Path,
    *,
    probabilities: bool,
    overlays: bool,
) -> Predicted:
    class_names: list[str] = list(network.class_names)  # type: ignore[arg-type]
    names = dict(zip((file.path for file in files), output_names(files), strict=True))
    kinds = {"": "png"}
    kinds |= {f"{OVERLAYS}/": "png"} if overlays else {}
    kinds |= {f"{PROBABILITIES}/": "npz"} if probabilities else {}
    targets = [f"{kind}{name}.{end}" for kind, end in kinds.items() for name in names.values()]
    check_free(folder, [CLASSES, *targets])
    if len(set(targets)) < len(targets):
        raise ExportError(f"images in a folder {OVERLAYS} or {PROBABILITIES} need another name")
    done = 0
    faults = []
    for item in segment_files(network, files):
        if isinstance(item, str):
            faults.append(item)
            continue
        file, mask, shares = item
        name = names[file.path]
        _save(folder, f"{name}.png", mask_image(mask))
        if overlays:
            picture = overlay(read_picture(file.path), mask, class_names)
            _save(folder, f"{OVERLAYS}/{name}.png", picture)
        if probabilities:
            place = folder / PROBABILITIES / f"{name}.npz"
            place.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(place, probabilities=shares.astype(np.float16))
        done += 1
    if done:
        _write_classes(folder / CLASSES, class_names)
    written = ["NAME.png"]
    written += [f"{OVERLAYS}/NAME.png"] if overlays else []
    written += [f"{PROBABILITIES}/NAME.npz"] if probabilities else []
    return Predicted(folder, done, faults, [*written, CLASSES] if done else [])


def _write_table(network: nn.Module, files: Sequence[ImageFile], folder: Path) -> Predicted:
    check_free(folder, [TABLE])
    class_names: list[str] = list(network.class_names)  # type: ignore[arg-type]
    normalisation = normalisation_of(network)
    rows: list[list[str]] = []
    faults: list[str] = []
    for inputs, unread in read_inputs(network, files):
        faults += unread
        if not inputs.files:
            continue
        shares = predict(network, inputs.images, normalisation).softmax(1)
        for file, share, best in zip(inputs.files, shares, shares.argmax(1).tolist(), strict=True):
            rows.append([file.name, class_names[best], *(f"{value:.6f}" for value in share)])
    if rows:
        folder.mkdir(parents=True, exist_ok=True)
        _write_rows(folder / TABLE, [["name", "label", *class_names], *rows])
    return Predicted(folder, len(rows), faults, [TABLE] if rows else [])


def _write_classes(path: Path, class_names: Sequence[str]) -> None:
    """Which class each value of a mask is, and its colour in the palette."""
    colours = torch.tensor(mask_palette(len(class_names))).view(-1, 3).tolist()
    rows = [[str(k), name, *map(str, colours[k])] for k, name in enumerate(class_names)]
    _write_rows(path, [["value", "class", "red", "green", "blue"], *rows])


def _write_rows(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def _save(folder: Path, name: str, picture: Any) -> None:
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    picture.save(place, "PNG")
