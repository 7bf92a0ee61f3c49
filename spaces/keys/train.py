"""The `train` section: how a network is trained."""

from typing import Annotated, Literal

from pydantic import Field, Tag

from attnsearch.spaces.keys.values import (
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

NotNegative = Annotated[float, Field(ge=0)]


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
