"""`torch.export` and ONNX of whole published networks."""

from pathlib import Path

import pytest
import torch
from torch import nn

from attnsearch.blocks import build_network
from attnsearch.runs.exports.onnx import TOLERANCE, export_onnx
from attnsearch.spaces import load_space, shipped
from attnsearch.spaces.file.shipped_files import published

SMALL = ["network.width=0.125", "data.image_size=32", "data.classes=5"]


def trained(network: nn.Module) -> nn.Module:
    """The network as after some training: no statistic and no branch at its trivial start.

    Residual branches are kept small: at their start the maps of SCNet-101 grow to 1e8, where
    single precision itself is 15 % from double.
    """
    with torch.no_grad():
        for number, (name, tensor) in enumerate(network.state_dict().items()):
            generator = torch.Generator().manual_seed(number)
            if name.endswith("running_mean"):
                tensor.uniform_(-0.1, 0.1, generator=generator)
            elif name.endswith(".bn3.weight"):
                tensor.mul_(0.2)
            elif tensor.is_floating_point() and not tensor.any():
                tensor.uniform_(-0.05, 0.05, generator=generator)
    return network.eval()


def published_network(name: str, *overrides: str) -> tuple[nn.Module, tuple[int, int, int]]:
    config = load_space(shipped()[name], overrides).resolve({})
    size, classes = config["data"]["image_size"], config["data"]["classes"]
    network = build_network(config, in_channels=3, classes=classes, image_size=size)
    return trained(network), (3, size, size)


def exported(network: nn.Module, shape: tuple[int, int, int]) -> float:
    """The largest relative difference of the exported program's outputs, for two batch sizes."""
    draws = torch.Generator().manual_seed(0)
    example = torch.randn(2, *shape, generator=draws)
    batch = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(network, (example,), dynamic_shapes=(batch,)).module()
    worst = 0.0
    for count in (1, 3):
        images = torch.randn(count, *shape, generator=draws)
        with torch.no_grad():
            wanted, found = network(images), program(images)
        assert wanted.std() > 0
        worst = max(worst, float((found - wanted).abs().max() / wanted.abs().max()))
    return worst


def test_a_small_published_network_is_exported(tmp_path: Path) -> None:
    network, shape = published_network("gcnet50", *SMALL)
    assert exported(network, shape) < 1e-5


@pytest.mark.slow  # up to a minute each
@pytest.mark.parametrize("name", sorted(published()))
def test_published_networks_are_exported(name: str) -> None:
    assert exported(*published_network(name)) < 1e-5


@pytest.mark.slow  # up to two minutes each
@pytest.mark.parametrize("name", sorted(published()))
def test_published_networks_are_written_as_onnx(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    network, shape = published_network(name)
    difference = export_onnx(network, tmp_path / "model.onnx", shape)
    assert difference is not None
    assert difference <= TOLERANCE
