"""Which metrics a part of the data can give."""

import math

import numpy as np
import pytest

from attnsearch.runs.metrics.classification import secondary_metrics
from attnsearch.runs.metrics.given import left_out, why_undefined
from attnsearch.runs.readers import IGNORED, Masks
from attnsearch.spaces.keys import CLASSIFICATION, SEGMENTATION, primary_metrics

TWO = ["healthy", "ill"]
THREE = ["a", "b", "c"]


def masks(*pixels: int) -> Masks:
    """Masks of one row, each of one value."""
    flat = np.array(pixels, np.uint8)
    count = len(pixels)
    return Masks(
        flat.reshape(-1, 1, 1),
        np.arange(count),
        None,
        np.ones((count, 2), np.int64),
        flat,
        np.arange(count),
    )


@pytest.mark.parametrize("classes", [TWO, THREE])
@pytest.mark.parametrize("present", [[1, 1, 1], [0, 1, 1]])
def test_a_metric_is_refused_where_it_has_no_value_whatever_is_predicted(
    classes: list[str], present: list[int]
) -> None:
    labels = np.array(present)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(len(classes)), 3)
    values = secondary_metrics(probabilities, labels)
    for name in primary_metrics(CLASSIFICATION):
        refused = why_undefined(name, labels, None, classes) is not None
        assert refused == math.isnan(values.get(name, 0.0)), name


def test_a_part_without_images_gives_nothing() -> None:
    assert why_undefined("accuracy", np.array([], np.int64), None, TWO) == "it has no images"


def test_overlap_needs_pixels_to_find() -> None:
    labels = np.zeros(2, np.int64)
    for name in primary_metrics(SEGMENTATION):
        assert why_undefined(name, labels, masks(0, 1), TWO) is None
        assert "counts" in str(why_undefined(name, labels, masks(IGNORED, IGNORED), TWO))
        empty = why_undefined(name, labels, masks(0, 0), TWO)
        assert (empty is None) == (name in ("accuracy", "loss")), name
    several = why_undefined("dice_pooled", labels, masks(0, IGNORED), ["background", "b", "c"])
    assert several is not None and "b, c" in several
    # All count where none is called background.
    assert why_undefined("dice_pooled", labels, masks(0, 0), THREE) is None


def test_means_over_classes_name_those_they_lack() -> None:
    labels = np.array([0, 0, 2])
    assert left_out("auroc", labels, THREE) == left_out("f1", labels, THREE) == ["b"]
    assert left_out("accuracy", labels, THREE) == []
