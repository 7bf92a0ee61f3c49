"""The host networks: what tells one from another, and which sizes and widths each can take.

This module needs no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from attnsearch.blocks.errors import SiteError
from attnsearch.blocks.spelling import nearest

Size = tuple[int, int]
Width = float | str | Sequence[float]
"""A multiplier of all widths or the name of one, or a multiplier for each stage."""

Family = Literal["resnet", "scnet", "axial_resnet", "axial_unet", "medt"]

WIDTH_NAMES = {"s": 1.0, "m": 1.5, "l": 2.0}
"""The published widths of axial ResNets: 0.5, 0.75 and 1 in csrhddlam/axial-deeplab, whose
narrowest has the planes of a ResNet and is our width 1."""

HEADS = 8  # of every axial host


@dataclass(frozen=True)
class Backbone:
    """What tells one host from another.

    Attributes:
        name: As in a space file.
        block: ``basic`` (two 3x3 convolutions), ``bottleneck`` (1x1, 3x3, 1x1), ``sc_bottleneck``
            (the 3x3 beside a self-calibrated one) or ``axial`` (1x1, attention along the height
            and along the width, 1x1).
        depths: Blocks in each stage.
        planes: Width of each stage before the width multiplier: of its 3x3 convolutions or its
            attention, and a quarter of what a bottleneck gives, a half of what an axial block
            gives.
        stems: The stems it can have, its default first.
        shortcut: Where the shape changes: ``projected`` by a 1x1 convolution, ``padded`` with
            zeros, or ``averaged`` (the variant D: average pooling before the 1x1 convolution,
            and in place of the strides inside).
        inner: Multiplier of the width inside a bottleneck, of its first two convolutions.
        family: Which class builds it.
        stem_planes: Channels after the stem before the width multiplier; those of the first
            stage if None.
        gated: Whether its attention has gates, which start frozen.
    """

    name: str
    block: Literal["basic", "bottleneck", "sc_bottleneck", "axial"]
    depths: tuple[int, ...]
    planes: tuple[int, ...]
    stems: tuple[str, ...]
    shortcut: Literal["projected", "padded", "averaged"] = "projected"
    inner: int = 1
    family: Family = "resnet"
    stem_planes: int | None = None
    gated: bool = False

    @property
    def expansion(self) -> int:
        """Output channels of a block over its width."""
        return {"basic": 1, "axial": 2}.get(self.block, 4)

    @property
    def task(self) -> str:
        """What it is built for without a decoder: ``classification`` or ``segmentation``."""
        segments = self.family in ("axial_unet", "medt")
        return "segmentation" if segments else "classification"

    @property
    def patches(self) -> bool:
        """Whether a second branch sees the patches of an image."""
        return self.family == "medt"

    @property
    def usual_size(self) -> int:
        """Side in pixels of the images that it was published with."""
        return 128 if self.task == "segmentation" else 32 if self.stems[0] == "small" else 224

    def widths(self, width: Width) -> tuple[int, ...]:
        """Return widths of the stages under a multiplier, rounded to the nearest whole number.

        Args:
            width: A multiplier, or one for each stage; for axial ResNets also ``s``, ``m`` or
                ``l``.

        Raises:
            SiteError: The width is out of range, there are not as many as stages, a shortcut
                would have to remove channels, or the attention's heads cannot share it.
        """
        factors = self.multipliers(width)
        factor = factors[0]
        widths = tuple(
            max(1, round(planes * factor))
            for planes, factor in zip(self.planes, factors, strict=True)
        )
        if self.shortcut == "padded" and list(widths) != sorted(widths):
            raise SiteError(
                f"network.width is {width}, which makes the stages of {self.name} {widths} wide; "
                "its shortcuts pad with zeros, so no stage can be narrower than the one before"
            )
        if self.block == "sc_bottleneck" and min(widths) < 2:
            raise SiteError(
                f"network.width is {width}; {self.name} splits the width of a stage, at least 2, "
                f"into two paths; the nearest valid value is {2 / min(self.planes):g}"
            )
        if self.block == "axial" and any(planes % (2 * HEADS) for planes in widths):
            step = 2 * HEADS / self.planes[0]
            near = max(step, round(factor / step) * step)
            raise SiteError(
                f"network.width is {width}; each of the {HEADS} heads of {self.name} needs an "
                f"even number of channels, so width must be a multiple of {step:g}; the nearest "
                f"valid value is {near:g}"
            )
        if self.task == "segmentation" and any(
            after != 2 * before for before, after in pairwise(widths)
        ):
            raise SiteError(
                f"network.width is {width}, which makes the stages of {self.name} {widths} wide; "
                "its decoder adds their maps, so each must be twice as wide as the one before: "
                "give one number for all"
            )
        return widths

    def stem_width(self, width: Width) -> int:
        """Return channels after the stem under a multiplier.

        Raises:
            SiteError: As `widths`.
        """
        if self.stem_planes is None:
            return self.widths(width)[0]
        return max(1, round(self.stem_planes * self.multipliers(width)[0]))

    def multipliers(self, width: Width) -> tuple[float, ...]:
        """Return the numbers that a width stands for, one for each stage.

        Raises:
            SiteError: One is no number above 0, nor a name of one, or there are not as many as
                stages.
        """
        stages = len(self.planes)
        if isinstance(width, str) or not isinstance(width, Sequence):
            return (self._multiplier(width),) * stages
        if len(width) != stages:
            raise SiteError(
                f"network.width has {len(width)} multipliers and {self.name} has {stages} stages; "
                "give one for each, or one number for all"
            )
        return tuple(self._multiplier(factor) for factor in width)

    def _multiplier(self, width: float | str) -> float:
        if isinstance(width, str) and self.family == "axial_resnet" and width in WIDTH_NAMES:
            return WIDTH_NAMES[width]
        if not isinstance(width, str) and 0 < width < math.inf:
            return float(width)
        names = " or one of s, m, l" if self.family == "axial_resnet" else ""
        raise SiteError(f"network.width is {width}; it must be a number above 0{names}")

    def stem_size(self, size: Size, stem: str) -> Size:
        """Return (height, width) of the map after the stem.

        Args:
            size: Of the image.
            stem: A member of `stems`.
        """
        for _ in range({"small": 0, "medt": 1}.get(stem, 2)):
            size = halved(size)
        return size

    def check_size(self, size: Size, stem: str | None = None) -> None:
        """Refuse images of a size that the network cannot take.

        Args:
            size: (height, width) of the image.
            stem: As for `find_stem`.

        Raises:
            SiteError: It cannot take them; the message says which sizes it can.
        """
        if self.family == "scnet":
            strides = {"small": 0}.get(find_stem(self, stem), 2) + len(self.depths) - 1
            least = 3 * 2**strides + 1
            if min(size) < least:
                raise SiteError(
                    f"image_size is {text(size)}; {self.name} pools 4x4 windows in its last "
                    f"stage, whose map must be at least 4x4, so sides must be at least {least} "
                    f"pixels; the nearest valid value is {least}"
                )
        if self.task == "segmentation":
            step = 128 if self.family == "medt" else 32
            if any(side % step for side in size):
                why = "is halved five times and doubled back"
                if self.family == "medt":
                    why = f"is cut into 4x4 patches, each of which {why}"
                near = text(tuple(max(step, round(side / step) * step) for side in size))
                raise SiteError(
                    f"image_size is {text(size)}; {self.name} takes sides that are multiples of "
                    f"{step} pixels, since an image {why}; the nearest valid value is {near}"
                )


_PLANES = (64, 128, 256, 512)
_STEMS = ("imagenet", "small")
_50, _101 = (3, 4, 6, 3), (3, 4, 23, 3)
_AXIAL = (16, 32, 64, 128)
BACKBONES: dict[str, Backbone] = {
    backbone.name: backbone
    for backbone in (
        # He et al. 2016, arXiv:1512.03385: table 1 (ImageNet).
        Backbone("resnet18", "basic", (2, 2, 2, 2), _PLANES, _STEMS),
        Backbone("resnet34", "basic", (3, 4, 6, 3), _PLANES, _STEMS),
        Backbone("resnet50", "bottleneck", _50, _PLANES, _STEMS),
        Backbone("resnet101", "bottleneck", _101, _PLANES, _STEMS),
        Backbone("resnet152", "bottleneck", (3, 8, 36, 3), _PLANES, _STEMS),
        # Zagoruyko and Komodakis 2016, arXiv:1605.07146: twice as wide inside, as torchvision's.
        Backbone("wide_resnet50_2", "bottleneck", _50, _PLANES, _STEMS, inner=2),
        Backbone("wide_resnet101_2", "bottleneck", _101, _PLANES, _STEMS, inner=2),
        # He et al. 2016, section 4.2 (CIFAR, 6n+2 layers).
        Backbone("resnet20", "basic", (3, 3, 3), (16, 32, 64), ("small",), "padded"),
        Backbone("resnet32", "basic", (5, 5, 5), (16, 32, 64), ("small",), "padded"),
        Backbone("resnet44", "basic", (7, 7, 7), (16, 32, 64), ("small",), "padded"),
        Backbone("resnet56", "basic", (9, 9, 9), (16, 32, 64), ("small",), "padded"),
        Backbone("resnet110", "basic", (18, 18, 18), (16, 32, 64), ("small",), "padded"),
        # Liu et al., CVPR 2020, as in MCG-NKU/SCNet; the deep stem of 101 layers is twice as wide.
        Backbone("scnet50", "sc_bottleneck", _50, _PLANES, _STEMS, family="scnet"),
        Backbone("scnet101", "sc_bottleneck", _101, _PLANES, _STEMS, family="scnet"),
        Backbone(
            "scnet50_v1d", "sc_bottleneck", _50, _PLANES, ("deep",), "averaged", family="scnet"
        ),
        Backbone(
            "scnet101_v1d", "sc_bottleneck", _101, _PLANES, ("deep",), "averaged",
            family="scnet", stem_planes=128,
        ),
        # Wang et al., ECCV 2020, as in csrhddlam/axial-deeplab.
        Backbone(
            "axial_resnet26", "axial", (1, 2, 4, 1), _PLANES, _STEMS,
            family="axial_resnet", stem_planes=32,
        ),
        Backbone(
            "axial_resnet50", "axial", _50, _PLANES, _STEMS, family="axial_resnet", stem_planes=32
        ),
        # Valanarasu et al., MICCAI 2021, as in jeya-maria-jose/Medical-Transformer.
        Backbone(
            "axial_unet", "axial", (1, 2, 4, 1), _AXIAL, ("medt",),
            family="axial_unet", stem_planes=8,
        ),
        Backbone(
            "gated_axial_unet", "axial", (1, 2, 4, 1), _AXIAL, ("medt",),
            family="axial_unet", stem_planes=8, gated=True,
        ),
        Backbone(
            "medt", "axial", (1, 2), _AXIAL[:2], ("medt",),
            family="medt", stem_planes=8, gated=True,
        ),
        Backbone("logo", "axial", (1, 2), _AXIAL[:2], ("medt",), family="medt", stem_planes=8),
    )
}  # fmt: skip


def find_backbone(name: str) -> Backbone:
    """Return the backbone of this name.

    Raises:
        SiteError: No backbone has this name.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    raise SiteError(
        f"no backbone is called {name!r}{nearest(name, BACKBONES)}; "
        f"there are {', '.join(BACKBONES)}"
    )


