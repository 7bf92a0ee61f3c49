"""How many trials a card takes: found with real training steps, before a study's first run.

Processes are added, each with a training of its own, as long as all of them together train faster
for it and the card's memory has room. What one of them holds, and how fast it is with the card to
itself, is measured before.
"""

import functools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from operator import truediv
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch
from torch import Generator, Tensor

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.data import DataSet
from attnsearch.runs.machine import card_memory_mb
from attnsearch.runs.training import Training, free_memory, trial_batches
from attnsearch.search.workers.replicas import Replica, Replicas

SHARE = 0.02  # of the study's steps that the measurement may take, as far as it can be shortened
WINDOW_SECONDS = (0.2, 2.0)  # of training in one measurement, at least and at most
ROUNDS = 3  # measurements of one number of trials; their median counts
NUMBERS = 8  # of trials that are tried, about
STEPS = 8  # between two looks at the clock, since steps are not waited for one by one
SETTLED = 6  # steps after which memory is laid out, and a step is captured
WORTH = 1.05  # a gain of all together below that is none
SPARE = 1.25  # times the memory that was measured: networks with several blocks hold more
MOST_REPLICAS = 8  # in a process
READY_SECONDS = 300.0  # for a process to start and take its first steps


@dataclass(frozen=True)
class Figures:
    """What some trials on one card came to.

    Attributes:
        trials: How many train side by side.
        throughput: Of all of them, in trainings that have the card to themselves.
    """

    trials: int
    throughput: float


@dataclass(frozen=True)
class Packing:
    """Which share of a card each trial of a study gets, and why.

    Attributes:
        gpus: The share.
        device: The card; `cpu` where there is none.
        tried: Numbers of trials side by side, and their throughput.
        memory_mb: What a trial holds on the card at most; 0 where that was not measured.
        card_mb: What the card has.
        note: Why something is as it is.
        seconds: What the measurement took.
        replicas: How many seeds of an arm a process trains in turns, see `replicas`.
        together: The throughput with several; 0 where that was not tried.
    """

    gpus: float
    device: str
    tried: Sequence[Sequence[float]] = ()
    memory_mb: float = 0.0
    card_mb: float = 0.0
    note: str = ""
    seconds: float = 0.0
    replicas: int = 1
    together: float = 0.0

    @property
    def trials(self) -> int:
        """How many trials a card takes."""
        return int(1 / self.gpus) if self.gpus else 0

    def __str__(self) -> str:
        """Say what was chosen."""
        if not self.gpus:
            return self.note
        some = f"{self.trials} trials side by side" if self.trials > 1 else "one trial at a time"
        text = f"a card takes {some}"
        if self.tried:
            raced = ", ".join(f"{trials:g}: {times:.2f}x" for trials, times in self.tried)
            text += f" (throughput of one alone: {raced})"
        if self.replicas > 1:
            text += f"; with {self.replicas} seeds of an arm in each process: {self.together:.2f}x"
        if self.memory_mb:
            text += f"; one holds {self.memory_mb:,.0f} of {self.card_mb:,.0f} MB"
        return f"{text}; {self.note}" if self.note else text


class PackingError(AttnsearchError):
    """Nothing could be measured on a card."""


class Card(Protocol):
    """A card on which trials can be tried."""

    def memory_mb(self) -> tuple[float, float]:
        """Return what a trial holds on the card at most, and what there is for trials."""

    def throughput(self, trials: int, replicas: int = 1) -> float:
        """Return that of so many trials side by side, in trainings that have it to themselves.

        Args:
            trials: Processes.
            replicas: Seeds of an arm in each of them.
        """


