"""An export as MLflow loads it: `mlflow.pyfunc.load_model`, and so `mlflow models serve`.

MLflow finds `_load_pyfunc` by this module's name, which stands in each logged model: it stays.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from attnsearch.runs.exports.export import load_export
from attnsearch.runs.exports.inputs import find_images
from attnsearch.runs.exports.predict import segment_files
from attnsearch.runs.exports.weights import ExportError
from attnsearch.runs.training import shares_of
from attnsearch.runs.whole import temporary_folder
from attnsearch.spaces.keys import SEGMENTATION

LOADER = __name__


class Predictor:
    """An exported network that takes arrays of images.

    Args:
        folder: The export.

    Attributes:
        network: As `load_export` returns it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.network: Any = load_export(folder)

    def predict(
        self, images: NDArray[np.uint8], params: dict[str, Any] | None = None
    ) -> NDArray[Any]:
        """Return what the network says of images, as `attnsearch predict` does.

        Args:
            images: (N, H, W, C) of uint8, of any size.
            params: MLflow's; there are none.

        Returns:
            Of whole images the probabilities (N, K) of float32; of a segmentation the class
            (N, H, W) of uint8 of each pixel, at the images' size.

        Raises:
            ExportError: These are no images, or one cannot be used.
        """
        if self.network.config["task"] == SEGMENTATION:
            return self._masks(np.asarray(images))
        with torch.inference_mode():
            logits = self.network(self.network.preprocess(images))
        task = self.network.config["task"]
        probabilities: NDArray[Any] = shares_of(logits.float(), task).numpy()
        return probabilities

    def _masks(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Go the way of image files, which knows of tiles and of padding."""
        with temporary_folder() as folder:
            for number, image in enumerate(images):
                pixels = image[..., 0] if image.shape[-1] == 1 else image
                Image.fromarray(pixels).save(folder / f"{number:06d}.png")
            files = find_images([folder])
            masks = list(segment_files(self.network, files))
        faults = [mask for mask in masks if isinstance(mask, str)]
        if faults:
            raise ExportError(faults[0])
        return np.stack([mask[1] for mask in masks if not isinstance(mask, str)])


def _load_pyfunc(path: str) -> Predictor:
    """Load an export for MLflow."""
    return Predictor(path)
