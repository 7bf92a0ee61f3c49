import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks import BLOCKS
from attnsearch.runs.exports import program
from attnsearch.runs.exports.formats import find_formats
from attnsearch.runs.exports.program import FACTS, export_program
from attnsearch.runs.exports.weights import ExportError, Interface, facts_of
from tests.runs.exports import inserted


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images)).mean((2, 3))


def test_a_program_gives_the_same_and_says_what_it_takes(tmp_path: Path) -> None:
    network = Small().train()
    interface = Interface(("a", 'b "é"'), (6, 8), 1, (0.25,), (0.5,))
    facts = facts_of(interface, {"task": "classification", "name": "tiny"})
    export_program(network, tmp_path / "model.pt2", (1, 6, 8), facts)
    assert network.training, "the network itself was not to be changed"
    extra = {FACTS: ""}
    module = torch.export.load(tmp_path / "model.pt2", extra_files=extra).module()
    for count in (1, 2, 5):
        images = torch.randn(count, 1, 6, 8)
        torch.testing.assert_close(module(images), network.eval()(images))
    told = json.loads(extra[FACTS])
    assert json.loads(told["class_names"]) == ["a", 'b "é"']
    assert (told["mean"], told["image_size"], told["task"]) == (
        "[0.25]",
        "[6, 8]",
        "classification",
    )
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt2"]


def test_a_program_for_one_batch_size_or_of_other_outputs_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fickle(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3)) if images.shape[0] == 2 else images.amax((2, 3))

    with pytest.raises(ExportError, match=r"torch\.export cannot write this network"):
        export_program(Fickle(), tmp_path / "model.pt2", (1, 6, 8), {})
    shifted = SimpleNamespace(module=lambda: lambda images: images.mean((2, 3)) + 1)
    monkeypatch.setattr(program.torch.export, "load", lambda stream: shifted)
    with pytest.raises(ExportError, match="outputs of the program differ"):
        export_program(Small(), tmp_path / "model.pt2", (1, 6, 8), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # seconds each
@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_every_block_is_exported_or_refused(tmp_path: Path, block: str) -> None:
    network, path = inserted.network(block), tmp_path / "model.pt2"
    if block == "axial":  # its own autograd function is traced for one batch size
        with pytest.raises(ExportError, match="specialized it to be a constant"):
            export_program(network, path, (1, 16, 16), {})
    else:
        export_program(network, path, (1, 16, 16), {})


def test_formats_are_known_by_name() -> None:
    assert find_formats(["safetensors", "torch_export", "onnx", "onnx"]) == [
        "onnx",
        "torch_export",
    ]
    with pytest.raises(ExportError, match="no format 'torch-export'; did you mean 'torch_export'"):
        find_formats(["torch-export"])
