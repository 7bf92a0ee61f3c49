"""What keeps the blocks fast: few large tensors, nothing that waits, precision all the same."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from attnsearch.blocks.measure.cost import count_macs
from attnsearch.blocks.mechanisms.axial import AxialAttention
from attnsearch.blocks.mechanisms.axial_core import product_moments
from attnsearch.blocks.mechanisms.table import BLOCKS


class HostReads(TorchDispatchMode):
    """Notes the operations that make the host wait for a device."""

    waiting = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in self.waiting):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", BLOCKS)
def test_no_training_step_waits_for_the_device(name: str) -> None:
    block, x = BLOCKS[name](64), torch.randn(2, 64, 8, 8)
    with HostReads() as reads:
        for _ in range(2):
            block(x).sum().backward() if list(block.parameters()) else block(x)
        assert reads.seen == []
        float(x[0, 0, 0, 0])
    assert reads.seen


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_variances_of_products_survive_large_means(offset: float) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(5, 3, 2, 7) + offset, torch.randn(5, 3, 2, 9) - offset
    products = torch.einsum("mgcp,mgcq->mgpq", a.double(), b.double())
    variance, mean = torch.var_mean(products, (0, 2, 3), correction=0)
    actual_mean, actual_variance = product_moments(a, b)
    torch.testing.assert_close(actual_mean.double(), mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual_variance.double(), variance, rtol=1e-5, atol=1e-5)


def step(run, x: Tensor, w: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = run(x)
    (y.double() * w).sum().backward()
    results = [y.detach(), x.grad, *(p.grad for p in parameters)]
    return [result.double() for result in results if result is not None]


@pytest.mark.parametrize("settings", [{"gated": True}, {"position": False}], ids=str)
def test_axial_attention_in_bfloat16_is_as_close_as_its_formula(settings: dict, naive) -> None:
    """Distances to float64 under autocast: the whole output, and the input's gradient."""
    torch.manual_seed(0)
    block = AxialAttention(16, 16, heads=4, span=24, **settings)
    x, w = torch.randn(3, 16, 24, 6), torch.randn(3, 16, 24, 6, dtype=torch.float64)
    state = {name: value.detach().clone() for name, value in block.state_dict().items()}

    def formula(x: Tensor) -> Tensor:
        p = {n: v.to(x.dtype) if v.is_floating_point() else v for n, v in state.items()}
        return naive.axial_attention(x, p, heads=4, training=True, **settings)

    exact = step(formula, x.double(), w, [])
    with torch.autocast("cpu", torch.bfloat16):
        ours, plain = step(block, x, w, []), step(formula, x, w, [])
    for result, reference, expected in zip(ours, plain, exact, strict=True):
        allowed = 1.5 * (reference - expected).norm() + 1e-3 * expected.norm()
        assert (result - expected).norm() <= allowed


def saved(run, x: Tensor) -> int:
    """Bytes kept for the backward pass, each piece of memory once."""
    pieces: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        pieces[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        run(x.requires_grad_())
    return sum(tensor.untyped_storage().nbytes() for tensor in pieces.values())


def test_gated_axial_attention_keeps_one_map_of_weights(naive) -> None:
    block, x = AxialAttention(16, 16, span=64, gated=True), torch.randn(1, 16, 64, 40)
    p = dict(block.state_dict())
    p |= dict(block.named_parameters())
    weights = 4 * 40 * 8 * 64 * 64
    ours = saved(block, x)
    assert ours < 1.6 * weights
    plain = saved(lambda x: naive.axial_attention(x, p, gated=True, training=True), x)
    assert ours < 0.36 * plain


@pytest.mark.parametrize("position", [True, False])
def test_products_in_place_and_fused_are_counted(position: bool) -> None:
    C, G, H, W = 16, 8, 6, 5
    c = C // G
    attention = W * G * H * H * (c // 2 + c)  # q k and a v
    if position:
        attention += W * G * H * H * (c // 2 + c // 2 + c)
    block = AxialAttention(C, C, G, span=H, position=position)
    assert count_macs(block, (C, H, W)) == H * W * C * 2 * C + attention


def test_the_benchmark_measures_and_writes(tmp_path: Path) -> None:
    path = Path(__file__).parents[3] / "benchmarks" / "blocks.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_blocks", path)
    assert spec is not None and spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    threads = torch.get_num_threads()
    try:
        run = ["--block", "gc", "--shape", "2,32,6,6", "--quick", "--rounds", "2"]
        written = ["--json", f"{tmp_path}/rows.json", "--markdown", f"{tmp_path}/rows.md"]
        benchmark.main([*run, "--device", "cpu", *written])
    finally:
        torch.set_num_threads(threads)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["version"] for row in rows] == [
        *("naive", "block", "naive channels_last", "block channels_last")
    ]
    assert rows[0]["ratio"] == 1
    assert all(row["memory_mb"] > 0 and row["operations"] > 10 for row in rows)
    assert (tmp_path / "rows.md").read_text().count("\n") == 6
