"""Policies: for each image a few operations out of a list, on the device that trains.

`randaugment` (Cubuk et al. 2020, https://arxiv.org/abs/1909.13719): `policy_steps` operations, all
with the strength `policy_magnitude` out of 30. `trivial_augment` (Mueller and Hutter 2021,
https://arxiv.org/abs/2103.10158): one operation with a strength drawn from 0 to 30, in the wide
ranges. Moves, and the factors of colours, take either sign. What moves in is black; images are
turned and sheared about their centre and read bilinearly.

| operation | randaugment up to | trivial_augment up to |
| --- | --- | --- |
| `shear_x`, `shear_y` | 0.3 | 0.99 |
| `translate_x`, `translate_y` | 150/331 of the side | 32 pixels |
| `rotate` | 30 degrees | 135 degrees |
| `brightness`, `color`, `contrast`, `sharpness` | a factor of 1 +- 0.9 | 1 +- 0.99 |
| `posterize` | 4 bits left | 2 bits left |
| `solarize` | all inverted | all inverted |
| `identity`, `autocontrast`, `equalize` | | |
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from attnsearch.runs.batches.draws import Draws
from attnsearch.runs.batches.waiting import uploaded

LEVELS = 30
STEPS, MAGNITUDE = 2, 9  # of randaugment, where nothing is said
MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
FACTORS = ("brightness", "color", "contrast", "sharpness")
OPERATIONS = ("identity", *MOVES, *FACTORS, "posterize", "solarize", "autocontrast", "equalize")
GREY = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


def with_policy(images: Tensor, spec: Mapping[str, Any], draws: Draws) -> Tensor:
    """Change each image by operations of its own.

    Args:
        images: (B, C, H, W) in 0..1; not modified.
        spec: `data.augment`, with `policy`.
        draws: Of the batch.
    """
    wide = spec["policy"] == "trivial_augment"
    steps = 1 if wide else spec.get("policy_steps", STEPS)
    drawn = draws.uniform("policy", 3 * steps).view(len(images), steps, 3)
    for which, level, sign in (part.unbind(1) for part in drawn.unbind(1)):
        strength = torch.full_like(level, spec.get("policy_magnitude", MAGNITUDE) / LEVELS)
        if wide:
            strength = (level * (LEVELS + 1)).floor() / LEVELS
        signed = torch.where(sign < 0.5, -strength, strength)
        images = _step(images, (which * len(OPERATIONS)).long(), strength, signed, wide)
    return images.clamp(0, 1)


def _step(images: Tensor, which: Tensor, strength: Tensor, signed: Tensor, wide: bool) -> Tensor:
    """Apply to each image (B, ...) the operation `which` (B,)."""
    changed = images.clone()
    first, last = OPERATIONS.index(MOVES[0]), OPERATIONS.index(MOVES[-1])
    moving = (which >= first) & (which <= last)
    for name in ("moves", *OPERATIONS[last + 1 :]):
        chosen = moving if name == "moves" else which == OPERATIONS.index(name)
        rows = chosen.nonzero()[:, 0]  # on the host, where the draws are
        if not len(rows):
            continue
        index = uploaded(rows, images.device)
        some = images[index]
        if name == "moves":
            some = _moved(some, which[rows] - first, signed[rows], wide)
        else:
            levels = (signed if name in FACTORS else strength)[rows].to(images.dtype)
            some = CHANGES[name](some, uploaded(levels, images.device)[:, None, None, None], wide)
        changed.index_copy_(0, index, some)
    return changed


def _moved(images: Tensor, which: Tensor, level: Tensor, wide: bool) -> Tensor:
    """Shear, shift or turn images, each by one of `MOVES`."""
    height, width = images.shape[2:]
    shear, shift_x, shift_y, turn = (
        (0.99, 32.0, 32.0, 135.0) if wide else (0.3, width * 150 / 331, height * 150 / 331, 30.0)
    )
    part = functional.one_hot(which, len(MOVES)).float() * level[:, None]
    angle = math.radians(turn) * part[:, 4]
    # Where an output pixel is read, in pixels from the centre: rows x and y.
    x = torch.stack([angle.cos(), angle.sin() + shear * part[:, 0], shift_x * part[:, 2]], 1)
    y = torch.stack([-angle.sin() + shear * part[:, 1], angle.cos(), shift_y * part[:, 3]], 1)
    half = torch.tensor([width / 2, height / 2, 1])
    theta = torch.stack([x * half / half[0], y * half / half[1]], 1)
    grid = functional.affine_grid(
        uploaded(theta, images.device), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images, grid.to(images.dtype), align_corners=False)


def grey(images: Tensor) -> Tensor:
    """Return the brightness (B, 1, H, W) of images of one or three channels."""
    if images.shape[1] == 1:
        return images
    red, green, blue = (images[:, channel : channel + 1] for channel in range(3))
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue


def blended(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Return other images for a factor of 0, the images for 1, and beyond for more."""
    return other + (images - other) * factor


