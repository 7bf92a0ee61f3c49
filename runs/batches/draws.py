"""Draws of augmentations: for each batch, from one generator by name."""

import hashlib

import numpy as np
import torch
from torch import Generator, Tensor


class Draws:
    """Draws for a batch, from one generator per name.

    Args:
        images: The batch (B, C, H, W).
        generator: Advances by one step.
    """

    def __init__(self, images: Tensor, generator: Generator) -> None:
        self.images = images
        # The state is read on the host, so that a generator on a GPU does not make the host wait.
        self.state = hashlib.sha256(generator.get_state().numpy().tobytes())
        torch.rand(1, generator=generator, device=generator.device)

    def seed(self, name: str) -> int:
        """Return a seed of 63 bits."""
        state = self.state.copy()
        state.update(name.encode())
        return int.from_bytes(state.digest()[:8], "big") >> 1

    def generator(self, name: str, device: torch.device | str = "cpu") -> Generator:
        """Return a fresh generator."""
        return Generator(device).manual_seed(self.seed(name))

    def uniform(self, name: str, columns: int) -> Tensor:
        """Return (B, columns) in [0, 1), on the host."""
        return torch.rand(len(self.images), columns, generator=self.generator(name))

    def symmetric(self, name: str, columns: int = 1) -> Tensor:
        """Return (B,) or (B, columns) in [-1, 1), on the host."""
        draws = 2 * self.uniform(name, columns) - 1
        return draws[:, 0] if columns == 1 else draws

    def sign(self, name: str) -> Tensor:
        """Return (B,) of -1 and 1, on the host."""
        return torch.where(self.uniform(name, 1)[:, 0] < 0.5, -1.0, 1.0)

    def whole(self, name: str, most: int) -> Tensor:
        """Return (B, 2) of whole numbers from -most to most, on the host."""
        shape = (len(self.images), 2)
        return torch.randint(-most, most + 1, shape, generator=self.generator(name)).float()

    def points(self, name: str, side: int) -> Tensor:
        """Return (B, 2, side, side) of standard normal numbers, on the host."""
        shape = (len(self.images), 2, side, side)
        return torch.randn(shape, generator=self.generator(name))

    def normal(self, name: str) -> Tensor:
        """Return (B, C, H, W) of standard normal numbers, on the images' device."""
        images = self.images
        draws = self.generator(name, images.device)
        return torch.randn(images.shape, generator=draws, device=images.device, dtype=images.dtype)

    def of_batch(self, name: str) -> np.random.Generator:
        """Return a generator for what a batch draws once."""
        return np.random.default_rng(self.seed(name))
