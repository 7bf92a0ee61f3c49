"""Random changes of training images, a batch at a time, on the device that trains.

    data:
      augment: {crop: 2, flip: true, rotate: 10, contrast: 0.2}

| name | value | what happens to each image |
| --- | --- | --- |
| `crop` | pixels | shifted by whole pixels up to this far each way: zero padding, then a crop |
| `flip` | true | mirrored left and right, with probability 1/2 |
| `vflip` | true | mirrored up and down, with probability 1/2 |
| `rotate` | 0..180 degrees | turned by up to this angle either way |
| `scale` | 0..0.9 | zoomed by a factor of 1 - scale to 1 + scale |
| `translate` | 0..0.5 | shifted by up to this fraction of the side each way |
| `elastic` | 0..0.2 | bent: 4x4 points move by normal draws with this deviation, in sides |
| `brightness` | 0..1 | times a factor of 1 - brightness to 1 + brightness |
| `contrast` | 0..1 | its distance to its mean times a factor of 1 - contrast to 1 + contrast |
| `noise` | 0..1 | Gaussian noise of this standard deviation added, in units of the full range |
| `erase` | 0..0.5 | one rectangle of up to this fraction of the area filled with the mean |

Draws are uniform where nothing else is said. The first seven are one map, sampled once,
bilinearly, with zeros (black) outside of the image; they act in the order mirror, zoom, turn,
shift, bend; between the points that `elastic` moves (Ronneberger et al. 2015, arXiv:1505.04597)
the movement is bicubic. The others follow in the order of the table. Pixel values may then lie a
little outside of 0..1. Masks go through the same map, each pixel taking the nearest one's class;
the others leave them as they are.

Each name draws from a generator of its own, derived from the one given: switching one augmentation
on or off leaves the draws of the others as they are, so that runs pair well.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from attnsearch.runs.training.waiting import uploaded

GEOMETRIC = ("crop", "flip", "vflip", "rotate", "scale", "translate", "elastic")
ELASTIC_POINTS = 4
ERASE_ASPECT = 2.0  # the sides of an erased rectangle are at most this ratio apart


class Augmenter:
    """The augmentations of one config.

    Args:
        spec: `data.augment`: values by name. What is missing, 0 or false is off.
        image_size: (H, W) of the images.
    """

    def __init__(self, spec: Mapping[str, Any], image_size: tuple[int, int]) -> None:
        self.spec = {name: value for name, value in spec.items() if value}
        self.image_size = image_size

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Change each image of a batch by draws of its own.

        Args:
            images: (B, C, H, W) of floats in 0..1, on any device; not modified.
            generator: Advances by one step, whatever the spec. On the CPU it gives the same draws
                to images on any device, except for `noise`, which is drawn on theirs.

        Returns:
            (B, C, H, W), the same tensor where nothing is switched on.
        """
        return self._change(images, None, generator, 0)[0]

    def both(
        self, images: Tensor, masks: Tensor, generator: Generator, outside: int
    ) -> tuple[Tensor, Tensor]:
        """Change images and their masks alike.

        Args:
            images: As for a call.
            masks: (B, H, W) of int64, not modified.
            generator: As for a call, with the same draws.
            outside: What masks hold where the map reaches outside of the image.
        """
        images, changed = self._change(images, masks, generator, outside)
        assert changed is not None
        return images, changed

    def _change(
        self, images: Tensor, masks: Tensor | None, generator: Generator, outside: int
    ) -> tuple[Tensor, Tensor | None]:
        draws = _Draws(images, generator)
        if any(name in self.spec for name in GEOMETRIC):
            grid = self._grid(images, draws)
            images = functional.grid_sample(images, grid, align_corners=False)
            if masks is not None:
                masks = _sample_masks(masks, grid, outside)
        for name, change in (("brightness", _brighten), ("contrast", _contrast)):
            if name in self.spec:
                images = change(images, 1 + self.spec[name] * draws.symmetric(name))
        if "noise" in self.spec:
            images = images + self.spec["noise"] * draws.normal("noise")
        if "erase" in self.spec:
            images = _erase(images, self.spec["erase"], draws.uniform("erase", 4))
        return images, masks

    def _grid(self, images: Tensor, draws: "_Draws") -> Tensor:
        """Say where each output position is read in the input, (B, H, W, 2) as for `grid_sample`.

        In pixels from the image's centre: input = mirror(turn back(output - shift) / zoom).
        """
        height, width = self.image_size
        spec, count = self.spec, len(images)
        one = torch.ones(count)
        mirror_x = draws.sign("flip") if "flip" in spec else one
        mirror_y = draws.sign("vflip") if "vflip" in spec else one
        zoom = 1 + spec["scale"] * draws.symmetric("scale") if "scale" in spec else one
        angle = torch.zeros(count)
        if "rotate" in spec:
            angle = math.radians(spec["rotate"]) * draws.symmetric("rotate")
        shift = torch.zeros(count, 2)
        if "crop" in spec:
            shift = shift + draws.whole("crop", spec["crop"])
        if "translate" in spec:
            side = torch.tensor([width, height]) * spec["translate"]
            shift = shift + side * draws.symmetric("translate", 2)
        cos, sin = angle.cos(), angle.sin()
        back = torch.stack(
            [
                torch.stack([mirror_x * cos, mirror_x * sin], 1),
                torch.stack([-mirror_y * sin, mirror_y * cos], 1),
            ],
            1,
        )
        back = back / zoom[:, None, None]  # (B, 2, 2), rows x and y
        # grid_sample counts both sides as 2 long.
        half = torch.tensor([width, height]) / 2
        offset = -(back @ shift[:, :, None]) / half[:, None]
        theta = torch.cat([back * half / half[:, None], offset], 2)
        grid = functional.affine_grid(
            uploaded(theta, images.device), list(images.shape), align_corners=False
        )
        if "elastic" in spec:
            moves = 2 * spec["elastic"] * draws.points("elastic", ELASTIC_POINTS)
            moves = functional.interpolate(
                uploaded(moves, images.device), (height, width), mode="bicubic", align_corners=True
            )
            grid = grid + moves.permute(0, 2, 3, 1)
        return grid.to(images.dtype)


