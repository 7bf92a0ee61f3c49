"""The training loss, as the config's `train` section asks."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from attnsearch.blocks.build import DEFAULT_AUX_WEIGHT, side_outputs
from attnsearch.runs.data import DataSet
from attnsearch.runs.keeping import Lazy, count_values
from attnsearch.runs.training.optim import TrainError


def classification_loss(
    train: Mapping[str, Any], data: DataSet, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return cross-entropy of logits (B, K) and labels (B,), a mean over the batch.

    Of shares of classes (B, K), it is the mean of the labels' losses by their shares.

    Args:
        train: The config's `train` section: `label_smoothing` and `class_weights`.
        data: Its training part is counted for balanced weights.
        device: Where the loss will be computed.

    Raises:
        TrainError: If the number of weights is not that of the classes.
    """
    weights = class_weights(train["class_weights"], data, data.train.labels, device)
    of_labels = partial(cross_entropy, weight=weights, label_smoothing=train["label_smoothing"])

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        if targets.dim() == 1 or weights is None:
            return of_labels(logits, targets)
        # As for labels, a mean by the weights of the images.
        return of_labels(logits, targets, reduction="sum") / (targets @ weights).sum()

    return loss


def class_weights(
    weights: str | Sequence[float] | None,
    data: DataSet,
    shown: NDArray[np.integer] | Lazy,
    device: str | torch.device = "cpu",
) -> Tensor | None:
    """Return weights (K,) of the classes in the loss, or None where all weigh the same.

    Args:
        weights: None, "balanced" or one weight per class. "balanced" is N / (K n_k) with n_k of N
            in class k, as in scikit-learn; a class without any weighs 0.
        data: Its training part is counted.
        shown: The class of each training image, or of each pixel of a mask; others are not
            counted.
        device: Where the loss will be computed.

    Raises:
        TrainError: If the number of weights is not that of the classes.
    """
    if weights is None:
        return None
    if isinstance(weights, str):
        counts = count_values(shown, data.classes)[: data.classes]
        weights = counts.sum() / (data.classes * np.maximum(counts, 1)) * (counts > 0)
    elif len(weights) != data.classes:
        raise TrainError(
            f"train.class_weights: {len(weights)} weights for {data.classes} classes "
            f"({', '.join(data.class_names)}); give one per class, or balanced"
        )
    return torch.tensor(weights, dtype=torch.float32, device=device)


def auxiliary_loss(
    network: nn.Module,
    targets: Tensor,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    weights: Mapping[str, float],
) -> Tensor | None:
    """Return the weighted sum of the side losses of the last forward pass in training mode.

    For classification, the prototype that a block pooled from the map must suffice to name the
    class: an auxiliary head, in training only, turns it into logits. This is attention-based
    multiple-instance pooling (Ilse et al. 2018, https://arxiv.org/abs/1802.04712), and trains the
    block's pooling weights, which get no gradient elsewhere.

    Args:
        network: As `build_network` gives it.
        targets: As the loss takes them, for classification (B,).
        loss_fn: From logits (B, classes) and targets to a scalar.
        weights: For each block's ``side_loss`` name its weight (``train.aux_weight``); 0 leaves
            it out, and 0.4 stands where it is not named.

    Returns:
        A scalar, or None where no block has a side loss.
    """
    total = None
    for site, index, block in side_outputs(network):
        weight = weights.get(str(block.side_loss), DEFAULT_AUX_WEIGHT)
        side = block.side
        if weight == 0 or not isinstance(side, Mapping) or not side:
            continue
        head = network.get_submodule(f"auxiliary.{site.replace('.', '_')}.{index}")
        loss = weight * loss_fn(head(side["prototype"].flatten(1)), targets)
        total = loss if total is None else total + loss
    return total
