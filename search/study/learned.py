"""Whether exploring has found anything that learns, before confirm spends hours on it."""

from collections.abc import Sequence

import numpy as np

from attnsearch.runs.data import DataSet
from attnsearch.runs.ledger import TrialRow
from attnsearch.runs.metrics import confusion, constant_classes, constant_labels, constant_masks
from attnsearch.runs.results import metric_text, unit, value_of
from attnsearch.runs.statistics import PERFECT
from attnsearch.search.study.stage import Stage
from attnsearch.spaces.keys import is_share, split_part


def unlearned_note(stage: Stage, ranked: Sequence[TrialRow]) -> str | None:
    """Return that the best trial is no better than an answer that looks at no image, if so.

    Args:
        stage: The study's surroundings.
        ranked: Its finished trials, the best first.
    """
    name, direction = next(iter(stage.objectives.directions.items()))
    value = value_of(ranked[0], name) if ranked else None
    constant = validation_constants(stage.datasets["data"]).get(split_part(name)[1])
    if value is None or constant is None or np.isnan(constant):
        return None
    if is_share(name) and direction == "max" and constant >= PERFECT:
        return None
    if (value > constant) if direction == "max" else (value < constant):
        return None
    return (
        f"nothing has learned: the best trial has {name} {metric_text(name, value)}{unit(name)}, "
        f"and an answer that looks at no image {metric_text(name, constant)}{unit(name)}; train "
        f"longer (train.epochs), with another train.lr, or on larger images (data.image_size)"
    )


def validation_constants(data: DataSet) -> dict[str, float]:
    """Return what an answer that looks at no image earns on the validation part."""
    part, classes = data.val, len(data.class_names)
    if part.masks is None:
        if not len(part.labels):
            return {}
        labels = np.asarray(part.labels)
        return constant_labels(labels) if labels.ndim == 2 else constant_classes(labels, classes)
    masks = [part.masks.original(image) for image in range(len(part.masks.sizes))]
    if not masks:
        return {}
    return constant_masks(
        np.stack([confusion(mask, mask, classes) for mask in masks]), data.class_names
    )
