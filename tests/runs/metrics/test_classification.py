import math
import time

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    roc_auc_score,
)

from attnsearch.runs.metrics.classification import classification_metrics


def sample(images: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions with some skill, and an uneven number of images in each class."""
    random = np.random.default_rng(seed)
    share = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    labels = random.choice(classes, images, p=share)
    labels[:classes] = np.arange(classes)
    logits = random.normal(size=(images, classes)) + 1.5 * np.eye(classes)[labels]
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(labels)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_metrics_are_those_of_scikit_learn(classes: int) -> None:
    logits, labels = sample(300, classes)
    found = classification_metrics(logits, labels)
    probabilities = logits.double().softmax(1).numpy()
    predicted = probabilities.argmax(1)
    scores = probabilities[:, 1] if classes == 2 else probabilities
    assert found == pytest.approx(
        {
            "loss": log_loss(labels, probabilities),
            "accuracy": accuracy_score(labels, predicted),
            "balanced_accuracy": balanced_accuracy_score(labels, predicted),
            "f1": f1_score(labels, predicted, average="macro"),
            "auroc": roc_auc_score(labels, scores, multi_class="ovr"),
        },
        abs=1e-6,
    )


def test_tied_scores_count_half() -> None:
    logits = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 2.0], [0.0, 1.0]])
    labels = torch.tensor([0, 1, 1, 0])
    # Of the four (negative, positive) pairs two are ordered right and two are tied.
    assert classification_metrics(logits, labels)["auroc"] == 0.75
    assert classification_metrics(torch.zeros(4, 2), labels)["auroc"] == 0.5


def test_a_class_missing_from_the_labels_is_left_out_of_the_means() -> None:
    logits, labels = sample(200, 4)
    keep = labels != 2
    logits, labels = logits[keep], labels[keep]
    found = classification_metrics(logits, labels)
    predicted = logits.argmax(1)
    probabilities = logits.softmax(1)
    areas = [roc_auc_score(labels == k, probabilities[:, k]) for k in (0, 1, 3)]
    recalls = [(predicted[labels == k] == k).double().mean().item() for k in (0, 1, 3)]
    assert (predicted == 2).any()  # it is predicted, so it counts in F1 and only there
    assert found["auroc"] == pytest.approx(np.mean(areas))
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert found["f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_one_class_alone_has_an_accuracy_and_no_auroc() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    found = classification_metrics(logits, torch.tensor([0, 0]))
    assert found["accuracy"] == found["balanced_accuracy"] == 0.5
    assert math.isnan(found["auroc"])


def test_a_sure_mistake_has_a_finite_loss() -> None:
    found = classification_metrics(torch.tensor([[500.0, 0.0]]), torch.tensor([1]))
    assert found["loss"] == 500


def test_metrics_cost_little_beside_an_epoch() -> None:
    logits, labels = sample(400, 10)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        classification_metrics(logits, labels)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.005
