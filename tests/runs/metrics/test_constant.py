"""What answers earn that look at no image."""

import math

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from attnsearch.runs.metrics.constant import constant_classes, constant_masks
from attnsearch.runs.metrics.masks import confusion


def test_of_classes_it_is_the_most_frequent_one() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2])
    dummy = DummyClassifier(strategy="most_frequent").fit(labels, labels)
    prior = DummyClassifier(strategy="prior").fit(labels, labels)
    scores = constant_classes(labels, 3)
    assert scores["accuracy"] == pytest.approx(0.6)
    assert scores["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(labels, dummy.predict(labels))
    )
    assert scores["f1"] == pytest.approx(f1_score(labels, dummy.predict(labels), average="macro"))
    assert scores["auroc"] == pytest.approx(0.5)
    assert scores["loss"] == pytest.approx(log_loss(labels, prior.predict_proba(labels)))


def test_of_masks_it_is_the_better_of_all_and_nothing() -> None:
    small, empty = np.zeros((4, 5), int), np.zeros((4, 5), int)
    small[:2, :2] = 1  # 4 of 20 pixels
    counts = np.stack([confusion(mask, mask, 2) for mask in (small, empty)])
    scores = constant_masks(counts, ["background", "polyp"])
    # All foreground has Dice 8/24 and 0; nothing has 0 and, where nothing is, 1.
    assert scores["dice"] == pytest.approx(0.5)
    assert constant_masks(counts[:1], ["background", "polyp"])["dice"] == pytest.approx(8 / 24)
    assert scores["accuracy"] == pytest.approx(36 / 40)
    p = 4 / 40
    assert scores["loss"] == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p))


def test_it_does_not_depend_on_what_was_predicted() -> None:
    truth = np.random.default_rng(0).integers(0, 3, (6, 6))
    names = ["background", "a", "b"]
    right = constant_masks(confusion(truth, truth, 3)[None], names)
    wrong = constant_masks(confusion((truth + 1) % 3, truth, 3)[None], names)
    assert right == wrong
