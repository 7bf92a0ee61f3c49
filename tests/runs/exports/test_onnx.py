import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks import BLOCKS
from attnsearch.runs.exports.onnx import TOLERANCE, OnnxError, export_onnx
from tests.runs.exports.inserted import network

onnxruntime = pytest.importorskip("onnxruntime")


def outputs(path: Path, images: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    return logits


def test_outputs_match_for_any_batch(tmp_path: Path) -> None:
    net = network("gc", "layer2.*.residual").train()
    path = tmp_path / "model.onnx"
    difference = export_onnx(net, path, (1, 16, 16), {"mean": "[0.25]", "klass": '["é"]'})
    props = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert props == {"mean": "[0.25]", "klass": '["é"]'}
    assert difference is not None
    assert difference <= TOLERANCE
    assert net.training, "the network itself was not to be changed"
    net.eval()
    for count in (1, 2, 5):
        images = torch.randn(count, 1, 16, 16)
        np.testing.assert_allclose(outputs(path, images), net(images).detach(), atol=1e-4)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.slow  # as below, for images that are no squares
@pytest.mark.parametrize("block", ["axial", "coordinate"])
def test_outputs_match_for_rectangles(tmp_path: Path, block: str) -> None:
    net = network(block, size=(12, 20))
    path = tmp_path / "model.onnx"
    difference = export_onnx(net, path, (1, 12, 20))
    assert difference is not None and difference <= TOLERANCE
    images = torch.randn(3, 1, 12, 20)
    np.testing.assert_allclose(outputs(path, images), net(images).detach(), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_every_block_can_be_exported(tmp_path: Path, block: str) -> None:
    export_onnx(network(block), tmp_path / "model.onnx", (1, 16, 16))


def test_a_network_for_one_batch_size_only_is_refused(tmp_path: Path) -> None:
    class Fickle(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3)) if images.shape[0] == 2 else images.amax((2, 3))

    with pytest.raises(OnnxError, match="inferred a static shape of 2"):
        export_onnx(Fickle(), tmp_path / "model.onnx", (1, 8, 8))
    assert not list(tmp_path.iterdir())


def test_outputs_that_differ_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shifted(onnxruntime.InferenceSession):  # type: ignore[misc]
        def run(self, *arguments: Any) -> list[np.ndarray]:
            return [logits + 0.01 for logits in super().run(*arguments)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Shifted)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(OnnxError, match=r"model\.onnx: outputs of the ONNX model differ"):
        export_onnx(net, tmp_path / "model.onnx", (1, 2, 2))
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_told_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(OnnxError, match=r"needs onnxscript.*pip install .*\[onnx\]"):
        export_onnx(nn.Flatten(), tmp_path / "model.onnx", (1, 2, 2))


def test_without_onnxruntime_there_is_no_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    assert export_onnx(net, tmp_path / "model.onnx", (1, 2, 2)) is None
    assert (tmp_path / "model.onnx").is_file()
