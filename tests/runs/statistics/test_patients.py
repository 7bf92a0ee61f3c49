import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from attnsearch.runs.metrics import secondary_labels
from attnsearch.runs.statistics.patients import (
    case_values,
    mean_case_values,
    new_patients_interval,
)


def predictions(images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    odds = np.exp(random.normal(size=(images, classes)) + np.eye(classes)[labels]).round(1) + 0.1
    return odds / odds.sum(1, keepdims=True), labels


def by_leaving_out(metric: str, probabilities: np.ndarray, labels: np.ndarray, owner: np.ndarray):
    """Pseudo-values by computing the metric anew without each patient."""

    def score(keep: np.ndarray) -> float:
        p, y = probabilities[keep], labels[keep]
        if metric == "auroc":
            p = p[:, 1] if p.shape[1] == 2 else p
            return roc_auc_score(y, p, multi_class="ovr")
        functions = {
            "accuracy": accuracy_score,
            "balanced_accuracy": balanced_accuracy_score,
            "f1": lambda y, z: f1_score(y, z, average="macro"),
        }
        return functions[metric](y, p.argmax(1))

    names = np.unique(owner)
    whole = score(np.ones(len(labels), bool))
    values = [len(names) * whole - (len(names) - 1) * score(owner != name) for name in names]
    return np.array(values) - np.mean(values) + whole


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "f1", "auroc"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("grouped", [False, True])
def test_pseudo_values_leave_patients_out(metric: str, classes: int, grouped: bool) -> None:
    probabilities, labels = predictions(60, classes)
    owner = np.random.default_rng(1).integers(0, 15, 60) if grouped else np.arange(60)
    groups = [f"p{name:03d}" for name in owner] if grouped else None
    found = case_values(metric, probabilities, labels, groups)
    assert found == pytest.approx(by_leaving_out(metric, probabilities, labels, owner))


def test_accuracy_of_single_images_is_right_or_wrong() -> None:
    probabilities, labels = predictions(30, 2)
    found = case_values("accuracy", probabilities, labels)
    assert found == pytest.approx((probabilities.argmax(1) == labels).astype(float))


def test_a_mean_over_images_stays_the_mean_with_patients_of_unequal_size() -> None:
    dice = np.concatenate([[0.9, 0.8, 0.1, 0.2, 0.3], np.full(9, 0.5)])
    groups = ["a", "a", "b", "b", "b", *"cdefghijk"]
    found = mean_case_values(dice, groups)
    assert found is not None
    assert found.mean() == pytest.approx(dice.mean())
    assert len(found) == 11
    assert found[1] < found[2] < found[0]
    assert mean_case_values(np.append(dice, np.nan), [*groups, "l"]) is None
    assert mean_case_values(dice, ["a"] * 14) is None


def test_no_values_where_leaving_out_leaves_nothing() -> None:
    probabilities, labels = predictions(40, 2)
    assert case_values("accuracy", probabilities[:9], labels[:9]) is None  # fewer than ten
    only = np.where(np.arange(40) == 0, 1, 0)
    assert case_values("auroc", probabilities, only) is None
    assert case_values("balanced_accuracy", probabilities, only) is None
    assert case_values("hausdorff", probabilities, labels) is None


@pytest.mark.parametrize("patient_spread", [0.0, 1.0])
def test_interval_is_that_of_the_analysis_of_variance(patient_spread: float) -> None:
    random = np.random.default_rng(2)
    n, p = 4, 15
    values = 0.2 + 0.5 * random.normal(size=(n, 1)) + random.normal(size=(n, p))
    values = values + patient_spread * random.normal(size=(1, p))
    rows = [(s, c, values[s, c]) for s in range(n) for c in range(p)]
    frame = pd.DataFrame(rows, columns=["seed", "patient", "score"])
    table = anova_lm(ols("score ~ C(seed) + C(patient)", frame).fit())
    s, c, e = table["sum_sq"] / table["df"]
    crossed = max(c - e, 0.0)
    parts = [s**2 / (n - 1)]
    parts += [c**2 / (p - 1), e**2 / ((n - 1) * (p - 1))] if crossed else []
    df = (s + crossed) ** 2 / sum(parts)
    half = stats.t.isf(0.025, df) * np.sqrt((s + crossed) / (n * p))
    found = new_patients_interval(values, 0.95)
    mean = values.mean()
    assert found == pytest.approx((mean, mean - half, mean + half, df))


def test_seeds_alone_give_the_interval_of_this_test_set() -> None:
    """Where patients add nothing, both scopes are one."""
    seeds = np.array([0.01, 0.03, 0.02, 0.05])
    values = np.repeat(seeds[:, None], 12, axis=1)
    _, low, high, df = new_patients_interval(values, 0.95)
    expected = stats.ttest_1samp(seeds, 0).confidence_interval(0.95)
    assert (low, high, df) == pytest.approx((expected.low, expected.high, 3))


@pytest.mark.parametrize(
    "metric", ["map", "f1", "micro_f1", "auroc", "exact_match", "label_accuracy", "loss"]
)
@pytest.mark.parametrize("grouped", [False, True])
def test_pseudo_values_of_several_classes_an_image(metric: str, grouped: bool) -> None:
    random = np.random.default_rng(0)
    labels = (random.random((60, 3)) < [0.5, 0.3, 0.2]).astype(int)
    probabilities = (random.random((60, 3)) / 2 + labels / 3).round(1)  # with ties
    owner = random.integers(0, 15, 60) if grouped else np.arange(60)
    names = np.unique(owner)
    whole = secondary_labels(probabilities, labels)[metric]
    without = [
        secondary_labels(probabilities[owner != name], labels[owner != name])[metric]
        for name in names
    ]
    wanted = len(names) * whole - (len(names) - 1) * np.array(without)
    groups = [f"p{name:03d}" for name in owner] if grouped else None
    found = case_values(metric, probabilities, labels, groups)
    assert found == pytest.approx(wanted - wanted.mean() + whole)
