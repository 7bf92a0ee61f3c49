"""Images as a user has them to the input of a trained network."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from attnsearch.runs.exports.weights import ExportError, Interface
from attnsearch.runs.readers import resize, shallow, to_channels
from attnsearch.runs.training import Normalisation

Picture = Image.Image | NDArray[np.uint8]


class Preprocess:
    """Images of any size to a network's input, as validation saw them.

    Args:
        interface: Of the network.
        channels_last: Memory layout of the input.
    """

    def __init__(self, interface: Interface, channels_last: bool) -> None:
        self.interface = interface
        self.normalisation = Normalisation(interface.mean, interface.std, channels_last)

    def __call__(
        self, images: Sequence[Image.Image | NDArray[np.uint8]] | NDArray[np.uint8]
    ) -> Tensor:
        """Return images to a tensor (N, C, H, W), on the CPU.

        Args:
            images: An array (N, H, W) or (N, H, W, C) of uint8, or a list of PIL images or of
                arrays (H, W) or (H, W, C), C = 1 or 3. Other sizes are resized and other numbers
                of channels converted as the data was.

        Raises:
            ExportError: If it is none of these.
        """
        if isinstance(images, Image.Image) or len(images) == 0:
            raise ExportError("preprocess takes a list of images or an array (N, H, W[, C])")
        if isinstance(images, np.ndarray) and _is_one_image(images):
            raise ExportError(
                f"an array {images.shape} looks like one image, (H, W) or (H, W, 1 or 3), and "
                f"would be taken for {len(images)}; give a list of it: [image]"
            )
        size, channels = self.interface.image_size, self.interface.channels
        ready = []
        for image in images:
            pixels = resize(_pixels(image), size, crop=self.interface.crop)
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            ready.append(to_channels(pixels[None], channels))
        return self.normalisation(torch.from_numpy(np.concatenate(ready)))


def _is_one_image(images: NDArray[np.uint8]) -> bool:
    """Return whether an array that should hold several images has the shape of one."""
    return images.ndim == 2 or (images.ndim == 3 and images.shape[2] in (1, 3))


def _pixels(image: Picture) -> NDArray[np.uint8]:
    """Return one image as (H, W) or (H, W, 3) of uint8; transparency is laid over black."""
    if isinstance(image, Image.Image):
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):
            raise ExportError(
                f"a PIL image of mode {image.mode} has more than 8 bits; convert it to 8 bits by "
                f"the rule that converted the training data"
            )
        return shallow(image)[0]
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or not (
        pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3))
    ):
        raise ExportError(
            f"an image is an array (H, W) or (H, W, 1 or 3) of uint8, not {pixels.shape} of "
            f"{pixels.dtype}"
        )
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
