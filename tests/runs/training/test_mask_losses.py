"""Losses of masks, against their formulas."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attnsearch.runs.training.mask_losses import border, dice_loss, pixel_loss


def case(classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 9, 11, generator=draws, dtype=torch.float64)
    target = torch.randint(0, classes, (2, 9, 11), generator=draws)
    target[0, :3] = 255
    return logits.requires_grad_(), target


def test_cross_entropy_is_torchs_without_the_ignored_pixels() -> None:
    logits, target = case()
    weights = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    for options in ({}, {"weights": weights}, {"smoothing": 0.1}):
        theirs = F.cross_entropy(
            logits,
            target,
            weight=options.get("weights"),
            ignore_index=255,
            label_smoothing=options.get("smoothing", 0.0),
        )
        found: Any = pixel_loss(logits, target, **options)  # type: ignore[arg-type]
        torch.testing.assert_close(found, theirs)


def test_focal_loss_is_its_formula() -> None:
    logits, target = case()
    p = logits.softmax(1)
    total, count = 0.0, 0
    for b, y, x in np.ndindex(*target.shape):
        if target[b, y, x] != 255:
            right = p[b, target[b, y, x], y, x]
            total, count = total - (1 - right) ** 2 * right.log(), count + 1
    torch.testing.assert_close(pixel_loss(logits, target, focal=True), total / count)


@pytest.mark.parametrize("classes", [2, 3])
def test_dice_loss_is_its_formula(classes: int) -> None:
    logits, target = case(classes)
    p = logits.softmax(1)
    counted = target != 255
    each = []
    for k in range(classes):
        t = (target == k) & counted
        both = p[:, k][t].sum()
        each.append((2 * both + 1) / (p[:, k][counted].sum() + t.sum() + 1))
    wanted = 1 - (each[1] if classes == 2 else torch.stack(each).mean())
    torch.testing.assert_close(dice_loss(logits, target), wanted)


def test_a_perfect_answer_costs_next_to_nothing_and_ignored_pixels_have_no_gradient() -> None:
    logits, target = case()
    sure = 50 * F.one_hot(target.clamp(max=2), 3).permute(0, 3, 1, 2).double()
    assert float(dice_loss(sure, target)) < 1e-6
    assert float(pixel_loss(sure, target)) < 1e-6
    (dice_loss(logits, target) + pixel_loss(logits, target, boundary=5.0)).backward()
    assert logits.grad is not None
    assert (logits.grad[0, :, :3] == 0).all() and (logits.grad[1] != 0).all()


def test_borders_weigh_more_than_the_inside() -> None:
    target = torch.zeros(1, 64, 64, dtype=torch.long)
    target[:, :, 32:] = 1
    everywhere = torch.ones_like(target, dtype=torch.bool)
    weight = border(target, everywhere, 2)[0]
    assert float(weight[32, 4]) == 0 and float(weight[32, 32]) > 0.3
    # What does not count makes no border.
    assert float(border(target, target == 1, 2).max()) == 0
