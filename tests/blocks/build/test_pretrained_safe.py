"""`pretrained_safe`: at step 0 added blocks change nothing, and from step 1 on they learn."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from attnsearch.blocks import BLOCKS, build_network, build_plain
from attnsearch.blocks.build.architecture import canonical_architecture
from attnsearch.blocks.build.sites import backbone_sites

HOSTS = {
    "resnet18": {"backbone": "resnet18", "stem": "small", "width": 0.25},
    "resnet50": {"backbone": "resnet50", "stem": "small", "width": 0.25},
}
# Where the defaults do not fit 16 channels.
PARAMS: dict[str, dict[str, Any]] = {
    "psa": {"groups": [1, 2, 2, 4]},
    "ecrm": {"hidden": 8, "bank_size": 4},
    "gc": {"ratio": 0.25},
    "scconv": {"ceil_mode": True},
}
SIZE = 12


class Noisy(nn.Module):
    """Unlike the identity in training only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(x * self.scale)
        return y


class Slight(nn.Module):
    """All but the identity, and so behind a gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 1.001))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


NOISY, SLIGHT = f"{__name__}:Noisy", f"{__name__}:Slight"


def insert(host: dict[str, Any], blocks: list[str]) -> list[dict[str, Any]]:
    """Blocks at every site where they are added, taken in turn."""
    places = backbone_sites(host["backbone"], host["stem"], host["width"], SIZE)
    added = [site.name for site in places if not site.replaces]
    return [
        {
            "at": name,
            "block": block,
            "params": {block: PARAMS.get(block, {})},
            "pretrained_safe": True,
        }
        for name, block in zip(added, itertools.cycle(blocks), strict=False)
    ]


def pretrained(host: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The host with a weights file, whose numbers make every layer matter."""
    state = build_plain({"network": host}, 3, 7, SIZE, seed=5).state_dict()
    generator = torch.Generator().manual_seed(0)
    for name, tensor in state.items():
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.ndim == 2:
            tensor.mul_(3)
        assert torch.isfinite(tensor).all(), name
    save_file(state, folder / "w.safetensors")
    return {**host, "weights": str(folder / "w.safetensors")}


def compare(host: dict[str, Any], blocks: list[str], folder: Path) -> None:
    """Logits against those of the plain pretrained network, in both modes."""
    host = pretrained(host, folder)
    config = {"network": host, "insert": insert(host, blocks)}
    images = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    plain, network = build_plain(config, 3, 7, SIZE), build_network(config, 3, 7, SIZE)
    for training in (False, True):
        with torch.no_grad():
            wanted = plain.train(training)(images)
            found = network.train(training)(images)
        assert wanted.std() > 0.01
        assert float((found - wanted).abs().max()) < 1e-5, f"training={training}"
    report = network.weights_report
    assert report is not None
    assert report.missing == report.mismatched == report.replaced == report.unexpected == []


@pytest.mark.parametrize("name", HOSTS)
def test_logits_are_those_of_the_plain_pretrained_network(name: str, tmp_path: Path) -> None:
    compare(HOSTS[name], [*BLOCKS, NOISY, SLIGHT], tmp_path)


@pytest.mark.slow  # each block at every site of two networks: a minute
@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("block", [*BLOCKS, NOISY, SLIGHT])
def test_every_block_is_safe_at_every_site(block: str, name: str, tmp_path: Path) -> None:
    compare(HOSTS[name], [block], tmp_path)


@pytest.mark.parametrize("block", [*BLOCKS, SLIGHT])
def test_every_parameter_learns_from_the_second_step_on(block: str) -> None:
    host = {"backbone": "resnet20", "width": 1.0}
    entry = {"block": block, "params": {block: PARAMS.get(block, {})}, "pretrained_safe": True}
    config = {"network": host, "insert": [{"at": "layer2.1.residual", **entry}]}
    network = build_network(config, 1, 4, 16).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        images = torch.randn(6, 1, 16, 16, generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), torch.arange(6) % 4)
        torch.autograd.backward(loss)
        optimizer.step()
    added = network.inserted["layer2_1_residual"]
    dead = {f"0.{key}" for key in getattr(added[0], "dead_parameters", {})}
    if block == "ecrm":
        dead |= {"0.L.weight", "0.L.bias"}  # its auxiliary loss alone reaches them
    for key, parameter in added.named_parameters():
        if key in dead or not parameter.requires_grad:
            continue
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key


def test_state_dict_names_of_a_block_stay() -> None:
    host = HOSTS["resnet18"]
    entry = {"at": "layer2", "block": "psa", "params": {"psa": PARAMS["psa"]}}
    bare = build_network({"network": host, "insert": [entry]}, 3, 7, SIZE).state_dict()
    safe = {"network": host, "insert": [{**entry, "pretrained_safe": True}]}
    state = build_network(safe, 3, 7, SIZE).state_dict()
    assert state.keys() - bare.keys() == {"inserted.layer2.gate_0"}
    assert bare.keys() < state.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in bare.items())


def test_in_place_of_a_convolution_it_changes_nothing_and_the_loss_is_reported(
    tmp_path: Path,
) -> None:
    host = pretrained(HOSTS["resnet18"], tmp_path)
    entry = {"at": "layer2.*.conv2", "block": "scconv", "params": {}}
    safe = {"network": host, "insert": [{**entry, "pretrained_safe": True}]}
    network = build_network(safe, 3, 7, SIZE)
    report = network.weights_report
    assert report is not None
    assert report.replaced == ["layer2.0.conv2.weight", "layer2.1.conv2.weight"]
    assert not any("gate" in name for name in network.state_dict())
    bare = {"network": host, "insert": [entry]}
    assert canonical_architecture(safe) == canonical_architecture(bare)
    added = {"network": host, "insert": [{**entry, "at": "layer2", "pretrained_safe": True}]}
    assert "pretrained_safe" in json.dumps(canonical_architecture(added))
