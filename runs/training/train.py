"""One training: a config, a data set and a seed to a trained network and its metrics.

The same config, data and number of threads give the same metrics and weights on the CPU,
bit for bit, in any process and whatever ran in it before. Three rules make that so. Every random
draw comes from a stream keyed by (seed, purpose, epoch), and epochs run under torch's
deterministic algorithms, see `seeding`. Evaluation is in fp32, in a fixed order and batch size.
On CUDA repeats agree to rounding.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from attnsearch.blocks.build import build_network
from attnsearch.blocks.measure import costs, latency
from attnsearch.blocks.ranks import Ranks, Share, own_rows
from attnsearch.runs.batches import LossWatch, fits_on, place, stream, uploaded
from attnsearch.runs.data import DataSet, Split
from attnsearch.runs.training.averages import Averages, lent
from attnsearch.runs.training.evaluate import check_takes
from attnsearch.runs.training.micro_batches import slow_statistics
from attnsearch.runs.training.optim import (
    TrainError,
    batch_sizes,
    diverged,
    epoch_order,
    make_schedule,
    quicken_statistics,
)
from attnsearch.runs.training.progress import Pass, copied, unsaved_buffers
from attnsearch.runs.training.seeding import deterministic, draw_apart, generator, global_draws
from attnsearch.runs.training.segment import TASKS
from attnsearch.runs.training.step import Step
from attnsearch.runs.training.task import Task
from attnsearch.runs.training.timed import architecture


class Training:
    """One training, epoch by epoch.

    Args:
        config: A resolved config; it holds the seed and the epochs.
        data: Its data set. On CUDA what fits moves to the device; on CPUs nothing is copied.
        device: "cpu", "cuda" or "cuda:N".
        threads: Sets the process's torch threads, where given. Rounding depends on them.

    Attributes:
        config: As given.
        seed: `train.seed`: of initialisation, order, augmentation and dropout.
        network: The network, in training mode between epochs.
        epochs: Epochs of the full schedule.
        turn: Entered for every step and evaluation, so that others can measure times alone.
        between: Called after every step; `state()` is good there, where `can_save`.
        history: The metrics of every epoch so far, as `run_epoch` returned them.
        best_epoch: The epoch, from 1, with the best score of its task, the earliest of equals; 0
            before the first. Objectives have no say: an exported config leaves them out.
        best_state: The network's state dict after `best_epoch`, on the CPU.

    Raises:
        TrainError: If the config asks for what cannot be done with this data or device.
        BlockError, SiteError, WeightsError: If the network cannot be built.
    """

    can_save = True

    def __init__(
        self,
        config: Mapping[str, Any],
        data: DataSet,
        device: str | torch.device = "cpu",
        threads: int | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.config = config
        self.data = data
        self.device = torch.device(device)
        self.turn: Callable[[], AbstractContextManager[None]] = nullcontext
        self.between: Callable[[], None] = lambda: None
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_state: dict[str, Tensor] = {}
        self._pass: Pass | None = None
        self._exact = config["train"].get("speed") == "exact"

        train = self._train = config["train"]
        self.seed: int = train["seed"]
        self.epochs: int = train["epochs"]
        self.network: nn.Module = build_network(
            config, data.channels, data.classes, data.image_size, seed=self.seed
        )
        layout = torch.channels_last if train["channels_last"] else torch.contiguous_format
        self.network.to(self.device, memory_format=layout).train()  # type: ignore[call-overload]
        check_takes(self.network, data, self.device)
        parts = {name: self._split(name) for name in ("train", "val")}
        size = sum(part.images.nbytes for part in parts.values())
        self._whole = fits_on(self.device, config, size)
        self._images = {
            name: place(part.images, self.device, whole=self._whole)
            for name, part in parts.items()
        }
        self._examples = len(self._images["train"])
        pieces = train.get("accumulate") or 1
        self._batches = batch_sizes(self._examples, train["batch_size"] * pieces)
        quicken_statistics(self.network, len(self._batches) * pieces)
        self._rate = make_schedule(train, len(self._batches))
        self._task: Task = TASKS[config["task"]](config, data, self.device)
        self.normalisation = self._task.normalisation
        self._step = Step(self.network, self._task, train, self.device, self._batches[0])
        decay = train.get("ema")
        self._averages = None if decay is None else Averages(self.network, decay)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    @property
    def done(self) -> bool:
        """Whether the full schedule is done."""
        return self.epoch >= self.epochs

    @property
    def result_epoch(self) -> int:
        """The epoch that counts: the last, or the best one with `checkpoint: best_val`."""
        return self.best_epoch if self.config["checkpoint"] == "best_val" else self.epoch

    @property
    def result(self) -> dict[str, float]:
        """The metrics of the epoch that counts."""
        return self.history[self.result_epoch - 1]

    def join(self, ranks: Ranks) -> None:
        """Train together with other processes from now on, each with its part of every batch."""
        self._step.join(ranks)

    def run_epoch(self) -> dict[str, float]:
        """Train one epoch and validate; of several processes, the first alone validates.

        Returns:
            `train_loss` (with label smoothing and class weights, without auxiliary terms),
            `train_accuracy` or `train_dice_pooled` (running, in training mode), `train_aux_loss`
            (the weighted auxiliary term, where there is one), the task's metrics of the
            validation part as `val_loss`, `val_accuracy`, ..., `lr` (of the last step),
            `images_per_s` (training alone) and `epoch_s` (training and validation); what
            `Step.told` says; where memory ran out in the evaluation, how many times
            `smaller_batches` it takes.

        Raises:
            Diverged: If the training or validation loss is not finite.
            TrainError: If the full schedule is done.
        """
        if self.done:
            raise TrainError(f"all {self.epochs} epochs of this training are done")
        with (
            deterministic(self.device, exact=self._exact),
            global_draws(self.seed, "dropout", self.epoch, self.device),
        ):
            if self._pass is None:
                self._pass = Pass(generator(self.seed, "augment", self.epoch), self.device)
            else:
                self._pass.restore_streams()
            metrics = self._train_epoch(self._pass)
            train_s = time.perf_counter() - self._pass.started
            if self._step.ranks.rank:  # the first of them validates, and tells
                self._pass = None
                self.history.append(metrics)
                return metrics
            images = self._images["val"]
            with self.turn(), lent(self.network, self._average()):
                validation, _ = self._task.evaluate(self.network, self.data.val, images)
        self._check_finite(validation["loss"], "validation loss")
        metrics |= {f"val_{name}": value for name, value in validation.items()}
        metrics["images_per_s"] = self._examples / train_s
        metrics["epoch_s"] = time.perf_counter() - self._pass.started
        metrics |= self._step.told
        if self._task.smaller > 1:
            metrics["smaller_batches"] = float(self._task.smaller)
        self._pass = None
        self.history.append(metrics)
        self._keep_best(metrics)
        return dict(metrics)

    def batch(self, index: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        """Give the network's input in a step: training examples, augmented and normalised.

        Args:
            index: Which examples (B,), on the device.
            draws: Of the augmentations.

        Returns:
            The network's input (B, C, H, W) and the targets, on the device.
        """
        return self._augmented(self._images["train"][index], self._task.targets(index), draws)

    def _augmented(
        self, stored: Tensor, targets: Tensor, draws: Generator, share: Share | None = None
    ) -> tuple[Tensor, Tensor]:
        scaled = self.normalisation.scale(stored)
        images, targets = self._task.augment(scaled, targets, draws, share)
        return self.normalisation.normalise(images), targets

    def train_batches(self, indices: Iterable[Tensor], draws: Generator) -> Tensor:
        """Take steps of no epoch, of examples as for `batch`; return the last one's loss."""
        with (
            deterministic(self.device, exact=self._exact),
            global_draws(self.seed, "trial step", 0, self.device),
        ):
            for index in indices:
                images, targets = self.batch(index, draws)
                loss = self._step(images, targets, self._rate(0)).total
                self.between()
            return loss

    def evaluate(self, split: str) -> tuple[dict[str, float], dict[str, Any]]:
        """Return the scores of the network of the epoch that counts on a split, and what it says.

        Args:
            split: "train", "val" or "test".

        Returns:
            The task's metrics, those included that are too slow for every epoch, and what its
            `evaluate` keeps of each image.
        """
        part = self._split(split)
        images = self._images.get(split)
        if images is None:
            images = place(part.images, self.device, whole=self._whole)
        with self._result_weights(), deterministic(self.device, exact=self._exact), self.turn():
            return self._task.evaluate(self.network, part, images, every=True)

    def panel(self, said: Mapping[str, Any]) -> bytes:
        """Return a picture of the worst and median validation images of a segmentation.

        Args:
            said: What `evaluate("val")` told of each image.

        Returns:
            The bytes of a PNG, see `panels`.
        """
        from attnsearch.runs.training.panels import validation_panel

        with self._result_weights(), deterministic(self.device, exact=self._exact):
            images = self._images["val"]
            return validation_panel(
                self.network, self.data, images, self.normalisation, said["dice"]
            )

    def split(self, micro_batches: int) -> None:
        """Take each step in so many micro-batches from now on, see `micro_batches`."""
        slow_statistics(self.network, micro_batches / self.micro_batches)
        self._step.split(micro_batches)

    @property
    def micro_batches(self) -> int:
        """Into how many a batch is split, where memory does not hold it whole."""
        return self._step.micro_batches

    def result_state(self) -> dict[str, Tensor]:
        """Return a copy of the state dict after the epoch that counts, on the CPU."""
        if self.result_epoch == self.best_epoch:
            return dict(self.best_state)
        return dict(copied(self._average() or self.network.state_dict()))

    def state(self) -> dict[str, Any]:
        """Return all that `load_state` needs to go on exactly; `torch.save` takes it.

        Plain containers of tensors and numbers: `torch.load(..., weights_only=True)` reads it.
        What a user's block keeps outside of parameters and buffers is not in it, unless the block
        has torch's `get_extra_state` and `set_extra_state`.
        """
        averages = {} if self._averages is None else {"ema": self._averages.state()}
        return averages | {
            "seed": self.seed,
            "history": [dict(metrics) for metrics in self.history],
            "best_epoch": self.best_epoch,
            "best_state": dict(self.best_state),
            "network": copied(self.network.state_dict()),
            "buffers": copied(unsaved_buffers(self.network)),
            "optimizer": copied(self._step.optimizer.state_dict()),
            "scaler": self._step.scaler.state_dict(),
            "pass": None if self._pass is None else self._pass.state(),
            "micro_batches": self.micro_batches,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken, as if there had been no interruption.

        Args:
            state: From `state()` of a training with the same config and data.

        Raises:
            TrainError: If it is from another training.
        """
        if state["seed"] != self.seed:
            raise TrainError(f"state is of seed {state['seed']}, this training has {self.seed}")
        try:
            self.network.load_state_dict(state["network"])
            for name, buffer in unsaved_buffers(self.network).items():
                buffer.copy_(state["buffers"][name])
            self._step.load(copied(state["optimizer"]), state["scaler"])
            if self._averages is not None:
                self._averages.load(state["ema"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise TrainError(f"state is of another network: {error}") from error
        self.split(max(self.micro_batches, state.get("micro_batches", 1)))
        self.history = [dict(metrics) for metrics in state["history"]]
        self.best_epoch = state["best_epoch"]
        self.best_state = dict(state["best_state"])
        self._pass = None
        if state["pass"] is not None:
            draws = generator(self.seed, "augment", self.epoch)
            self._pass = Pass(draws, self.device, state["pass"])

    def costs(self) -> dict[str, float]:
        """Return what the built network costs: `params`, `macs`, `memory_mb`."""
        return costs(
            self.network,
            (self.data.channels, *self.data.image_size),
            device=self.device,
            batch_size=self._train["batch_size"],
            optimizer=self._train["optimizer"],
        )

    def times(self) -> dict[str, float]:
        """Measure the network's `latency_ms`, with its quartiles, see `latency`."""
        return latency(
            self.network, (self.data.channels, *self.data.image_size), device=self.device
        )

    @property
    def architecture(self) -> str:
        """What its network's times follow from, see `architecture`."""
        return architecture(self.config, self.data, torch.get_num_threads())

    def _train_epoch(self, done: Pass) -> dict[str, float]:
        """Return one pass over the training part, from where it stands on."""
        draws = generator(self.seed, "order", self.epoch)
        classes = self.data.train.labels if self._train.get("sampler") else None
        order = epoch_order(self._examples, draws, classes)
        shares = [self._step.share(size) for size in self._batches]
        order, sizes = own_rows(order, shares)
        batches = torch.split(uploaded(order, self.device), sizes)
        first, ranks = self.epoch * len(batches), self._step.ranks
        watch = LossWatch(self.device)
        left = batches[done.batches :], torch.split(order, sizes)[done.batches :]
        examples = zip(
            stream(self._images["train"], *left), stream(self._task.shown, *left), strict=True
        )
        for share in shares[done.batches :]:
            with self.turn():
                stored, shown = next(examples)
                if ranks.count > 1:
                    draw_apart(self.seed, "dropout", self.epoch, done.batches, ranks.rank)
                images, targets = self._augmented(stored, shown.long(), done.draws, share)
                taken = self._step(images, targets, self._rate(first + done.batches), share)
                if self._averages is not None:
                    self._averages.update()
                done.add(share.size, taken.loss, taken.auxiliary, taken.counts)
                self._check_finite(watch(taken.total), "training loss")
            self.between()
        metrics = {"train_loss": float(done.loss_sum) / self._examples}
        rates = self._task.rates(done.counts)
        metrics |= {f"train_{name}": value for name, value in rates.items()}
        metrics["lr"] = self._rate(first + len(batches) - 1)
        if done.aux_sum is not None:
            metrics["train_aux_loss"] = float(done.aux_sum) / self._examples
        total_loss = metrics["train_loss"] + metrics.get("train_aux_loss", 0.0)
        self._check_finite(total_loss, "training loss")
        return metrics

    def _check_finite(self, value: float, what: str) -> None:
        if not np.isfinite(value) and not self._step.ranks.rank:
            when = f"in epoch {self.epoch + 1} of {self.epochs}"
            raise diverged(f"the {what} is not finite {when}", self._step.optimizer)

    def _keep_best(self, metrics: Mapping[str, float]) -> None:
        name = self._task.chosen_by
        if not self.best_epoch or metrics[name] > self.history[self.best_epoch - 1][name]:
            self.best_epoch = self.epoch
            self.best_state = copied(self._average() or self.network.state_dict())

    def _average(self) -> dict[str, Any] | None:
        return None if self._averages is None else self._averages.network_state()

    def _result_weights(self) -> AbstractContextManager[None]:
        """Give the network the weights of the epoch that counts, and its own back afterwards."""
        last = self.result_epoch == self.epoch
        return lent(self.network, self._average() if last else self.best_state)

    def _split(self, name: str) -> Split:
        part: Split = getattr(self.data, name)
        if name != "test" and len(part.labels) == 0:
            raise TrainError(f"the {name} part of the data is empty; see data.splits")
        return part
