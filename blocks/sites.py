"""The backbones, and the sites in them where a block can stand.

A site is a place with a name. Blocks are *added* at

* ``stem``: after the stem, before stage 1;
* ``layerN``: after stage N;
* ``layerN.K``: after block K of stage N, its addition and activation;
* ``layerN.K.residual``: on the branch, after its last normalisation, before the addition;
* ``layerN.K.after_convM``: after convolution M with its normalisation and, where there is one,
  its activation;

and stand *in place of* a convolution at ``layerN.K.convM``.

This module needs no torch: shapes follow from the arithmetic of convolutions, so that a space
file can be checked without a network.
"""

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from attnsearch.blocks.errors import SiteError

Size = tuple[int, int]
Kind = Literal["stem", "stage", "block", "residual", "after_conv", "conv"]


@dataclass(frozen=True)
class Backbone:
    """What tells one ResNet from another.

    Attributes:
        name: As in a space file.
        block: ``basic`` (two 3x3 convolutions) or ``bottleneck`` (1x1, 3x3, 1x1).
        depths: Blocks in each stage.
        planes: Width of each stage's 3x3 convolutions before the width multiplier.
        stems: The stems it can have, its default first.
        shortcut: Where the shape changes: ``projected`` by a 1x1 convolution, or ``padded`` with
            zeros.
    """

    name: str
    block: Literal["basic", "bottleneck"]
    depths: tuple[int, ...]
    planes: tuple[int, ...]
    stems: tuple[str, ...]
    shortcut: Literal["projected", "padded"] = "projected"

    @property
    def expansion(self) -> int:
        """Output channels of a block over its width."""
        return 4 if self.block == "bottleneck" else 1

    def widths(self, width: float) -> tuple[int, ...]:
        """Widths of the stages under a multiplier, rounded to the nearest whole number."""
        if not 0 < width < math.inf:
            raise SiteError(f"network.width is {width}; it must be a number above 0")
        return tuple(max(1, round(planes * width)) for planes in self.planes)


_PLANES = (64, 128, 256, 512)
_STEMS = ("imagenet", "small")
# He et al. 2016, arXiv:1512.03385: table 1 (ImageNet) and section 4.2 (CIFAR, 6n+2 layers).
BACKBONES: dict[str, Backbone] = {
    backbone.name: backbone
    for backbone in (
        Backbone("resnet18", "basic", (2, 2, 2, 2), _PLANES, _STEMS),
        Backbone("resnet34", "basic", (3, 4, 6, 3), _PLANES, _STEMS),
        Backbone("resnet50", "bottleneck", (3, 4, 6, 3), _PLANES, _STEMS),
        Backbone("resnet101", "bottleneck", (3, 4, 23, 3), _PLANES, _STEMS),
        Backbone("resnet152", "bottleneck", (3, 8, 36, 3), _PLANES, _STEMS),
        Backbone("resnet20", "basic", (3, 3, 3), (16, 32, 64), ("small",), "padded"),
        Backbone("resnet32", "basic", (5, 5, 5), (16, 32, 64), ("small",), "padded"),
        Backbone("resnet44", "basic", (7, 7, 7), (16, 32, 64), ("small",), "padded"),
        Backbone("resnet56", "basic", (9, 9, 9), (16, 32, 64), ("small",), "padded"),
        Backbone("resnet110", "basic", (18, 18, 18), (16, 32, 64), ("small",), "padded"),
    )
}