def _factor(level: Tensor, wide: bool) -> Tensor:
    return 1 + level * (0.99 if wide else 0.9)


def _brightness(images: Tensor, level: Tensor, wide: bool) -> Tensor:
    return (images * _factor(level, wide)).clamp(0, 1)


def _color(images: Tensor, level: Tensor, wide: bool) -> Tensor:
    return blended(images, grey(images), _factor(level, wide)).clamp(0, 1)


def _contrast(images: Tensor, level: Tensor, wide: bool) -> Tensor:
    mean = grey(images).mean((2, 3), keepdim=True)
    return blended(images, mean, _factor(level, wide)).clamp(0, 1)


def _sharpness(images: Tensor, level: Tensor, wide: bool) -> Tensor:
    """Blend with the image smoothed by 3x3 pixels, the middle one five times; borders stay."""
    smooth = images.clone()
    if min(images.shape[2:]) >= 3:
        nine = 9 * functional.avg_pool2d(images, 3, 1)
        smooth[:, :, 1:-1, 1:-1] = (nine + 4 * images[:, :, 1:-1, 1:-1]) / 13
    return blended(images, smooth, _factor(level, wide)).clamp(0, 1)


def _posterize(images: Tensor, level: Tensor, wide: bool) -> Tensor:
    """Keep the highest of 8 bits: 8 of them, down to 4 or 2."""
    step = 2 ** (level * (6 if wide else 4)).round()
    return ((images * 255).round() / step).floor() * step / 255


def _solarize(images: Tensor, level: Tensor, wide: bool) -> Tensor:
    """Invert what is as bright as a threshold that goes from above 1 down to 0."""
    return torch.where((images >= 1 - level) & (level > 0), 1 - images, images)


def _autocontrast(images: Tensor, level: Tensor, wide: bool) -> Tensor:
    """Stretch each channel over the whole range; one that is constant stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, (images - low) / torch.where(span > 0, span, 1), images)


def _equalize(images: Tensor, level: Tensor, wide: bool) -> Tensor:
    """Make the 256 levels of each channel equally frequent, as ImageOps.equalize of Pillow."""
    pixels = (images * 255).round().clamp(0, 255).long().flatten(2)
    bins = torch.arange(256, device=images.device).expand(*pixels.shape[:2], 256).contiguous()
    below = torch.searchsorted(
        pixels.sort(2).values.contiguous(), bins
    )  # how many pixels are darker
    brightest = (pixels == pixels.amax(2, keepdim=True)).sum(2, keepdim=True)
    step = (pixels.shape[2] - brightest) // 255
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(0, 255)
    equal = torch.where(step > 0, table.gather(2, pixels), pixels)
    return (equal.to(images.dtype) / 255).view_as(images)


CHANGES: dict[str, Callable[[Tensor, Tensor, bool], Tensor]] = {
    "brightness": _brightness,
    "color": _color,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
