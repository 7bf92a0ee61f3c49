"""A training by a loop of the user's own.

The user's function trains the network as it likes, and says after each epoch that it is over. All
else is as in any training: attnsearch validates by its own metrics, stops, saves and compares.
"""

import copy
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attnsearch.blocks.ranks import Ranks
from attnsearch.runs.batches import stream, uploaded
from attnsearch.runs.data import DataSet, Split
from attnsearch.runs.loops.handing import Handing
from attnsearch.runs.training import (
    Pass,
    TrainError,
    Training,
    copied,
    draw_apart,
    epoch_order,
    generator,
)
from attnsearch.spaces.keys import DECIDING, Train, idle

HANDED = {
    "batches": ("batch_size", "sampler"),
    "loss": ("loss", "label_smoothing", "class_weights", "boundary_weight"),
    "auxiliary": ("aux_weight",),
}
"""Settings that have their effect in what a loop calls; others where it reads them."""
ALONE = ("epochs", "seed", "loop", "metrics", "speed", "precision", "channels_last")
"""Settings that have their effect whatever a loop does."""
_RATES = {"sgd": 0.1, "adamw": 1e-3}  # what `lr: null` takes
_METRIC = re.compile(r"lr|(train|own)_\w+")


class Settings(Mapping[str, Any]):
    """The `train` section, which notes what is read of it.

    Args:
        train: The section.

    Attributes:
        read: The keys that were read.
    """

    def __init__(self, train: Mapping[str, Any]) -> None:
        defaults = {key: field.default for key, field in Train.model_fields.items()}
        self._values = {**defaults, **copy.deepcopy(dict(train))}
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        """Return a setting."""
        self.read.add(key)
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        """Go through the keys."""
        return iter(self._values)

    def __len__(self) -> int:
        """Count the keys."""
        return len(self._values)

    def unread(self) -> dict[str, Any]:
        """Return what is set otherwise than by default and was never read."""
        defaults = {key: field.get_default() for key, field in Train.model_fields.items()}
        without = idle(self._values, *DECIDING, "loss")
        defaults |= {"lr": _RATES[self._values["optimizer"]], "aux_weight": {}}
        return {
            key: value
            for key, value in self._values.items()
            if key not in {*self.read, *ALONE, *without} and value != defaults.get(key)
        }


class Run:
    """What a loop of the user's own is given.

    Attributes:
        network: The network with its blocks, on the device, in training mode.
        device: Where it is.
        data: `train` and `val` with `images` (N, H, W, C) of uint8 and `labels`, and
            `class_names`, `mean` and `std`: for loops that make batches themselves.
        settings: The `train` section of the space file, with defaults.
        seed: Of the run.
        epochs: Of the full schedule.
        steps: Batches of an epoch.
    """

    def __init__(self, training: "LoopTraining") -> None:
        self._training = training
        self.network: nn.Module = training.network
        self.device: torch.device = training.device
        self.data = Shown(training.data)
        self.settings = Settings(training.config["train"])
        self.seed: int = training.seed
        self.epochs: int = training.epochs
        self.steps: int = training.steps

    @property
    def epoch(self) -> int:
        """Epochs done: more than 0 at first where an interrupted training goes on."""
        return self._training.epoch

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch: images (B, C, H, W) and targets, on the device.

        They are what attnsearch's own loop trains on: of `batch_size` images, augmented and
        normalised, in an order by seed and epoch.
        """
        self.settings.read.update(HANDED["batches"])
        return self._training.batches()

    def val_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the validation part in batches, as it is: images (B, C, H, W) and targets."""
        return self._training.val_batches()

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return `train.loss` of a batch, a mean, with its weights and smoothing."""
        self.settings.read.update(HANDED["loss"])
        return self._training.loss(logits, targets)

    def auxiliary(self, targets: Tensor) -> Tensor | float:
        """Return the weighted losses of the last forward pass's side outputs; 0 without any."""
        self.settings.read.update(HANDED["auxiliary"])
        return self._training.auxiliary(targets)

    def keep(self, **kept: Any) -> None:
        """Name what must be saved beside the network, and bring it to where it was saved.

        To be called once, when all is made and before the first epoch. Without it an interrupted
        training begins anew.

        Args:
            **kept: Objects with `state_dict` and `load_state_dict`.

        Raises:
            TrainError: One of them has neither.
        """
        self._training.keep(kept)

    def report(self, **metrics: float) -> None:
        """Say that an epoch is over, and return when the next is to begin.

        In between attnsearch validates, saves, and decides whether the run goes on: where it does
        not, and after the last epoch, this does not return.

        Args:
            **metrics: Numbers to be recorded: `train_loss`, others that begin with `train_` or
                `own_`, and `lr`.

        Raises:
            TrainError: A name or a value is none.
        """
        self._training.report(metrics)


class Shown:
    """What a loop sees of the data: all but the test part."""

    def __init__(self, data: DataSet) -> None:
        self.train: Split = data.train
        self.val: Split = data.val
        self.class_names = list(data.class_names)
        self.mean, self.std = tuple(data.mean), tuple(data.std)


