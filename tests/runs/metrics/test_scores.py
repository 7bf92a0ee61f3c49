import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    roc_auc_score,
)

from attnsearch.runs.metrics.scores import calibration_error, choose_threshold, secondary_metrics


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