class _Draws:
    """Draws for a batch, from one generator per name."""

    def __init__(self, images: Tensor, generator: Generator) -> None:
        self.images = images
        # The state is read on the host, so that a generator on a GPU does not make the host wait.
        self.state = hashlib.sha256(generator.get_state().numpy().tobytes())
        torch.rand(1, generator=generator, device=generator.device)

    def generator(self, name: str, device: torch.device | str = "cpu") -> Generator:
        state = self.state.copy()
        state.update(name.encode())
        return Generator(device).manual_seed(int.from_bytes(state.digest()[:8], "big") >> 1)

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


def _sample_masks(masks: Tensor, grid: Tensor, outside: int) -> Tensor:
    """Read masks (B, H, W) at the nearest pixels, one more than a class, so that 0 is outside."""
    shifted = (masks + 1)[:, None].to(grid.dtype)
    sampled = functional.grid_sample(shifted, grid, mode="nearest", align_corners=False)
    sampled = sampled[:, 0].round().long() - 1
    return torch.where(sampled < 0, outside, sampled)


def _brighten(images: Tensor, factor: Tensor) -> Tensor:
    return images * uploaded(factor.to(images.dtype), images.device)[:, None, None, None]


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    mean = images.mean((1, 2, 3), keepdim=True)
    factor = uploaded(factor.to(images.dtype), images.device)
    return mean + (images - mean) * factor[:, None, None, None]


def _erase(images: Tensor, most: float, draws: Tensor) -> Tensor:
    """Fill one rectangle of each image with the image's mean, per channel.

    Zhong et al., Random Erasing Data Augmentation (arXiv:1708.04896), with a milder aspect ratio.

    Args:
        images: (B, C, H, W).
        most: Largest area, as a fraction of the image's.
        draws: (B, 4) in [0, 1): area, aspect ratio, and place in x and y.
    """
    height, width = images.shape[2:]
    area, aspect, left, top = draws.unbind(1)
    side = (most * area * height * width).sqrt()
    stretch = ERASE_ASPECT ** (aspect - 0.5)
    tall, wide = (side * stretch).round(), (side / stretch).round()
    tall, wide = tall.clamp(max=height), wide.clamp(max=width)
    top, left = ((height - tall + 1) * top).floor(), ((width - wide + 1) * left).floor()
    inside = _between(top, tall, height)[:, :, None] & _between(left, wide, width)[:, None, :]
    mean = images.mean((2, 3), keepdim=True)
    return torch.where(uploaded(inside[:, None], images.device), mean, images)


def _between(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return (B, size): which positions lie in [start, start + length)."""
    position = torch.arange(size)
    return (position >= start[:, None]) & (position < (start + length)[:, None])
