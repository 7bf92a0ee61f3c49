"""The training loss, as the config's `train` section asks, and a user's own metrics."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from attnsearch.blocks.build import DEFAULT_AUX_WEIGHT, find_function, side_outputs
from attnsearch.blocks.ranks import alone, everywhere, gathered, totals
from attnsearch.runs.data import DataSet
from attnsearch.runs.keeping import Lazy, count_values
from attnsearch.runs.readers import IGNORED
from attnsearch.runs.training.optim import TrainError
from attnsearch.spaces.keys import MULTILABEL, SEGMENTATION

FOCUS = 2  # of the focal loss: how much less what is right already weighs


def classification_loss(
    train: Mapping[str, Any], data: DataSet, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of logits (B, K) and labels (B,), a mean over the batch: `train.loss`.

    Of shares of classes (B, K), it is the mean of the labels' losses by their shares.

    Args:
        train: The config's `train` section: `loss`, `label_smoothing` and `class_weights`.
        data: Its training part is counted for balanced weights.
        device: Where the loss will be computed.

    Raises:
        TrainError: If the number of weights is not that of the classes.
    """
    if (own := own_loss(train.get("loss"))) is not None:
        return own
    weights = class_weights(train["class_weights"], data, data.train.labels, device)
    of_labels = partial(cross_entropy, weight=weights, label_smoothing=train["label_smoothing"])
    if train.get("loss") == "focal":
        return partial(focal_loss, of_labels, weights)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        # Of smoothed labels, torch's own mean by weights makes a card wait.
        if weights is None or (targets.dim() == 1 and logits.is_cpu):
            mean = of_labels(logits, targets)
            if alone():
                return mean
            whole = mean.new_full((), len(targets))
            count = whole if weights is None else weights[targets].sum()
            total, count = totals(mean * count, count)
            return total / count
        # A mean by the weights of the images, of shares of classes too.
        total = of_labels(logits, targets, reduction="sum")
        own = weights[targets] if targets.dim() == 1 else targets @ weights
        total, count = totals(total, own.sum())
        return total / count

    return loss


