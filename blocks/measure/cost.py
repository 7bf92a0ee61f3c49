"""What a network costs: parameters, multiply-accumulates, latency, memory of a training step.

None of these functions changes the network or draws from the global random generators: they work
on a copy of it.
"""

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, bmm_flop

from attnsearch.blocks import meta_device
from attnsearch.blocks.build import isolated_rng
from attnsearch.blocks.lean_torch import torch_threads

# State that an optimiser keeps for each parameter: momentum; first and second moment.
OPTIMIZER_SLOTS = {"sgd": 1, "adamw": 2}
_MEGABYTE = 1e6
_PASSES = 50  # more of them leave the median's error as it is: 0.5 % between repeats
# Up to where a network is counted with numbers: 0.1 s of one thread, and megabytes of attention.
_SMALL_PIXELS, _SMALL_PRODUCT = 1024, 2e10
# The counter knows the products that return a new tensor, and misses their in-place form. What it
# does not know it takes apart; in resizing it would find no product, by way of Python and sympy.
_KNOWN = {torch.ops.aten.baddbmm_: lambda _, a, b, **kwargs: bmm_flop(a, b)} | {
    resize.default: lambda *args, **kwargs: 0
    for resize in (torch.ops.aten.upsample_nearest2d, torch.ops.aten.upsample_bilinear2d)
}


def count_params(network: nn.Module) -> int:
    """Return number of parameters that inference uses: all but those of auxiliary heads."""
    return sum(
        parameter.numel()
        for name, parameter in network.named_parameters()
        if not name.startswith("auxiliary.")
    )


def count_macs(network: nn.Module, input_shape: Sequence[int]) -> int:
    """Return multiply-accumulates of one image's forward pass in evaluation mode.

    Counted are convolutions and matrix products, those of attention included (also through
    scaled_dot_product_attention and einsum). Not counted, as usual, are biases, normalisation,
    activations, pooling and other elementwise work.

    Args:
        network: Any module.
        input_shape: (channels, height, width) of an image.
    """

    def count(device: str) -> int:
        copied = _copy(network, device).eval()
        counter = FlopCounterMode(display=False, custom_mapping=_KNOWN)
        # Not in inference mode, in which products come to the counter as they are written, and it
        # takes them apart in Python, by way of sympy.
        with isolated_rng(), torch.no_grad(), _plain_attention(), counter:
            copied(torch.zeros(1, *input_shape, device=device))
        return counter.get_total_flops() // 2

    # The meta device goes through Python for each operation, and loads sympy for the first.
    pixels = math.prod(input_shape[1:])
    small = pixels <= _SMALL_PIXELS and pixels * count_params(network) <= _SMALL_PRODUCT
    if small and not any(parameter.is_meta for parameter in network.parameters()):
        with torch_threads(1):
            return count("cpu")
    return _without_numbers(count)


def latency(
    network: nn.Module,
    input_shape: Sequence[int],
    device: str | torch.device = "cpu",
    batch_size: int = 1,
    seconds: float = 0.5,
) -> dict[str, float]:
    """Measure the time of a forward pass in evaluation mode, in milliseconds.

    Three passes warm up; then passes are timed one by one, at least five, until there are fifty
    or the time is up.
    What else runs on the device meanwhile is measured with it.

    Args:
        network: Any module.
        input_shape: (channels, height, width) of an image.
        device: Where to run.
        batch_size: Images in a pass.
        seconds: How long to measure.

    Returns:
        The median as `latency_ms`, and the quartiles as `latency_low_ms` and `latency_high_ms`.
    """
    device = torch.device(device)
    copied = _copy(network, device).eval()
    images = torch.zeros(batch_size, *input_shape, device=device)
    times: list[float] = []
    with isolated_rng(), torch.inference_mode():
        for _ in range(3):
            copied(images)
        end = time.perf_counter() + seconds
        while len(times) < 5 or (len(times) < _PASSES and time.perf_counter() < end):
            _synchronize(device)
            start = time.perf_counter()
            copied(images)
            _synchronize(device)
            times.append(1e3 * (time.perf_counter() - start))
    low, median, high = statistics.quantiles(times, n=4)
    return {"latency_ms": median, "latency_low_ms": low, "latency_high_ms": high}


