"""Draws of augmentations: for each batch, from one generator by name."""

import hashlib

import numpy as np
import torch
from torch import Generator, Tensor

from attnsearch.blocks.ranks import Share


class Draws:
    """Draws for a batch, from one generator per name.

    Args:
        images: The batch (B, C, H, W), or a rank's part of it.
        generator: Advances by one step.
        share: Which part; None for all of it.
    """

    def __init__(self, images: Tensor, generator: Generator, share: Share | None = None) -> None:
        self.images = images
        self.share = None if share is None or share.ranks.count == 1 else share
        self._count = len(images) if self.share is None else self.share.size
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
        return self._own(torch.rand(self._count, columns, generator=self.generator(name)))

    def symmetric(self, name: str, columns: int = 1) -> Tensor:
        """Return (B,) or (B, columns) in [-1, 1), on the host."""
        draws = 2 * self.uniform(name, columns) - 1
        return draws[:, 0] if columns == 1 else draws

    def sign(self, name: str) -> Tensor:
        """Return (B,) of -1 and 1, on the host."""
        return torch.where(self.uniform(name, 1)[:, 0] < 0.5, -1.0, 1.0)

    def whole(self, name: str, most: int) -> Tensor:
        """Return (B, 2) of whole numbers from -most to most, on the host."""
        drawn = torch.randint(-most, most + 1, (self._count, 2), generator=self.generator(name))
        return self._own(drawn).float()

    def points(self, name: str, side: int) -> Tensor:
        """Return (B, 2, side, side) of standard normal numbers, on the host."""
        shape = (self._count, 2, side, side)
        return self._own(torch.randn(shape, generator=self.generator(name)))

    def normal(self, name: str) -> Tensor:
        """Return (B, C, H, W) of standard normal numbers, on the images' device."""
        images = self.images
        draws, shape = self.generator(name, images.device), (self._count, *images.shape[1:])
        return self._own(
            torch.randn(shape, generator=draws, device=images.device, dtype=images.dtype)
        )

    def of_batch(self, name: str) -> np.random.Generator:
        """Return a generator for what a batch draws once."""
        return np.random.default_rng(self.seed(name))

    def _own(self, drawn: Tensor) -> Tensor:
        """Return what was drawn for the images that are here; each rank draws for all."""
        return drawn if self.share is None else drawn[self.share.rows.to(drawn.device)]
