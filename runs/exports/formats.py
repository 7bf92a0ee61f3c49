"""The forms that a network leaves in beside its weights, by the words of `--format`."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnsearch.blocks.spelling import did_you_mean
from attnsearch.runs.exports.onnx import export_onnx
from attnsearch.runs.exports.program import export_program
from attnsearch.runs.exports.source import export_source
from attnsearch.runs.exports.weights import ExportError, facts_of

SAFETENSORS = "safetensors"  # what every export has


@dataclass(frozen=True)
class Form:
    """One of them.

    Attributes:
        file: Its name in the export.
        write: Writes a network from `load_export` to a path.
    """

    file: str
    write: Callable[[Any, Path], object]


def _onnx(network: Any, path: Path) -> None:
    export_onnx(network, path, _shape(network), facts_of(network.interface, network.config))


def _program(network: Any, path: Path) -> None:
    export_program(network, path, _shape(network), facts_of(network.interface, network.config))


def _shape(network: Any) -> tuple[int, ...]:
    return (network.interface.channels, *network.interface.image_size)


SOURCE = "source"
FORMATS = {
    "onnx": Form("model.onnx", _onnx),
    "torch_export": Form("model.pt2", _program),
    SOURCE: Form("network.py", export_source),
}


def find_formats(names: Collection[str]) -> list[str]:
    """Return those formats that are asked for beside the weights, each once.

    Raises:
        ExportError: There is no such format.
    """
    known = [SAFETENSORS, *FORMATS]
    for name in names:
        if name not in known:
            raise ExportError(
                f"there is no format {name!r}{did_you_mean(name, known)}; there are "
                f"{', '.join(known)}"
            )
    return [name for name in FORMATS if name in names]