@dataclass(frozen=True)
class Site:
    """A place in a network where a block can stand.

    Attributes:
        name: For instance ``layer2.0.conv1``.
        kind: ``conv`` is a replacement, every other kind an addition.
        channels: Of the map that the block gets.
        size: (height, width) of that map.
        out_channels: Of the map that the block must give; equal to ``channels`` for additions.
        out_size: (height, width) of that map.
        stride: Of the replaced convolution; 1 for additions.
        kernel: Of the replaced convolution; None for additions.
        stage: N of ``layerN``, from 1; None for the stem.
        block: K, from 0; None for the stem and for stages.
        depth: Blocks in the site's stage.
    """

    name: str
    kind: Kind
    channels: int
    size: Size
    out_channels: int
    out_size: Size
    stride: int = 1
    kernel: int | None = None
    stage: int | None = None
    block: int | None = None
    depth: int = field(default=0, compare=False, repr=False)

    @property
    def replaces(self) -> bool:
        """Whether a block here stands in place of a convolution."""
        return self.kind == "conv"

    @property
    def keeps_shape(self) -> bool:
        """Whether the block gives a map of the shape that it gets."""
        return self.channels == self.out_channels and self.stride == 1

    def __str__(self) -> str:
        """The name with the shapes, as error messages and listings print it."""
        height, width = self.size
        text = f"{self.name} ({self.channels} channels, {height}x{width}"
        if self.replaces:
            text += f" -> {self.out_channels} channels, {self.out_size[0]}x{self.out_size[1]}"
        return text + ")"


def find_backbone(name: str) -> Backbone:
    """The backbone of this name.

    Raises:
        SiteError: No backbone has this name.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    raise SiteError(
        f"no backbone is called {name!r}{_nearest(str(name), list(BACKBONES))}; "
        f"there are {', '.join(BACKBONES)}"
    )


def find_stem(backbone: Backbone, stem: str | None) -> str:
    """The stem to build: the one asked for, or the backbone's default where it is None.

    Raises:
        SiteError: The backbone has no such stem.
    """
    if stem is None:
        return backbone.stems[0]
    if stem in backbone.stems:
        return stem
    raise SiteError(
        f"{backbone.name} has no stem {stem!r}{_nearest(str(stem), list(backbone.stems))}; "
        f"its stems are: {', '.join(backbone.stems)}"
    )


def blocks_per_stage(backbone: str) -> tuple[int, ...]:
    """Number of blocks in each stage, for instance (2, 2, 2, 2) for ``resnet18``.

    Raises:
        SiteError: No backbone has this name.
    """
    return find_backbone(backbone).depths


def sites(
    backbone: str,
    stem: str | None = None,
    width: float = 1.0,
    image_size: int | Sequence[int] = 224,
) -> list[Site]:
    """Every site of a network, in the order in which data passes them.

    Args:
        backbone: A name in `BACKBONES`.
        stem: ``imagenet`` (7x7, stride 2, pooling) or ``small`` (3x3, no pooling); None takes the
            backbone's default.
        width: Width multiplier.
        image_size: Height and width of the input in pixels, or one number for both.

    Raises:
        SiteError: The backbone or stem does not exist, or a number is out of range.
    """
    return list(_sites(backbone, stem, width, as_size(image_size)))


@lru_cache(maxsize=256)
def _sites(backbone_name: str, stem: str | None, width: float, image_size: Size) -> list[Site]:
    backbone = find_backbone(backbone_name)
    widths = backbone.widths(width)
    size = image_size
    if find_stem(backbone, stem) == "imagenet":
        size = _halved(_halved(size))  # the 7x7 convolution, then max pooling
    channels = widths[0]
    found = [Site("stem", "stem", channels, size, channels, size)]
    for stage, (planes, depth) in enumerate(zip(widths, backbone.depths, strict=True), start=1):
        for block in range(depth):
            stride = 2 if stage > 1 and block == 0 else 1
            inside = _block_sites(backbone, channels, planes, stride, size, stage, block, depth)
            found += inside
            channels, size = inside[-1].channels, inside[-1].size
        found.append(Site(f"layer{stage}", "stage", channels, size, channels, size, stage=stage))
    return found


def _block_sites(
    backbone: Backbone,
    channels: int,
    planes: int,
    stride: int,
    size: Size,
    stage: int,
    block: int,
    depth: int,
) -> list[Site]:
    """The sites of one residual block, the one after its activation last."""
    name = f"layer{stage}.{block}"
    if backbone.block == "basic":
        convolutions = [(planes, 3, stride), (planes, 3, 1)]
    else:
        convolutions = [(planes, 1, 1), (planes, 3, stride), (4 * planes, 1, 1)]
    found = []

    def add(suffix: str, kind: Kind) -> None:
        found.append(
            Site(
                name + suffix, kind, channels, size, channels, size,
                stage=stage, block=block, depth=depth,
            )
        )  # fmt: skip

    for number, (out_channels, kernel, step) in enumerate(convolutions, start=1):
        out_size = _halved(size) if step == 2 else size
        found.append(
            Site(
                f"{name}.conv{number}", "conv", channels, size, out_channels, out_size,
                step, kernel, stage, block, depth,
            )
        )  # fmt: skip
        channels, size = out_channels, out_size
        add(f".after_conv{number}", "after_conv")
    add(".residual", "residual")
    add("", "block")
    return found


def as_size(image_size: int | Sequence[int]) -> Size:
    """(height, width) from one number or from a pair.

    Raises:
        SiteError: It is neither, or a side is below one pixel.
    """
    pair = tuple(image_size) if isinstance(image_size, Sequence) else (image_size, image_size)
    if len(pair) != 2 or not all(isinstance(side, int) and side >= 1 for side in pair):
        raise SiteError(
            f"image_size is {image_size!r}; it must be a whole number of pixels from 1, "
            "or a pair of them (height, width)"
        )
    return pair[0], pair[1]


def _halved(size: Size) -> Size:
    """What stride 2 leaves of a map, with the padding that ResNets have: half, rounded up."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def match(pattern: str, sites: Sequence[Site]) -> list[Site]:
    """The sites that a pattern names, in network order.

    Dots separate the parts of a name; inside a part ``*`` stands for any characters, ``[2-3]`` and
    ``[1,3]`` for numbers. In place of a block's number ``first`` and ``last`` stand for the first
    and the last block of its stage.

    Raises:
        SiteError: The pattern cannot be read, or names no site.
    """
    parts = [_part(part, pattern) for part in _split(pattern)]
    found = [site for site in sites if _fits(site, parts)]
    if found:
        return found
    names = dict.fromkeys(
        form for site in sites for form in (site.name, re.sub(r"\.\d+(\.|$)", r".*\1", site.name))
    )
    raise SiteError(
        f"no site fits {pattern!r}{_nearest(pattern, list(names))}; sites are stem, layerN, "
        "layerN.K, layerN.K.residual, layerN.K.after_convM and layerN.K.convM, with N from 1 to "
        f"{max((site.stage or 0 for site in sites), default=0)} and K from 0, first, last or *"
    )


