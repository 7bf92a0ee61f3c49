import math

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    roc_auc_score,
)

from attnsearch.runs.metrics.constant import constant_labels
from attnsearch.runs.metrics.given import left_out, why_undefined
from attnsearch.runs.metrics.labels import OF_LABELS, label_metrics, secondary_labels
from attnsearch.spaces.keys import MULTILABEL, default_objective, primary_metrics

NAMES = ["edema", "lung mass", "hernia"]


def sample(images: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with some skill and with ties, and labels; some images show nothing."""
    random = np.random.default_rng(seed)
    labels = (random.random((images, classes)) < np.linspace(0.5, 0.2, classes)).astype(int)
    odds = np.exp(random.normal(size=labels.shape) + 2 * labels - 1)
    return (odds / (1 + odds)).round(1).clip(0.05, 0.95), labels


def test_metrics_are_those_of_scikit_learn() -> None:
    probabilities, labels = sample(80)
    said = probabilities >= 0.5
    assert secondary_labels(probabilities, labels) == pytest.approx(
        {
            "map": average_precision_score(labels, probabilities, average="macro"),
            "f1": f1_score(labels, said, average="macro"),
            "micro_f1": f1_score(labels, said, average="micro"),
            "auroc": roc_auc_score(labels, probabilities, average="macro"),
            "exact_match": accuracy_score(labels, said),
            "label_accuracy": (labels == said).mean(),
            "loss": np.mean([log_loss(labels[:, k], probabilities[:, k]) for k in range(3)]),
        }
    )


def test_metrics_by_hand() -> None:
    # Class 0: ranks shown, not, shown: (1 + 2/3) / 2. Class 1: not, shown: 1/2 at a tie of three.
    probabilities = np.array([[0.9, 0.2], [0.8, 0.2], [0.7, 0.2]])
    labels = np.array([[1, 0], [0, 1], [1, 0]])
    values = secondary_labels(probabilities, labels)
    assert values["map"] == pytest.approx(((1 + 2 / 3) / 2 + 1 / 3) / 2)
    assert values["auroc"] == pytest.approx((0.5 + 0.5) / 2)
    assert values["f1"] == pytest.approx((2 * 2 / (2 + 3) + 0) / 2)
    assert values["micro_f1"] == pytest.approx(4 / 6)
    assert values["exact_match"] == pytest.approx(2 / 3)
    assert values["label_accuracy"] == pytest.approx(4 / 6)


def test_an_epoch_measures_each_class_that_has_a_value() -> None:
    probabilities, labels = sample(40)
    labels[:, 2] = 0
    logits = torch.from_numpy(np.log(probabilities / (1 - probabilities)))
    values = label_metrics(logits, labels, NAMES, every=True)
    assert {*primary_metrics(MULTILABEL)} == {*OF_LABELS} <= {*values}
    assert values["ap_lung_mass"] == pytest.approx(
        average_precision_score(labels[:, 1], probabilities[:, 1])
    )
    assert values["map"] == pytest.approx((values["ap_edema"] + values["ap_lung_mass"]) / 2)
    assert {"ap_hernia", "auroc_hernia"} & {*values} == set()
    assert values["f1_hernia"] == 0  # it was said and never shown
    assert all(map(math.isfinite, values.values()))
    assert not [n for n in label_metrics(logits, labels, NAMES) if n.startswith("auroc_")]


def test_the_loss_is_exact_where_a_probability_is_1() -> None:
    logits, labels = torch.tensor([[40.0, -40.0]]), np.array([[0, 1]])
    assert label_metrics(logits, labels, ["a", "b"])["loss"] == pytest.approx(40)


def test_an_answer_that_looks_at_no_image() -> None:
    _, labels = sample(50)
    constant = constant_labels(labels)
    assert constant["map"] == pytest.approx(labels.mean(0).mean())
    assert constant["auroc"] == 0.5
    assert constant["exact_match"] == (labels == (labels.mean(0) >= 0.5)).all(1).mean()


def test_what_a_part_cannot_give_is_told() -> None:
    labels = np.array([[0, 1, 0], [0, 1, 0]])
    assert why_undefined("map", labels, None, NAMES) is None
    assert why_undefined("map", labels * 0, None, NAMES) == "no image of it shows any class"
    assert "none or all" in str(why_undefined("auroc", labels, None, NAMES))
    assert why_undefined("label_accuracy", labels * 0, None, NAMES) is None
    assert left_out("map", labels, NAMES) == ["edema", "hernia"]
    assert left_out("auroc", labels, NAMES) == NAMES
    assert left_out("micro_f1", labels, NAMES) == []


def test_the_default_objective() -> None:
    assert default_objective(MULTILABEL) == {"val_map": "max"}
