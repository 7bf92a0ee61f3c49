"""The training loss, as the config's `train` section asks."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from attnsearch.runs.data import DataSet
from attnsearch.runs.training.optim import TrainError


def classification_loss(
    train: Mapping[str, Any], data: DataSet, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy of logits (B, K) and labels (B,), a mean over the batch.

    Args:
        train: The config's `train` section: `label_smoothing` and `class_weights`.
        data: Its training part is counted for balanced weights.
        device: Where the loss will be computed.

    Raises:
        TrainError: If the number of weights is not that of the classes.
    """
    weights = class_weights(train["class_weights"], data)
    return partial(
        cross_entropy,
        weight=None if weights is None else weights.to(device),
        label_smoothing=train["label_smoothing"],
    )


def class_weights(given: str | Sequence[float] | None, data: DataSet) -> Tensor | None:
    """Weights (K,) of the classes in the loss, or None where all weigh the same.

    Args:
        given: None, "balanced" or one weight per class. "balanced" is N / (K n_k) with n_k of the
            N training images in class k, as in scikit-learn; a class without images weighs 0.
        data: Its training part is counted.

    Raises:
        TrainError: If the number of weights is not that of the classes.
    """
    if given is None:
        return None
    if isinstance(given, str):
        counts = np.bincount(data.train.labels, minlength=data.classes)
        weights = len(data.train.labels) / (data.classes * np.maximum(counts, 1)) * (counts > 0)
        return torch.tensor(weights, dtype=torch.float32)
    return check_class_weights(given, data)


def check_class_weights(given: Sequence[float] | None, data: DataSet) -> Tensor | None:
    """One weight per class as a tensor (K,), or None.

    Raises:
        TrainError: If the number of weights is not that of the classes.
    """
    if given is None:
        return None
    if len(given) != data.classes:
        raise TrainError(
            f"train.class_weights: {len(given)} weights for {data.classes} classes "
            f"({', '.join(data.class_names)}); give one per class, or balanced"
        )
    return torch.tensor(given, dtype=torch.float32)
