import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    roc_auc_score,
)

from attnsearch.runs.metrics.classification import (
    AT_THRESHOLD,
    OF_CLASSES,
    calibration_error,
    choose_threshold,
    classification_metrics,
    secondary_metrics,
)
from attnsearch.runs.metrics.labels import OF_LABEL, OF_LABELS
from attnsearch.runs.metrics.masks import OF_MASK, OF_MASKS, summary
from attnsearch.runs.results.numbers import metric_text
from attnsearch.spaces import load_space
from attnsearch.spaces.keys.measures import (
    CLASSIFICATION,
    METRICS,
    SEGMENTATION,
    Metric,
    metric_name,
)


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


def predictions(images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes)) + np.eye(classes)[labels]
    odds = np.exp(logits)
    return odds / odds.sum(1, keepdims=True), labels


@pytest.mark.parametrize("classes", [2, 4])
def test_secondary_metrics_are_those_of_scikit_learn(classes: int) -> None:
    probabilities, labels = predictions(200, classes)
    found = secondary_metrics(probabilities, labels)
    truth = np.eye(classes)[labels]
    scores = probabilities[:, 1] if classes == 2 else probabilities
    assert found == pytest.approx(
        {
            "accuracy": np.mean(probabilities.argmax(1) == labels),
            "balanced_accuracy": balanced_accuracy_score(labels, probabilities.argmax(1)),
            "f1": f1_score(labels, probabilities.argmax(1), average="macro"),
            "auroc": roc_auc_score(labels, scores, multi_class="ovr"),
            "auprc": average_precision_score(
                labels if classes == 2 else truth, scores, average="macro"
            ),
            "nll": log_loss(labels, probabilities),
            "brier": np.mean(np.sum((probabilities - truth) ** 2, axis=1)),
            "calibration_error": found["calibration_error"],
        }
    )


def test_calibration_error_bin_by_bin() -> None:
    probabilities, labels = predictions(300, 3)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    for lower in range(15):
        inside = (confidence > lower / 15) & (confidence <= (lower + 1) / 15)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += inside.mean() * gap
    assert calibration_error(probabilities, labels) == pytest.approx(expected)
    sure = np.eye(2)[[0, 1, 1, 0]]
    assert calibration_error(sure, np.array([0, 1, 0, 0])) == pytest.approx(0.25)


def test_the_threshold_is_youdens_on_validation() -> None:
    probabilities, labels = predictions(120, 2, seed=3)
    chosen = choose_threshold(probabilities, labels)

    def youden(threshold: float) -> float:
        positive = probabilities[:, 1] >= threshold
        return float(positive[labels == 1].mean() - positive[labels == 0].mean())

    assert youden(chosen) == pytest.approx(max(map(youden, probabilities[:, 1])))
    test, truth = predictions(90, 2, seed=4)
    found = secondary_metrics(test, truth, chosen)
    (tn, fp), (fn, tp) = confusion_matrix(truth, test[:, 1] >= chosen)
    assert found["sensitivity"] == pytest.approx(tp / (tp + fn))
    assert found["specificity"] == pytest.approx(tn / (tn + fp))
    assert found["f1_at_threshold"] == pytest.approx(2 * tp / (2 * tp + fp + fn))


def test_one_class_alone_has_no_area_and_no_threshold() -> None:
    probabilities, _ = predictions(10, 2)
    labels = np.zeros(10, dtype=np.int64)
    found = secondary_metrics(probabilities, labels, 0.5)
    assert np.isnan([found["auroc"], found["auprc"], found["sensitivity"]]).all()
    assert np.isnan(choose_threshold(probabilities, labels))


def test_every_metric_has_its_facts_and_its_function() -> None:
    pooled = {name for name in METRICS if name.removesuffix("_pooled") in OF_MASKS}
    functions = {*OF_CLASSES, *AT_THRESHOLD, *OF_LABEL, *OF_LABELS, *OF_MASKS, *OF_MASK, *pooled}
    assert functions | {"loss"} == {*METRICS}  # the loss is the network's, before any answer


def test_a_new_metric_is_one_entry_and_one_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS, "errors", Metric("error rate", (CLASSIFICATION,), "min"))
    monkeypatch.setitem(
        OF_CLASSES, "errors", lambda a: 1 - a.confusion.trace() / a.confusion.sum()
    )
    logits, labels = sample(50, 3)
    found = classification_metrics(logits, labels)
    assert found["errors"] == pytest.approx(1 - found["accuracy"])
    file = tmp_path / "space.yaml"
    file.write_text(
        "{name: toy, task: classification, data: {source: digits}, network: {backbone: resnet20},"
        " search: {objectives: {val_errors: min}}}"
    )
    assert load_space(file).document["primary_metric"] == "errors"
    assert metric_name("val_errors") == "validation error rate"
    assert metric_text("val_errors", 0.125) == "12.50"


def test_a_new_metric_of_masks_is_one_entry_and_one_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(METRICS, "misses", Metric("missed pixels", (SEGMENTATION,), "min"))
    monkeypatch.setitem(OF_MASKS, "misses", lambda both, true, predicted: 1 - both / true)
    found = summary(np.array([[[5, 1], [2, 2]], [[3, 0], [1, 3]]]), ["background", "polyp"])
    assert found["misses"] == pytest.approx((2 / 4 + 1 / 4) / 2)
