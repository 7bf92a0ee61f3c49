"""What MLflow loads says what `attnsearch predict` says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnsearch.blocks.build import build_network
from attnsearch.runs.exports.export import load_export, save_export
from attnsearch.runs.exports.predict import predict_images
from attnsearch.runs.exports.pyfunc import LOADER, Predictor, _load_pyfunc
from attnsearch.runs.exports.weights import ExportError, Interface
from attnsearch.spaces import load_space

LABELS = """
name: labels
task: classification
data: {source: digits, image_size: [12, 16]}
network: {backbone: resnet20, width: 0.25}
insert: [{at: layer3, block: se}]
"""
MASKS = """
name: masks
task: segmentation
data: {source: scenes, image_size: 32}
network: {backbone: resnet20, width: 0.25}
insert: [{at: layer3, block: se}]
"""


def exported(folder: Path, space: str) -> Path:
    """An export of an untrained network."""
    folder.mkdir()
    (folder / "space.yaml").write_text(space)
    config: dict[str, Any] = load_space(folder / "space.yaml").resolve({})
    masks = config["task"] == "segmentation"
    names, channels = (("a", "b"), 3) if masks else (("x", "y", "z"), 1)
    size = (32, 32) if masks else (12, 16)
    network = build_network(config, channels, len(names), size, seed=1)
    interface = Interface(names, size, channels, (0.4,) * channels, (0.2,) * channels)
    return save_export(folder / "best", config, network.state_dict(), interface, {})


def test_a_classification_gives_probabilities_of_images_of_any_size(tmp_path: Path) -> None:
    export = exported(tmp_path / "labels", LABELS)
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 1), np.uint8)
    predictor = _load_pyfunc(str(export))
    said = predictor.predict(images)
    network: Any = load_export(export)
    with torch.inference_mode():
        wanted = network(network.preprocess(images)).softmax(1).numpy()
    assert said.dtype == np.float32 and said.shape == (3, 3)
    np.testing.assert_array_equal(said, wanted)
    np.testing.assert_allclose(said.sum(1), 1, rtol=1e-6)
    assert LOADER == "attnsearch.runs.exports.pyfunc"  # stands in every model that was logged
    with pytest.raises(ExportError, match="of uint8"):
        predictor.predict(images.astype(np.float32))


def test_a_segmentation_gives_the_masks_of_predict(tmp_path: Path) -> None:
    export = exported(tmp_path / "masks", MASKS)
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 52, 3), np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    predict_images(export, [tmp_path / "0.png", tmp_path / "1.png"], tmp_path / "out")
    wanted = [np.asarray(Image.open(tmp_path / "out" / f"{n}.png")) for n in range(2)]
    said = Predictor(export).predict(images)
    assert said.dtype == np.uint8
    np.testing.assert_array_equal(said, np.stack(wanted))
    assert len(np.unique(said)) == 2
