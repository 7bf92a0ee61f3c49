"""Keys of `train` that contradict others, or that have no effect."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from attnsearch.spaces.file import Problems
from attnsearch.spaces.keys import (
    COSTS,
    DECIDING,
    LOSSES,
    METRICS,
    OF_ANOTHER,
    OF_OUR_LOOP,
    TASK_LOSSES,
    SpaceFile,
    Train,
    cards_of,
    keys_under,
)
from attnsearch.spaces.space.data_checks import class_count
from attnsearch.spaces.space.decisions import is_spec, members

_STORED = ("names", "groups", "labels", "probabilities", "dice_classes")
"""What predictions are stored by, as each image's values of a metric are by its name."""


def check_train(file: SpaceFile, problems: Problems) -> None:
    """Record what of `train` contradicts other keys, or has no effect."""
    train = file.train
    schedules = members(train.schedule)
    warmup: Any = max(members(train.warmup_epochs))
    searched = " at most" if is_spec(train.warmup_epochs) else ""
    if warmup > 0 and schedules == ["onecycle"]:
        problems.add(
            ("train", "warmup_epochs"),
            f"{warmup} cannot stand with schedule: onecycle, which has a warm-up of its own; "
            "remove it",
        )
    elif warmup >= train.epochs and not problems.wrong(("train", "epochs")):
        problems.add(
            ("train", "warmup_epochs"),
            f"{warmup}{searched} must be below train.epochs, which is {train.epochs}",
        )
    steps = [value for value in members(train.warmup_steps) if value]
    if steps and warmup > 0:
        message = f"{max(steps)} cannot stand with warmup_epochs: {warmup}; remove one"
        problems.add(("train", "warmup_steps"), message)
    for loss in members(train.loss):
        fitting = TASK_LOSSES[file.task]
        if loss in LOSSES and loss not in fitting and not problems.wrong(("task",)):
            message = f"{loss} is no loss of task: {file.task}; it takes {' or '.join(fitting)}"
            problems.add(("train", "loss"), message)
    _own_metrics(file, problems)
    if train.loop is not None:
        _own_loop(file, problems)
    weights, count = train.class_weights, class_count(file)
    if isinstance(weights, list) and count is not None and len(weights) != count:
        message = f"has {len(weights)} weights for {count} classes (data.classes)"
        problems.add(("train", "class_weights"), message)
    augment = file.data.augment
    for key, needed in OF_ANOTHER.items():
        if key in augment.model_fields_set and not any(members(getattr(augment, needed))):
            problems.warn(("data", "augment", key), f"has no effect without {needed}")
    for key, needed in inactive_settings(train):
        if differs(train, key):
            problems.warn(("train", key), f"has no effect without {needed}")


def _own_metrics(file: SpaceFile, problems: Problems) -> None:
    names = [name.rpartition(":")[2] for name in file.train.metrics or ()]
    for index, name in enumerate(names):
        if name in names[:index] or name in {*METRICS, *COSTS, *_STORED}:
            whose = "two are" if name in names[:index] else "one of ours is"
            problems.add(
                ("train", "metrics", index), f"{whose} called {name}; rename the function"
            )


def _own_loop(file: SpaceFile, problems: Problems) -> None:
    """Refuse what is of our own loop alone."""
    for key, idle in OF_OUR_LOOP.items():
        if not all(value in idle for value in members(getattr(file.train, key))):
            problems.add(
                ("train", key),
                f"is of attnsearch's own loop, and {file.train.loop} trains; do it there, and "
                "remove it",
                at_key=True,
            )
    if cards_of(file.resources.gpus) > 1:
        message = f"{file.train.loop} (train.loop) trains on one card; ask for one"
        problems.add(("resources", "gpus"), message)


def inactive_settings(train: Train) -> Iterator[tuple[str, str]]:
    """Yield the settings that no choice makes active, and what would."""
    for other in (*DECIDING, "loss"):
        options = members(getattr(train, other))
        for key, values in keys_under(other).items():
            if not any(option in values for option in options):
                *rest, last = [value for value in values if value is not None]
                yield key, f"{other}: {', '.join(rest)}{' or ' if rest else ''}{last}"


def differs(section: BaseModel, key: str) -> bool:
    """Return whether a key is set to something else than its default."""
    return bool(getattr(section, key) != type(section).model_fields[key].default)
