"""What a training learns: how the tasks differ for the loop around them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from attnsearch.blocks.ranks import Share
from attnsearch.runs.batches import Augmenter, Feed, Stored
from attnsearch.runs.data import DataSet, Split
from attnsearch.runs.keeping import Lazy
from attnsearch.runs.metrics import THRESHOLD, classification_metrics, label_metrics
from attnsearch.runs.training.evaluate import EVALUATION_BATCH, Normalisation, predict
from attnsearch.runs.training.losses import (
    auxiliary_loss,
    classification_loss,
    label_loss,
    own_metric,
)
from attnsearch.runs.training.memory import free_memory, out_of_memory
from attnsearch.runs.training.micro_batches import WholeBatch
from attnsearch.spaces.keys import own_metrics

Evaluation = tuple[dict[str, float], dict[str, Any]]
"""Metrics of a part of the data, and what the ledger keeps of each example."""


class Task(ABC):
    """What `attnsearch.runs.training.train.Training` asks of a task.

    Args:
        config: A resolved config.
        data: Its data set.
        device: Where it is trained.

    Attributes:
        chosen_by: The metric that the best epoch has most of.
        shown: What the network should say of each training example, by its place.
        loss: Returns the training loss of a batch, a mean, from logits and targets.
        normalisation: Of the network's input.
        whole: Lets the losses of micro-batches be those of their batch.
        smaller: So many times smaller than usual are the batches of an evaluation.

    Raises:
        TrainError: If the config asks for what cannot be done with this data.
    """

    chosen_by: str
    loss: Callable[[Tensor, Tensor], Tensor]

    def __init__(self, config: Mapping[str, Any], data: DataSet, device: torch.device) -> None:
        shown = data.train.labels if data.train.masks is None else data.train.masks.resized
        self.shown: Stored = (
            Feed(shown, device)
            if isinstance(shown, Lazy)
            else torch.from_numpy(np.array(shown)).to(device)
        )
        self._augmenter = Augmenter(config["data"]["augment"] or {}, data.image_size)
        self._aux_weight: Mapping[str, float] = config["train"]["aux_weight"]
        self._class_names = data.class_names
        self.whole = WholeBatch()
        self.smaller = 1
        self.normalisation = Normalisation(data.mean, data.std, config["train"]["channels_last"])

    def targets(self, index: Tensor) -> Tensor:
        """Return what the network should say of some training examples (B,), of int64."""
        return self.shown[index].long()

    @abstractmethod
    def augment(
        self, images: Tensor, targets: Tensor, draws: Generator, share: Share | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return images (B, C, H, W) in 0..1 and their targets after random changes.

        They may be a `share` of a batch, whose changes they have then.
        """

    @abstractmethod
    def auxiliary(self, network: nn.Module, targets: Tensor) -> Tensor | None:
        """Return the weighted loss of the last forward pass's side outputs, if any."""

    @abstractmethod
    def count(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return what `rates` needs of a training batch, to be summed over batches.

        Nothing waits for the device.
        """

    @abstractmethod
    def rates(self, counts: Tensor) -> dict[str, float]:
        """Return training metrics of an epoch, in training mode, without `train_`."""

    def evaluate(
        self, network: nn.Module, part: Split, images: Stored, *, every: bool = False
    ) -> Evaluation:
        """Return metrics of a part of the data, and what the ledger keeps of each example.

        Where memory runs out its batches become smaller, for good.

        Args:
            network: Left in the mode it was in.
            part: The part.
            images: Its images for the network's device, (N, H, W, C) of uint8.
            every: Also what is too slow for every epoch.
        """
        while True:
            try:
                return self._evaluate(network, part, images, every)
            except Exception as error:
                if not out_of_memory(error) or self.smaller >= EVALUATION_BATCH:
                    raise
            self.smaller *= 2
            free_memory()

    @abstractmethod
    def _evaluate(
        self, network: nn.Module, part: Split, images: Stored, every: bool
    ) -> Evaluation:
        """Do the same, in batches that are `smaller` times smaller than usual."""


class Classification(Task):
    """One class for each image."""

    chosen_by = "val_accuracy"

    def __init__(self, config: Mapping[str, Any], data: DataSet, device: torch.device) -> None:
        super().__init__(config, data, device)
        self.loss = self.whole.of(self._loss(config["train"], data, device))
        self._own_metrics = own_metrics(config)

    _loss = staticmethod(classification_loss)

    def augment(
        self, images: Tensor, targets: Tensor, draws: Generator, share: Share | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the images changed, and the labels or, mixed, the share of each class (B, K)."""
        return self._augmenter.mixed(images, targets, len(self._class_names), draws, share)

    def auxiliary(self, network: nn.Module, targets: Tensor) -> Tensor | None:
        """Return the losses of the heads that name the class from a block's prototype."""
        return auxiliary_loss(
            network,
            targets,
            lambda side, target: self.loss(side.float(), target),
            self._aux_weight,
        )

    def count(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Count the images whose largest logit is the label's, or the largest share's."""
        labels = targets if targets.dim() == 1 else targets.argmax(1)
        return (logits.argmax(1) == labels).sum()

    def rates(self, counts: Tensor) -> dict[str, float]:
        """Return `accuracy`."""
        return {"accuracy": float(counts) / len(self.shown)}

    def _evaluate(
        self, network: nn.Module, part: Split, images: Stored, every: bool
    ) -> Evaluation:
        """Return what `evaluate_classes` does, with the metrics of the user's own."""
        metrics, kept = self._measure(network, part, images, every)
        for called, name in self._own_metrics.items():
            metrics[called] = own_metric(name, kept["probabilities"], kept["labels"])
        return metrics, kept

    def _measure(self, network: nn.Module, part: Split, images: Stored, every: bool) -> Evaluation:
        return evaluate_classes(network, part, images, self.normalisation, self.smaller)


class MultiLabel(Classification):
    """Any number of classes for each image."""

    chosen_by = "val_map"
    _loss = staticmethod(label_loss)

    def count(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Count the classes that are said rightly of the images; of mixed ones by the larger."""
        return ((logits > 0) == (targets > THRESHOLD)).sum()

    def rates(self, counts: Tensor) -> dict[str, float]:
        """Return `label_accuracy`."""
        return {"label_accuracy": float(counts) / (len(self.shown) * len(self._class_names))}

    def _measure(self, network: nn.Module, part: Split, images: Stored, every: bool) -> Evaluation:
        return evaluate_labels(
            network,
            part,
            images,
            self.normalisation,
            self._class_names,
            every=every,
            smaller=self.smaller,
        )


def evaluate_classes(
    network: nn.Module,
    part: Split,
    images: Stored,
    normalisation: Normalisation,
    smaller: int = 1,
) -> Evaluation:
    """Return scores as `classification_metrics` names them, and the probability of each class.

    Args:
        network: Left in the mode it was in.
        part: With labels.
        images: Its images for the network's device, (N, H, W, C) of uint8.
        normalisation: As in training.
        smaller: So many times smaller than usual are its batches.

    Returns:
        The metrics; and `names` (list of N), `labels` (N,) of int64, `probabilities` (N, K) of
        float32, and `groups` (list of N) where the data has groups.
    """
    logits = predict(network, images, normalisation, smaller)
    kept = _kept(part, logits.softmax(1))
    return classification_metrics(logits, torch.from_numpy(kept["labels"])), kept


def evaluate_labels(
    network: nn.Module,
    part: Split,
    images: Stored,
    normalisation: Normalisation,
    class_names: Sequence[str],
    *,
    every: bool = True,
    smaller: int = 1,
) -> Evaluation:
    """Return scores as `label_metrics` names them, and the probability of each class by itself.

    Args:
        network: Left in the mode it was in.
        part: With labels (N, K).
        images: Its images for the network's device, (N, H, W, C) of uint8.
        normalisation: As in training.
        class_names: One per class.
        every: Also what is too much for every epoch.
        smaller: So many times smaller than usual are its batches.

    Returns:
        The metrics; and what `evaluate_classes` keeps, with labels (N, K).
    """
    logits = predict(network, images, normalisation, smaller)
    kept = _kept(part, logits.sigmoid())
    return label_metrics(logits, kept["labels"], class_names, every=every), kept


def _kept(part: Split, probabilities: Tensor) -> dict[str, Any]:
    """Return what the ledger keeps of each example."""
    kept: dict[str, Any] = {
        "names": list(part.names),
        "labels": np.array(part.labels),
        "probabilities": probabilities.numpy(),
    }
    if part.groups is not None:
        kept["groups"] = list(part.groups)
    return kept
