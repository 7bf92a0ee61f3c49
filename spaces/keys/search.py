"""The keys of a space file that say what is done with the space: search, confirm, ablation."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, Tag

from attnsearch.spaces.keys.measures import COSTS
from attnsearch.spaces.keys.values import Count, Of, Positive, Section, Seed, Text, by_type

ADDRESS = r"^(auto|[^\s:/@]+:[0-9]+|\[[0-9a-fA-F:]+\]:[0-9]+)$"  # of a Ray
Repeats = Annotated[int, Field(ge=1, le=1000)]


def default_grace(epochs: int) -> int:
    """Return epochs that every trial gets where `grace` is not given: a third of the schedule.

    A zero-initialised block or a slowly filling memory bank shows nothing in the first epochs,
    nor do running statistics that have seen few batches.
    """
    return max(1, epochs // 3)


class Asha(Section):
    """Asynchronous successive halving."""

    grace: Count | None = None
    """Epochs that every trial gets; null takes a third of train.epochs."""
    reduction: Annotated[int, Field(ge=2)] = 3
    """One in so many goes on."""


class Hyperband(Section):
    """Hyperband."""

    reduction: Annotated[int, Field(ge=2)] = 3
    """One in so many goes on."""


class Median(Section):
    """Stops what lies below the median of the others."""

    grace: Count | None = None
    """Epochs that every trial gets; null takes a third of train.epochs."""
    min_samples: Count = 3
    """Trials to compare with before any is stopped."""


class Patient(Section):
    """Stops what has long been below the median of the others."""

    grace: Count | None = None
    """Epochs that every trial gets; null takes a third of train.epochs, and at least 2."""
    min_samples: Count = 3
    """Trials to compare with before any is stopped."""


class Scheduler(Section):
    """A scheduler with its settings; exactly one key."""

    asha: Asha | None = None
    hyperband: Hyperband | None = None
    median: Median | None = None
    patient: Patient | None = None


if TYPE_CHECKING:
    SchedulerName = str
else:  # stated once, as the keys of the settings
    SchedulerName = Literal[(*Scheduler.model_fields, "none")]


class Search(Section):
    """How the space is explored."""

    sampler: Literal["tpe", "random", "grid", "gp", "nsga2", "cmaes"] = "tpe"
    """Optuna's sampler."""
    scheduler: Annotated[
        Annotated[SchedulerName, Tag("<str>")] | Annotated[Scheduler, Tag("<dict>")],
        by_type(
            f"{', '.join(Scheduler.model_fields)} or none, or "
            "{asha: {grace: 2, reduction: 3}}",
        ),
    ] = "patient"
    """Stops weak trials early: patient what has long been weaker than most, the others more and
    sooner, some of the best among it."""
    settings: Literal["first", "together"] | None = None
    """Training settings that are searched. together: every trial has its own; first: a few values
    are tried on the network with nothing inserted, then all blocks are tried under the best of
    them. null takes together."""
    first: list[Text] | None = None
    """What is tried first, in this order: files without choices, such as exported configs, and
    published, the places of each block in its paper, as far as the space has them and for a
    quarter of the trials at most. null takes [published], [] nothing."""
    from_: Annotated[list[Text], Field(min_length=1)] | None = Field(default=None, alias="from")
    """Earlier studies of this ledger, NAME or NAME/NUMBER, whose trials the search learns from.
    From other data, or trained for other epochs, their best configs are tried first instead."""
    trials: Annotated[Count, Of("trials")] = 16
    """Number of different configs to try."""
    objectives: dict[str, Literal["max", "min"]] = {}
    """Metric to direction, the first one leading; several give a Pareto front. Default:
    val_accuracy: max, for segmentation val_dice: max, for multilabel val_map: max."""
    seed: Seed = 0
    """Seed of the sampler."""


