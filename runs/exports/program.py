"""Export as a program of `torch.export`, compared with the network it came from.

`torch.export.load("model.pt2").module()` runs it with PyTorch alone.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from attnsearch.runs.exports.onnx import TOLERANCE, example_images, far, quiet, reason
from attnsearch.runs.exports.weights import ExportError
from attnsearch.runs.whole import whole

FACTS = "interface.json"  # beside the program, in its file


def export_program(
    network: nn.Module, path: Path, input_shape: Sequence[int], facts: Mapping[str, str]
) -> None:
    """Write a network as a program: images (B, C, H, W), already normalised, to logits, any B.

    What was written is read back and compared with the network, for batches of 1 and 3.

    Args:
        network: Not changed; exported in evaluation mode.
        path: One file, written whole or not at all.
        input_shape: (C, H, W).
        facts: Go into the file as `interface.json`, which `torch.export.load` gives back as
            `extra_files`.

    Raises:
        ExportError: If torch cannot export the network, or its outputs differ by more than
            `TOLERANCE` of the largest logit.
    """
    network = copy.deepcopy(network).cpu().eval()
    try:
        with whole(path) as new, quiet(), torch.no_grad():
            program = torch.export.export(
                network,
                (example_images(2, input_shape),),  # a batch of one is taken for a constant
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            )
            with new.open("wb") as stream:
                torch.export.save(program, stream, extra_files={FACTS: json.dumps(dict(facts))})
            with new.open("rb") as stream:
                module = torch.export.load(stream).module()
            for count in (1, 3):
                images = example_images(count, input_shape)
                difference = far(module(images), network(images))
                if not difference <= TOLERANCE:
                    raise ExportError(
                        f"{path.name}: outputs of the program differ from the network's by "
                        f"{difference:.2g} of the largest logit, more than {TOLERANCE:g}; it was "
                        f"not written"
                    )
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(
            f"{path}: torch.export cannot write this network: {reason(error)}"
        ) from error