def pack(card: Card, device: str, most: int, seeds: int = 1) -> Packing:
    """Find how many trials a card takes.

    Args:
        card: Tries them.
        device: What the card is called.
        most: More there are not, or the CPUs do not feed.
        seeds: Of an arm; 1 where no arms are compared.
    """
    start = time.perf_counter()
    note = "" if most > 1 else "no CPUs, or no runs, for a second one beside it"
    if most <= 1 and seeds <= 1:
        return Packing(1.0, device, note=note)
    measured = [Figures(1, 1.0)]
    try:
        memory_mb, card_mb = card.memory_mb()
    except Exception as error:  # whatever a card, its driver or Ray may say
        return Packing(1.0, device, note=f"not measured: {error}")
    room = max(1, int(card_mb / (SPARE * memory_mb)))
    if room < most:
        note = f"memory has no room for more than {room}"
    trials = next_trials(measured, min(room, most))
    while trials is not None:
        try:
            measured.append(Figures(trials, card.throughput(trials)))
        except Exception as error:  # memory, or a process that dies: fewer are known to work
            note = f"{trials} could not be tried: {type(error).__name__}"
            break
        trials = next_trials(measured, min(room, most))
    best, together = chosen(measured), 0.0
    replicas = min(seeds, MOST_REPLICAS, room // best.trials)
    if replicas > 1:
        try:
            together = card.throughput(best.trials, replicas)
            # Once more without: what else the machine does comes and goes.
            best = max(best, Figures(best.trials, card.throughput(best.trials)), key=_throughput)
        except Exception as error:
            together = 0.0
            note = f"{replicas} seeds in a process could not be tried: {type(error).__name__}"
    return Packing(
        share_of_card(best.trials),
        device,
        [[figures.trials, figures.throughput] for figures in measured],
        memory_mb,
        card_mb,
        note,
        time.perf_counter() - start,
        replicas if together >= WORTH * best.throughput else 1,
        together,
    )


def _throughput(figures: Figures) -> float:
    return figures.throughput


def next_trials(measured: Sequence[Figures], most: int) -> int | None:
    """Return which number of trials to try next: twice as many while that pays, then between.

    Args:
        measured: What was tried, one alone at least.
        most: How many there may be.

    Returns:
        None where the card has shown how many it takes.
    """
    best = chosen(measured).trials
    above = [figures.trials for figures in measured if figures.trials > best]
    trials = (best + min(above)) // 2 if above else min(2 * best, most)
    return trials if trials > best else None


def chosen(measured: Sequence[Figures]) -> Figures:
    """Return the most trials up to which each number gains on the one before."""
    best, *more = sorted(measured, key=lambda figures: figures.trials)
    for figures in more:
        if figures.throughput >= WORTH * best.throughput:
            best = figures
    return best


def share_of_card(trials: int) -> float:
    """Return the share of a card that so many trials have; Ray counts in ten thousandths."""
    return 10_000 // trials / 10_000


class Tryout:
    """One process with trainings to try on a card.

    Args:
        configs: Resolved configs that stand for the study's networks.
        data: What they train on.
        device: Where.
        threads: Of the CPU, for each.
        folders: The driver's `sys.path`, and where modules of the user's own blocks lie.
    """

    def __init__(
        self,
        configs: Sequence[Mapping[str, Any]],
        data: DataSet,
        device: str,
        threads: int,
        folders: Sequence[str],
    ) -> None:
        sys.path[:] = dict.fromkeys([*folders, *sys.path])
        torch.set_num_threads(threads)
        self._configs, self._data, self._device = configs, data, device
        self._replicas = Replicas({})

    def memory_mb(self) -> tuple[float, float]:
        """Return what the process holds at most with any of the networks, and what there is."""
        before, card_mb = self._used_mb()
        most = 0.0
        for place in range(len(self._configs)):
            # A network that cannot be built, or that memory has no room for, says nothing.
            with suppress(AttnsearchError, RuntimeError, MemoryError):
                self.begin(place)
                most = max(most, self._used_mb()[0] - before)
        if most <= 0:
            raise PackingError("no network of the study could take a step on it")
        return most, card_mb - before

    def begin(self, place: int, replicas: int = 1) -> None:
        """Take the first steps of a network, by its place among the configs, or of several."""
        self._replicas.close()
        free_memory()
        config = self._configs[place % len(self._configs)]
        alone = replicas == 1
        members = {number: self._replica(config, number, alone) for number in range(replicas)}
        self._replicas = Replicas(members)
        for _ in range(replicas * -(-SETTLED // STEPS)):
            self._replicas.next()

    def _replica(self, config: Mapping[str, Any], number: int, alone: bool) -> Replica:
        """Return what takes some steps of a network with a seed of its own."""

        @functools.cache
        def training() -> tuple[Training, Iterator[Tensor], Generator]:
            seed = config["train"]["seed"] + number
            made = Training(
                {**config, "train": {**config["train"], "seed": seed}}, self._data, self._device
            )
            if not alone:
                made.between = replica.give_way
            # The last batch of an epoch is in no graph, and has memory of its own.
            return made, *trial_batches(made, SETTLED)

        def take() -> None:
            made, batches, draws = training()
            # To read the last loss is to wait for the device.
            float(made.train_batches(islice(batches, STEPS), draws))

        replica = Replica(take, torch.device(self._device))
        return replica

    def rate(self, seconds: float) -> float:
        """Return the steps of a second, measured over so many seconds."""
        steps, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds:
            self._replicas.next()
            steps += STEPS
        return steps / passed

    def _used_mb(self) -> tuple[float, float]:
        """Return what is used, and how much there is: of the card, or by this process."""
        if self._device == "cpu":
            used = psutil.Process().memory_info().rss
            return used / 2**20, psutil.virtual_memory().total / 2**20
        return card_memory_mb()


class RayCard:
    """A card of the running Ray, with a process for each trial; to be closed.

    Each process has its own of the configs, in turn, so that a study's networks are mixed as they
    will be; its pace counts against its own with the card to itself.

    Args:
        configs: Resolved configs that stand for the study's networks.
        data: What they train on.
        device: Where.
        threads: Of the CPU, for each.
        bundle: What a trial asks Ray for, beside the card.
        most: Trials that there may be.
        steps: Training steps of the whole study.
        folders: Where modules of the user's own blocks lie.
    """

    def __init__(
        self,
        configs: Sequence[Mapping[str, Any]],
        data: DataSet,
        device: str,
        threads: int,
        bundle: Mapping[str, float],
        most: int,
        steps: float,
        folders: Sequence[str] = (),
    ) -> None:
        import ray
        from ray import util
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self._ray: Any = ray
        self._steps = steps
        options: dict[str, Any] = {"num_cpus": 0}
        self._group: Any = None
        if device != "cpu":
            # All on the same card, whatever else the machine has.
            cpus = bundle["CPU"]
            group = util.placement_group([{"GPU": 1, "CPU": cpus * most}])
            strategy = PlacementGroupSchedulingStrategy(group)
            options = {"num_cpus": cpus, "num_gpus": share_of_card(most)}
            options["scheduling_strategy"] = strategy
            self._group = group
        paths = [str(Path(path).absolute()) for path in (*sys.path, *folders)]
        kept = ray.put(data)
        process: Any = ray.remote(Tryout)
        arguments = (configs, kept, device, threads, paths)
        self._start: Callable[[], Any] = lambda: process.options(**options).remote(*arguments)
        self._processes: list[Any] = []
        self._alone: list[float] = []
        self._held: dict[int, int] = {}  # trainings of each, by its place
        self._window = WINDOW_SECONDS[0]

    def memory_mb(self) -> tuple[float, float]:
        """Return what a trial holds on the card at most, and what there is for trials."""
        self._processes.append(self._start())
        held: tuple[float, float] = self._ray.get(
            self._processes[0].memory_mb.remote(), timeout=READY_SECONDS
        )
        return held

    def throughput(self, trials: int, replicas: int = 1) -> float:
        """Return that of so many trials side by side, in trainings that have it to themselves.

        Args:
            trials: Processes.
            replicas: Seeds of an arm in each of them.
        """
        while len(self._processes) < trials:
            self._processes.append(self._start())
        for place in range(len(self._alone), trials):
            process = self._processes[place]
            self._ray.get(process.begin.remote(place), timeout=READY_SECONDS)
            self._held[place] = 1
            if not place:
                (rate,) = self._rates([process])
                share = SHARE * self._steps / rate / (ROUNDS * NUMBERS)
                self._window = min(max(share, WINDOW_SECONDS[0]), WINDOW_SECONDS[1])
            self._alone.append(statistics.median(self._rates([process])[0] for _ in range(ROUNDS)))
        others = [place for place in range(trials) if self._held[place] != replicas]
        begun = [self._processes[place].begin.remote(place, replicas) for place in others]
        self._ray.get(begun, timeout=READY_SECONDS)
        self._held.update(dict.fromkeys(others, replicas))
        together = [
            sum(map(truediv, self._rates(self._processes[:trials]), self._alone))
            for _ in range(ROUNDS)
        ]
        return float(statistics.median(together))

    def close(self) -> None:
        """End the processes, and give the card back."""
        for process in self._processes:
            self._ray.kill(process)
        if self._group is not None:
            self._ray.util.remove_placement_group(self._group)

    def _rates(self, processes: Sequence[Any]) -> list[float]:
        """Return the steps of a second of some processes, all at once."""
        asked = [process.rate.remote(self._window) for process in processes]
        rates: list[float] = self._ray.get(asked, timeout=READY_SECONDS)
        return rates
