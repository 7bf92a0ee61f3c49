"""The maps that pass between a ResNet and a decoder: their shapes, and which decoders there are.

This module needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from attnsearch.blocks.errors import SiteError
from attnsearch.blocks.hosts.backbones import Backbone, find_stem
from attnsearch.blocks.hosts.sizes import Size, Width, halved
from attnsearch.blocks.spelling import nearest

DecoderName = Literal["unet", "fpn", "fcn", "aspp"]
DECODERS: tuple[str, ...] = get_args(DecoderName)
HEADS = "heads"
"""The name of the weight of the auxiliary heads' loss, beside those of blocks' side losses."""

NARROWEST = 16
"""Channels of a U-Net's step at the least: with fewer a narrow one may never see a rare class."""


@dataclass(frozen=True)
class Level:
    """A map that a decoder gets or makes.

    Attributes:
        channels: Of the map.
        planes: Of a stage, the width inside its blocks.
        size: (height, width).
    """

    channels: int
    planes: int
    size: Size

    @property
    def step(self) -> int:
        """Channels of a U-Net's step that reaches its size."""
        return max(NARROWEST, self.planes)


@dataclass(frozen=True)
class Pyramid:
    """The maps that an encoder hands to a decoder, the largest first.

    Attributes:
        stem: The stem's map before its pooling; None where it is no larger than stage 1's.
        stages: After each stage.
        image: (height, width) of the image.
    """

    stem: Level | None
    stages: tuple[Level, ...]
    image: Size

    @property
    def width(self) -> int:
        """Channels of decoders that have the same at every size: 256 at width 1, as published."""
        return 4 * self.stages[0].planes

    @property
    def skips(self) -> list[Level]:
        """All maps but the smallest, from that one upwards."""
        return [*self.stages[-2::-1], *([self.stem] if self.stem else [])]


def encoder_maps(backbone: Backbone, stem: str | None, width: Width, image_size: Size) -> Pyramid:
    """Return the maps of an encoder.

    Args:
        backbone: The encoder.
        stem: As for `find_stem`.
        width: As `Backbone.widths` takes it.
        image_size: Of the image.

    Raises:
        SiteError: As `Backbone.widths` and `find_stem`.
    """
    stem = find_stem(backbone, stem)
    channels = backbone.stem_width(width)
    first = None
    if stem != "small":
        first = Level(channels, max(1, channels // 2), halved(image_size))
    size = backbone.stem_size(image_size, stem)
    stages = []
    for number, planes in enumerate(backbone.widths(width)):
        size = halved(size) if number else size
        stages.append(Level(planes * backbone.expansion, planes, size))
    return Pyramid(first, tuple(stages), image_size)


def decoder_steps(decoder: str, maps: Pyramid) -> list[Level]:
    """Return the map after each step of a decoder, where its sites are.

    Raises:
        SiteError: There is no such decoder.
    """
    last = maps.stages[-1]
    if decoder == "unet":
        return [Level(skip.step, skip.step, skip.size) for skip in maps.skips]
    if decoder == "fpn":
        return [Level(maps.width, maps.width, stage.size) for stage in reversed(maps.stages)]
    if decoder == "fcn":
        return [Level(last.planes, last.planes, last.size)]
    if decoder == "aspp":
        sizes = (last.size, maps.stages[0].size)
        return [Level(maps.width, maps.width, size) for size in sizes]
    raise SiteError(f"network.decoder is {decoder!r}; there are {', '.join(DECODERS)}")


def check_heads(heads: Sequence[str], maps: Pyramid) -> tuple[str, ...]:
    """Return the stages that get an auxiliary head, checked.

    Raises:
        SiteError: There is no such stage.
    """
    stages = [f"layer{number}" for number in range(1, len(maps.stages) + 1)]
    for head in heads:
        if head not in stages:
            raise SiteError(
                f"network.aux_heads has {head!r}{nearest(head, stages)}; heads can stand at "
                f"{', '.join(stages)}"
            )
    return tuple(heads)
