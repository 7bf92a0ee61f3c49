"""What makes a training repeat: keyed random streams and deterministic algorithms.

A stream depends on (seed, purpose, epoch) and on nothing else: not on the architecture, not on
what ran before in the process, not on the other streams. So two architectures trained with the
same seed see the same images in the same order under the same augmentations, and an epoch can be
run again from a saved state without saving any generator.
"""

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from attnsearch.blocks.build import isolated_rng
from attnsearch.blocks.lean_torch import use_deterministic
from attnsearch.runs.training.progress import set_streams, streams

# Torch looks at it once, at a process's first product of matrices on a card, so it is set before
# any: for trainings whose repeats are equal. For recent cards it is torch's own choice.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def derive_seed(seed: int, *key: str | int) -> int:
    """Return a seed for one purpose: the first 63 bits of SHA-256 over `seed` and `key`."""
    text = "/".join(str(part) for part in (seed, *key))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, epoch: int) -> torch.Generator:
    """Return a fresh CPU generator for one purpose ("order", "augment", ...) of one epoch."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, epoch))


@contextmanager
def global_draws(
    seed: int, purpose: str, epoch: int, device: str | torch.device = "cpu"
) -> Iterator[None]:
    """Key the global generators by (seed, purpose, epoch), and restore them afterwards.

    For draws that take no generator, such as dropout's: torch's on the CPU and on `device`,
    numpy's and Python's.
    """
    device = torch.device(device)
    value = derive_seed(seed, purpose, epoch)
    with isolated_rng(value):
        if device.type != "cuda":
            yield
            return
        before = torch.cuda.get_rng_state(device)
        with torch.cuda.device(device):
            torch.cuda.manual_seed(value)
        try:
            yield
        finally:
            torch.cuda.set_rng_state(before, device)


def draw_apart(seed: int, *key: str | int) -> None:
    """Key the global generators anew, within `global_draws`, for one of several ranks."""
    value = derive_seed(seed, *key)
    torch.manual_seed(value)
    np.random.seed(value % 2**32)
    random.seed(value)


@contextmanager
def deterministic(device: str | torch.device, *, exact: bool = False) -> Iterator[None]:
    """Deterministic algorithms on `device`; torch's settings are restored afterwards.

    On the CPU all of torch's deterministic algorithms, so that repeats are equal bit for bit. On
    CUDA cuDNN is held to its deterministic kernels and does not choose by timing; operations
    without a deterministic kernel keep their fast one there, so repeats agree to rounding only.

    Args:
        device: Where is trained.
        exact: All deterministic algorithms on CUDA too. An operation that has none there raises a
            RuntimeError that names it.
    """
    cuda = torch.device(device).type == "cuda"
    cudnn = torch.backends.cudnn
    flags = cudnn.deterministic, cudnn.benchmark
    if cuda:
        cudnn.deterministic, cudnn.benchmark = True, False
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic  # typed as a module without attributes
    fill = settings.fill_uninitialized_memory
    if exact or not cuda:
        # On the CPU only a warning, since a user's block may use an operation without one.
        use_deterministic(True, warn_only=not cuda)
        # Filling helps to find reads of uninitialised memory and costs time at every allocation.
        settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = flags
        use_deterministic(enabled, warn_only=warn_only)
        settings.fill_uninitialized_memory = fill


class Surroundings:
    """What a training finds set in its process: random streams and torch's settings, as they are.

    Args:
        device: Where it trains.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._streams = streams(device)
        cudnn, settings = torch.backends.cudnn, torch.utils.deterministic
        self._flags = cudnn.deterministic, cudnn.benchmark
        enabled = torch.are_deterministic_algorithms_enabled()
        self._algorithms = enabled, torch.is_deterministic_algorithms_warn_only_enabled()
        self._fill = settings.fill_uninitialized_memory  # type: ignore[attr-defined]

    def restore(self) -> None:
        """Set all as it was."""
        set_streams(self._streams, self._device)
        cudnn, settings = torch.backends.cudnn, torch.utils.deterministic
        cudnn.deterministic, cudnn.benchmark = self._flags
        enabled, warn_only = self._algorithms
        use_deterministic(enabled, warn_only=warn_only)
        settings.fill_uninitialized_memory = self._fill  # type: ignore[attr-defined]