def label_loss(
    train: Mapping[str, Any], data: DataSet, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of logits (B, K) and labels (B, K) of 0 and 1, or shares: `train.loss`.

    The mean over images and classes of binary cross-entropy, or of `(1 - p)^2` times it (focal),
    where p is the probability of what is right. `class_weights` multiply the term of an image that
    shows the class; smoothed labels are `label_smoothing / 2` nearer to each other.

    Args:
        train: The config's `train` section, as for `classification_loss`.
        data: Its training part is counted for balanced weights: images without by images with.
        device: Where the loss will be computed.

    Raises:
        TrainError: If the number of weights is not that of the classes.
    """
    if (own := own_loss(train.get("loss"))) is not None:
        return own
    weights = train["class_weights"]
    if weights == "balanced":
        shown = data.train.labels.sum(0)
        weights = (len(data.train.labels) - shown) / np.maximum(shown, 1)
    positive = _given_weights(weights, data, device)
    smoothing = train["label_smoothing"]

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        truth = targets.to(logits.dtype)
        smooth = truth * (1 - smoothing) + smoothing / 2 if smoothing else truth
        each = binary_cross_entropy_with_logits(
            logits, smooth, pos_weight=positive, reduction="none"
        )
        if train.get("loss") == "focal":
            probabilities = logits.sigmoid()
            right = probabilities * truth + (1 - probabilities) * (1 - truth)
            each = each * (1 - right) ** FOCUS
        if alone():
            return each.mean()
        total, count = totals(each.sum(), each.new_full((), each.numel()))
        return total / count

    return loss


def focal_loss(
    of_labels: Callable[..., Tensor], weights: Tensor | None, logits: Tensor, targets: Tensor
) -> Tensor:
    """Return (1 - p)^2 times the cross-entropy (Lin et al. 2017, https://arxiv.org/abs/1708.02002).

    Args:
        of_labels: The cross-entropy, which takes `reduction`.
        weights: (K,) of the classes, which it has.
        logits: (B, K).
        targets: Labels (B,), or shares of classes (B, K), of which p is the share that is right.
    """
    probabilities = logits.softmax(1)
    if targets.dim() == 1:
        right = probabilities.gather(1, targets[:, None])[:, 0]
    else:
        right = (probabilities * targets).sum(1)
    each = of_labels(logits, targets, reduction="none") * (1 - right) ** FOCUS
    if weights is None and alone():
        return each.mean()
    own = torch.ones_like(each)
    if weights is not None:
        own = weights[targets] if targets.dim() == 1 else targets @ weights
    total, count = totals(each.sum(), own.sum())
    return total / count


def own_loss(name: str | None) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return a user's loss, `module:function`; None where the name is one of ours."""
    if name is None or ":" not in name:
        return None
    function = find_function(name)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        value = function(everywhere(logits), gathered(targets))
        if not isinstance(value, Tensor) or value.shape != ():
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise TrainError(f"train.loss: {name} gave {shape}; a loss is one number, a tensor ()")
        return value

    return loss


def check_own_loss(name: str, task: str, classes: int) -> None:
    """Try a user's loss on made logits and targets, as a training gives them.

    Args:
        name: `module:function`.
        task: "classification", "segmentation" or "multilabel".
        classes: Their number.

    Raises:
        TrainError: It raises, is no number, is not finite, or has no gradient in the logits.
    """
    loss = own_loss(name)
    assert loss is not None
    draws = torch.Generator().manual_seed(0)
    masks = task == SEGMENTATION
    shape = (2, classes, 8, 8) if masks else (4, classes)
    logits = torch.randn(shape, generator=draws, requires_grad=True)
    targets = torch.randint(classes, (shape[0], *shape[2:]), generator=draws)
    if masks:
        targets[0, 0] = IGNORED
    if task == MULTILABEL:
        targets = torch.randint(2, shape, generator=draws)
    try:
        value = loss(logits, targets)
        (gradient,) = torch.autograd.grad(value, logits, allow_unused=True)
    except TrainError:
        raise
    except Exception as error:  # whatever the user's function raises
        words = f"{type(error).__name__}: {error}"
        raise TrainError(
            f"train.loss: {name} failed on logits {shape} and targets {tuple(targets.shape)}"
            f"{f', {IGNORED} where a pixel does not count' if masks else ''}: "
            f"{words}"
        ) from error
    if not bool(value.isfinite()):
        raise TrainError(f"train.loss: {name} gave {float(value)}; a loss is finite")
    if gradient is None or not bool(gradient.isfinite().all()) or not bool(gradient.any()):
        raise TrainError(
            f"train.loss: {name} has no finite gradient in the logits: it must be computed from "
            f"them by torch's differentiable operations"
        )


def own_metric(name: str, probabilities: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return what a user's metric, `module:function`, gives.

    Args:
        name: Its name.
        probabilities: (N, K) of float32; of an image with a mask (K, h, w).
        labels: (N,) of int64, of any number of classes an image (N, K); a mask (h, w) of uint8.

    Raises:
        TrainError: It raises, or gives no number.
    """
    function = find_function(name)
    try:
        return float(function(probabilities.copy(), labels.copy()))
    except Exception as error:  # whatever the user's function raises
        what = "a mask" if probabilities.ndim == 3 else "labels"
        raise TrainError(
            f"train.metrics: {name} failed on probabilities {probabilities.shape} and {what} "
            f"{labels.shape}; it is to return a number: {type(error).__name__}: {error}"
        ) from error


def check_own_metric(name: str, task: str, classes: int) -> None:
    """Try a user's metric on made predictions, of a task.

    Raises:
        TrainError: As `own_metric`; or it is not finite where every class is there.
    """
    draws = np.random.default_rng(0)
    labels: NDArray[Any] = np.arange(4 * classes) % classes
    probabilities = draws.dirichlet(np.ones(classes), len(labels)).astype(np.float32)
    if task == MULTILABEL:
        labels = (np.arange(2 * len(labels) * classes) % 3 == 0).reshape(-1, classes).astype(int)
        probabilities = draws.random(labels.shape, dtype=np.float32)
    if task == SEGMENTATION:
        labels = (np.arange(64 * classes) % classes).astype(np.uint8).reshape(-1, 8)
        labels[0, 0] = IGNORED
        shares = draws.dirichlet(np.ones(classes), labels.shape).astype(np.float32)
        probabilities = np.ascontiguousarray(np.moveaxis(shares, -1, 0))
    value = own_metric(name, probabilities, labels)
    if not np.isfinite(value):
        raise TrainError(
            f"train.metrics: {name} gave {value} on predictions with every class; a metric is "
            f"finite there"
        )


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
    return _given_weights(weights, data, device)


def _given_weights(weights: Any, data: DataSet, device: str | torch.device) -> Tensor | None:
    if weights is None:
        return None
    if len(weights) != data.classes:
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
