"""Pictures of where a trained network looks, for any image: `attnsearch explain`."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attnsearch.runs.exports.export import load_export
from attnsearch.runs.exports.inputs import (
    ImageFile,
    Inputs,
    find_images,
    read_inputs,
)
from attnsearch.runs.exports.predict import Predicted, check_free, output_names, ready, said_of
from attnsearch.runs.exports.weights import ExportError
from attnsearch.runs.metrics import confusion, per_image
from attnsearch.runs.readers import (
    DataError,
    attempt_all,
    decode_mask,
    find_coding,
    is_image_side,
    listing,
    masks_among,
    masks_beside,
)
from attnsearch.runs.training import (
    Case,
    classes_of,
    enlarged_logits,
    panel,
    predict,
    shares_of,
    whole_maps,
)
from attnsearch.runs.whole import whole
from attnsearch.spaces.keys import MULTILABEL, SEGMENTATION

SIDE = 256  # pixels of one picture


def explain_images(export: str | Path, images: Sequence[str | Path], to: str | Path) -> Predicted:
    """Draw for each image what the network says of it and where its blocks look.

    One PNG an image: the image, its mask and the predicted one with the errors, and the map of
    each block that has one. The mask is found where the image lies in a folder `images/` beside
    `masks/`, as in a data set, or where it lies beside the image (`x_mask.png`); else there is
    none. Of whole images the label is told.
    Where masks are there but an image's is missing or of no use, a note says so.

    Args:
        export: What `attnsearch export` wrote.
        images: Files, also `.npz`, and folders.
        to: The folder; created. Nothing in it is overwritten.

    Raises:
        ExportError: If the export cannot be loaded, an image does not exist, two images would
            give the same file, a file exists, or the folder cannot be written.
    """
    network: Any = load_export(export)
    done = Predicted(Path(to))
    files = find_images(images, done.notes)
    names = output_names(files)
    check_free(done.folder, [f"{name}.png" for name in names.values()])
    truths = Truths(network)
    title = f"{network.config['name']}: {network.config['network']['backbone']}"
    try:
        for inputs in read_inputs(network, files, done.faults):
            for case, file in _cases(network, inputs, truths):
                picture = panel([case], network.class_names, title, SIDE)
                with whole(ready(done.folder / f"{names[file.path]}.png")) as new:
                    picture.save(new, "PNG")
                done.images += 1
    except OSError as error:
        raise ExportError(f"{done.folder}: cannot be written ({error})") from error
    done.files += ["NAME.png"] if done.images else []
    done.notes += truths.notes()
    return done


class Truths:
    """The masks of images that lie in a data set's folders.

    Args:
        network: From `load_export`; its config says how masks are read.
    """

    def __init__(self, network: Any) -> None:
        self._data: dict[str, Any] = network.config["data"]
        self._segments = network.config["task"] == SEGMENTATION
        self._class_names: list[str] = list(network.class_names)
        self._masks_of: dict[Path, dict[str, Path]] = {}
        self._unpaired: dict[str, None] = {}
        self._missing: list[str] = []
        self._unusable: list[str] = []

    def of(self, image: Path, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
        """Return the mask (h, w) of an image; None where there is none, or none that fits it."""
        mask = self._mask(image) if self._segments else None
        if mask is None:
            return None
        try:
            truth = self._read(mask)
        except DataError as error:
            self._unusable.append(f"{mask} ({error})")
            return None
        if truth.shape == shape:
            return truth
        (height, width), (rows, columns) = truth.shape, shape
        self._unusable.append(f"{mask} (is {width}x{height}, {image.name} is {columns}x{rows})")
        return None

    def notes(self) -> list[str]:
        """Return why images have no mask that lie beside some."""
        missing, unusable = self._missing, self._unusable
        return [
            *self._unpaired,
            *([f"no mask, {len(missing)}: {listing(missing)}"] if missing else []),
            *([f"masks not used, {len(unusable)}: {listing(unusable)}"] if unusable else []),
        ]

    def _mask(self, image: Path) -> Path | None:
        """Return mask beside an image: where its path says that it lies, else where links lead."""
        searched = False
        for place in dict.fromkeys([image.absolute(), Path(os.path.realpath(image))]):
            side = next((parent for parent in place.parents if is_image_side(parent.name)), None)
            masks = self._masks(side or place.parent, masks_beside if side else masks_among)
            searched = searched or bool(masks)
            mask = masks.get(place.relative_to(side or place.parent).with_suffix("").as_posix())
            if mask is not None:
                return mask
        if searched:
            self._missing.append(str(image))
        return None

    def _masks(
        self, side: Path, find: Callable[[Path, str | None], dict[str, Path]]
    ) -> dict[str, Path]:
        if side not in self._masks_of:
            self._masks_of[side] = {}
            try:
                self._masks_of[side] = find(side, self._data.get("mask_name"))
            except (DataError, OSError) as error:
                self._unpaired[f"no masks of {side}: {error}"] = None
        return self._masks_of[side]

    def _read(self, mask: Path) -> NDArray[np.uint8]:
        decoded, faults = attempt_all(
            lambda path: decode_mask(path, self._data.get("mask_colors")), {mask.name: mask}
        )
        if faults:
            raise DataError(faults[mask.name])
        # Two classes may have any two values; which, one mask says as well as all of them.
        classes = self._data.get("classes") if len(self._class_names) == 2 else self._class_names
        settings = map(self._data.get, ("ignore_index", "mask_values", "mask_colors"))
        coding, _ = find_coding(decoded, classes, *settings)
        if len(coding.values) != len(self._class_names):
            raise DataError(
                f"has the classes {listing([str(value) for value in coding.values])}, the network "
                f"has {listing(self._class_names)}"
            )
        return coding.index(decoded[mask.name], mask.name)


def _cases(network: Any, inputs: Inputs, truths: Truths) -> Iterator[tuple[Case, ImageFile]]:
    """Yield what is shown of each image, one at a time: they may be large."""
    class_names, normalisation = network.class_names, network.preprocess.normalisation
    task = network.config["task"]
    segments = task == SEGMENTATION
    outputs: Iterable[tuple[int, Tensor]]
    if segments:
        outputs = enlarged_logits(network, inputs.masks, inputs.images, normalisation)
    else:
        outputs = enumerate(predict(network, inputs.images, normalisation))
    for number, logits in outputs:
        file = inputs.files[number]
        caption, predicted, truth = file.name, None, None
        if segments:
            predicted = classes_of(logits)
            truth = truths.of(file.path, (predicted.shape[0], predicted.shape[1]))
        else:
            shares = shares_of(logits[None], task)[0]
            said = said_of(shares, class_names) if task == MULTILABEL else []
            said = said or [class_names[int(shares.argmax())]]  # else the likeliest
            chances = zip(class_names, shares.tolist(), strict=True)
            caption += "   " + ", ".join(f"{name} {p:.3f}" for name, p in chances if name in said)
        if truth is not None and predicted is not None:
            counts = confusion(predicted, truth, len(class_names))
            caption += f"   Dice {float(per_image(counts[None], class_names)['dice'][0]):.3f}"
        alone = inputs.masks.take(np.array([number]), keep_original=False)
        tiles = inputs.images[np.flatnonzero(inputs.masks.image == number)]
        maps = whole_maps(network, alone, tiles, normalisation)
        whole_picture = network.interface.crop is None
        picture = file.read(None)[0] if whole_picture else tiles[0].numpy()
        yield Case(caption, picture, truth, predicted, maps), file
