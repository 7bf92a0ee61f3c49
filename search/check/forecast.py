"""What a study is going to do: its networks, its data, its runs and their time."""

import contextlib
import functools
import importlib
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attnsearch.blocks.build import Images
from attnsearch.blocks.errors import AttnsearchError
from attnsearch.blocks.hosts import as_size
from attnsearch.runs.data import DataSet, duplicates_in, load_data
from attnsearch.runs.words import duration
from attnsearch.search.check.data import lost_detail
from attnsearch.search.check.standing import Barred, barred
from attnsearch.search.check.survey import Example, Fit, examples, fits
from attnsearch.search.outlook import (
    Outlook,
    budget_share,
    outlook,
    pilot_of,
    reach_sentence,
    seconds_per_epoch,
)
from attnsearch.search.plans import check_measurable, starts_of, starts_text
from attnsearch.search.text import plural
from attnsearch.search.workers import (
    AUTO,
    Cluster,
    ClusterError,
    Need,
    has_cards,
    offered,
    running_cluster,
    trials_here,
    with_need,
)
from attnsearch.spaces import DecisionError, Space

_LISTED = 10_000  # combinations that are gone through
_START_SECONDS = 12  # Ray, the data and the records, before the first step


class CheckError(AttnsearchError):
    """A sound file describes a study that has nothing to train."""


@dataclass(frozen=True)
class Runs:
    """The runs to come, and an estimate of their time.

    Attributes:
        trials: Different configs that are trained.
        baseline: Whether the baseline is trained beside them, because the space lacks it.
        epochs: Of a full training.
        workers: How many run side by side; 0 where `run` would refuse.
        epoch_seconds: One epoch of the default network, estimated from a few steps; None where
            there is no data or the network cannot be built.
        most_seconds: The whole study, if nothing is stopped early.
        likely_seconds: The whole study, if the scheduler stops what it can.
    """

    trials: int
    baseline: bool
    epochs: int
    workers: int
    epoch_seconds: float | None
    most_seconds: float | None
    likely_seconds: float | None


@dataclass(frozen=True, repr=False)
class Forecast:
    """What a study is going to do.

    Attributes:
        space: The space.
        images: What networks are built for.
        data: The data set; None where the file names none.
        data_note: Why there is no data set.
        examples: Some networks of the space.
        fits: Every block at every site where it may stand.
        barred: Blocks of the table that cannot stand at an entry's sites.
        runs: The runs to come.
        outlook: What follows exploring.
        duplicates: Images that stand in two parts.
        metrics: What lacks a class, or is lost where images are resized.
        refusal: Why `run` would refuse on this machine; None where a trial fits.
        gpus: What `resources.gpus` is going to do here, where it is `auto` or more than one.
        cluster: What the Ray has that is joined; empty where none is.
        kept: Where the images will lie, with the figures; empty for a built-in set.
    """

    space: Space
    images: Images
    data: DataSet | None
    data_note: str | None
    examples: Sequence[Example]
    fits: Sequence[Fit]
    barred: Sequence[Barred]
    runs: Runs
    outlook: Outlook
    duplicates: Sequence[str]
    metrics: Sequence[str]
    refusal: str | None = None
    gpus: str | None = None
    cluster: str = ""
    kept: str = ""

    @property
    def all_seconds(self) -> float | None:
        """The study with all its acts, at most; None where an epoch's time is not known."""
        acts = [act.seconds for act in self.outlook.acts]
        if self.runs.most_seconds is None or None in acts:
            return None
        return self.runs.most_seconds + sum(filter(None, acts))

    @property
    def reach(self) -> str | None:
        """What so many trials can find; None of a space without end, or of one network."""
        networks = self.space.architecture_count()
        if not self.space.decisions or networks < 2:
            return None
        return reach_sentence(networks, self.runs.trials, self.space.document["search"]["sampler"])

    @property
    def first(self) -> str:
        """What the search tries first; empty where that is nothing but the baseline."""
        starts = starts_of(self.space, self.runs.trials)
        return starts_text(starts) if starts else ""

    def __repr__(self) -> str:
        time = "" if self.all_seconds is None else f", at most {duration(self.all_seconds)}"
        return f"<Forecast {self.space.name}: {plural(self.runs.trials, 'trial')}{time}>"

    def __str__(self) -> str:
        # Words are made of forecasts, so that the module of words is asked for here.
        check = importlib.import_module("attnsearch.search.check")
        return str(check.forecast_text(self, str(self.space.path), program=True))


def foresee(space: Space) -> Forecast:
    """Survey a space, read its data, and time a few training steps.

    Raises:
        CheckError: No network of the space can be trained.
        DataError: The data cannot be used.
    """
    config = space.resolve(space.defaults())
    hosts = _hosts(config)
    data, note = _data(config)
    images = (
        Images(data.channels, data.image_size, data.classes)
        if data is not None
        else _declared_images(config["data"])
    )
    networks = examples(space, images)
    _check_possible(space, networks)
    metrics = [] if data is None else _measurable(space.document, data)
    if data is not None and (detail := lost_detail(data)[0]):
        metrics.append(f"{detail}; raise data.image_size, or cut tiles (data.tile_overlap: 0.25)")
    runs = _runs(space, config, images, data, hosts.room)
    return Forecast(
        space,
        images,
        data,
        note,
        networks,
        fits(space, images),
        barred(space),
        runs,
        outlook(space, runs.epoch_seconds, hosts.room, pilot_of(space, data)),
        [] if data is None else duplicates_in(data, config["data"], config["task"]),
        metrics,
        hosts.refusal,
        hosts.gpus,
        hosts.cluster,
        "" if data is None else data.where_kept(float(config["resources"]["gpus"])),
    )


