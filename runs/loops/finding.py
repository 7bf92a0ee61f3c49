"""The loop that a config names, and the training by it."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from attnsearch.blocks.build import find_function
from attnsearch.runs.data import DataSet
from attnsearch.runs.loops.lightning import lightning_loop
from attnsearch.runs.loops.loop import LoopTraining, Run
from attnsearch.runs.training import TrainError, Training


def find_loop(name: str) -> Callable[[Run], Any]:
    """Return the user's loop of a name, `module:function` or `module:LightningModule`.

    Raises:
        BlockError: It cannot be imported, or cannot be called.
        TrainError: It does not take one argument, or is a class that does not train.
    """
    loop = find_function(name)
    if isinstance(loop, type):
        return lightning_loop(name, loop)
    try:
        inspect.signature(loop).bind(None)
    except TypeError as error:
        raise TrainError(
            f"train.loop: {name} is called with one argument, the run, and does not take it: "
            f"{error}"
        ) from error
    return loop


def check_own_loop(name: str) -> None:
    """See that a user's loop can be called.

    Raises:
        BlockError, TrainError: As `find_loop`.
    """
    find_loop(name)


def training_of(config: Mapping[str, Any], data: DataSet, device: str, threads: int) -> Training:
    """Return the training of a config: by attnsearch's own loop, or the user's."""
    if name := config["train"].get("loop"):
        return LoopTraining(find_loop(name), config, data, device, threads)
    return Training(config, data, device, threads)
