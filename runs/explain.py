"""Pictures of where a trained network looks, for any image: `attnsearch explain`."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from attnsearch.runs.evaluate import predict
from attnsearch.runs.export import load_export
from attnsearch.runs.inputs import ImageFile, Inputs, find_images, read_inputs, read_picture
from attnsearch.runs.mask_metrics import confusion, per_image
from attnsearch.runs.mask_pairs import IMAGE_FOLDERS, find_pairs
from attnsearch.runs.masks import decode_mask, find_coding
from attnsearch.runs.panels import whole_maps
from attnsearch.runs.pictures import Case, panel
from attnsearch.runs.predict import Predicted, check_free, normalisation_of, output_names
from attnsearch.runs.segment import classes_of, enlarged_logits
from attnsearch.runs.source import DataError
from attnsearch.runs.weights import ExportError

SIDE = 256  # pixels of one picture


def explain_images(export: str | Path, images: Sequence[str | Path], to: str | Path) -> Predicted:
    """Draw for each image what the network says of it and where its blocks look.

    One PNG an image: the image, its mask and the predicted one with the errors, and the map of
    each block that has one. The mask is found where the image lies in a folder `images/` beside
    `masks/`, as in a data set; else there is none. Of a classification the label is told.

    Args:
        export: What `attnsearch export` wrote.
        images: Files and folders.
        to: The folder; created. Nothing in it is overwritten.

    Raises:
        ExportError: If the export cannot be loaded, an image does not exist, two images would
            give the same file, a file exists, or the folder cannot be written.
    """
    network = load_export(export)
    files = find_images(images)
    folder = Path(to)
    names = dict(zip((file.path for file in files), output_names(files), strict=True))
    check_free(folder, [f"{name}.png" for name in names.values()])
    truths = Truths(network)
    faults = []
    done = 0
    try:
        for inputs, unread in read_inputs(network, files):
            faults += unread
            for case, file in _cases(network, inputs, truths):
                place = folder / f"{names[file.path]}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                class_names: list[str] = list(network.class_names)  # type: ignore[arg-type]
                panel([case], class_names, _title(network), SIDE).save(place, "PNG")
                done += 1
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written ({error})") from error
    return Predicted(folder, done, faults, ["NAME.png"] if done else [])


class Truths:
    """The masks of images that lie in a data set's folders.

    Args:
        network: From `load_export`; its config says how masks are read.
    """

    def __init__(self, network: Any) -> None:
        self._data: dict[str, Any] = network.config["data"]
        self._segments = network.config["task"] == "segmentation"
        self._class_names: list[str] = list(network.class_names)
        self._known: dict[Path, dict[Path, Path]] = {}

    def of(self, image: Path, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
        """The mask (h, w) of an image; None where there is none, or none that fits it."""
        image = image.resolve()
        roots = [parent.parent for parent in image.parents if parent.name.lower() in IMAGE_FOLDERS]
        if not self._segments or not roots:
            return None
        mask = self._pairs(roots[0]).get(image)
        if mask is None:
            return None
        try:
            file = decode_mask(mask)
            given = (self._data.get("ignore_index"), self._data.get("mask_values"))
            coding, _ = find_coding({mask.name: file}, self._class_names, *given)
            truth = coding.index(file, mask.name)
        except (DataError, OSError):
            return None
        return truth if truth.shape == shape else None

    def _pairs(self, root: Path) -> dict[Path, Path]:
        if root not in self._known:
            try:
                pairs, _ = find_pairs(root, self._data.get("mask_name"))
            except (DataError, OSError):
                pairs = []
            self._known[root] = {pair.image.resolve(): pair.mask for pair in pairs}
        return self._known[root]


def _cases(network: nn.Module, inputs: Inputs, truths: Truths) -> Iterator[tuple[Case, ImageFile]]:
    """What is shown of each image, one at a time: they may be large."""
    if not inputs.files:
        return
    config: Any = network.config
    class_names: list[str] = list(network.class_names)  # type: ignore[arg-type]
    normalisation = normalisation_of(network)
    outputs: Iterable[tuple[int, Tensor]]
    if config["task"] == "segmentation":
        outputs = enlarged_logits(network, inputs.masks, inputs.images, normalisation)
    else:
        outputs = enumerate(predict(network, inputs.images, normalisation))
    for number, logits in outputs:
        file = inputs.files[number]
        caption, predicted, truth = file.name, None, None
        if config["task"] == "segmentation":
            predicted = classes_of(logits)
            truth = truths.of(file.path, (predicted.shape[0], predicted.shape[1]))
        else:
            shares = logits.softmax(0)
            caption += f"   {class_names[int(shares.argmax())]} {float(shares.max()):.3f}"
        if truth is not None and predicted is not None:
            counts = confusion(predicted, truth, len(class_names))
            caption += f"   Dice {float(per_image(counts[None], class_names)['dice'][0]):.3f}"
        alone = inputs.masks.take(np.array([number]), keep_original=False)
        tiles = inputs.images[np.flatnonzero(inputs.masks.image == number)]
        maps = whole_maps(network, alone, tiles, normalisation)
        yield Case(caption, read_picture(file.path), truth, predicted, maps), file


def _title(network: nn.Module) -> str:
    config: Any = network.config
    return f"{config['name']}: {config['network']['backbone']}"