def memory_mb(
    network: nn.Module,
    input_shape: Sequence[int],
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    optimizer: str = "sgd",
) -> float:
    """Return memory of a training step in float32, in megabytes (10^6 bytes).

    On CUDA it is measured: the peak of allocated memory over two steps of forward, backward and
    update, above what was allocated before. Elsewhere, and where the card has no room for a step,
    it is computed from shapes, without running anything, as what a step must hold when its forward
    pass ends: parameters, their gradients and the optimiser's state, buffers, images, and every
    tensor saved for the backward pass (a saved view counts its memory, once). Workspace of single
    operations comes on top.

    Args:
        network: Any module that maps images (B, channels, height, width) to logits.
        input_shape: (channels, height, width) of an image.
        batch_size: Images in a step.
        device: Where training will run.
        optimizer: ``sgd`` (with momentum) or ``adamw``.
    """
    device = torch.device(device)
    if device.type == "cuda":
        with suppress(torch.cuda.OutOfMemoryError):
            measured = _measured_memory(network, input_shape, batch_size, device, optimizer)
            return measured / _MEGABYTE
    trained = [tensor for tensor in network.parameters() if tensor.requires_grad]
    gradients = sum(tensor.numel() * tensor.element_size() for tensor in trained)

    def held(device: str) -> int:
        copied = _copy(network, device).train()
        images = torch.zeros(batch_size, *input_shape, device=device)
        saved = _Saved([*copied.parameters(), *copied.buffers(), images])
        with isolated_rng(), torch.enable_grad(), saved:
            copied(images)
        return saved.bytes

    slots = 1 + OPTIMIZER_SLOTS[optimizer]
    return (_without_numbers(held) + gradients * slots) / _MEGABYTE


def costs(
    network: nn.Module,
    input_shape: Sequence[int],
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 64,
    optimizer: str = "sgd",
) -> dict[str, float]:
    """Count params and macs, and memory_mb of a training step; `latency` is measured apart.

    Args:
        network: Any module.
        input_shape: (channels, height, width) of an image.
        device: Where training will run.
        batch_size: Images in a training step.
        optimizer: ``sgd`` or ``adamw``.
    """
    return {
        "params": count_params(network),
        "macs": count_macs(network, input_shape),
        "memory_mb": memory_mb(network, input_shape, batch_size, device, optimizer),
    }


class _Saved(saved_tensors_hooks):
    """Adds up the memory behind the tensors that autograd saves, each piece of memory once."""

    def __init__(self, held: Sequence[Tensor]) -> None:
        super().__init__(self._pack, lambda tensor: tensor)
        self.bytes = 0
        self.kept: dict[int, Tensor] = {}  # so that no memory is handed out again and missed
        for tensor in held:
            self._pack(tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.kept:
            self.kept[storage._cdata] = tensor.detach()
            self.bytes += storage.nbytes()
        return tensor.detach()  # a graph that saved the tensor itself would never be freed


def _without_numbers(measure: Callable[[str], int]) -> int:
    """Return what a function gives on the meta device, or where that fails on the CPU.

    Code that needs numbers cannot run on the meta device; a real error comes again.
    """
    meta_device.load()
    with suppress(Exception):
        return measure("meta")
    return measure("cpu")


def _measured_memory(
    network: nn.Module,
    input_shape: Sequence[int],
    batch_size: int,
    device: torch.device,
    optimizer: str,
) -> int:
    """Return peak of two training steps on a CUDA device, in bytes."""
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    with isolated_rng(), torch.random.fork_rng([device]), torch.enable_grad():
        copied = _copy(network, device).train()
        stepper: torch.optim.Optimizer = torch.optim.AdamW(copied.parameters(), lr=0.0)
        if optimizer == "sgd":
            stepper = torch.optim.SGD(copied.parameters(), lr=0.0, momentum=0.9)
        images = torch.zeros(batch_size, *input_shape, device=device)
        torch.cuda.reset_peak_memory_stats(device)
        for _ in range(2):
            stepper.zero_grad()
            logits = copied(images)
            targets = torch.zeros_like(logits[:, 0], dtype=torch.long)
            torch.autograd.backward(F.cross_entropy(logits, targets))
            stepper.step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before


def _copy(network: nn.Module, device: str | torch.device) -> nn.Module:
    """Return a copy of a network on a device; one on the meta device never touches the numbers."""
    memo: dict[int, object] = {}
    for module in network.modules():
        # What a block left of its last training step hangs on that step's graph.
        if isinstance(side := getattr(module, "side", None), dict):
            memo[id(side)] = {}
    for tensor in [*network.parameters(), *network.buffers()]:
        moved = tensor.detach().to(device, copy=True)
        if isinstance(tensor, nn.Parameter):
            moved = nn.Parameter(moved, requires_grad=tensor.requires_grad)
        memo[id(tensor)] = moved
    return copy.deepcopy(network, memo)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention by plain matrix products, which the counter knows on every device."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
