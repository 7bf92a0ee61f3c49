from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from attnsearch.blocks.build.network import build_network
from attnsearch.blocks.errors import WeightsError
from attnsearch.blocks.hosts.weights import load_weights

CONFIG = {"network": {"backbone": "resnet18", "width": 0.125}}


def published(classes: int = 1000) -> dict[str, Tensor]:
    """A state dict as torchvision saves one, its numbers unlike initial ones."""
    network = build_network(CONFIG, classes=classes, seed=99)
    return {name: tensor + 1 for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("form", ["pth", "safetensors", "wrapped", "parallel", "half"])
def test_loads_all_but_another_classifier(form: str, tmp_path: Path) -> None:
    state = published()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(state, path)
    elif form == "wrapped":
        torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, path)
    elif form == "parallel":
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    elif form == "half":
        torch.save({name: tensor.half() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    network = build_network(CONFIG, classes=10)
    before = network.fc.weight.clone()
    report = load_weights(network, path)
    assert report.missing == report.unexpected == report.replaced == []
    assert report.mismatched == [
        ("fc.weight", (1000, 64), (10, 64)),
        ("fc.bias", (1000,), (10,)),
    ]
    assert set(report.loaded) == set(state) - {"fc.weight", "fc.bias"}
    for name in report.loaded:
        loaded = network.state_dict()[name]
        wanted = state[name].half().float() if form == "half" else state[name]
        assert torch.equal(loaded, wanted.to(loaded.dtype)), name
        assert loaded.dtype == state[name].dtype
    assert torch.equal(network.fc.weight, before)
    text = str(report)
    assert "120 of the network's 122 tensors loaded" in text
    assert "fc.weight is 1000x64 in the file and 10x64 in the network" in text


def test_missing_unexpected_and_another_stem_are_said(tmp_path: Path) -> None:
    state = published(10)
    del state["layer4.1.bn2.weight"]
    for name in [name for name in state if name.endswith("num_batches_tracked")]:
        del state[name]  # as in checkpoints from before 2018
    state["head.weight"] = torch.zeros(2)
    torch.save(state, tmp_path / "w.pth")
    settings = {"network": {**CONFIG["network"], "stem": "small"}}
    report = load_weights(build_network(settings, 1), tmp_path / "w.pth")
    assert report.missing == ["layer4.1.bn2.weight"]
    assert report.unexpected == ["head.weight"]
    assert report.mismatched == [("conv1.weight", (8, 3, 7, 7), (8, 1, 3, 3))]
    assert "not in the file: layer4.1.bn2.weight" in str(report)
    assert "not in the network: head.weight" in str(report)


def test_build_says_what_is_lost_to_a_block(tmp_path: Path) -> None:
    state = published(10)
    save_file(state, tmp_path / "w.safetensors")
    config = {
        "network": {**CONFIG["network"], "weights": str(tmp_path / "w.safetensors")},
        "insert": [
            {"at": "layer2.*.conv2", "block": "conv1x1", "params": {}},
            {"at": "layer4", "block": "gc", "params": {"gc": {"ratio": 0.25}}},
        ],
    }
    network = build_network(config)
    report = network.weights_report
    assert report is not None
    assert report.replaced == ["layer2.0.conv2.weight", "layer2.1.conv2.weight"]
    assert set(report.loaded) == set(state) - set(report.replaced)
    assert "lost, a block stands there: layer2.0.conv2.weight" in str(report)
    now = network.state_dict()
    assert all(torch.equal(now[name], state[name]) for name in report.loaded)
    fresh = build_network({**config, "network": CONFIG["network"]})
    assert fresh.weights_report is None
    for name, tensor in fresh.state_dict().items():
        if name not in state:  # the inserted blocks start as they would without the weights
            assert torch.equal(now[name], tensor), name


class Loud:
    """Pickles to something that runs code when unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("executed",))


def test_unusable_files_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = build_network(CONFIG)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def message(name: str) -> str:
        with pytest.raises(WeightsError) as caught:
            load_weights(network, tmp_path / name)
        assert name in str(caught.value)
        return str(caught.value)

    assert "there is no file" in message("nothing.pth")
    assert "there is no file" in message(".")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("hello")
        assert "cannot be read" in message(name) or "more than tensors" in message(name)
    (tmp_path / "empty.pth").touch()
    assert "cannot be read" in message("empty.pth")
    torch.save(published(), tmp_path / "cut.pth")
    whole = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in message("cut.pth")
    torch.save({"state_dict": Loud()}, tmp_path / "loud.pth")
    assert "could run code" in message("loud.pth")
    assert "executed" not in capsys.readouterr().out
    torch.save([1, 2], tmp_path / "list.pth")
    assert "no state dict" in message("list.pth")
    torch.save({"encoder.weight": torch.zeros(2)}, tmp_path / "other.pth")
    assert "nothing in" in message("other.pth")
    assert "encoder.weight" in message("other.pth")
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


@pytest.mark.parametrize(("width", "stem"), [(0.25, "imagenet"), (0.5, "small")])
def test_where_the_cause_is_a_shape_shapes_are_said_and_names_are_not(
    width: float, stem: str, tmp_path: Path
) -> None:
    save_file(
        {name: tensor for name, tensor in published().items() if tensor.dim() == 4},
        tmp_path / "w.safetensors",
    )
    other = build_network({"network": {"backbone": "resnet18", "width": width, "stem": stem}})
    with pytest.raises(WeightsError) as caught:
        load_weights(other, tmp_path / "w.safetensors")
    told = str(caught.value)
    assert "conv1.weight is 8x3x7x7 in the file and" in told and "width must be those" in told
    assert told.count("layer1.0.conv1.weight") == 1 and "rename" not in told


def test_grey_images_that_lose_the_first_layer_are_pointed_to_channels(tmp_path: Path) -> None:
    save_file(published(10), tmp_path / "w.safetensors")
    hint = "data.channels: 3"
    assert hint in str(load_weights(build_network(CONFIG, 1), tmp_path / "w.safetensors"))
    assert hint not in str(load_weights(build_network(CONFIG, 3), tmp_path / "w.safetensors"))
    small = {"network": {**CONFIG["network"], "stem": "small"}}
    assert hint not in str(load_weights(build_network(small, 1), tmp_path / "w.safetensors"))
