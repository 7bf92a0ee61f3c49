"""A user's image files on their way to a trained network, one by one or cut into tiles."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnsearch.runs.exports.weights import ExportError
from attnsearch.runs.readers import (
    SUFFIXES,
    Crop,
    Masks,
    attempt_all,
    decode,
    is_image_side,
    is_mask_side,
    is_npz,
    listing,
    read_pictures,
    resize,
    tile,
    to_channels,
    walk,
    without_masks,
)
from attnsearch.runs.training import EVALUATION_BATCH

TILED_AT_ONCE = 8  # images that are held at their own size


@dataclass(frozen=True)
class ImageFile:
    """An image file, and what the files made of it are called.

    Attributes:
        path: The file; of an image in an `.npz` file, that with the image's name after it.
        name: Relative to the folder that was given, or the file's name, with `/`.
        pixels: (h, w, C) of uint8, of an image in an `.npz` file.
    """

    path: Path
    name: str
    pixels: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    def read(
        self, size: tuple[int, int] | None, crop: Crop | None = None
    ) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        """Return pixels (H, W, C), at their own size if `size` is None, and that size.

        Raises:
            OSError, or whatever else Pillow raises on a file that it cannot decode.
        """
        if self.pixels is None:
            image = decode(self.path, size, crop)
            if image.deep:
                raise OSError(
                    "more than 8 bits a pixel; convert it to 8 bits by the rule that converted "
                    "the training data"
                )
            pixels, own = image.pixels, image.shape
        else:
            grey = self.pixels.shape[-1] == 1
            pixels, own = self.pixels[..., 0] if grey else self.pixels, self.pixels.shape[:2]
            pixels = pixels if size is None else resize(pixels, size, crop=crop)
        return pixels.reshape(*pixels.shape[:2], -1), own


@dataclass(frozen=True)
class Inputs:
    """Some images as a network takes them.

    Attributes:
        files: Of the images, M.
        images: (N, H, W, C) of uint8: the images or their tiles.
        masks: Which example is of which image, and where; it holds no masks.
    """

    files: list[ImageFile]
    images: Tensor
    masks: Masks


def find_images(paths: Sequence[str | Path], notes: list[str] | None = None) -> list[ImageFile]:
    """Return the images that are meant by files and folders, in the order given.

    Of an `.npz` file all images count, called by its name and their place in it. Of a folder
    all images count, those in its folders and linked folders too, in the order of their names;
    hidden files do not, nor do folders of masks beside one of images.

    Args:
        paths: At least one.
        notes: What was left out is added to it.

    Raises:
        ExportError: If a path does not exist, or a folder holds no image or cannot be listed.
        DataError: If an `.npz` file cannot be read.
    """
    files: dict[Path, ImageFile] = {}
    masks: list[str] = []
    for path in map(Path, paths):
        if path.is_dir():
            try:
                inside = sorted(_images_in(path, masks), key=lambda item: item.name)
            except OSError as error:
                raise ExportError(f"{path}: cannot be read ({error})") from error
            if not inside:
                raise ExportError(f"{path}: holds no image ({', '.join(sorted(SUFFIXES))})")
        elif is_npz(path):
            held = read_pictures(path, [] if notes is None else notes)
            inside = [
                ImageFile(path / name, f"{path.stem}/{name}", pixels) for name, pixels in held
            ]
        elif path.exists():
            inside = [ImageFile(path, path.name)]
        else:
            raise ExportError(f"{path}: there is no such image or folder")
        for item in inside:
            # Two links to one file are two images: a store of content keeps equal files once.
            files.setdefault(Path(os.path.realpath(item.path.parent), item.path.name), item)
    if masks and notes is not None:
        notes.append(f"left out, masks beside images: {listing(masks)}")
    return list(files.values())


def read_inputs(network: Any, files: Sequence[ImageFile], faults: list[str]) -> Iterator[Inputs]:
    """Yield image files as a network takes them, so many at a time as fit.

    They are decoded, resized, cropped or cut into tiles as the network's validation data was.

    Args:
        network: From `load_export`.
        files: The files.
        faults: For each image that cannot be read its name and the reason are added to it.

    Yields:
        At least one image each.
    """
    interface = network.interface
    overlap = network.config["data"].get("tile_overlap")
    size, crop = interface.image_size, interface.crop
    step = EVALUATION_BATCH if overlap is None else TILED_AT_ONCE
    for start in range(0, len(files), step):
        part = files[start : start + step]
        read, unread = attempt_all(
            lambda file: file.read(size if overlap is None else None, crop),
            {file: file for file in part},
        )
        faults += [f"{file.path} ({reason})" for file, reason in unread.items()]
        if not read:
            continue
        pixels = [to_channels(image, interface.channels) for image, _ in read.values()]
        # Of a crop nothing is told beyond it.
        shapes = [shape if crop is None else size for _, shape in read.values()]
        if overlap is None:
            images, masks = np.stack(pixels), _places(shapes)
        else:
            blank = [np.zeros(shape, dtype=np.uint8) for shape in shapes]
            images, masks = tile(pixels, blank, size, overlap)
        yield Inputs(list(read), torch.from_numpy(images), masks)


def _places(shapes: Sequence[tuple[int, int]]) -> Masks:
    """Return where whole images of these sizes (h, w) go."""
    sizes = np.array(shapes, dtype=np.int64)
    return Masks(
        resized=np.zeros((len(sizes), 1, 1), dtype=np.uint8),
        image=np.arange(len(sizes)),
        corners=None,
        sizes=sizes,
        flat=None,
        starts=np.zeros(len(sizes), dtype=np.int64),
    )


def _images_in(folder: Path, masks: list[str]) -> Iterator[ImageFile]:
    for place, folders, names in walk(folder):
        if any(is_image_side(name) for name in folders):
            beside = [name for name in folders if is_mask_side(name)]
            folders[:] = [name for name in folders if name not in beside]
            masks += [f"{place / name}" for name in beside]
        paths = [place / name for name in names if Path(name).suffix.lower() in SUFFIXES]
        images = without_masks(paths)
        if len(images) < len(paths):
            masks.append(f"{len(paths) - len(images)} files in {place}")
        for path in images:
            yield ImageFile(path, path.relative_to(folder).as_posix())
