"""A LightningModule as the loop: its steps and optimizers, driven without a Trainer.

Lightning itself is not imported: a class is driven by the names of its methods, as
`pytorch_lightning.LightningModule` has them. What a Trainer would do besides, attnsearch does, or
it is refused.
"""

import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from attnsearch.runs.loops.loop import Run
from attnsearch.runs.training import TrainError

_LIGHTNING = ("pytorch_lightning.", "lightning.")
STEPS = ("training_step", "configure_optimizers")
"""What makes a class a loop."""


class Stand:
    """What a module finds as `self.trainer`: how far the training is.

    Args:
        name: Of the module's class.
        run: What is trained.

    Attributes:
        max_epochs: Of the full schedule.
        current_epoch: The epoch, from 0.
        global_step: Optimizer steps taken.
        num_training_batches: Steps of an epoch.
        estimated_stepping_batches: Of the full schedule.
    """

    def __init__(self, name: str, run: Run) -> None:
        self._name = name
        self.max_epochs = run.epochs
        self.current_epoch = run.epoch
        self.num_training_batches = run.steps
        self.global_step = run.epoch * run.steps
        self.estimated_stepping_batches = run.epochs * run.steps

    def __getattr__(self, name: str) -> Any:
        """Say that attnsearch is no Trainer."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise TrainError(
            f"train.loop: {self._name} asks for self.trainer.{name}; attnsearch drives it without "
            f"a Trainer, and has {', '.join(key for key in vars(self) if key[0] != '_')}"
        )


@dataclass
class Schedule:
    """A scheduler of learning rates, and when it takes a step.

    Attributes:
        scheduler: The scheduler.
        interval: `epoch` or `step`.
        frequency: After so many of them.
        monitor: The logged value that it is given, if any.
    """

    scheduler: Any
    interval: str = "epoch"
    frequency: int = 1
    monitor: str | None = None


class Logs:
    """What a module logs, as means over the batches of an epoch.

    Attributes:
        prefix: What the names of recorded values begin with.
        size: Images of the batch.
    """

    def __init__(self) -> None:
        self.prefix, self.size = "train_", 1
        self._sums: dict[str, list[Any]] = defaultdict(lambda: [0.0, 0])
        self._names: dict[str, str] = {}

    def log(self, name: str, value: Any, *_: Any, **__: Any) -> None:
        """Stand for `LightningModule.log`."""
        number = value.detach().float().mean() if isinstance(value, Tensor) else float(value)
        total = self._sums[name]
        total[0], total[1] = total[0] + number * self.size, total[1] + self.size
        word = re.sub(r"\W", "_", name)
        self._names[name] = word if word.startswith(self.prefix) else self.prefix + word

    def log_dict(self, dictionary: Mapping[str, Any], *_: Any, **__: Any) -> None:
        """Stand for `LightningModule.log_dict`."""
        for name, value in dictionary.items():
            self.log(name, value)

    def means(self) -> dict[str, float]:
        """Return the mean of each logged value, by the name that it was logged under."""
        return {name: float(total) / count for name, (total, count) in self._sums.items()}

    def recorded(self) -> dict[str, float]:
        """Return the same, by the names that are recorded."""
        return {self._names[name]: mean for name, mean in self.means().items()}


def drive(name: str, cls: type, run: Run) -> None:
    """Train a run's network by a LightningModule.

    Args:
        name: Of the class, as the space file has it.
        cls: The class; its constructor takes the network, and settings that it names.
        run: What is trained.

    Raises:
        TrainError: It needs a Trainer.
    """
    module = _constructed(name, cls, run)
    module.trainer = stand = Stand(name, run)
    optimizer, schedules = _optimizers(name, module)
    kept = {f"schedule_{n}": schedule.scheduler for n, schedule in enumerate(schedules)}
    run.keep(module=module, optimizer=optimizer, **kept)
    _hook(module, "on_fit_start")
    _hook(module, "on_train_start")
    for epoch in range(run.epoch, run.epochs):
        stand.current_epoch, logs = epoch, Logs()
        module.log, module.log_dict = logs.log, logs.log_dict
        module.train()
        _hook(module, "on_train_epoch_start")
        loss = _train_epoch(name, module, optimizer, schedules, run, stand, logs)
        _validate(module, run, logs)
        module.train()
        _hook(module, "on_train_epoch_end")
        _step(module, schedules, "epoch", epoch + 1, logs)
        rate = float(optimizer.param_groups[0]["lr"])
        run.report(**{"train_loss": loss, "lr": rate, **logs.recorded()})


def _constructed(name: str, cls: type, run: Run) -> Any:
    accepted = inspect.signature(cls).parameters
    named = {key: run.settings[key] for key in run.settings if key in accepted}
    module: Any = cls(run.network, **named)
    module.to(run.device)
    held = {id(parameter) for parameter in module.parameters()}
    if not all(id(parameter) in held for parameter in run.network.parameters()):
        raise TrainError(
            f"train.loop: {name} does not hold the network that it is given: keep it as it is, "
            "`self.network = network`"
        )
    if getattr(module, "automatic_optimization", True) is False:
        raise TrainError(
            f"train.loop: {name} optimises by hand (automatic_optimization = False), for which "
            "there is no Trainer here: write a function, see docs/own-loop.md"
        )
    return module


def _optimizers(name: str, module: Any) -> tuple[torch.optim.Optimizer, list[Schedule]]:
    """Return what `configure_optimizers` gives, in whichever form Lightning takes."""
    given: Any = module.configure_optimizers()
    optimizers, schedules = given, []
    if isinstance(given, Mapping):
        optimizers, schedules = given["optimizer"], [given.get("lr_scheduler")]
    elif isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], list | tuple):
        optimizers, schedules = given
    listed = [*optimizers] if isinstance(optimizers, list | tuple) else [optimizers]
    if len(listed) != 1 or not isinstance(listed[0], torch.optim.Optimizer):
        raise TrainError(
            f"train.loop: {name}.configure_optimizers gives {given!r}; here it gives one "
            "optimizer, alone or with its schedulers"
        )
    names = [field.name for field in fields(Schedule)]
    made = [
        Schedule(**{key: each[key] for key in names if key in each})
        if isinstance(each, Mapping)
        else Schedule(each)
        for each in schedules
        if each is not None
    ]
    return listed[0], made


def _train_epoch(
    name: str,
    module: Any,
    optimizer: torch.optim.Optimizer,
    schedules: list[Schedule],
    run: Run,
    stand: Stand,
    logs: Logs,
) -> float:
    """Take the steps of an epoch; return the mean of their losses."""
    total, count = torch.zeros((), device=run.device), 0
    for index, batch in enumerate(run.batches()):
        logs.size = len(batch[0])
        taken: list[Tensor] = []

        def closure(index: int = index, batch: Any = batch, taken: list[Any] = taken) -> Any:
            output = module.training_step(batch, index)
            loss = output["loss"] if isinstance(output, Mapping) else output
            if not isinstance(loss, Tensor) or loss.shape != ():
                raise TrainError(
                    f"train.loop: {name}.training_step gives {type(loss).__name__}; it gives a "
                    "loss, a tensor (), or a dict with one"
                )
            taken[:] = [loss.detach()]
            whole = loss + run.auxiliary(batch[1])
            _hook(module, "on_before_zero_grad", optimizer)
            module.optimizer_zero_grad(stand.current_epoch, index, optimizer)
            _hook(module, "on_before_backward", whole)
            module.backward(whole)
            _hook(module, "on_after_backward")
            _hook(module, "on_before_optimizer_step", optimizer)
            return loss

        _hook(module, "on_train_batch_start", batch, index)
        module.optimizer_step(stand.current_epoch, index, optimizer, closure)
        stand.global_step += 1
        _hook(module, "on_train_batch_end", taken[0], batch, index)
        _step(module, schedules, "step", stand.global_step, logs)
        total, count = total + taken[0] * logs.size, count + logs.size
    return float(total) / count


def _validate(module: Any, run: Run, logs: Logs) -> None:
    """Run `validation_step` where the class has one; what it logs is recorded as its own."""
    if not _has(module, "validation_step"):
        return
    module.eval()
    logs.prefix = "own_"
    with torch.no_grad():
        _hook(module, "on_validation_epoch_start")
        for index, batch in enumerate(run.val_batches()):
            logs.size = len(batch[0])
            module.validation_step(batch, index)
        _hook(module, "on_validation_epoch_end")
    logs.prefix = "train_"


def _step(module: Any, schedules: list[Schedule], interval: str, count: int, logs: Logs) -> None:
    """Let the schedulers of an interval take a step where one is due."""
    for schedule in schedules:
        if schedule.interval == interval and count % schedule.frequency == 0:
            value = None
            if schedule.monitor is not None:
                means = logs.means()
                if schedule.monitor not in means:
                    raise TrainError(
                        f"train.loop: a scheduler monitors {schedule.monitor}, which was not "
                        f"logged; there are {', '.join(means) or 'none'}"
                    )
                value = means[schedule.monitor]
            module.lr_scheduler_step(schedule.scheduler, value)


def _has(module: Any, name: str) -> bool:
    """Return whether a class has a method of its own, not that of LightningModule."""
    method = getattr(type(module), name, None)
    return method is not None and not str(method.__module__).startswith(_LIGHTNING)


def _hook(module: Any, name: str, *given: Any) -> None:
    if _has(module, name):
        getattr(module, name)(*given)


def is_module(cls: type) -> bool:
    """Return whether a class can be driven: a module with the steps of a LightningModule."""
    return issubclass(cls, nn.Module) and all(callable(getattr(cls, key, None)) for key in STEPS)


def lightning_loop(name: str, cls: type) -> Callable[[Run], None]:
    """Return the loop that drives a LightningModule.

    Args:
        name: Of the class, as the space file has it.
        cls: The class.

    Raises:
        TrainError: It is none.
    """
    if not is_module(cls):
        raise TrainError(
            f"train.loop: {name} is a class without {' and '.join(STEPS)}; a class that trains is "
            "a LightningModule, and any other loop a function of one argument"
        )
    return lambda run: drive(name, cls, run)
