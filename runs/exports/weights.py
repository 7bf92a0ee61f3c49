"""The weights file of a trained network: safetensors with what the network takes and tells.

The file of a finished run and that of an export are the same, so an export needs neither the data
nor the training. Its metadata holds one key, `attnsearch`, a JSON object of `Interface`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from pydantic import TypeAdapter
from torch import Tensor

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.ledger import DamagedFile, check_file

METADATA_KEY = "attnsearch"


class ExportError(AttnsearchError):
    """An export cannot be written, or cannot be read back."""


@dataclass(frozen=True)
class Interface:
    """What a trained network takes and tells.

    Args:
        class_names: In the order of the logits.
        image_size: (H, W) in pixels, of images that it is given.
        channels: 1 or 3.
        mean: Of the training part, per channel, in 0..1.
        std: Likewise.
        crop: How these are cut from the middle, as `data.eval_crop`; None for whole images.
    """

    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: int | float | None = None


def facts_of(interface: Interface, config: Mapping[str, Any]) -> dict[str, str]:
    """Return what a model's own metadata say of it, each as text; lists as JSON."""
    values = {
        "task": config["task"],
        **asdict(interface),
        "input": "(pixels / 255 - mean) / std, N x C x H x W",
        "name": config["name"],
        "producer": f"attnsearch {version('attnsearch')}",
    }
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in values.items()
        if value is not None
    }


def pack_weights(state: Mapping[str, Tensor], interface: Interface) -> bytes:
    """Return the bytes of a weights file.

    Args:
        state: A state dict.
        interface: Of the network it belongs to.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    said = {key: value for key, value in asdict(interface).items() if value is not None}
    metadata = {"format": "pt", METADATA_KEY: json.dumps(said, sort_keys=True)}
    return safetensors.torch.save(tensors, metadata)


def unpack_weights(data: bytes) -> dict[str, Tensor]:
    """Return the state dict in the bytes of a weights file."""
    state: dict[str, Tensor] = safetensors.torch.load(data)
    return state


def read_weights(path: Path, checksum: str | None = None) -> tuple[dict[str, Tensor], Interface]:
    """Return the state dict and the interface of a weights file.

    Args:
        path: The file.
        checksum: The SHA-256 of what was stored, in hexadecimal, where it is known.

    Raises:
        ExportError: If the file is missing, damaged, or not from attnsearch.
    """
    if not path.is_file():
        raise ExportError(f"{path}: there is no such weights file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise ExportError(f"{path}: not a readable safetensors file ({error})") from error
    try:
        interface = TypeAdapter(Interface).validate_json(metadata[METADATA_KEY])
        check_file(path, checksum)
        return state, interface
    except DamagedFile as error:
        raise ExportError(str(error)) from None
    except (KeyError, ValueError) as error:
        raise ExportError(
            f"{path}: its metadata does not say what the network takes (key {METADATA_KEY!r}); "
            f"only weights that attnsearch wrote can be loaded here"
        ) from error
