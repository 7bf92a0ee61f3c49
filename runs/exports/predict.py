"""What a trained network says of a user's images, as files: `attnsearch predict`.

Segmentation gives one index PNG for each image, at its size: the value of a pixel is the class, in
the order of the export's class names, and a palette makes it visible. Of whole images there is one
table.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attnsearch.runs.exports.export import load_export
from attnsearch.runs.exports.inputs import ImageFile, find_images, read_inputs
from attnsearch.runs.exports.weights import ExportError
from attnsearch.runs.metrics import THRESHOLD
from attnsearch.runs.readers import SUFFIXES, listing
from attnsearch.runs.training import (
    classes_of,
    enlarged_logits,
    mask_image,
    mask_palette,
    overlay,
    predict,
    shares_of,
)
from attnsearch.runs.whole import whole
from attnsearch.runs.words import no_formula
from attnsearch.spaces.keys import MULTILABEL

TABLE, CLASSES = "predictions.csv", "classes.csv"
OVERLAYS, PROBABILITIES = "overlays", "probabilities"


@dataclass
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
    images: int = 0
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
        images: Files, also `.npz`, and folders.
        to: The folder; created. Nothing in it is overwritten.
        probabilities: Segmentation: also `probabilities/NAME.npz`, float16 (K, h, w).
        overlays: Segmentation: also `overlays/NAME.png`, the mask over its image.

    Raises:
        ExportError: If the export cannot be loaded, an image does not exist, two images would
            give the same file, a file exists, or the folder cannot be written.
    """
    network: Any = load_export(export)
    segments = network.config["task"] == "segmentation"
    if not segments and (probabilities or overlays):
        raise ExportError(
            f"{export} tells the class of an image: {TABLE} has its probabilities anyway, and "
            f"there is no mask to lay over; leave out --probabilities and --overlays"
        )
    done = Predicted(Path(to))
    files = find_images(images, done.notes)
    try:
        if segments:
            _write_masks(network, files, done, probabilities=probabilities, overlays=overlays)
        else:
            _write_table(network, files, done)
    except OSError as error:
        raise ExportError(f"{done.folder}: cannot be written ({error})") from error
    return done


def segment_files(
    network: Any, files: Sequence[ImageFile]
) -> Iterator[tuple[ImageFile, NDArray[np.uint8], NDArray[np.float32]] | str]:
    """Yield the mask of each image file at its own size; tiles are put together.

    Args:
        network: From `load_export`, of a segmentation.
        files: From `find_images`.

    Yields:
        The file, its mask (h, w) and the probabilities (K, h, w); or, for an image that cannot be
        read, its name and the reason.
    """
    faults: list[str] = []
    normalisation = network.preprocess.normalisation
    for inputs in read_inputs(network, files, faults):
        for number, logits in enlarged_logits(network, inputs.masks, inputs.images, normalisation):
            yield inputs.files[number], classes_of(logits), logits.softmax(0).cpu().numpy()
    yield from faults


def output_names(files: Sequence[ImageFile]) -> dict[Path, str]:
    """Return what the mask of each image is called, without the ending, by the image's path.

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
    return dict(zip((file.path for file in files), names, strict=True))


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


def ready(place: Path) -> Path:
    """Return the place of a file, with its folder created."""
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _write_masks(
    network: Any,
    files: Sequence[ImageFile],
    done: Predicted,
    *,
    probabilities: bool,
    overlays: bool,
) -> None:
    """Write the mask of each image at its own size, and what else is asked for."""
    folder, names = done.folder, output_names(files)
    kinds = {"": "png"}
    kinds |= {f"{OVERLAYS}/": "png"} if overlays else {}
    kinds |= {f"{PROBABILITIES}/": "npz"} if probabilities else {}
    targets = [f"{kind}{name}.{end}" for kind, end in kinds.items() for name in names.values()]
    check_free(folder, [CLASSES, *targets])
    if len(set(targets)) < len(targets):
        raise ExportError(f"images in a folder {OVERLAYS} or {PROBABILITIES} need another name")
    for item in segment_files(network, files):
        if isinstance(item, str):
            done.faults.append(item)
            continue
        file, mask, shares = item
        name = names[file.path]
        with whole(ready(folder / f"{name}.png")) as new:
            mask_image(mask).save(new, "PNG")
        if overlays:
            picture = overlay(file.read(None)[0], mask, network.class_names)
            with whole(ready(folder / OVERLAYS / f"{name}.png")) as new:
                picture.save(new, "PNG")
        if probabilities:
            place = ready(folder / PROBABILITIES / f"{name}.npz")
            with whole(place) as new, new.open("wb") as stream:
                np.savez_compressed(stream, probabilities=shares.astype(np.float16))
        done.images += 1
    if done.images:
        done.files += [*(f"{kind}NAME.{end}" for kind, end in kinds.items()), CLASSES]
        colours = np.reshape(mask_palette(len(network.class_names)), (-1, 3)).tolist()
        rows = [[k, name, *colours[k]] for k, name in enumerate(network.class_names)]
        _write_rows(folder / CLASSES, [["value", "class", "red", "green", "blue"], *rows])


def _write_table(network: Any, files: Sequence[ImageFile], done: Predicted) -> None:
    """Write the class of each image, or all that it shows, and the probabilities of each."""
    check_free(done.folder, [TABLE])
    task, names = network.config["task"], network.class_names
    several = task == MULTILABEL
    rows = [["name", "labels" if several else "label", *names]]
    if several:
        done.notes.append(f"labels are the classes with a probability of at least {THRESHOLD:g}")
    for inputs in read_inputs(network, files, done.faults):
        logits = predict(network, inputs.images, network.preprocess.normalisation)
        for file, share in zip(inputs.files, shares_of(logits, task), strict=True):
            label = ";".join(said_of(share, names)) if several else names[int(share.argmax())]
            rows.append([file.name, label, *(f"{value:.6f}" for value in share)])
    done.images = len(rows) - 1
    if done.images:
        done.files.append(TABLE)
        _write_rows(ready(done.folder / TABLE), rows)


def said_of(share: Tensor, names: Sequence[str]) -> list[str]:
    """Return the classes that an image is said to show, by the probabilities (K,) of each."""
    return [name for name, value in zip(names, share.tolist(), strict=True) if value >= THRESHOLD]


def _write_rows(path: Path, rows: Sequence[Sequence[object]]) -> None:
    # A file's name that is no UTF-8 is written as the bytes that it has.
    with (
        whole(path) as new,
        new.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        csv.writer(stream).writerows([map(no_formula, row) for row in rows])
