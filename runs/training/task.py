"""What a training learns: how classification and segmentation differ for the loop around them."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Generator, Tensor, nn

from attnsearch.runs.data import DataSet, Split
from attnsearch.runs.metrics import classification_metrics
from attnsearch.runs.training.augment import Augmenter
from attnsearch.runs.training.evaluate import Normalisation, predict
from attnsearch.runs.training.losses import auxiliary_loss, classification_loss


class Task(Protocol):
    """What `attnsearch.runs.training.train.Training` asks of a task.

    Attributes:
        chosen_by: The metric that the best epoch has most of.
    """

    chosen_by: str

    def targets(self, index: Tensor) -> Tensor:
        """Return what the network should say of some training examples (B,), on the device."""

    def augment(self, images: Tensor, targets: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        """Return images (B, C, H, W) in 0..1 and their targets after random changes."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the training loss of a batch, a mean."""

    def auxiliary(self, network: nn.Module, targets: Tensor) -> Tensor | None:
        """Return the weighted loss of the last forward pass's side outputs, if any."""

    def start(self) -> None:
        """Forget the counts: a new epoch begins."""

    def see(self, logits: Tensor, targets: Tensor) -> None:
        """Count what the network said of a training batch; nothing waits for the device."""

    def seen(self) -> dict[str, float]:
        """Return training metrics of the epoch so far, in training mode, without `train_`."""

    def evaluate(
        self,
        network: nn.Module,
        part: Split,
        images: Tensor,
        normalisation: Normalisation,
        *,
        every: bool = False,
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return metrics of a part of the data, and what the ledger keeps of each example.

        Args:
            network: Left in the mode it was in.
            part: The part.
            images: Its images on the network's device, (N, H, W, C) of uint8.
            normalisation: As in training.
            every: Also what is too slow for every epoch.
        """


class Classification:
    """One class for each image.

    Args:
        config: A resolved config.
        data: Its data set.
        device: Where it is trained.

    Raises:
        TrainError, DataError: If the config asks for what cannot be done with this data.
    """

    chosen_by = "val_accuracy"

    def __init__(self, config: Mapping[str, Any], data: DataSet, device: torch.device) -> None:
        train = config["train"]
        self._labels = torch.from_numpy(np.array(data.train.labels)).to(device)
        self._augment = Augmenter(config["data"]["augment"] or {}, data.image_size)
        self._loss = classification_loss(train, data, device)
        self._aux_weight = train["aux_weight"]
        self._device = device
        self.start()

    def targets(self, index: Tensor) -> Tensor:
        """Return labels (B,)."""
        return self._labels[index]

    def augment(self, images: Tensor, targets: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        """Return the images changed, the labels as they are."""
        return self._augment(images, draws), targets

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return cross-entropy of logits (B, K) and labels (B,)."""
        return self._loss(logits, targets)

    def auxiliary(self, network: nn.Module, targets: Tensor) -> Tensor | None:
        """Return the losses of the heads that name the class from a block's prototype."""
        return auxiliary_loss(
            network,
            targets,
            lambda side, target: self._loss(side.float(), target),
            self._aux_weight,
        )

    def start(self) -> None:
        """Forget the counts: a new epoch begins."""
        self._hits = torch.zeros((), device=self._device, dtype=torch.int64)
        self._count = 0

    def see(self, logits: Tensor, targets: Tensor) -> None:
        """Count the images whose largest logit is the label's."""
        self._hits += (logits.argmax(1) == targets).sum()
        self._count += len(targets)

    def seen(self) -> dict[str, float]:
        """Return `accuracy`."""
        return {"accuracy": float(self._hits) / self._count}

    def evaluate(
        self,
        network: nn.Module,
        part: Split,
        images: Tensor,
        normalisation: Normalisation,
        *,
        every: bool = False,
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return scores as `classification_metrics` names them, and the probability of each class.

        Returns:
            The metrics; and `names` (list of N), `labels` (N,) of int64, `probabilities` (N, K) of
            float32, and `groups` (list of N) where the data has groups.
        """
        logits = predict(network, images, normalisation)
        labels = np.array(part.labels)
        said: dict[str, Any] = {
            "names": list(part.names),
            "labels": labels,
            "probabilities": logits.softmax(1).numpy(),
        }
        if part.groups is not None:
            said["groups"] = list(part.groups)
        return classification_metrics(logits, torch.from_numpy(labels)), said
