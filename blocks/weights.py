"""Pretrained weights: a state dict under torchvision's names into a network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from attnsearch.blocks.errors import WeightsError

Shape = tuple[int, ...]


@dataclass
class WeightsReport:
    """What a weights file gave to a network, and what it did not.

    Attributes:
        path: The file.
        loaded: State-dict names that were copied and are still there.
        missing: Names of the network that the file does not have; they keep their initial values.
        unexpected: Names of the file that the network does not have.
        mismatched: Names of both with different shapes: (name, shape in the file, shape in the
            network); they keep their initial values. A classifier for another number of classes
            is the usual case.
        replaced: Names that were copied and are gone, since a block stands in their place.
    """

    path: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, Shape, Shape]] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)

    def lose(self, prefix: str) -> None:
        """Note that a block now stands where the tensors under this name were."""
        gone = [name for name in self.loaded if name.startswith(f"{prefix}.")]
        self.loaded = [name for name in self.loaded if name not in gone]
        self.replaced += gone

    def __str__(self) -> str:
        """A few lines for a person: counts first, then names."""
        total = len(self.loaded + self.replaced) + len(self.missing) + len(self.mismatched)
        lines = [f"{self.path}: {len(self.loaded)} of the plain network's {total} tensors loaded"]
        lines += [
            f"  left out, other shape: {name} is {_shape(theirs)} in the file and {_shape(ours)} "
            "in the network"
            for name, theirs, ours in self.mismatched
        ]
        for label, names in (
            ("not in the file", self.missing),
            ("not in the network", self.unexpected),
            ("lost again, a block stands there", self.replaced),
        ):
            if names:
                lines.append(f"  {label}: {_listing(names)}")
        return "\n".join(lines)


def load_weights(network: nn.Module, path: str | Path) -> WeightsReport:
    """Copy into a network the tensors of a file that fit it by name and shape.

    Takes ``.safetensors``, and ``.pth`` (``.pt``, ``.bin``, ``.ckpt``) read without running any
    code that such a file may hold. A state dict inside a checkpoint under ``state_dict``,
    ``model`` or ``model_state_dict`` is found, and a ``module.`` before every name is dropped.

    Args:
        network: Changed in place.
        path: The file.

    Raises:
        WeightsError: The file cannot be read, is no state dict, or nothing in it fits.
    """
    file = Path(path)
    theirs = _state_dict(_read(file), file)
    ours = network.state_dict()
    report = WeightsReport(str(path), unexpected=[name for name in theirs if name not in ours])
    with torch.no_grad():
        for name, tensor in ours.items():
            if name not in theirs:
                # A step counter that BatchNorm keeps; checkpoints from before 2018 lack it.
                if not name.endswith("num_batches_tracked"):
                    report.missing.append(name)
            elif theirs[name].shape != tensor.shape:
                report.mismatched.append((name, tuple(theirs[name].shape), tuple(tensor.shape)))
            else:
                tensor.copy_(theirs[name])
                report.loaded.append(name)
    if not any(name.endswith("weight") for name in report.loaded):
        raise WeightsError(
            f"network.weights: nothing in {path} fits the network. It holds "
            f"{_listing(list(theirs))}; the network has {_listing(list(ours))}. Names must be "
            "torchvision's, and backbone, stem and width those that the file was trained with"
        )
    return report


def _read(file: Path) -> Any:
    if not file.is_file():
        raise WeightsError(f"network.weights: there is no file {file}")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise WeightsError(
            f"network.weights: {file} holds more than tensors and is not loaded, since that could "
            "run code. Save the model's state_dict() alone, best as .safetensors"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise WeightsError(
            f"network.weights: {file} cannot be read ({error}); it must be a .safetensors file "
            "or a state dict saved by torch.save"
        ) from error


def _state_dict(content: Any, file: Path) -> dict[str, Tensor]:
    """The name -> tensor mapping in what a file holds."""
    if isinstance(content, Mapping):
        for key in ("state_dict", "model", "model_state_dict"):
            if isinstance(content.get(key), Mapping):
                content = content[key]
        tensors = {
            name: value
            for name, value in content.items()
            if isinstance(name, str) and isinstance(value, Tensor)
        }
        if tensors:
            if all(name.startswith("module.") for name in tensors):
                tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
            return tensors
    raise WeightsError(f"network.weights: {file} holds no state dict (names with their tensors)")


def _listing(names: list[str], shown: int = 6) -> str:
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")


def _shape(shape: Shape) -> str:
    return "x".join(str(side) for side in shape) or "a single number"
