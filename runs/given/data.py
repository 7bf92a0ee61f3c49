"""What `run_study(data=...)` takes, as one array for each part and kind."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.given.masks import masks_source
from attnsearch.runs.readers import ALL, PARTS, DataError, Given, Source, arrays_source, listing
from attnsearch.spaces.keys import MULTILABEL, SEGMENTATION

KINDS = ("images", "labels", "masks", "names")
WHERE = Path("data")  # what messages call it
FORMS = (
    "give (images, labels), a torch Dataset of such pairs, a mapping of train, val and test to "
    "either, or the arrays by name: images and labels, or train_images, train_labels, ..."
)


class GivenData(Given):
    """Data that a program gives, read into memory once.

    Args:
        data: In one of the forms of `docs/python.md`.

    Raises:
        DataError: It is none of these; the message says what it is and what there may be.
    """

    def __init__(self, data: Any) -> None:
        self.arrays = _arrays(data)

    @property
    def shape(self) -> tuple[int, int] | None:
        """(H, W) of its images; None where they differ."""
        shapes = {
            image.shape[:2]
            for key, images in self.arrays.items()
            if key.endswith("_images") and (images.dtype == object or images.ndim > 2)
            for image in (images if images.dtype == object else images[:1])
        }
        (shape,) = shapes if len(shapes) == 1 else (None,)
        return None if shape is None else (int(shape[0]), int(shape[1]))

    def read(self, data: Mapping[str, Any], task: str) -> Source:
        """Return all examples, see `read_source`."""
        kinds = {key.rpartition("_")[2] for key in self.arrays}
        needed, other = ("masks", "labels") if task == SEGMENTATION else ("labels", "masks")
        if needed not in kinds and other in kinds:
            # A pair says what its second is by the task alone.
            arrays = {key.replace(f"_{other}", f"_{needed}"): v for key, v in self.arrays.items()}
        else:
            arrays = dict(self.arrays)
        if task == SEGMENTATION:
            return masks_source(WHERE, arrays, data)
        crop = data.get("crop")
        uneven = [key for key, value in arrays.items() if value.dtype == object]
        if uneven:
            raise DataError(
                f"{WHERE}: {listing(uneven)}: images of different sizes; for classification give "
                f"one array (N, H, W) or (N, H, W, C)"
            )
        return arrays_source(
            WHERE,
            arrays,
            data["image_size"],
            data.get("channels"),
            crop,
            multilabel=task == MULTILABEL,
        )


def _arrays(data: Any) -> dict[str, NDArray[Any]]:
    """Return what was given by part and kind: `train_images`, or `all_images` without parts."""
    if not isinstance(data, Mapping):
        return _part(ALL, data)
    if {*data} <= {*PARTS, "class_names"}:
        parts = [_part(part, data[part]) for part in PARTS if part in data]
        arrays = {key: value for part in parts for key, value in part.items()}
    else:
        known = {f"{part}_{kind}": f"{part}_{kind}" for part in PARTS for kind in KINDS}
        known |= {kind: f"{ALL}_{kind}" for kind in KINDS} | {"class_names": "class_names"}
        if unknown := [str(key) for key in data if key not in known]:
            raise DataError(f"data: unknown keys {listing(unknown)}; {FORMS}")
        arrays = {known[key]: _stacked(key, data[key]) for key in data if key != "class_names"}
    if not any(key.endswith("_images") for key in arrays):
        raise DataError(f"data: no images; {FORMS}")
    if any(key.startswith(f"{ALL}_") for key in arrays) and "train_images" in arrays:
        raise DataError("data: both images and train_images; give parts, or all together")
    if f"{ALL}_images" not in arrays and "train_images" not in arrays:
        raise DataError("data: no training part; give train beside val and test, or all together")
    if data.get("class_names") is not None:
        arrays["class_names"] = np.array([str(name) for name in data["class_names"]])
    return arrays


def _part(part: str, given: Any) -> dict[str, NDArray[Any]]:
    if isinstance(given, Mapping):
        return {f"{part}_{kind}": _stacked(kind, given[kind]) for kind in KINDS if kind in given}
    if isinstance(given, tuple | list) and len(given) in (2, 3):
        kinds = ("images", "labels", "names")
        return {f"{part}_{kind}": _stacked(kind, a) for kind, a in zip(kinds, given, strict=False)}
    if hasattr(given, "__getitem__") and hasattr(given, "__len__") and not _is_array(given):
        return _dataset(part, given)
    raise DataError(f"data: found {type(given).__name__}; {FORMS}")


def _dataset(part: str, dataset: Any) -> dict[str, NDArray[Any]]:
    """Read a map-style Dataset: every item, once."""
    images, labels = [], []
    for number in range(len(dataset)):
        item = dataset[number]
        if not (isinstance(item, tuple | list) and len(item) >= 2):
            raise DataError(
                f"data: item {number} of {type(dataset).__name__} is {type(item).__name__}; a "
                f"Dataset gives pairs: image and label, or image and mask"
            )
        images.append(_image(item[0]))
        labels.append(np.asarray(item[1]))
    if not images:
        raise DataError(f"data: {type(dataset).__name__} is empty")
    return {
        f"{part}_images": _stacked("images", images),
        f"{part}_labels": _stacked("labels", labels),
    }


def _image(value: Any) -> NDArray[Any]:
    """Return an image with its channels last; torch's tensors have them first."""
    array = np.asarray(value)
    is_tensor = hasattr(value, "detach")
    return np.moveaxis(array, 0, -1) if is_tensor and array.ndim == 3 else array


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _stacked(kind: str, values: Any) -> NDArray[Any]:
    """Return values as one array; images and masks of different sizes as one of objects."""
    images = kind.endswith("images")
    if hasattr(values, "detach"):
        array = np.asarray(values.detach().cpu())
        return np.moveaxis(array, 1, -1) if images and array.ndim == 4 else array
    if _is_array(values):
        return np.asarray(values)
    rows: Sequence[Any] = [_image(value) if images else np.asarray(value) for value in values]
    if len({row.shape for row in rows}) <= 1:
        return np.asarray(rows)
    uneven = np.empty(len(rows), dtype=object)
    uneven[:] = rows
    return uneven
