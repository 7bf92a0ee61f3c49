import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from attnsearch.runs.batches.augment import Augmenter
from attnsearch.runs.training.losses import classification_loss
from tests.runs.training.test_train import make_config, make_data, scores, trained

CLASSES = 5


def batch(count: int = 12) -> tuple[Tensor, Tensor]:
    draws = Generator().manual_seed(3)
    return torch.rand(count, 3, 16, 20, generator=draws), torch.arange(count) % CLASSES


def mix(
    spec: dict[str, float], images: Tensor, labels: Tensor, seed: int = 0
) -> tuple[Tensor, Tensor]:
    return Augmenter(spec, (16, 20)).mixed(images, labels, CLASSES, Generator().manual_seed(seed))


def partners(images: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
    """Which other image makes each what it became, and by what share its own counts."""
    found, shares = [], []
    for number, (own, image) in enumerate(zip(images, changed, strict=True)):
        others = images - own
        # image = own + (1 - share) * (other - own)
        weights = ((image - own) * others).flatten(1).sum(1) / others.flatten(1).square().sum(1)
        weights = weights.nan_to_num(0.0)
        errors = (own + weights[:, None, None, None] * others - image).abs().amax((1, 2, 3))
        found.append(number if torch.allclose(own, image) else int(errors.argmin()))
        shares.append(1 - float(weights[found[-1]]))
        assert errors.min() < 1e-5
    return torch.tensor(found), torch.tensor(shares)


def test_mixup_is_the_convex_combination_of_images_and_of_losses() -> None:
    images, labels = batch()
    for seed in range(5):
        changed, targets = mix({"mixup": 0.8}, images, labels, seed)
        others, shares = partners(images, changed)
        assert sorted(others.tolist()) == list(range(len(images)))  # each comes once
        share = float(shares[others != torch.arange(len(images))].mean())
        logits = torch.randn(len(images), CLASSES, generator=Generator().manual_seed(seed))
        weights = [0.5, 1.0, 2.0, 3.0, 1.0]
        for given in ({}, {"label_smoothing": 0.2}, {"class_weights": weights}):
            train = {"class_weights": None, "label_smoothing": 0.0} | given
            data = make_data()
            data = type(data)(**{**vars(data), "class_names": list("abcde")})
            loss = classification_loss(train, data, torch.device("cpu"))
            one, other = loss(logits, labels), loss(logits, labels[others])
            assert loss(logits, targets) == pytest.approx(
                float(share * one + (1 - share) * other), rel=1e-4
            )


def test_the_share_is_drawn_from_the_beta_distribution() -> None:
    images, labels = batch(2)
    shares = []
    for seed in range(600):
        changed, targets = mix({"mixup": 0.4}, images, labels, seed)
        if not torch.equal(changed, images) and float(targets.amax()) < 1:
            shares.append(float(targets[0, labels[0]]))
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08)
    assert np.var(shares) == pytest.approx(1 / (4 * 1.8), abs=0.025)


def test_cutmix_puts_a_rectangle_in_and_counts_its_pixels() -> None:
    images, labels = batch()
    areas = []
    for seed in range(40):
        changed, targets = mix({"cutmix": 1.0}, images, labels, seed)
        inside = (changed != images).any(1)
        rows, columns = inside.any(2).any(0), inside.any(1).any(0)
        area = int(rows.sum() * columns.sum()) / inside[0].numel()
        areas.append(area)
        for image, own, where in zip(changed, images, inside, strict=True):
            assert not where.any() or where.sum() == rows.sum() * columns.sum()
            if where.any():
                there = [(image - other)[:, where].abs().max() == 0 for other in images]
                assert sum(there) == 1
                assert torch.equal(image[:, ~where], own[:, ~where])
        truth = torch.nn.functional.one_hot(labels, CLASSES).float()
        assert torch.allclose(targets.sum(1), torch.ones(len(images)))
        different = (targets * truth).sum(1) < 0.9999
        kept = (targets * truth).sum(1)[different]
        assert torch.allclose(kept, torch.full_like(kept, 1 - area), atol=1e-6)
    assert min(areas) < 0.1
    assert max(areas) > 0.6


def test_of_both_each_batch_takes_one() -> None:
    images, labels = batch()
    mixups = 0
    for seed in range(100):
        both, targets = mix({"mixup": 1.0, "cutmix": 1.0}, images, labels, seed)
        one, wanted = mix({"mixup": 1.0}, images, labels, seed)
        other, others = mix({"cutmix": 1.0}, images, labels, seed)
        assert torch.equal(both, one) or torch.equal(both, other)
        assert torch.equal(targets, wanted) or torch.equal(targets, others)
        mixups += torch.equal(both, one)
    assert 30 < mixups < 70


def test_images_alone_are_changed_as_ever() -> None:
    images, labels = batch()
    spec = {"brightness": 0.3}
    alone = Augmenter(spec, (16, 20))(images, Generator().manual_seed(0))
    changed, targets = mix(spec, images, labels)
    assert torch.equal(alone, changed)
    assert targets is labels


@pytest.mark.parametrize("count", [1, 2])
def test_a_training_learns_from_mixed_batches_in_micro_batches_too(count: int) -> None:
    config = make_config(epochs=2)
    config["data"]["augment"] = {"mixup": 0.2, "cutmix": 1.0}
    training = trained(config, make_data(), threads=1)
    training.split(count)
    training.run_epoch()
    again = trained(config, make_data(), threads=1)
    again.split(count)
    again.run_epoch()
    assert scores(training) == scores(again)
    assert 0 <= training.history[0]["train_accuracy"] <= 1
