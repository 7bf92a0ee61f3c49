"""The keys of a space file: types, bounds, defaults and what each is for.

`attnsearch schema` prints this module and `model_search` as a JSON Schema, descriptions included.
What no type can say (sites, blocks, keys that contradict each other) is checked in `checks` and
`insertions`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from attnsearch.blocks.hosts import BACKBONES
from attnsearch.spaces.file.keys_data import Data
from attnsearch.spaces.file.keys_published import Published
from attnsearch.spaces.file.keys_search import Ablation, Confirm, Limits, Resources, Search
from attnsearch.spaces.file.keys_weights import Weights
from attnsearch.spaces.file.values import (
    Count,
    Fixed,
    Of,
    Positive,
    Searchable,
    SearchableFloat,
    SearchableInt,
    Section,
    Seed,
    When,
    by_type,
)

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Multiplier = Annotated[float, Field(gt=0, le=16)]
NotNegative = Annotated[float, Field(ge=0)]


class Network(Section):
    """The host network."""

    backbone: Annotated[str, Fixed("the sites depend on it; write one file per backbone")] = Field(
        description="The host; `attnsearch sites BACKBONE` prints where blocks can stand.",
        json_schema_extra={"enum": list(BACKBONES)},
    )
    stem: Searchable[Literal["imagenet", "small", "deep", "medt"]] | None = Field(
        None,
        description="imagenet: 7x7, stride 2, pooling; small: 3x3, no pooling. null takes the "
        "backbone's own: imagenet for resnet18 to resnet152, small for resnet20 to resnet110. "
        "deep (three 3x3, stride 2, pooling) is that of the v1d networks alone, medt (7x7, stride "
        "2, two 3x3, no pooling) that of medt, logo and the axial U-Nets.",
    )
    width: Annotated[
        Annotated[SearchableFloat[Multiplier], Tag("<all>")]
        | Annotated[list[Multiplier], Tag("<each>")]
        | Annotated[Literal["s", "m", "l"], Tag("<name>")],
        by_type(
            "a multiplier, a searched one, or a list of one for each stage; for axial_resnet26 "
            "and axial_resnet50 also s, m or l",
            str="<name>",
            int="<all>",
            float="<all>",
            dict="<all>",
            list="<each>",
        ),
    ] = Field(
        1.0,
        description="Width multiplier of all stages, or a list of one for each stage. The axial "
        "ResNets' published widths s, m and l are 1, 1.5 and 2 and may be written as letters.",
    )
    learn_gates: bool = Field(
        False,
        description="medt, gated_axial_unet: train the gates of the attention from the start; "
        "published ones are frozen until the trainer releases them.",
    )
    joint_patches: bool = Field(
        False,
        description="medt, logo: normalise the patches of a training batch together rather than "
        "one after another as published; evaluation then sees the statistics of training.",
    )
    weights: Weights | None = Field(
        None,
        description="A .safetensors or .pth with the network's names (torchvision's for a "
        "ResNet); or {path, rename} with a key map from the file's names to these.",
    )
    decoder: Annotated[
        Literal["unet", "fpn", "fcn", "aspp"] | None, When("task", "segmentation")
    ] = Field(
        None,
        description="Segmentation: the decoder; null takes unet. medt, logo and the axial U-Nets "
        "have their own.",
    )
    aux_heads: Annotated[list[str], When("task", "segmentation")] = Field(
        [],
        description="Segmentation: stages such as layer3 that get a head of their own in "
        "training, whose loss has the weight train.aux_weight.heads.",
    )


class Entry(Section):
    """One place, or one pattern of places, and what may stand there."""

    at: Annotated[str, Field(min_length=1, max_length=100)] = Field(
        description="A site (`layer4`) or a pattern of sites (`layer[2-3].*.conv2`)."
    )
    name: Annotated[str, Field(pattern=NAME, max_length=200)] | None = Field(
        None, description="Names the decisions in place of the pattern."
    )
    block: Searchable[Annotated[str, Field(min_length=1)]] = Field(
        description="A block of `attnsearch blocks`, none, or a `module:Class` of your own."
    )
    decide: Literal["together", "stage", "each"] = Field(
        "together", description="One choice for all matches, one per stage, or one each."
    )
    pretrained_safe: bool = Field(
        False,
        description="Added blocks start as the identity, so that a pretrained host gives its own "
        "outputs at step 0. In place of a convolution it has no effect.",
    )
    params: dict[str, dict[str, Any]] = Field(
        {}, description="Hyperparameters by block, over those in `blocks`."
    )


class Train(Section):
    """How a network is trained."""

    epochs: Annotated[
        Count,
        Of("own"),
        Fixed("it is the budget that runs are compared at; the scheduler stops early"),
    ] = Field(10, description="Epochs of the full schedule.")
    batch_size: SearchableInt[Count] = Field(64, description="Images a step.")
    optimizer: Searchable[Literal["sgd", "adamw"]] = Field("sgd", description="The optimizer.")
    lr: SearchableFloat[Positive] | None = Field(
        None, description="Peak learning rate; null takes 0.1 for sgd and 0.001 for adamw."
    )
    momentum: Annotated[
        SearchableFloat[Annotated[float, Field(ge=0, lt=1)]], When("optimizer", "sgd")
    ] = Field(0.9, description="Momentum of sgd.")
    weight_decay: SearchableFloat[NotNegative] = Field(
        5e-4, description="Weight decay, decoupled for adamw."
    )
    nesterov: Annotated[Searchable[bool], When("optimizer", "sgd")] = Field(
        True, description="Nesterov's momentum, for sgd."
    )
    schedule: Searchable[Literal["cosine", "onecycle", "step", "constant"]] = Field(
        "cosine", description="How the learning rate changes over the epochs."
    )
    step_epochs: Annotated[SearchableInt[Count] | None, When("schedule", "step")] = Field(
        None,
        description="schedule: step lowers the rate every so many epochs; null takes a third of "
        "the epochs.",
    )
    step_factor: Annotated[
        SearchableFloat[Annotated[float, Field(gt=0, lt=1)]], When("schedule", "step")
    ] = Field(0.1, description="What schedule: step multiplies the rate by.")
    warmup_epochs: Annotated[
        SearchableInt[Annotated[int, Field(ge=0)]], When("schedule", "cosine", "step", "constant")
    ] = Field(0, description="Epochs of linear warm-up; schedule: onecycle has its own.")
    label_smoothing: Annotated[
        SearchableFloat[Annotated[float, Field(ge=0, lt=1)]],
        When("loss", None, "ce", "ce_dice", "focal"),
    ] = Field(0.0, description="Label smoothing.")
    precision: Searchable[Literal["fp32", "bf16", "fp16"]] = Field(
        "fp32", description="Arithmetic of the forward pass; fp16 needs a GPU."
    )
    grad_clip: SearchableFloat[Positive] | None = Field(
        None, description="Largest gradient norm; null clips nothing."
    )
    class_weights: Annotated[
        Searchable[
            Annotated[
                Annotated[Literal["balanced"], Tag("<balanced>")]
                | Annotated[list[Positive], Tag("<weights>")]
                | Annotated[None, Tag("<null>")],
                by_type(
                    "null, balanced or a list of one weight a class",
                    str="<balanced>",
                    list="<weights>",
                    null="<null>",
                ),
            ]
        ],
        When("loss", None, "ce", "ce_dice", "focal"),
    ] = Field(None, description="Weights of the classes in the loss; balanced: inverse frequency.")
    loss: Annotated[
        Searchable[Literal["ce", "dice", "ce_dice", "focal"]] | None, When("task", "segmentation")
    ] = Field(
        None,
        description="Segmentation: cross-entropy, Dice, their sum, or focal; null takes ce_dice.",
    )
    boundary_weight: Annotated[
        SearchableFloat[NotNegative],
        When("task", "segmentation"),
        When("loss", None, "ce", "ce_dice", "focal"),
    ] = Field(
        0.0,
        description="Segmentation: how much more the pixels at borders weigh in the "
        "cross-entropy; 5 is F3Net's.",
    )
    aux_weight: dict[str, SearchableFloat[NotNegative]] = Field(
        {},
        description="Weight of the loss of a block's side output, by block, and of the heads of "
        "network.aux_heads (heads); 0.4 if not given.",
    )
    seed: Annotated[
        Seed, Of("own"), Fixed("a seed is not a setting to select by; confirm repeats over seeds")
    ] = Field(0, description="First seed of the exploring runs.")
    channels_last: Searchable[bool] = Field(
        False, description="Memory layout NHWC: faster on most GPUs."
    )


class SpaceFile(Section):
    """An attnsearch space file."""

    name: Annotated[Annotated[str, Field(pattern=NAME, max_length=200)], Of("name")] = Field(
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
    search: Annotated[Search, Of("search")] = Field(
        default_factory=lambda: Search.model_validate({}), description="How the space is explored."
    )
    forbid: Annotated[list[dict[str, Any]], Of("limits")] = Field(
        [],
        description="Combinations that are never tried: decision name to a value or a list of "
        "values; all of one rule must hold.",
    )
    limits: Annotated[Limits, Of("limits")] = Field(
        default_factory=lambda: Limits.model_validate({}),
        description="Upper limits of parameters, MACs, latency and memory.",
    )
    confirm: Annotated[Confirm | None, Of("plans")] = Field(
        None, description="Retraining of the best on fresh seeds; null leaves it out."
    )
    ablation: Annotated[Ablation | None, Of("plans")] = Field(
        None, description="What is varied around the winner; null leaves it out."
    )
    resources: Annotated[Resources, Of("host")] = Field(
        default_factory=lambda: Resources.model_validate({}), description="What one trial gets."
    )
    published: Annotated[Published | None, Of("host")] = Field(
        None,
        description="What its authors publish of this network; `check` prints it beside the "
        "counts.",
    )
    checkpoint: Literal["last", "best_val"] = Field(
        "last", description="Which epoch a run's scores are of."
    )
    primary_metric: Annotated[Annotated[str, Field(min_length=1)] | None, Of("statistics")] = (
        Field(
            None,
            description="The metric whose differences are tested in confirm and ablation, without "
            "its part: accuracy. null takes the first objective.",
        )
    )
    alpha: Annotated[Annotated[float, Field(gt=0, le=0.5)], Of("statistics")] = Field(
        0.05, description="Level of every family of tests; intervals cover 1 - alpha."
    )
    smallest_effect: Annotated[Positive | None, Of("statistics")] = Field(
        None,
        description="The smallest difference of the primary metric that matters, in its units "
        "(0.01 is one point of accuracy): for power, and for calling a gain negligible.",
    )
    margin: Annotated[Positive | None, Of("statistics")] = Field(
        None,
        description="Differences within +-margin count as equivalent, in units of the primary "
        "metric; null tests no equivalence. Stored before confirm.",
    )
