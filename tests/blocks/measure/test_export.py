"""Blocks as graphs: torch.export, ONNX, and one compiled graph with its backward pass."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks.mechanisms.table import BLOCKS

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("ecrm", {"bank_size": 3}),
    ("axial", {"gated": True, "size": (9, 7)}),
    ("axial", {"position": False}),
    ("psa", {}),
    ("gc", {"fusion": ["add", "mul"]}),
    ("scconv", {}),
]
CONTROLS = [(name, {}) for name in BLOCKS if name not in {name for name, _ in SETTINGS}]


def prepared(name: str, params: dict[str, Any]) -> tuple[nn.Module, Tensor]:
    """A block that has trained a step, so that statistics and bank are filled."""
    torch.manual_seed(0)
    block, x = BLOCKS[name](64, **params), torch.randn(2, 64, 9, 7)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        block(x)
    return block.eval(), x


@pytest.mark.parametrize(
    ("name", "params"),
    [*SETTINGS, *(pytest.param(*control, marks=pytest.mark.slow) for control in CONTROLS)],
    ids=lambda v: str(v) if v else "",
)
def test_exports(name: str, params: dict[str, Any]) -> None:
    block, x = prepared(name, params)
    exported = torch.export.export(block, (x,)).module()
    torch.testing.assert_close(exported(x), block(x))


@pytest.mark.slow  # a minute: the exporter optimises every graph
@pytest.mark.parametrize(
    ("name", "params"), [*SETTINGS, *CONTROLS], ids=lambda v: str(v) if v else ""
)
def test_exports_to_onnx(name: str, params: dict[str, Any], tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    block, x = prepared(name, params)
    program = torch.onnx.export(block, (x,), dynamo=True, verbose=False)
    assert program is not None
    program.save(tmp_path / "block.onnx")
    session = runtime.InferenceSession(tmp_path / "block.onnx")
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    expected = block(x).detach().numpy()
    assert np.abs(y - expected).max() <= 2e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.slow  # minutes: the compiler builds C++ for each
@pytest.mark.parametrize(
    ("name", "params"), [*SETTINGS, *CONTROLS], ids=lambda v: str(v) if v else ""
)
def test_compiled_training_agrees(name: str, params: dict[str, Any]) -> None:
    torch.compiler.reset()
    eager, x = prepared(name, params)
    eager.double().train()
    compiled, _ = prepared(name, params)
    compiled.double().train()
    w = torch.randn(2, 64, 9, 7, dtype=torch.float64)
    results = []
    for block, run in ((eager, eager), (compiled, torch.compile(compiled, fullgraph=True))):
        given = x.double().requires_grad_()
        y = run(given)
        (y * w).sum().backward()
        gradients = [p.grad for p in block.parameters() if p.grad is not None]
        results.append([y.detach(), given.grad, *gradients, *block.buffers()])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