def _fits(site: Site, parts: Sequence[re.Pattern[str]]) -> bool:
    words = site.name.split(".")
    if len(words) != len(parts):
        return False
    forms: list[tuple[str, ...]] = [(word,) for word in words]
    if site.block is not None:
        ends = {"first": 0, "last": site.depth - 1}
        forms[1] = (words[1], *(word for word, index in ends.items() if index == site.block))
    return all(
        any(part.fullmatch(form) for form in options)
        for part, options in zip(parts, forms, strict=True)
    )


def _split(pattern: str) -> list[str]:
    if not isinstance(pattern, str) or not pattern.strip():
        raise SiteError(f"a site pattern is a text such as layer2.*.conv2, not {pattern!r}")
    return pattern.strip().split(".")


def _part(part: str, pattern: str) -> re.Pattern[str]:
    """One part of a pattern as a regular expression."""
    text = ""
    for piece in re.split(r"(\[[^\[\]]*\]|\*)", part):
        if piece == "*":
            text += ".*"
        elif piece.startswith("["):
            text += "(?:" + "|".join(str(number) for number in _numbers(piece, pattern)) + ")"
        elif "[" in piece or "]" in piece:
            raise SiteError(f"site pattern {pattern!r}: a bracket in {part!r} is not closed")
        else:
            text += re.escape(piece)
    return re.compile(text)


def _numbers(bracket: str, pattern: str) -> list[int]:
    numbers: list[int] = []
    for item in bracket[1:-1].split(","):
        ends = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", item)
        if ends is None or (ends[2] and int(ends[2]) < int(ends[1])):
            raise SiteError(
                f"site pattern {pattern!r}: {bracket} must hold numbers and rising ranges, "
                "such as [2-3] or [1,3]"
            )
        numbers += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
    return numbers


def _nearest(word: str, words: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, words, n=3, cutoff=0.5)
    return f" (nearest: {', '.join(near)})" if near else ""
