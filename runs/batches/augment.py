"""Random changes of training images, a batch at a time, on the device that trains.

    data:
      augment: {crop: 2, flip: true, rotate: 10, contrast: 0.2}

| name | value | what happens to each image |
| --- | --- | --- |
| `crop` | pixels | shifted by whole pixels up to this far each way: zero padding, then a crop |
| `resized_crop` | 0..1 | a crop of an area drawn from this fraction to 1, at the image's size |
| `crop_ratio` | 4/3 | with resized_crop: its sides stretched by up to this ratio, log-uniform |
| `flip` | true | mirrored left and right, with probability 1/2 |
| `vflip` | true | mirrored up and down, with probability 1/2 |
| `rotate` | 0..180 degrees | turned by up to this angle either way |
| `scale` | 0..0.9 | zoomed by a factor of 1 - scale to 1 + scale |
| `translate` | 0..0.5 | shifted by up to this fraction of the side each way |
| `elastic` | 0..0.2 | bent: 4x4 points move by normal draws with this deviation, in sides |
| `brightness` | 0..1 | times a factor of 1 - brightness to 1 + brightness |
| `contrast` | 0..1 | its distance to its mean times a factor of 1 - contrast to 1 + contrast |
| `saturation` | 0..1 | its distance to grey times a factor of 1 - saturation to 1 + saturation |
| `hue` | 0..0.5 | its colours turned by up to this part of the circle either way, in YIQ |
| `noise` | 0..1 | Gaussian noise of this standard deviation added, in units of the full range |
| `erase` | 0..0.5 | one rectangle of up to this fraction of the area filled with the mean |
| `erase_chance` | 1 | with erase: the probability of that |
| `erase_ratio` | 2 | with erase: the sides' ratio is at most this |
| `policy` | a name | see `policies`; before brightness |
| `mixup`, `cutmix` | above 0 | see `mixing`; after all others |

Draws are uniform where nothing else is said. Those from `crop` to `elastic` are one map, sampled
once, bilinearly, with zeros (black) outside of the image; they act in the order resized crop,
mirror, zoom, turn, shift, bend; between the points that `elastic` moves (Ronneberger et al. 2015,
arXiv:1505.04597) the movement is bicubic. The others follow in the order of the table, `policy`
first. Pixel values may then lie a little outside of 0..1. Masks go through the same map, each
pixel taking the nearest one's class; the others leave them as they are.

Each name draws from a generator of its own, derived from the one given: switching one augmentation
on or off leaves the draws of the others as they are, so that runs pair well.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from attnsearch.blocks.ranks import Share
from attnsearch.runs.batches.draws import Draws
from attnsearch.runs.batches.mixing import KINDS, mixed
from attnsearch.runs.batches.policies import GREY, blended, grey, with_policy
from attnsearch.runs.batches.waiting import uploaded

GEOMETRIC = ("crop", "resized_crop", "flip", "vflip", "rotate", "scale", "translate", "elastic")
ELASTIC_POINTS = 4
ERASE_RATIO = 2.0  # the sides of an erased rectangle are at most this ratio apart
CROP_RATIO = 4 / 3  # and those of a resized crop, as Szegedy et al. 2014 (arXiv:1409.4842) draw it
CROP_TRIES = 10  # for a crop that lies within the image
# Brightness and two colours (YIQ) of red, green and blue: NTSC's.
YIQ = (GREY, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


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
        return self._change(images, None, Draws(images, generator), 0)[0]

    def mixed(
        self,
        images: Tensor,
        labels: Tensor,
        classes: int,
        generator: Generator,
        share: Share | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Change images, and mix them with one another where that is switched on.

        Args:
            images: As for a call.
            labels: (B,) of int64, or of several classes an image (B, K) of 0 and 1.
            classes: K.
            generator: As for a call, with the same draws.
            share: Which part of a batch they are; None for all of it.

        Returns:
            The images, and the labels as they are, or the share of each class (B, K).
        """
        draws = Draws(images, generator, share)
        images, _ = self._change(images, None, draws, 0)
        if any(kind in self.spec for kind in KINDS):
            return mixed(images, labels, classes, self.spec, draws)
        return images, labels

    def both(
        self,
        images: Tensor,
        masks: Tensor,
        generator: Generator,
        outside: int,
        share: Share | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Change images and their masks alike.

        Args:
            images: As for a call.
            masks: (B, H, W) of int64, not modified.
            generator: As for a call, with the same draws.
            outside: What masks hold where the map reaches outside of the image.
            share: As for `mixed`.
        """
        draws = Draws(images, generator, share)
        images, changed = self._change(images, masks, draws, outside)
        assert changed is not None
        return images, changed

    def _change(
        self, images: Tensor, masks: Tensor | None, draws: Draws, outside: int
    ) -> tuple[Tensor, Tensor | None]:
        if any(name in self.spec for name in GEOMETRIC):
            grid = self._grid(images, draws)
            images = functional.grid_sample(images, grid, align_corners=False)
            if masks is not None:
                masks = _sample_masks(masks, grid, outside)
        if "policy" in self.spec:
            images = with_policy(images, self.spec, draws)
        for name, change in COLOURS.items():
            if name in self.spec:
                images = change(images, 1 + self.spec[name] * draws.symmetric(name))
        if "noise" in self.spec:
            images = images + self.spec["noise"] * draws.normal("noise")
        if "erase" in self.spec:
            chance = None
            if "erase_chance" in self.spec:
                chance = draws.uniform("erase_chance", 1)[:, 0] < self.spec["erase_chance"]
            ratio = self.spec.get("erase_ratio", ERASE_RATIO)
            images = _erase(images, self.spec["erase"], ratio, draws.uniform("erase", 4), chance)
        return images, masks

    def _grid(self, images: Tensor, draws: Draws) -> Tensor:
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
        if "resized_crop" in spec:
            ratio = spec.get("crop_ratio", CROP_RATIO)
            tries = draws.uniform("resized_crop", 2 * CROP_TRIES + 2)
            center, size = _windows(tries, spec["resized_crop"], ratio, images.shape[2:])
            grid = grid * uploaded(size, images.device)[:, None, None]
            grid = grid + uploaded(center, images.device)[:, None, None]
            # Between the border and its pixels' centres there is no black to blend with.
            inner = 1 - 1 / torch.tensor([images.shape[3], images.shape[2]])
            inner = uploaded(inner, images.device)
            grid = torch.where(grid.abs() <= 1, grid.clamp(-inner, inner), grid)
        return grid.to(images.dtype)


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


def _saturate(images: Tensor, factor: Tensor) -> Tensor:
    factor = uploaded(factor.to(images.dtype), images.device)
    return blended(images, grey(images), factor[:, None, None, None])


def _turn_hue(images: Tensor, factor: Tensor) -> Tensor:
    """Turn the colours by 2 pi (factor - 1), at the same brightness; grey images stay."""
    if images.shape[1] == 1:
        return images
    yiq = torch.tensor(YIQ)
    angle = 2 * math.pi * (factor - 1)
    turn = torch.eye(3).repeat(len(factor), 1, 1)
    turn[:, 1, 1], turn[:, 1, 2] = angle.cos(), -angle.sin()
    turn[:, 2, 1], turn[:, 2, 2] = angle.sin(), angle.cos()
    change = (torch.linalg.inv(yiq) @ turn @ yiq).to(images.dtype)
    return (uploaded(change, images.device) @ images.flatten(2)).view_as(images)


COLOURS = {
    "brightness": _brighten,
    "contrast": _contrast,
    "saturation": _saturate,
    "hue": _turn_hue,
}


def _windows(
    draws: Tensor, least: float, ratio: float, size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return centres and half sides (B, 2), x and y, of crops, where the image is -1 to 1.

    The first of several tries that lies within the image; otherwise its middle, as much of it as
    the ratio allows.

    Args:
        draws: (B, 2 * CROP_TRIES + 2) in [0, 1): areas, ratios, and the place in x and y.
        least: Smallest area, as a fraction of the image's.
        ratio: Largest of width to height, and of height to width.
        size: (H, W) of the image.
    """
    height, width = size
    areas, ratios = draws[:, :CROP_TRIES], draws[:, CROP_TRIES:-2]
    area = (least + (1 - least) * areas) * height * width
    stretch = ratio ** (2 * ratios - 1)
    sides = torch.stack([(area * stretch).sqrt(), (area / stretch).sqrt()], 2)
    middle = torch.tensor([min(width, height * ratio), min(height, width * ratio)])
    fits = (sides <= torch.tensor([width, height])).all(2)
    first = sides[torch.arange(len(sides)), fits.int().argmax(1)]
    chosen = torch.where(fits.any(1, keepdim=True), first, middle)
    half = chosen / torch.tensor([width, height])
    place = torch.where(fits.any(1, keepdim=True), 2 * draws[:, -2:] - 1, 0.0)
    return place * (1 - half), half


def _erase(
    images: Tensor, most: float, ratio: float, draws: Tensor, chance: Tensor | None
) -> Tensor:
    """Fill one rectangle of each image with the image's mean, per channel.

    Zhong et al., Random Erasing Data Augmentation (arXiv:1708.04896).

    Args:
        images: (B, C, H, W).
        most: Largest area, as a fraction of the image's.
        ratio: Largest of the sides.
        draws: (B, 4) in [0, 1): area, aspect ratio, and place in x and y.
        chance: (B,), whether an image has one; None for all.
    """
    height, width = images.shape[2:]
    area, aspect, left, top = draws.unbind(1)
    side = (most * area * height * width).sqrt()
    stretch = ratio ** (aspect - 0.5)
    tall, wide = (side * stretch).round(), (side / stretch).round()
    tall, wide = tall.clamp(max=height), wide.clamp(max=width)
    top, left = ((height - tall + 1) * top).floor(), ((width - wide + 1) * left).floor()
    inside = _between(top, tall, height)[:, :, None] & _between(left, wide, width)[:, None, :]
    if chance is not None:
        inside &= chance[:, None, None]
    mean = images.mean((2, 3), keepdim=True)
    return torch.where(uploaded(inside[:, None], images.device), mean, images)


def _between(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return (B, size): which positions lie in [start, start + length)."""
    position = torch.arange(size)
    return (position >= start[:, None]) & (position < (start + length)[:, None])
