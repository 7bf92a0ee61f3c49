"""Pretrained weights: a state dict under torchvision's names, or a published one, into a network.

A checkpoint may name things otherwise than the network does. Three differences are common and
need no word: a state dict inside a checkpoint (``state_dict``, ``model``, ``model_state_dict``), a
``module.`` before every name, and a ``backbone.`` before the network's names beside those of a
neck and heads, as detection and segmentation checkpoints have them. Others are told by a key map,
``rename``: from a pattern of names in the file to one of names in the network. ``*`` stands for
any characters but dots and ``**`` for any characters; a star on the right repeats what the same
one on the left took. The first pattern that fits a name counts, and null drops what it fits:

    rename: {"layer*.*.context_block.**": "inserted.layer*_*_residual.0.**", "head.**": null}
"""

import re
from collections.abc import Mapping, Sequence
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
        loaded: State-dict names that were copied.
        missing: Names of the network that the file does not have; they keep their initial values.
        unexpected: Names of the file that the network does not have.
        fresh: Names of inserted blocks of which the file has nothing, with their initial values.
        mismatched: Names of both with different shapes: (name, shape in the file, shape in the
            network); they keep their initial values. A classifier for another number of classes
            is the usual case.
        replaced: Names of the file that the baseline has and this one lost, since a block
            stands in their place.
        unused: Patterns of the key map that fit no name of the file.
    """

    path: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, Shape, Shape]] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return a few lines for a person: counts first, then names."""
        left = len(self.missing) + len(self.mismatched) + len(self.fresh)
        total = len(self.loaded) + left
        lines = [f"{self.path}: {len(self.loaded)} of the network's {total} tensors loaded"]
        lines += [
            f"  left out, other shape: {name} is {_shape(theirs)} in the file and {_shape(ours)} "
            "in the network"
            for name, theirs, ours in self.mismatched
        ]
        for label, names in (
            ("not in the file", self.missing),
            ("not in the network", self.unexpected),
            ("lost, a block stands there", self.replaced),
            ("of blocks that the file does not have", self.fresh),
            ("rename patterns that fit nothing", self.unused),
        ):
            if names:
                lines.append(f"  {label}: {_listing(names)}")
        if any(_but_channels(*shapes) for _, *shapes in self.mismatched):
            lines.append("  data.channels: 3 turns grey images into colour, and takes that layer")
        if any(name.startswith("fc.") for name in self.missing):
            lines.append("  the file has no classifier (fc): it keeps its initial values")
        return "\n".join(lines)


@dataclass(frozen=True)
class Baseline:
    """What a network was before blocks were inserted.

    Attributes:
        shapes: Of its tensors, by name.
        inserted: Module paths of the blocks, and of their auxiliary heads.
    """

    shapes: Mapping[str, Shape]
    inserted: Sequence[str] = ()

    def owner(self, name: str) -> str | None:
        """Return module path of the inserted block that a name belongs to; None for the host's."""
        return next((path for path in self.inserted if f"{name}.".startswith(f"{path}.")), None)


def load_weights(
    network: nn.Module,
    path: str | Path,
    rename: Mapping[str, str | None] | None = None,
    baseline: Baseline | None = None,
) -> WeightsReport:
    """Copy into a network the tensors of a file that fit it by name and shape.

    Takes ``.safetensors``, and ``.pth`` (``.pt``, ``.bin``, ``.ckpt``, ``.tar``) read without
    running any code that such a file may hold. What names the file may have stands above.

    Args:
        network: Changed in place.
        path: The file.
        rename: The key map.
        baseline: What the network was before blocks were inserted, to tell what these cost.

    Raises:
        WeightsError: The file cannot be read, is no state dict, two of its names become one, or
            nothing in it fits.
    """
    file = Path(path)
    ours = network.state_dict()
    baseline = baseline or Baseline({name: tuple(value.shape) for name, value in ours.items()})
    report = WeightsReport(str(path))
    theirs = _without_backbone(_state_dict(_read(file), file), {*ours, *baseline.shapes})
    theirs, report.unused = _renamed(theirs, rename or {}, file)
    covered = {baseline.owner(name) for name in theirs if name in ours}
    for name in theirs:
        if name not in ours:
            (report.replaced if name in baseline.shapes else report.unexpected).append(name)
    with torch.no_grad():
        for name, tensor in ours.items():
            owner = baseline.owner(name)
            if name in theirs and theirs[name].shape == tensor.shape:
                tensor.copy_(theirs[name])
                report.loaded.append(name)
            elif name in theirs:
                shapes = tuple(theirs[name].shape), tuple(tensor.shape)
                if owner is None or shapes[0] != baseline.shapes.get(name):
                    report.mismatched.append((name, *shapes))
                else:  # the replaced convolution's own tensor, called like one of the block
                    report.replaced.append(name)
                    report.fresh.append(name)
            elif owner is not None and owner not in covered:
                report.fresh.append(name)
            # A step counter that BatchNorm keeps; checkpoints from before 2018 lack it.
            elif not name.endswith("num_batches_tracked"):
                report.missing.append(name)
    if not any(name.endswith("weight") for name in report.loaded + report.replaced):
        raise WeightsError(_nothing_fits(report, list(theirs), list(ours)))
    return report