class LoopTraining(Training):
    """A training whose epochs are those of a user's loop.

    Args:
        loop: The loop.
        config: As for `Training`, like the others.
        data: Its data set.
        device: Where it trains.
        threads: Of the process.
    """

    def __init__(
        self,
        loop: Callable[[Run], Any],
        config: Mapping[str, Any],
        data: DataSet,
        device: str | torch.device = "cpu",
        threads: int | None = None,
    ) -> None:
        super().__init__(config, data, device, threads)
        self._name: str = config["train"]["loop"]
        self.can_save = False
        self._kept: dict[str, Any] | None = None
        self._saved: Mapping[str, Any] = {}
        self._run = Run(self)
        self._handing = Handing(lambda: loop(self._run))

    def run_epoch(self) -> dict[str, float]:
        """Let the loop train one epoch, and validate.

        Returns:
            As `Training.run_epoch`, with what the loop reports of the training.

        Raises:
            Diverged: If the validation loss, or a loss that the loop reports, is not finite.
            TrainError: If the loop breaks a rule.
        """
        self.can_save = False  # within an epoch nobody but the loop knows how far it is
        metrics = super().run_epoch()
        self.can_save = self._kept is not None
        if self.done:
            self.close()
        return metrics

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return len(self._batches)

    def close(self) -> None:
        """End the loop where it stands."""
        self._handing.close()

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch, each of which may be the last: others have their turn."""
        done = self._pass
        assert done is not None, "an epoch has begun"
        classes = self.data.train.labels if self._train.get("sampler") else None
        order = epoch_order(self._examples, generator(self.seed, "order", self.epoch), classes)
        rows = (
            torch.split(uploaded(order, self.device), self._batches),
            torch.split(order, self._batches),
        )
        stored = stream(self._images["train"], *rows)
        for images, shown in zip(stored, stream(self._task.shown, *rows), strict=True):
            yield self._augmented(images, shown.long(), done.draws)
            self._handing.hand(_STEP)

    def val_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the validation part in batches of `batch_size`."""
        part, size = self.data.val, self._train["batch_size"]
        wanted = part.labels if part.masks is None else part.masks.resized
        rows = [slice(start, start + size) for start in range(0, len(part.images), size)]
        for place, images in zip(rows, stream(self._images["val"], rows), strict=True):
            shown = torch.from_numpy(np.array(wanted[place])).to(self.device)
            yield self.normalisation(images), shown.long()

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return `train.loss` of a batch."""
        return self._task.loss(logits.float(), targets)

    def auxiliary(self, targets: Tensor) -> Tensor | float:
        """Return the weighted loss of side outputs; 0 without any."""
        loss = self._task.auxiliary(self.network, targets)
        return 0.0 if loss is None else loss

    def keep(self, kept: Mapping[str, Any]) -> None:
        """Save objects with the network from now on, and give them what was saved."""
        for name, value in kept.items():
            if not (hasattr(value, "state_dict") and hasattr(value, "load_state_dict")):
                raise TrainError(
                    f"train.loop: {self._name} keeps {name}, a {type(value).__name__}, which has "
                    "no state_dict and load_state_dict; give what has both, such as an optimizer"
                )
            if name in self._saved:
                value.load_state_dict(copied(self._saved[name]))
        self._kept = dict(kept)
        # Random numbers drawn so far, in making all, leave those of the epoch as they are.
        draw_apart(self.seed, "dropout", self.epoch)

    def report(self, metrics: Mapping[str, float]) -> None:
        """Take in what the loop says of an epoch, and wait for the next."""
        for name, value in metrics.items():
            if not _METRIC.fullmatch(name):
                raise TrainError(
                    f"train.loop: {self._name} reports {name!r}; what it measures is called "
                    "train_loss, train_..., own_... or lr. The validation is attnsearch's"
                )
            if not isinstance(value, int | float | Tensor | np.floating) or np.ndim(value):
                raise TrainError(f"train.loop: {self._name} reports {name}: {value!r}, no number")
        self._handing.hand({name: float(value) for name, value in metrics.items()})

    def state(self) -> dict[str, Any]:
        """Return all that `load_state` needs to go on exactly."""
        kept = {name: copied(value.state_dict()) for name, value in (self._kept or {}).items()}
        return super().state() | {"loop": kept}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken: what the loop keeps, when it says so."""
        super().load_state(state)
        self._saved = state["loop"]

    def split(self, micro_batches: int) -> None:
        """Refuse: the batches are the loop's."""
        if micro_batches > 1:
            raise TrainError(
                f"memory ran out, and the steps are those of {self._name}, so they are not split; "
                "lower train.batch_size"
            )

    def join(self, ranks: Ranks) -> None:
        """Refuse: the steps are the loop's."""
        raise TrainError(f"{self._name} trains on one card; write resources.gpus: 1")

    def _train_epoch(self, done: Pass) -> dict[str, float]:
        while True:
            with self.turn():
                said = self._handing.next()
            if said is not _STEP:
                break
            self.between()
        if said is None:
            raise TrainError(
                f"train.loop: {self._name} ended after {self.epoch} of {self.epochs} epochs; it "
                "calls run.report() after each: `for epoch in range(run.epoch, run.epochs)`"
            )
        if unread := self._run.settings.unread():
            raise TrainError(_unread_fault(self._name, unread))
        for name, value in said.items():
            if not math.isfinite(value):
                self._check_finite(value, f"{name} of {self._name}")
        metrics: dict[str, float] = said
        return metrics


_STEP = object()
"""What a loop hands over between two batches."""


def _unread_fault(name: str, unread: Mapping[str, Any]) -> str:
    words = [f"train.{key} is {value}" for key, value in unread.items()]
    call = {key: f"run.{call}(...)" for call, keys in HANDED.items() for key in keys}
    how = dict.fromkeys(call.get(key, f"run.settings[{key!r}]") for key in unread)
    return (
        f"{' and '.join(words)}, and {name} trained an epoch without it: use {', '.join(how)} "
        "there, or leave it out of the space file"
    )
