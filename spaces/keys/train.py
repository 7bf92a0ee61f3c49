"""The `train` section: how a network is trained."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Tag
from pydantic_core import PydanticCustomError

from attnsearch.blocks.spelling import did_you_mean
from attnsearch.spaces.keys.own import OWN
from attnsearch.spaces.keys.values import (
    CLASSIFICATION_ONLY,
    SEGMENTATION_ONLY,
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
BelowOne = Annotated[float, Field(ge=0, lt=1)]
TASK_LOSSES = {
    "classification": ("ce", "focal"),
    "segmentation": ("ce", "focal", "dice", "ce_dice"),
    "multilabel": ("bce", "focal"),
}
"""Our losses of each task."""
LOSSES = tuple(dict.fromkeys(loss for own in TASK_LOSSES.values() for loss in own))


def _loss(name: str) -> str:
    if name not in LOSSES and not OWN.fullmatch(name):
        raise PydanticCustomError(
            "type",
            "must be one of {names}, or a module:function of your own{hint}",
            {"names": ", ".join(LOSSES), "hint": did_you_mean(name, LOSSES)},
        )
    return name


def _own(name: str) -> str:
    if not OWN.fullmatch(name):
        raise PydanticCustomError("type", "must be a module:function of your own")
    return name


CROSS_ENTROPY = When("loss", None, "ce", "bce", "ce_dice", "focal")
"""The losses that hold a cross-entropy; `None` is the default of the task."""


OF_OUR_LOOP = {
    "precision": ("auto", "fp32"),
    "accumulate": (None,),
    "ema": (None,),
    "grad_clip": (None,),
    "compile": (None, False),
    "sync_batch_norm": (None, False),
}
"""Keys that a loop of the user's own takes over, with the values that ask for nothing."""


