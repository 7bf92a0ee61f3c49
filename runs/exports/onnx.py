"""Export to ONNX, compared with the network it came from."""

import copy
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor, nn

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.machine import install_command
from attnsearch.runs.whole import whole

OPSET = 20  # the oldest with every operation the blocks need as one node (GridSample, Gelu)
LONGEST_REASON = 300  # characters of torch's explanation that a message quotes
TOLERANCE = 1e-4  # largest difference of a logit, relative to the largest logit


class OnnxError(AttnsearchError):
    """A network cannot be written as ONNX, or the file gives other outputs than the network."""


def export_onnx(
    network: nn.Module,
    path: str | Path,
    input_shape: Sequence[int],
    facts: Mapping[str, str] | None = None,
) -> float | None:
    """Write a network as ONNX: input `images` (B, C, H, W), output `logits` (B, K), any B.

    The input is what the network takes, so already normalised. Where onnxruntime is installed,
    its outputs are compared with the network's, for batches of 1 and 3.

    Args:
        network: Not changed; exported in evaluation mode.
        path: One file, written whole or not at all.
        input_shape: (C, H, W).
        facts: Go into the model's `metadata_props`.

    Returns:
        The largest difference of a logit relative to the largest logit, or None where onnxruntime
        is not installed.

    Raises:
        OnnxError: If the ONNX packages are missing, torch cannot translate the network, or the
            outputs differ by more than `TOLERANCE`.
    """
    missing = [name for name in ("onnx", "onnxscript") if not importlib.util.find_spec(name)]
    if missing:
        raise OnnxError(
            f"ONNX export needs {' and '.join(missing)}, not installed here; "
            f"run `{install_command('onnx')}`"
        )
    path = Path(path)
    network = copy.deepcopy(network).cpu().eval()
    # Two images: torch.export takes a batch of one for a constant.
    example = example_images(2, input_shape)
    try:
        with whole(path) as new:
            with quiet():
                torch.onnx.export(
                    network,
                    (example,),
                    new,
                    dynamo=True,
                    external_data=False,
                    opset_version=OPSET,
                    input_names=["images"],
                    output_names=["logits"],
                    # Not a named Dim: for that torch wants a proof of every guard on the batch's
                    # size; either way it refuses a network for one batch size only.
                    dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                    verbose=False,
                    optimize=False,  # fails on some splits of the batch; runtimes optimize anyway
                )
            if facts:
                _write_facts(new, facts)
            difference = _difference(network, new, input_shape)
            if difference is not None and not difference <= TOLERANCE:
                raise OnnxError(
                    f"{path.name}: outputs of the ONNX model differ from the network's by "
                    f"{difference:.2g} of the largest logit, more than {TOLERANCE:g}; it was not "
                    f"written"
                )
    except OnnxError:
        raise
    except Exception as error:
        raise OnnxError(
            f"{path}: torch cannot write this network as ONNX: {reason(error)}"
        ) from error
    return difference


def example_images(count: int, input_shape: Sequence[int]) -> Tensor:
    """Return a batch (count, C, H, W), always the same."""
    draws = torch.Generator().manual_seed(count)
    return torch.randn(count, *input_shape, generator=draws)


def _difference(network: nn.Module, path: Path, input_shape: Sequence[int]) -> float | None:
    if not importlib.util.find_spec("onnxruntime"):
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone: it warns of constants that it does not fold
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in (1, 3):
        images = example_images(count, input_shape)
        with torch.no_grad():
            expected = network(images)
        (outputs,) = session.run(["logits"], {"images": images.numpy()})
        worst = max(worst, far(torch.from_numpy(outputs), expected))
    return worst


def _write_facts(path: Path, facts: Mapping[str, str]) -> None:
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(facts))
    onnx.save(model, path)


def far(outputs: Tensor, expected: Tensor) -> float:
    """Return the largest difference of a logit, relative to the largest logit."""
    return float((outputs - expected).abs().max() / expected.abs().max().clamp(min=1e-6))


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's own progress lines and deprecation warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def reason(error: BaseException) -> str:
    """Return what made the exporter give up; its own message is a generic one."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