def find_stem(backbone: Backbone, stem: str | None) -> str:
    """Return the stem to build: the one asked for, or the backbone's default where it is None.

    Raises:
        SiteError: The backbone has no such stem.
    """
    if stem is None:
        return backbone.stems[0]
    if stem in backbone.stems:
        return stem
    raise SiteError(
        f"{backbone.name} has no stem {stem!r}{nearest(stem, backbone.stems)}; "
        f"its stems are: {', '.join(backbone.stems)}"
    )


def as_width(width: Width) -> float | str | tuple[float, ...]:
    """Return a width in one hashable form: one number where all stages have the same."""
    if isinstance(width, str):
        return width
    if not isinstance(width, Sequence):
        return float(width)
    factors = tuple(float(factor) for factor in width)
    return factors[0] if len(set(factors)) == 1 else factors


def as_size(image_size: int | Sequence[int]) -> Size:
    """Return (height, width) from one number or from a pair.

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


def halved(size: Size) -> Size:
    """Return what stride 2 leaves of a map, with the padding of ResNets: half, rounded up."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def text(size: Sequence[int]) -> str:
    """Return a size as messages print it: ``128x96``, or ``128`` where both sides are equal."""
    return str(size[0]) if len(set(size)) == 1 else "x".join(map(str, size))
