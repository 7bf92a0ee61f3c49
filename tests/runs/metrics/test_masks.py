"""Overlap and distances of masks, against their definitions."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from attnsearch.runs.metrics.masks import confusion, hd95, per_image, summary

TWO = ["background", "polyp"]
Mask = NDArray[np.uint8]


def masks(seed: int, classes: int = 2, shape: tuple[int, int] = (13, 17)) -> tuple[Mask, Mask]:
    draws = np.random.RandomState(seed)
    return (
        draws.randint(0, classes, shape).astype(np.uint8),
        draws.randint(0, classes, shape).astype(np.uint8),
    )


def of(pairs: list[tuple[Mask, Mask]], names: list[str]) -> dict[str, float]:
    return summary(np.stack([confusion(p, t, len(names)) for p, t in pairs]), names)


def test_the_figures_are_those_of_their_definitions() -> None:
    pairs = [masks(seed) for seed in range(3)]
    found = of(pairs, TWO)
    dice, iou, precision, recall = [], [], [], []
    for predicted, truth in pairs:
        p, t = predicted == 1, truth == 1
        dice.append(2 * (p & t).sum() / (p.sum() + t.sum()))
        iou.append((p & t).sum() / (p | t).sum())
        precision.append((p & t).sum() / p.sum())
        recall.append((p & t).sum() / t.sum())
    assert found["dice"] == pytest.approx(np.mean(dice))
    assert found["iou"] == pytest.approx(np.mean(iou))
    assert found["precision"] == pytest.approx(np.mean(precision))
    assert found["recall"] == pytest.approx(np.mean(recall))
    every = np.concatenate([(p == 1).ravel() for p, _ in pairs])
    truth = np.concatenate([(t == 1).ravel() for _, t in pairs])
    assert found["dice_pooled"] == pytest.approx(
        2 * (every & truth).sum() / (every.sum() + truth.sum())
    )
    assert found["iou_pooled"] == pytest.approx((every & truth).sum() / (every | truth).sum())
    assert found["accuracy"] == pytest.approx((every == truth).mean())


def test_several_classes_count_without_the_background_and_ignored_pixels() -> None:
    names = ["Background", "liver", "left kidney"]
    predicted, truth = masks(0, 3)
    ignored = np.random.RandomState(9).rand(*truth.shape) < 0.3
    marked = np.where(ignored, 255, truth).astype(np.uint8)
    found = of([(predicted, marked)], names)
    each = [
        2
        * ((predicted == k) & (truth == k) & ~ignored).sum()
        / (((predicted == k) & ~ignored).sum() + ((truth == k) & ~ignored).sum())
        for k in (1, 2)
    ]
    assert found["dice"] == pytest.approx(np.mean(each))
    assert (found["dice_liver"], found["dice_left_kidney"]) == pytest.approx(tuple(each))


def test_empty_masks_follow_the_stated_convention() -> None:
    empty, full = np.zeros((6, 8), np.uint8), np.ones((6, 8), np.uint8)
    counts = np.stack([confusion(empty, empty, 2), confusion(full, empty, 2)])
    for values in per_image(counts, TWO).values():
        assert values.tolist() == [1.0, 0.0]
    assert hd95(empty, empty, TWO) == 0
    assert hd95(full, empty, TWO) == math.hypot(6, 8)
    ignored = np.full((6, 8), 255, np.uint8)
    unknown = np.stack([confusion(full, ignored, 2)])
    assert math.isnan(per_image(unknown, TWO)["dice"][0]) and math.isnan(hd95(full, ignored, TWO))
    found = summary(np.concatenate([counts, unknown]), TWO)
    assert found["dice"] == 0.5 and math.isnan(summary(unknown, TWO)["dice_pooled"])
    three = ["background", "a", "b"]
    only_a = np.stack([confusion(full, full, 3)])
    assert per_image(only_a, three)["dice"].tolist() == [1.0]
    assert math.isnan(per_image(np.stack([confusion(empty, empty, 3)]), three)["dice"][0])


def test_the_distance_is_the_95th_percentile_between_borders() -> None:
    draws = np.random.RandomState(3)
    for _ in range(5):
        predicted, truth = (np.zeros((31, 27), np.uint8) for _ in range(2))
        for mask in (predicted, truth):
            y, x, h, w = draws.randint(0, 20), draws.randint(0, 15), *draws.randint(2, 11, 2)
            mask[y : y + h, x : x + w] = 1
        assert hd95(predicted, truth, TWO) == pytest.approx(by_definition(predicted, truth))


def by_definition(predicted: Mask, truth: Mask) -> float:
    def border(mask: Mask) -> NDArray[np.int64]:
        padded = np.pad(mask, 1)
        points = [
            (y, x)
            for y, x in np.argwhere(mask)
            if not (
                padded[y, x + 1]
                and padded[y + 2, x + 1]
                and padded[y + 1, x]
                and padded[y + 1, x + 2]
            )
        ]
        return np.array(points)

    first, second = border(predicted), border(truth)
    distances = np.sqrt(((first[:, None] - second[None]) ** 2).sum(-1))
    return float(max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95)))
