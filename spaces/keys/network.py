"""The `network` section: the host, its decoder and its weights."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, Tag

from attnsearch.blocks.hosts import BACKBONES
from attnsearch.spaces.keys.own import OWN
from attnsearch.spaces.keys.values import (
    SEGMENTATION_ONLY,
    Fixed,
    Searchable,
    SearchableFloat,
    Section,
    Text,
    by_type,
)

Multiplier = Annotated[float, Field(gt=0, le=16)]


class WeightsFile(Section):
    """A weights file whose names differ from the network's."""

    path: Text | None = None
    """The file; null loads none and keeps the key map for later."""
    rename: dict[str, str | None] = {}
    """Patterns of names in the file to names in the network: * is any characters but dots, ** any
    characters, in the same order on both sides; null drops what it fits."""


Weights: TypeAlias = Annotated[
    Annotated[Text, Tag("<str>")] | Annotated[WeightsFile, Tag("<dict>")],
    by_type("a path, or {path: ..., rename: {...}}"),
]


class Network(Section):
    """The host network."""

    backbone: Annotated[str, Fixed("the sites depend on it; write one file per backbone")] = Field(
        json_schema_extra={"anyOf": [{"enum": list(BACKBONES)}, {"pattern": OWN.pattern}]}
    )
    """The host, or a `module:Class` of your own; `attnsearch sites BACKBONE` prints where blocks
    can stand."""
    stem: Searchable[Literal["imagenet", "small", "deep", "medt"]] | None = None
    """imagenet: 7x7, stride 2, pooling; small: 3x3, no pooling. null takes the backbone's own:
    imagenet for resnet18 to resnet152, small for resnet20 to resnet110. deep (three 3x3, stride 2,
    pooling) is that of the v1d networks alone, medt (7x7, stride 2, two 3x3, no pooling) that of
    medt, logo and the axial U-Nets."""
    width: Annotated[
        Annotated[SearchableFloat[Multiplier], Tag("<float>")]
        | Annotated[list[Multiplier], Tag("<list>")]
        | Annotated[Literal["s", "m", "l"], Tag("<str>")],
        by_type(
            "a multiplier, a searched one, or a list of one for each stage; for axial_resnet26 "
            "and axial_resnet50 also s, m or l",
            int="float",
            dict="float",
        ),
    ] = 1.0
    """Width multiplier of all stages, or a list of one for each stage. The axial ResNets'
    published widths s, m and l are 1, 1.5 and 2 and may be written as letters."""
    learn_gates: bool = False
    """medt, gated_axial_unet: train the gates of the attention from the start; published ones are
    frozen until the trainer releases them."""
    joint_patches: bool = False
    """medt, logo: normalise the patches of a training batch together rather than one after another
    as published; evaluation then sees the statistics of training."""
    weights: Weights | None = None
    """A .safetensors or .pth with the network's names (torchvision's for a ResNet); or {path,
    rename} with a key map from the file's names to these."""
    decoder: Annotated[Literal["unet", "fpn", "fcn", "aspp"] | None, SEGMENTATION_ONLY] = None
    """Segmentation: the decoder; null takes unet. medt, logo and the axial U-Nets have their
    own."""
    aux_heads: Annotated[list[str], SEGMENTATION_ONLY] = []
    """Segmentation: stages such as layer3 that get a head of their own in training, whose loss has
    the weight train.aux_weight.heads."""
