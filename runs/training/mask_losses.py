"""Losses of masks: logits (B, K, H, W) against class indices (B, H, W), 255 ignored.

    ce        mean cross-entropy over the pixels; with two classes the binary cross-entropy of the
              difference of their logits
    dice      1 - mean over classes of (2 sum p t + 1) / (sum p + sum t + 1), sums over the batch's
              pixels: Milletari et al. 2016, https://arxiv.org/abs/1606.04797, with linear
              denominator; with two classes of the second alone
    ce_dice   their sum, the default; what DCRNet and many others train with
    focal     (1 - p)^2 times the cross-entropy: Lin et al. 2017, https://arxiv.org/abs/1708.02002

`train.class_weights` and `train.label_smoothing` hold for the cross-entropy. With
`train.boundary_weight: w` each pixel of the cross-entropy weighs 1 + w times the difference
between its class's share around it and itself, so that borders count more: Wei et al. 2020, F3Net,
https://arxiv.org/abs/1911.11445, whose w is 5 and whose window of 31 pixels of 352 is here the
same share of the image.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attnsearch.blocks.ranks import totals
from attnsearch.runs.data import DataSet
from attnsearch.runs.readers import IGNORED
from attnsearch.runs.training.losses import FOCUS, class_weights, own_loss

WINDOW = 31 / 352  # of the side, of a rectangle the shorter, so that it fits

MaskLoss = Callable[[Tensor, Tensor], Tensor]


def mask_loss(train: Mapping[str, Any], data: DataSet, device: torch.device) -> MaskLoss:
    """Return the loss that the config asks for.

    Args:
        train: The config's `train` section.
        data: Its training masks are counted for balanced weights.
        device: Where the loss will be computed.

    Raises:
        TrainError: If the number of class weights is not that of the classes.
    """
    name = train["loss"] or "ce_dice"
    if (own := own_loss(name)) is not None:
        return own
    assert data.train.masks is not None
    weights = class_weights(train["class_weights"], data, data.train.masks.resized, device)
    smoothing, boundary = train["label_smoothing"], train["boundary_weight"]

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        parts = []
        if name != "dice":
            parts.append(
                pixel_loss(logits, target, weights, smoothing, boundary, focal=name == "focal")
            )
        if name in ("dice", "ce_dice"):
            parts.append(dice_loss(logits, target))
        return torch.stack(parts).sum()

    return loss


def pixel_loss(
    logits: Tensor,
    target: Tensor,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
    boundary: float = 0.0,
    *,
    focal: bool = False,
) -> Tensor:
    """Return cross-entropy or focal loss, a mean over the pixels that count.

    Args:
        logits: (B, K, H, W).
        target: (B, H, W).
        weights: (K,) of the classes.
        smoothing: Of the labels.
        boundary: Additional weight of borders.
        focal: Whether pixels that are right already weigh less.
    """
    each = F.cross_entropy(
        logits,
        target,
        weight=weights,
        ignore_index=IGNORED,
        label_smoothing=smoothing,
        reduction="none",
    )
    counted = target != IGNORED
    filled = torch.where(counted, target, 0)
    scale = counted.to(logits.dtype)
    if boundary:
        scale = scale * (1 + boundary * border(filled, counted, logits.shape[1]))
    total = scale if weights is None else scale * weights[filled]
    if focal:
        right = logits.softmax(1).gather(1, filled[:, None])[:, 0]
        each = each * (1 - right) ** FOCUS
    # At least one, so that a batch that is ignored altogether has a loss of 0.
    loss, weight = totals((each * scale).sum(), total.sum())
    return loss / weight.clamp(min=1)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return 1 - the soft Dice of the batch, a mean over the classes that count.

    Args:
        logits: (B, K, H, W).
        target: (B, H, W).
    """
    classes = logits.shape[1]
    counted = (target != IGNORED)[:, None]
    probability = logits.softmax(1) * counted
    truth = F.one_hot(torch.where(counted[:, 0], target, 0), classes).permute(0, 3, 1, 2) * counted
    both = (probability * truth).sum((0, 2, 3))
    sizes = probability.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    both, sizes = totals(both, sizes)
    dice = (2 * both + 1) / (sizes + 1)
    return 1 - (dice[1] if classes == 2 else dice.mean())


def border(target: Tensor, counted: Tensor, classes: int) -> Tensor:
    """Return how far each pixel (B, H, W) is from its surroundings' class: 0 inside, 1 alone.

    Args:
        target: The class of each pixel (B, H, W).
        counted: Which pixels count (B, H, W); others are no surroundings.
        classes: Their number.
    """
    side = max(3, round(WINDOW * min(target.shape[1:])) // 2 * 2 + 1)
    present = counted[:, None].float()
    own = F.one_hot(target, classes).permute(0, 3, 1, 2) * present
    shares = F.avg_pool2d(torch.cat([own, present], 1), side, stride=1, padding=side // 2)
    same = shares.gather(1, target[:, None])[:, 0]
    return torch.where(counted, 1 - same / shares[:, -1].clamp(min=1e-9), 0)