def _check_possible(space: Space, networks: Sequence[Example]) -> None:
    """See that `run` has a network to train.

    Raises:
        CheckError: It has none.
    """
    default, smallest = networks[0], networks[-2 if space.decisions else 0]
    built = any(network.params is not None for network in networks)
    # `run` says what the weights file gives to the default network, so that has to be built.
    if not built or (default.params is None and space.document["network"]["weights"]):
        raise CheckError(f"{space.path}: the {default.which} network {default.outside}")
    if all(network.outside for network in networks) and _is_empty(space):
        raise CheckError(f"{space.path}: no network is left to train ({default.outside})")
    if (smallest.outside or "").startswith("over limits.params"):
        raise CheckError(
            f"{space.path}: the smallest network has {smallest.params:,} parameters and is "
            f"{smallest.outside}, so there is none to train; raise the limit or network.width"
        )


def _is_empty(space: Space) -> bool:
    """Return whether rules leave nothing; False where that is too long to find out."""
    if space.architecture_count() == 0:
        return True
    counts = [decision.count or _LISTED + 1 for decision in space.decisions]
    return math.prod(counts) <= _LISTED and next(space.grid(), None) is None


@dataclass
class _Hosts:
    """Where trials will train; see `Forecast`."""

    room: int = 0
    refusal: str | None = None
    gpus: str | None = None
    cluster: str = ""


def _hosts(config: dict[str, Any]) -> _Hosts:
    """Ask this machine, or the cluster that is joined, for its room.

    A config whose GPUs are to be measured gets a card for each trial, where there are some.
    """
    hosts, resources = _Hosts(), config["resources"]
    most, need = resources["workers"] or sys.maxsize, Need.of(resources)
    with contextlib.ExitStack() as stack:
        running: Cluster | None = None
        try:
            if need.address:
                running = stack.enter_context(running_cluster(need, most, stop=lambda: True))
                hosts.cluster = f"{need.address}: {offered()}; times here are of this machine"
        except ClusterError as error:
            hosts.refusal = str(error)
        if need.ranks > 1:
            batch, each = config["train"]["batch_size"], need.ranks
            hosts.gpus = (
                f"{each}: each trial trains one network over {each} cards of a machine, with "
                f"{-(-batch // each)} of the {batch} images of a batch on each; times here are of "
                f"one card"
            )
        if resources["gpus"] == AUTO:
            cards, place = has_cards(running), "in the cluster" if running else "on this machine"
            config["resources"] = {**resources, "gpus": int(cards)}
            need = Need.of(config["resources"])
            hosts.gpus = f"auto: no GPU {place}, so trials train on CPUs"
            if cards:
                hosts.gpus = (
                    "auto: `run` measures how many trials a card takes; times here are of one"
                )
        if hosts.refusal is None:
            try:
                hosts.room = (
                    with_need(running, need, most).workers if running else trials_here(need)
                )
            except ClusterError as error:
                hosts.refusal = str(error)
    hosts.room = min(hosts.room, most)
    return hosts


def _data(config: Mapping[str, Any]) -> tuple[DataSet | None, str | None]:
    if config["data"]["source"] is None:
        return None, "data.source is null: the network can be checked and built, not trained"
    return load_data(config["data"], config["task"]), None


def _measurable(document: Mapping[str, Any], data: DataSet) -> list[str]:
    """See that the data gives what the study is measured by; return notes.

    Raises:
        DataError: It does not.
    """

    def dataset(fold: int | None) -> DataSet:
        if fold in (None, document["data"]["fold"]):
            return data
        return load_data({**document["data"], "fold": fold}, document["task"])

    explore = not (document.get("confirm") or {}).get("configs")
    return check_measurable(document, functools.cache(dataset), explore=explore)


def _declared_images(data: Mapping[str, Any]) -> Images:
    """Return what the file says about images that are not here."""
    classes = data.get("classes")
    count = len(classes) if isinstance(classes, list) else classes
    return Images(data["channels"] or 3, as_size(data["image_size"]), count or 10)


def _runs(
    space: Space, config: Mapping[str, Any], images: Images, data: DataSet | None, room: int
) -> Runs:
    trials = _distinct(space, config["search"]["trials"])
    baseline = bool(space.decisions) and space.baseline() is None
    epochs = config["train"]["epochs"]
    runs = trials + baseline
    workers = min(room, runs)
    untimed = Runs(trials, baseline, epochs, workers, None, None, None)
    if data is None or not workers:
        return untimed
    try:
        epoch_s = seconds_per_epoch(config, images, len(data.train), len(data.val))
    except AttnsearchError:
        return untimed  # the default network cannot be built; the list of networks says why
    share = budget_share(config["search"]["scheduler"], epochs)
    whole = epoch_s * epochs / workers
    return replace(
        untimed,
        epoch_seconds=epoch_s,
        most_seconds=_START_SECONDS + whole * runs,
        # One is never stopped: the baseline.
        likely_seconds=_START_SECONDS + whole * (1 + share * (runs - 1)),
    )


def _distinct(space: Space, wanted: int) -> int:
    """Return how many trials there can be: no more than the space has configs."""
    if not space.decisions:
        return 1
    try:
        return sum(1 for _ in itertools.islice(space.grid(), wanted))
    except DecisionError:  # a range without steps never runs out
        return wanted