class Limits(Section):
    """Upper limits, checked on the built network before it trains."""

    params: Positive | None = Field(default=None, description=COSTS["params"].limit)
    macs: Positive | None = Field(default=None, description=COSTS["macs"].limit)
    latency_ms: Positive | None = Field(default=None, description=COSTS["latency_ms"].limit)
    memory_mb: Positive | None = Field(default=None, description=COSTS["memory_mb"].limit)


class SeedRange(Section):
    """Seeds of arms that stop once their verdict is settled."""

    min: Annotated[int, Field(ge=5, le=1000)]
    """Seeds that every arm has."""
    max: Annotated[int, Field(ge=5, le=1000)]
    """Seeds that no arm exceeds."""


class Confirm(Section):
    """Retraining of the best few and their controls on fresh seeds."""

    top: Count = 1
    """How many of the best architectures."""
    seeds: Annotated[
        Annotated[Repeats, Tag("<int>")] | Annotated[SeedRange, Tag("<dict>")],
        by_type("a whole number, or {min: 5, max: 20}"),
    ] = 5
    """Runs of each; verdicts need 5. {min: 5, max: 20} plans several analyses, after which arms
    stop whose verdicts are settled."""
    epochs: Count | None = None
    """Epochs of each run; null takes train.epochs."""
    controls: list[Literal["baseline", "capacity", "tuned_baseline"]] = [
        "baseline",
        "capacity",
        "tuned_baseline",
    ]
    """What the best are compared with. baseline: the network with nothing inserted, with the
    same training settings; capacity: the baseline as large as the candidate; tuned_baseline: the
    baseline, its training settings searched with the whole budget."""
    configs: Annotated[list[Text], Field(min_length=1)] | None = None
    """Files without choices, such as exported configs, that are confirmed in place of the best
    trials, on this file's data."""
    match: Literal["params", "macs"] = "params"
    """What the capacity control has as many of as its candidate."""

    @property
    def least_seeds(self) -> int:
        """Seeds that every arm has."""
        return self.seeds.min if isinstance(self.seeds, SeedRange) else self.seeds


class Ablation(Section):
    """Parts of the winner taken away, moved or varied."""

    plans: Annotated[
        list[Literal["loco", "positions", "blocks", "ofat", "pairwise", "factorial"]],
        Field(min_length=1),
    ] = ["loco"]
    """What is varied."""
    seeds: Repeats = 5
    """Runs of each arm; verdicts need 5."""
    epochs: Count | None = None
    """Epochs of each run; null takes confirm.epochs, or train.epochs."""
    part: Literal["val", "test"] = "val"
    """Whose scores are compared. test is confirmatory only where it was planned before the test
    part was opened."""
    retune: bool = False
    """Tune each arm's training with an equal budget."""
    reuse: Literal["confirm"] | None = None
    """confirm: take the winner's confirmation runs as the reference."""


class Resources(Section):
    """What one trial gets."""

    cpus: Count = 1
    """CPU cores, and threads, of a trial."""
    gpus: Annotated[
        Annotated[float, Field(ge=0), Tag("<float>")] | Annotated[Literal["auto"], Tag("<str>")],
        by_type("a number of GPUs, or auto", int="float"),
    ] = Field(default=0, validate_default=True)
    """GPUs of a trial; a fraction below 1 shares one, 2 or more train one network together, each
    with its part of every batch. auto: how many trials a card takes is measured before the study's
    first run; none where there is no GPU."""
    address: Annotated[Text, Field(pattern=ADDRESS)] | None = None
    """The running Ray that is joined, with all its machines: HOST:PORT, or auto for the one on
    this machine. null takes RAY_ADDRESS; without that one is started here."""
    workers: Count | None = None
    """At most so many trials side by side; null as many as fit."""
    timeout: Positive | None = None
    """Seconds that a trial may go without ending an epoch; one that takes longer hangs, and is
    ended as failed. null learns the limit from the epochs of all trials."""


def cards_of(gpus: float | str) -> int:
    """Return over how many cards a trial trains one network, from `resources.gpus`."""
    return 1 if isinstance(gpus, str) else max(1, int(gpus))
