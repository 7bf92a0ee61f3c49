"""The keys of a space file: types, bounds, defaults and what each is for.

`attnsearch schema` prints this module as a JSON Schema, descriptions included. What no type can
say (sites, blocks, keys that contradict each other) is checked in `checks` and `insertions`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from attnsearch.blocks.sites import BACKBONES
from attnsearch.spaces.values import Searchable, SearchableFloat, SearchableInt

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Half = Annotated[float, Field(ge=0, le=0.5)]
Count = Annotated[int, Field(ge=1)]

CLASSIFICATION_METRICS = {
    "val_accuracy": "max",
    "val_balanced_accuracy": "max",
    "val_f1": "max",
    "val_auroc": "max",
    "val_loss": "min",
}
SEGMENTATION_METRICS = {"val_dice": "max", "val_loss": "min"}
COSTS = {"params": "min", "macs": "min", "latency_ms": "min", "memory_mb": "min"}


def _by_type(allowed: str, **tags: str) -> Discriminator:
    """Tells the members of a union apart by the type of the value."""

    def tag(value: Any) -> str | None:
        kind = "null" if value is None else type(value).__name__
        return tags.get(kind, tags.get("dict") if isinstance(value, BaseModel) else None)

    return Discriminator(tag, custom_error_type="type", custom_error_message=f"must be {allowed}")


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class GroupsPattern(_Section):
    """Groups from file names."""

    pattern: str = Field(
        min_length=1,
        description="A regular expression with one group, searched in an image's name: what the "
        "group catches is the patient. Images that it does not fit are groups of their own.",
    )


class GroupsTable(_Section):
    """Groups from a table."""

    csv: str = Field(
        min_length=1, description="A CSV file with the columns name and group, one line an image."
    )


class Augment(_Section):
    """Random changes of training images; what is not named is off."""

    crop: SearchableInt[Annotated[int, Field(ge=0)]] = Field(
        0, description="Pixels of zero padding before a random crop back to the image's size."
    )
    flip: Searchable[bool] = Field(False, description="Mirror left and right, half of the time.")
    vflip: Searchable[bool] = Field(False, description="Mirror up and down, half of the time.")
    rotate: SearchableFloat[Annotated[float, Field(ge=0, le=180)]] = Field(
        0, description="Rotate by up to this many degrees either way."
    )
    scale: SearchableFloat[Annotated[float, Field(ge=0, le=0.9)]] = Field(
        0, description="Zoom by a factor between 1 - scale and 1 + scale."
    )
    translate: SearchableFloat[Half] = Field(
        0, description="Shift by up to this fraction of the image's side."
    )
    brightness: SearchableFloat[Fraction] = Field(
        0, description="Change the brightness by a factor of up to 1 +- this."
    )
    contrast: SearchableFloat[Fraction] = Field(
        0, description="Change the contrast by a factor of up to 1 +- this."
    )
    noise: SearchableFloat[Fraction] = Field(
        0, description="Standard deviation of Gaussian noise, in units of the full range."
    )
    erase: SearchableFloat[Half] = Field(
        0, description="Erase a rectangle of up to this fraction of the image's area."
    )


class Data(_Section):
    """The images, and how they are split."""

    source: Annotated[str, Field(min_length=1)] | None = Field(
        description="`digits` (built in), or a path relative to this file: an .npz in MedMNIST "
        "layout, a folder of class folders with or without train/val/test, or a folder with "
        "images/ and masks/. null: a network without data, which can be checked and built."
    )
    image_size: Annotated[int, Field(ge=1, le=4096)] = Field(
        32, description="Side in pixels that images are resized to."
    )
    channels: Literal[1, 3] | None = Field(
        None, description="1 grey, 3 colour; null takes what the images have."
    )
    classes: (
        Annotated[
            Annotated[Annotated[int, Field(ge=2)], Tag("<number>")]
            | Annotated[
                Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=2)],
                Tag("<names>"),
            ],
            _by_type(
                "a number of classes or a list of their names", int="<number>", list="<names>"
            ),
        ]
        | None
    ) = Field(None, description="Number or names of the classes; null takes them from the data.")
    seed: Seed = Field(0, description="Fixes the split for all runs.")
    groups: (
        Annotated[
            Annotated[Annotated[str, Field(min_length=1)], Tag("<text>")]
            | Annotated[GroupsPattern, Tag("<pattern>")]
            | Annotated[GroupsTable, Tag("<csv>")],
            Discriminator(
                lambda value: (
                    "<text>"
                    if isinstance(value, str)
                    else "<csv>"
                    if isinstance(value, GroupsTable)
                    or (isinstance(value, dict) and "csv" in value)
                    else "<pattern>"
                )
            ),
        ]
        | None
    ) = Field(
        None,
        description="Keeps one patient's images in one split: a regular expression with one group "
        "on the images' names, or the path of a .csv with the columns name and group.",
    )
    folds: Annotated[int, Field(ge=2, le=100)] | None = Field(
        None, description="Number of cross-validation folds; null for one split."
    )
    fold: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Which of the folds is the test part, from 0."
    )
    splits: Annotated[list[Positive], Field(min_length=3, max_length=3)] = Field(
        [0.7, 0.15, 0.15],
        description="Fractions for training, validation and test where the data has no split.",
    )
    augment: Augment = Field(
        default_factory=lambda: Augment.model_validate({}),
        description="Random changes of training images.",
    )
    ignore_index: Annotated[int, Field(ge=0, le=255)] | None = Field(
        None, description="Segmentation: the mask value that is left out of loss and metrics."
    )


class Network(_Section):
    """The host network."""

    backbone: str = Field(
        description="The host; `attnsearch sites BACKBONE` prints where blocks can stand.",
        json_schema_extra={"enum": list(BACKBONES)},
    )
    stem: Searchable[Literal["imagenet", "small"]] | None = Field(
        None,
        description="imagenet: 7x7, stride 2, pooling; small: 3x3, no pooling. null takes the "
        "backbone's own: imagenet for resnet18 to resnet152, small for resnet20 to resnet110.",
    )
    width: SearchableFloat[Annotated[float, Field(gt=0, le=16)]] = Field(
        1.0, description="Width multiplier of all stages."
    )
    weights: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="A torchvision-named .safetensors or .pth, loaded before insertion."
    )
    decoder: Literal["unet", "fpn", "fcn", "aspp"] | None = Field(
        None, description="Segmentation: the decoder; null takes unet."
    )


class Entry(_Section):
    """One place, or one pattern of places, and what may stand there."""

    at: Annotated[str, Field(min_length=1, max_length=100)] = Field(
        description="A site (`layer4`) or a pattern of sites (`layer[2-3].*.conv2`)."
    )
    name: Annotated[str, Field(pattern=NAME, max_length=60)] | None = Field(
        None, description="Names the decisions in place of the pattern."
    )
    block: Searchable[Annotated[str, Field(min_length=1)]] = Field(
        description="A block of `attnsearch blocks`, none, or a `module:Class` of your own."
    )
    decide: Literal["together", "stage", "each"] = Field(
        "together", description="One choice for all matches, one per stage, or one each."
    )
    params: dict[str, dict[str, Any]] = Field(
        {}, description="Hyperparameters by block, over those in `blocks`."
    )


class Train(_Section):
    """How a network is trained."""

    epochs: Count = Field(10, description="Epochs of the full schedule.")
    batch_size: SearchableInt[Count] = Field(64, description="Images a step.")
    optimizer: Searchable[Literal["sgd", "adamw"]] = Field("sgd", description="The optimizer.")
    lr: SearchableFloat[Positive] | None = Field(
        None, description="Peak learning rate; null takes 0.1 for sgd and 0.001 for adamw."
    )
    momentum: SearchableFloat[Annotated[float, Field(ge=0, lt=1)]] = Field(
        0.9, description="Momentum of sgd."
    )
    weight_decay: SearchableFloat[NotNegative] = Field(
        5e-4, description="Weight decay, decoupled for adamw."
    )
    nesterov: Searchable[bool] = Field(True, description="Nesterov's momentum, for sgd.")
    schedule: Searchable[Literal["cosine", "onecycle", "step", "constant"]] = Field(
        "cosine", description="How the learning rate changes over the epochs."
    )
    step_epochs: SearchableInt[Count] | None = Field(
        None,
        description="schedule: step lowers the rate every so many epochs; null takes a third of "
        "the epochs.",
    )
    step_factor: SearchableFloat[Annotated[float, Field(gt=0, lt=1)]] = Field(
        0.1, description="What schedule: step multiplies the rate by."
    )
    warmup_epochs: SearchableInt[Annotated[int, Field(ge=0)]] = Field(
        0, description="Epochs of linear warm-up; schedule: onecycle has its own."
    )
    label_smoothing: SearchableFloat[Annotated[float, Field(ge=0, lt=1)]] = Field(
        0.0, description="Label smoothing."
    )
    precision: Searchable[Literal["fp32", "bf16", "fp16"]] = Field(
        "fp32", description="Arithmetic of the forward pass; fp16 needs a GPU."
    )
    grad_clip: SearchableFloat[Positive] | None = Field(
        None, description="Largest gradient norm; null clips nothing."
    )
    class_weights: Searchable[
        Annotated[
            Annotated[Literal["balanced"], Tag("<balanced>")]
            | Annotated[list[Positive], Tag("<weights>")]
            | Annotated[None, Tag("<null>")],
            _by_type(
                "null, balanced or a list of one weight a class",
                str="<balanced>",
                list="<weights>",
                null="<null>",
            ),
        ]
    ] = Field(None, description="Weights of the classes in the loss; balanced: inverse frequency.")
    aux_weight: dict[str, SearchableFloat[NotNegative]] = Field(
        {},
        description="Weight of the loss of a block's side output, by block; 0.4 if not given.",
    )
    seed: Seed = Field(0, description="First seed of the exploring runs.")
    channels_last: Searchable[bool] = Field(
        False, description="Memory layout NHWC: faster on most GPUs."
    )


class Asha(_Section):
    """Asynchronous successive halving."""

    grace: Count = Field(1, description="Epochs that every trial gets.")
    reduction: Annotated[int, Field(ge=2)] = Field(3, description="One in so many goes on.")


class Hyperband(_Section):
    """Hyperband."""

    reduction: Annotated[int, Field(ge=2)] = Field(3, description="One in so many goes on.")


class Median(_Section):
    """Stops what lies below the median of the others."""

    grace: Count = Field(1, description="Epochs that every trial gets.")
    min_samples: Count = Field(3, description="Trials to compare with before any is stopped.")


class Scheduler(_Section):
    """A scheduler with its settings; exactly one key."""

    asha: Asha | None = None
    hyperband: Hyperband | None = None
    median: Median | None = None


class Search(_Section):
    """How the space is explored."""

    sampler: Literal["tpe", "random", "grid", "gp", "nsga2", "cmaes"] = Field(
        "tpe", description="Optuna's sampler."
    )
    scheduler: Annotated[
        Annotated[Literal["asha", "hyperband", "median", "none"], Tag("<name>")]
        | Annotated[Scheduler, Tag("<settings>")],
        _by_type(
            "asha, hyperband, median or none, or {asha: {grace: 2, reduction: 3}}",
            str="<name>",
            dict="<settings>",
        ),
    ] = Field("asha", description="Stops weak trials early.")
    trials: Count = Field(16, description="Number of different configs to try.")
    objectives: dict[str, Literal["max", "min"]] = Field(
        {},
        description="Metric to direction, the first one leading; several give a Pareto front. "
        "Default: val_accuracy: max, for segmentation val_dice: max.",
    )
    seed: Seed = Field(0, description="Seed of the sampler.")


class Limits(_Section):
    """Upper limits, checked on the built network before it trains."""

    params: Positive | None = Field(None, description="Parameters.")
    macs: Positive | None = Field(None, description="Multiply-adds for one image.")
    latency_ms: Positive | None = Field(None, description="Milliseconds for one image.")
    memory_mb: Positive | None = Field(None, description="Peak megabytes of a training step.")


class Confirm(_Section):
    """Retraining of the best few and their controls on fresh seeds."""

    top: Count = Field(1, description="How many of the best architectures.")
    seeds: Count = Field(5, description="Runs of each; verdicts need 5.")
    epochs: Count | None = Field(None, description="Epochs of each run; null takes train.epochs.")
    controls: list[Literal["baseline", "capacity", "tuned_baseline"]] = Field(
        ["baseline", "capacity", "tuned_baseline"], description="What the best are compared with."
    )


class Ablation(_Section):
    """Parts of the winner taken away, moved or varied."""

    plans: Annotated[
        list[Literal["loco", "positions", "blocks", "ofat", "pairwise", "factorial"]],
        Field(min_length=1),
    ] = Field(["loco"], description="What is varied.")
    seeds: Count = Field(5, description="Runs of each arm.")
    retune: bool = Field(False, description="Tune each arm's training with an equal budget.")
    reuse: Literal["confirm"] | None = Field(
        None, description="confirm: take the winner's confirmation runs as the reference."
    )


class Resources(_Section):
    """What one trial gets."""

    cpus: Count = Field(1, description="CPU cores, and threads, of a trial.")
    gpus: Annotated[float, Field(ge=0)] = Field(
        0, description="GPUs of a trial; a fraction below 1 shares one."
    )
    workers: Count | None = Field(
        None, description="At most so many trials side by side; null as many as fit."
    )


class SpaceFile(_Section):
    """An attnsearch space file."""

    name: Annotated[str, Field(pattern=NAME, max_length=100)] = Field(
        description="Names the study and the MLflow experiment."
    )
    task: Literal["classification", "segmentation"] = Field(description="What is learned.")
    data: Data = Field(description="The images; {source: digits} for the built-in ones.")
    network: Network = Field(description="The host network; {backbone: resnet18} for instance.")
    insert: list[Entry] = Field([], description="Where and which blocks; empty for the plain net.")
    blocks: dict[str, dict[str, Any]] = Field(
        {}, description="Hyperparameters by block, fixed or searched."
    )
    train: Train = Field(
        default_factory=lambda: Train.model_validate({}), description="How networks are trained."
    )
    search: Search = Field(
        default_factory=lambda: Search.model_validate({}), description="How the space is explored."
    )
    forbid: list[dict[str, Any]] = Field(
        [],
        description="Combinations that are never tried: decision name to a value or a list of "
        "values; all of one rule must hold.",
    )
    limits: Limits = Field(
        default_factory=lambda: Limits.model_validate({}),
        description="Upper limits of parameters, MACs, latency and memory.",
    )
    confirm: Confirm | None = Field(
        None, description="Retraining of the best on fresh seeds; null leaves it out."
    )
    ablation: Ablation | None = Field(
        None, description="What is varied around the winner; null leaves it out."
    )
    resources: Resources = Field(
        default_factory=lambda: Resources.model_validate({}), description="What one trial gets."
    )
    checkpoint: Literal["last", "best_val"] = Field(
        "last", description="Which epoch a run's scores are of."
    )
