import numpy as np
import pytest
import scipy

from attnsearch.runs.metrics.classification import secondary_metrics
from attnsearch.runs.statistics.cases import class_intervals, mean_interval, share_interval


@pytest.mark.parametrize(("right", "of"), [(0, 7), (93, 100), (250, 250)])
def test_the_interval_of_a_share_of_images_is_wilsons(right: int, of: int) -> None:
    hits = np.arange(of) < right
    expected = scipy.stats.binomtest(right, of).proportion_ci(method="wilson")
    assert share_interval(hits, None, 0.95) == pytest.approx((expected.low, expected.high))


def test_images_of_one_patient_count_as_about_one() -> None:
    patients = np.repeat(np.arange(20), 10)
    alike = np.repeat(np.arange(20) < 15, 10)  # ten copies of each patient's image
    of_images, of_patients = (
        share_interval(alike, groups, 0.95) for groups in (None, patients.tolist())
    )
    alone = share_interval(np.arange(20) < 15, None, 0.95)
    assert of_images and of_patients and alone
    assert np.diff(of_patients)[0] > 2.5 * np.diff(of_images)[0]
    assert np.diff(of_patients)[0] == pytest.approx(np.diff(alone)[0], rel=0.1)
    perfect = share_interval(np.ones(200, bool), patients.tolist(), 0.95)
    assert perfect and perfect[1] == 1 and perfect[0] < 0.9  # as of 20, not of 200
    assert share_interval(alike[:90], patients[:90].tolist(), 0.95) is None  # nine patients


@pytest.mark.parametrize("share", [0.7, 0.95])
def test_the_interval_over_patients_holds_the_truth(share: float) -> None:
    draws = np.random.default_rng(0)
    held = 0
    for _ in range(500):
        own = draws.beta(4 * share, 4 * (1 - share), 60)  # patients differ a lot
        counts = draws.integers(1, 7, 60)
        groups = np.repeat(np.arange(60), counts)
        ends = share_interval(draws.random(len(groups)) < own[groups], groups.tolist(), 0.95)
        assert ends is not None
        held += ends[0] <= share <= ends[1]
    assert 0.92 <= held / 500 <= 0.98


def test_every_metric_with_pseudo_values_has_an_interval_around_it() -> None:
    draws = np.random.default_rng(1)
    labels = draws.integers(0, 3, 300)
    logits = draws.normal(size=(300, 3)) + 2 * np.eye(3)[labels]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    values = secondary_metrics(shares, labels)
    intervals = class_intervals(list(values), shares, labels, None, 0.95)
    for name in ("accuracy", "balanced_accuracy", "f1", "auroc", "nll"):
        ends = intervals[name]
        assert ends is not None and ends[0] < values[name] < ends[1], name
    wider = class_intervals(["f1"], shares, labels, None, 0.99)["f1"]
    assert wider and intervals["f1"] and wider[0] < intervals["f1"][0]


def test_images_without_a_value_are_left_out_and_equal_ones_tell_nothing() -> None:
    values = np.array([0.5, 0.7, np.nan, 0.9] * 10)
    ends, without = mean_interval(values, None, 0.95), values[np.isfinite(values)]
    half = scipy.stats.t.isf(0.025, 29) * scipy.stats.sem(without)
    assert ends == pytest.approx((without.mean() - half, without.mean() + half))
    assert mean_interval(np.ones(40), None, 0.95) is None