def _nothing_fits(report: WeightsReport, theirs: list[str], ours: list[str]) -> str:
    """Say why a file gives a network nothing: other shapes, or other names."""
    start = f"network.weights: nothing in {report.path} fits the network"
    if report.mismatched:
        shapes = [
            f"{name} is {_shape(there)} in the file and {_shape(here)} in the network"
            for name, there, here in report.mismatched
        ]
        return (
            f"{start}: {len(shapes)} of its {len(theirs)} tensors have the network's names, and "
            f"none its shape: {_listing(shapes, 3)}; backbone, stem and width must be those that "
            f"the file was trained with"
        )
    return (
        f"{start}. It holds {_listing(theirs)}; the network has {_listing(ours)}. Names must be "
        "the network's (torchvision's for a ResNet), or be mapped by network.weights.rename"
    )


def _but_channels(theirs: Shape, ours: Shape) -> bool:
    """Return whether a convolution fits but for taking grey images in place of colour."""
    return len(theirs) == 4 and (theirs[1], ours[1:2]) == (3, (1,)) and theirs[2:] == ours[2:]


def rename_fault(pattern: str, target: str | None) -> str | None:
    """Return what is wrong with one line of a key map; None if it is sound."""
    if not pattern:
        return "the pattern is empty; write names of the file, such as layer*.*.context_block.**"
    for text in (pattern, target or ""):
        if "***" in text:
            return f"{text!r} has three stars in a row; * and ** are all there is"
        if len(_STAR.findall(text)) > MAX_STARS:
            return f"{text!r} has more than {MAX_STARS} stars"
    if target is not None and not target:
        return "the new name is empty; write a name of the network, or null to drop the tensor"
    stars, targets = _STAR.findall(pattern), _STAR.findall(target or "")
    if target is not None and stars != targets:
        both = f"{' '.join(targets) or 'none'} on the right for {' '.join(stars) or 'none'}"
        return f"the stars of both sides must agree, in order: {both} on the left"
    return None


MAX_STARS = 6
_STAR = re.compile(r"\*\*|\*")


def _renamed(
    tensors: Mapping[str, Tensor], rename: Mapping[str, str | None], file: Path
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors under their new names, and the patterns that fit none."""
    for pattern, target in rename.items():
        if fault := rename_fault(pattern, target):
            raise WeightsError(f"network.weights.rename: {pattern!r}: {fault}")
    rules = [(_expression(pattern), pattern, target) for pattern, target in rename.items()]
    unused = dict.fromkeys(rename)
    renamed: dict[str, Tensor] = {}
    came_from: dict[str, str] = {}
    for name, tensor in tensors.items():
        new: str | None = name
        for expression, pattern, target in rules:
            if match := expression.fullmatch(name):
                unused.pop(pattern, None)
                new = target and _filled(target, match.groups())
                break
        if new is None:
            continue
        if new in renamed:
            raise WeightsError(
                f"network.weights: {came_from[new]} and {name} of {file} both become {new}; "
                "change network.weights.rename"
            )
        renamed[new], came_from[new] = tensor, name
    return renamed, list(unused)


def _filled(target: str, taken: Sequence[str]) -> str:
    """Return a new name: the stars replaced by what they stand for, in order."""
    pieces = _STAR.split(target)
    return "".join(piece + text for piece, text in zip(pieces, [*taken, ""], strict=True))


def _expression(pattern: str) -> re.Pattern[str]:
    text = ""
    for piece in re.split(r"(\*\*|\*)", pattern):
        text += {"*": r"([^.]*)", "**": r"(.*)"}.get(piece, re.escape(piece))
    return re.compile(text)


def _without_backbone(tensors: dict[str, Tensor], ours: set[str]) -> dict[str, Tensor]:
    """Return the tensors without a ``backbone.`` that the network's names do not have."""
    prefix = "backbone."
    if not any(name.startswith(prefix) for name in tensors) or any(
        name.startswith(prefix) for name in ours
    ):
        return tensors
    stripped = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return stripped if len(stripped) == len(tensors) else tensors


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
    """Return the name -> tensor mapping in what a file holds."""
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
