"""How long what `init` proposes takes here, and epochs that keep it within some hours."""

import math
from dataclasses import dataclass

from attnsearch.blocks.build import Images
from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.data import DataSet
from attnsearch.runs.words import duration
from attnsearch.search.outlook import outlook, seconds_per_epoch
from attnsearch.search.workers import Need, trials_here
from attnsearch.spaces import Space

HOURS = 12.0
"""In which a proposal is to end with all its acts: overnight."""


@dataclass(frozen=True)
class Budget:
    """What a proposal takes.

    Attributes:
        epochs: Of a full training, so that all acts end in time.
        words: What was measured and what follows from it, a sentence each.
    """

    epochs: int
    words: tuple[str, ...] = ()


def budget_of(space: Space, data: DataSet, hours: float, least: int) -> Budget:
    """Measure a few steps of the default network, and fit the epochs to the hours.

    Args:
        space: As it was proposed.
        data: Its data.
        hours: In which all acts are to end at most.
        least: Epochs below which a training tells nothing.
    """
    config = space.resolve(space.defaults())
    epochs, resources = config["train"]["epochs"], config["resources"]
    trials = config["search"]["trials"]
    try:
        room = trials_here(Need(float(resources["cpus"]), float(resources["gpus"])))
        images = Images(data.channels, data.image_size, data.classes)
        epoch_s = seconds_per_epoch(config, images, len(data.train), len(data.val))
    except (AttnsearchError, RuntimeError, MemoryError):
        return Budget(epochs)  # `check` says why
    explore_s = math.ceil(trials / min(room, trials)) * epochs * epoch_s
    acts_s = sum(act.seconds or 0.0 for act in outlook(space, epoch_s, room).acts)
    share = hours * 3600 / (explore_s + acts_s)
    fitting = min(epochs, max(least, math.floor(epochs * share)))
    explore_s, all_s = (part * fitting / epochs for part in (explore_s, explore_s + acts_s))
    words = [
        f"measured here: {duration(epoch_s)} an epoch; exploring takes at most "
        f"{duration(explore_s)}, all acts together {duration(all_s)}"
    ]
    if fitting < epochs:
        words.append(
            f"{fitting} epochs and not {epochs}, so that all acts end within {hours:g} h: "
            f"--hours says otherwise"
        )
    if all_s > hours * 3600:
        words.append(
            f"even {fitting} epochs take longer than {hours:g} h here: a GPU, a smaller "
            "data.image_size or network.width, or fewer confirm.seeds shorten it"
        )
    return Budget(fitting, tuple(words))
