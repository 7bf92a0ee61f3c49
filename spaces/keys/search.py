"""The keys of a space file that say what is done with the space: search, confirm, ablation."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, Tag

from attnsearch.spaces.keys.measures import COSTS
from attnsearch.spaces.keys.values import Count, Of, Positive, Section, Seed, by_type

Repeats = Annotated[int, Field(ge=1, le=1000)]


def default_grace(epochs: int) -> int:
    """Return epochs that every trial gets where `grace` is not given: a third of the schedule.

    A zero-initialised block or a slowly filling memory bank shows nothing in the first epochs,
    nor do running statistics that have seen few batches.
    """
    return max(1, epochs // 3)


class Asha(Section):
    """Asynchronous successive halving."""

    grace: Count | None = Field(
        None, description="Epochs that every trial gets; null takes a third of train.epochs."
    )
    reduction: Annotated[int, Field(ge=2)] = Field(3, description="One in so many goes on.")


class Hyperband(Section):
    """Hyperband."""

    reduction: Annotated[int, Field(ge=2)] = Field(3, description="One in so many goes on.")


class Median(Section):
    """Stops what lies below the median of the others."""

    grace: Count | None = Field(
        None, description="Epochs that every trial gets; null takes a third of train.epochs."
    )
    min_samples: Count = Field(3, description="Trials to compare with before any is stopped.")


class Scheduler(Section):
    """A scheduler with its settings; exactly one key."""

    asha: Asha | None = None
    hyperband: Hyperband | None = None
    median: Median | None = None


if TYPE_CHECKING:
    SchedulerName = str
else:  # stated once, as the keys of the settings
    SchedulerName = Literal[(*Scheduler.model_fields, "none")]


class Search(Section):
    """How the space is explored."""

    sampler: Literal["tpe", "random", "grid", "gp", "nsga2", "cmaes"] = Field(
        "tpe", description="Optuna's sampler."
    )
    scheduler: Annotated[
        Annotated[SchedulerName, Tag("<name>")] | Annotated[Scheduler, Tag("<settings>")],
        by_type(
            f"{', '.join(Scheduler.model_fields)} or none, or "
            "{asha: {grace: 2, reduction: 3}}",
            str="<name>",
            dict="<settings>",
        ),
    ] = Field("asha", description="Stops weak trials early.")
    trials: Annotated[Count, Of("trials")] = Field(
        16, description="Number of different configs to try."
    )
    objectives: dict[str, Literal["max", "min"]] = Field(
        {},
        description="Metric to direction, the first one leading; several give a Pareto front. "
        "Default: val_accuracy: max, for segmentation val_dice: max.",
    )
    seed: Seed = Field(0, description="Seed of the sampler.")


class Limits(Section):
    """Upper limits, checked on the built network before it trains."""

    params: Positive | None = Field(None, description=COSTS["params"].limit)
    macs: Positive | None = Field(None, description=COSTS["macs"].limit)
    latency_ms: Positive | None = Field(None, description=COSTS["latency_ms"].limit)
    memory_mb: Positive | None = Field(None, description=COSTS["memory_mb"].limit)


class Confirm(Section):
    """Retraining of the best few and their controls on fresh seeds."""

    top: Count = Field(1, description="How many of the best architectures.")
    seeds: Repeats = Field(5, description="Runs of each; verdicts need 5.")
    epochs: Count | None = Field(None, description="Epochs of each run; null takes train.epochs.")
    controls: list[Literal["baseline", "capacity", "tuned_baseline"]] = Field(
        ["baseline", "capacity", "tuned_baseline"],
        description="What the best are compared with. baseline: the plain network with the same "
        "training settings; capacity: the plain network as large as the candidate; "
        "tuned_baseline: the plain network, its training settings searched with the whole budget.",
    )
    configs: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = (
        Field(
            None,
            description="Files without choices, such as exported configs, that are confirmed in "
            "place of the best trials, on this file's data.",
        )
    )
    match: Literal["params", "macs"] = Field(
        "params", description="What the capacity control has as many of as its candidate."
    )


class Ablation(Section):
    """Parts of the winner taken away, moved or varied."""

    plans: Annotated[
        list[Literal["loco", "positions", "blocks", "ofat", "pairwise", "factorial"]],
        Field(min_length=1),
    ] = Field(["loco"], description="What is varied.")
    seeds: Repeats = Field(5, description="Runs of each arm; verdicts need 5.")
    epochs: Count | None = Field(
        None, description="Epochs of each run; null takes confirm.epochs, or train.epochs."
    )
    part: Literal["val", "test"] = Field(
        "val",
        description="Whose scores are compared. test is confirmatory only where it was planned "
        "before the test part was opened.",
    )
    retune: bool = Field(False, description="Tune each arm's training with an equal budget.")
    reuse: Literal["confirm"] | None = Field(
        None, description="confirm: take the winner's confirmation runs as the reference."
    )


class Resources(Section):
    """What one trial gets."""

    cpus: Count = Field(1, description="CPU cores, and threads, of a trial.")
    gpus: Annotated[float, Field(ge=0)] = Field(
        0, description="GPUs of a trial; a fraction below 1 shares one."
    )
    workers: Count | None = Field(
        None, description="At most so many trials side by side; null as many as fit."
    )