class Train(Section):
    """How a network is trained."""

    epochs: Annotated[
        Count,
        Of("own"),
        Fixed("it is the budget that runs are compared at; the scheduler stops early"),
    ] = 10
    """Epochs of the full schedule."""
    batch_size: SearchableInt[Count] = 64
    """Images a step."""
    accumulate: SearchableInt[Count | None] = None
    """Takes a step after so many batches, with the mean of their gradients: steps, schedule and
    warm-up are those of a batch_size as many times larger. null: after each batch."""
    ema: SearchableFloat[Annotated[float, Field(gt=0, lt=1)] | None] = None
    """Decay of a moving average of the weights over the steps, which is evaluated and exported in
    their place, such as 0.999; null: the weights themselves."""
    sampler: Annotated[Searchable[Literal["balanced"] | None], CLASSIFICATION_ONLY] = None
    """balanced: an epoch draws training images with replacement, each class equally often; null:
    each image once. With class_weights: balanced rare classes would count twice."""
    optimizer: Searchable[Literal["sgd", "adamw"]] = "sgd"
    """The optimizer."""
    lr: SearchableFloat[Positive | None] = None
    """Peak learning rate; null takes 0.1 for sgd and 0.001 for adamw."""
    momentum: Annotated[SearchableFloat[BelowOne], When("optimizer", "sgd")] = 0.9
    """Momentum of sgd."""
    weight_decay: SearchableFloat[NotNegative] = 5e-4
    """Weight decay, decoupled for adamw."""
    decay: Searchable[Literal["all"] | None] = None
    """What weight_decay is for: all: every parameter; null: tensors of two and more dimensions, so
    neither biases nor what a normalisation or a gate learns."""
    nesterov: Annotated[Searchable[bool], When("optimizer", "sgd")] = True
    """Nesterov's momentum, for sgd."""
    schedule: Searchable[Literal["cosine", "onecycle", "step", "constant"]] = "cosine"
    """How the learning rate changes over the epochs."""
    step_epochs: Annotated[SearchableInt[Count | None], When("schedule", "step")] = None
    """schedule: step lowers the rate every so many epochs; null takes a third of the epochs."""
    step_factor: Annotated[
        SearchableFloat[Annotated[float, Field(gt=0, lt=1)]], When("schedule", "step")
    ] = 0.1
    """What schedule: step multiplies the rate by."""
    warmup_epochs: Annotated[
        SearchableInt[Annotated[int, Field(ge=0)]], When("schedule", "cosine", "step", "constant")
    ] = 0
    """Epochs of linear warm-up; schedule: onecycle has its own."""
    warmup_steps: Annotated[
        SearchableInt[Count | None], When("schedule", "cosine", "step", "constant")
    ] = None
    """Steps of linear warm-up, instead of warmup_epochs."""
    sync_batch_norm: Searchable[bool | None] = None
    """Over several cards (resources.gpus): true: batch normalisation takes its statistics from the
    whole batch, as on one card; null: each card from its part of it."""
    label_smoothing: Annotated[SearchableFloat[BelowOne], CROSS_ENTROPY] = 0.0
    """Label smoothing."""
    speed: Annotated[
        Literal["auto", "plain", "exact"],
        Of("host"),
        Fixed("all runs of a study are computed alike"),
    ] = "auto"
    """What precision: auto and null in channels_last and compile become, once for a study; auto:
    what a probe finds fastest, plain: fp32, NCHW, eager, exact: that, bit for bit the same in
    every repeat, on GPUs too."""
    precision: Searchable[Literal["auto", "fp32", "bf16", "fp16"]] = "auto"
    """Arithmetic of the forward pass; auto: bf16 where the device has units for it and keeps to
    fp32 in the first steps; fp16 needs a GPU."""
    grad_clip: SearchableFloat[Positive | None] = None
    """Largest gradient norm; null clips nothing."""
    class_weights: Annotated[
        Searchable[
            Annotated[
                Annotated[Literal["balanced"], Tag("<str>")]
                | Annotated[list[Positive], Tag("<list>")]
                | Annotated[None, Tag("<NoneType>")],
                by_type("null, balanced or a list of one weight a class"),
            ]
        ],
        CROSS_ENTROPY,
    ] = None
    """Weights of the classes in the loss; balanced: inverse frequency. With task: multilabel those
    of the images that show a class; balanced: images without it by images with it."""
    loss: Searchable[Annotated[str, AfterValidator(_loss)] | None] = None
    """ce (cross-entropy) or focal; of masks also dice and ce_dice; with task: multilabel bce
    (binary cross-entropy) or focal; or a `module:function` of your own. null takes ce, of masks
    ce_dice, with task: multilabel bce."""
    metrics: Annotated[
        Annotated[list[Annotated[str, AfterValidator(_own)]], Field(max_length=20)] | None,
        Fixed("all runs of a study are measured alike"),
    ] = None
    """What is measured beside our metrics, each a `module:function` of your own;
    its val_function can be an objective."""
    loop: Annotated[
        Annotated[str, AfterValidator(_own)] | None,
        Fixed("all runs of a study are trained alike"),
    ] = None
    """A `module:function` of your own, or a LightningModule, that trains in place of attnsearch's
    loop, by what it reads of this section; null: ours."""
    boundary_weight: Annotated[SearchableFloat[NotNegative], SEGMENTATION_ONLY, CROSS_ENTROPY] = (
        0.0
    )
    """Segmentation: how much more the pixels at borders weigh in the cross-entropy; 5 is
    F3Net's."""
    aux_weight: dict[str, SearchableFloat[NotNegative]] = {}
    """Weight of the loss of a block's side output, by block, and of the heads of network.aux_heads
    (heads); 0.4 if not given."""
    seed: Annotated[
        Seed, Of("own"), Fixed("a seed is not a setting to select by; confirm repeats over seeds")
    ] = 0
    """First seed of the exploring runs."""
    channels_last: Searchable[bool | None] = None
    """Memory layout NHWC; null leaves it to speed."""
    compile: Searchable[bool | None] = None
    """Training steps by torch.compile; null leaves it to speed."""
