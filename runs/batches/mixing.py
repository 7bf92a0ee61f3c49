"""Batches whose images are mixed with one another, and their labels alike.

`mixup` (Zhang et al. 2018, https://arxiv.org/abs/1710.09412) adds to l times an image 1 - l times
another one. `cutmix` (Yun et al. 2019, https://arxiv.org/abs/1905.04899) puts a rectangle of the
other into it, of 1 - l of the area as far as it lies within the image. In both l is drawn for a
batch from Beta(a, a), the other image is another of the batch, and the label is l times the one's
and 1 - l times the other's. Where both are on, each batch takes one of them, with equal chance.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from attnsearch.runs.batches.draws import Draws
from attnsearch.runs.batches.waiting import uploaded

KINDS = ("mixup", "cutmix")


def mixed(
    images: Tensor, labels: Tensor, classes: int, spec: Mapping[str, Any], draws: Draws
) -> tuple[Tensor, Tensor]:
    """Mix the images of a batch.

    Args:
        images: (B, C, H, W).
        labels: (B,) of int64, or of several classes an image (B, K) of 0 and 1.
        classes: K.
        spec: `data.augment`, with at least one of `KINDS`.
        draws: Of the batch.

    Returns:
        The images, and the share of each class in each (B, K) of float32.
    """
    if draws.share is not None:  # partners are of the whole batch
        images, labels = draws.share.whole(images), draws.share.whole(labels)
    chance = draws.of_batch("mixing")
    kinds = [kind for kind in KINDS if kind in spec]
    kind = kinds[int(chance.random() * len(kinds))]
    share = float(chance.beta(spec[kind], spec[kind]))
    order = torch.randperm(len(images), generator=draws.generator("partners"))
    partners = uploaded(order, images.device)
    if kind == "mixup":
        images = share * images + (1 - share) * images[partners]
    else:
        height, width = images.shape[2:]
        side = (1 - share) ** 0.5
        top, bottom = _span(chance.random(), side, height)
        left, right = _span(chance.random(), side, width)
        share = 1 - (bottom - top) * (right - left) / (height * width)
        whole = images
        images = whole.clone()
        images[:, :, top:bottom, left:right] = whole[partners, :, top:bottom, left:right]
    truth = (functional.one_hot(labels, classes) if labels.dim() == 1 else labels).float()
    truth = share * truth + (1 - share) * truth[partners]
    if draws.share is not None:
        own = uploaded(draws.share.rows, images.device)
        return images[own], truth[own]
    return images, truth


def _span(center: float, side: float, size: int) -> tuple[int, int]:
    """Return from where to where a side of a rectangle goes, cut off at the image's border."""
    half, place = int(side * size) // 2, int(center * size)
    return max(0, place - half), min(size, place + half)
