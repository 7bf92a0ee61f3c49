"""The host networks: what tells one from another, and which sizes and widths each can take.

This module needs no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pkgutil import resolve_name
from typing import Any, Literal, cast

from attnsearch.blocks.errors import SiteError
from attnsearch.blocks.hosts.sizes import Size, Width, halved, size_name
from attnsearch.blocks.spelling import nearest

WIDTH_NAMES = {"s": 1.0, "m": 1.5, "l": 2.0}
"""The published widths of axial ResNets: 0.5, 0.75 and 1 in csrhddlam/axial-deeplab, whose
narrowest has the planes of a ResNet and is our width 1."""

HEADS = 8  # of every axial host


@dataclass(frozen=True)
class Convolution:
    """A convolution of a residual block, or what it has in the place of one.

    Attributes:
        number: M of its sites ``convM`` and ``after_convM``.
        factor: Its output channels over the block's width.
        strided: Whether it has the block's stride.
        kernel: Side of its kernel; None where no block can stand in its place.
    """

    number: int
    factor: int
    strided: bool = False
    kernel: int | None = None


@dataclass(frozen=True)
class Residual:
    """A residual block, as what it does in turn.

    Attributes:
        name: As listings print it.
        parts: Its convolutions; the last one's factor is the block's expansion.
    """

    name: str
    parts: tuple[Convolution, ...]


_IN, _OUT = Convolution(1, 1, kernel=1), Convolution(3, 4, kernel=1)
BASIC = Residual("basic", (Convolution(1, 1, True, 3), Convolution(2, 1, kernel=3)))
BOTTLENECK = Residual("bottleneck", (_IN, Convolution(2, 1, True, 3), _OUT))
_WIDE = Residual("bottleneck", (Convolution(1, 2, kernel=1), Convolution(2, 2, True, 3), _OUT))
_SPLIT = Residual("sc-bottleneck", (Convolution(2, 1, True), _OUT))
_AXIAL = Residual("axial", (Convolution(1, 1), Convolution(2, 1, True), Convolution(3, 2)))


@dataclass(frozen=True)
class Backbone:
    """What tells one host from another.

    Attributes:
        name: As in a space file.
        block: Its residual block.
        depths: Blocks in each stage.
        planes: Width of each stage before the width multiplier: of its 3x3 convolutions or its
            attention, and a quarter of what a bottleneck gives, a half of what an axial block
            gives.
        stems: The stems it can have, its default first.
        shortcut: Where the shape changes: ``projected`` by a 1x1 convolution, ``padded`` with
            zeros, or ``averaged`` (the variant D: average pooling before the 1x1 convolution,
            and in place of the strides inside).
        network: The class that it is built as, `module:Class`, imported when it is: a `Host`
            whose constructor takes the backbone, the images' channels and the number of classes,
            and of ``stem``, ``width``, ``size``, ``learn_gates`` and ``joint_patches`` those
            that it names.
        stem_planes: Channels after the stem before the width multiplier; those of the first
            stage if None.
        paths: Paths that share the width inside a block.
        heads: Heads of its attention, which share the width of a stage; 0 without attention.
        gated: Whether its attention has gates, which start frozen.
        segments: Whether it gives a mask for each image without a decoder of ours.
        rows: Patches along each side of an image that a second branch sees; 1 without one.
        least_map: Side of the smallest map that its last stage can take.
        named_widths: Whether ``s``, ``m`` and ``l`` are widths of it.
    """

    name: str
    block: Residual
    depths: tuple[int, ...]
    planes: tuple[int, ...]
    stems: tuple[str, ...]
    shortcut: Literal["projected", "padded", "averaged"] = "projected"
    network: str = "attnsearch.blocks.hosts.resnet:ResNet"
    stem_planes: int | None = None
    paths: int = 1
    heads: int = 0
    gated: bool = False
    segments: bool = False
    rows: int = 1
    least_map: int = 1
    named_widths: bool = False

    @property
    def expansion(self) -> int:
        """Output channels of a block over its width."""
        return self.block.parts[-1].factor

    @property
    def task(self) -> str:
        """What it is built for without a decoder: ``classification`` or ``segmentation``."""
        return "segmentation" if self.segments else "classification"

    @property
    def patches(self) -> bool:
        """Whether a second branch sees the patches of an image."""
        return self.rows > 1

    @property
    def own(self) -> bool:
        """Whether it is a network of the user's, whose name is `module:Class`."""
        return ":" in self.name

    @property
    def scalable(self) -> bool:
        """Whether it can be had in other widths."""
        return True

    @property
    def usual_size(self) -> int:
        """Side in pixels of the images that it was published with."""
        return 128 if self.segments else 32 if self.stems[0] == "small" else 224

    def convolutions(self, planes: int, stride: int) -> list[tuple[Convolution, int, int]]:
        """Return what a block does in turn, each with its output channels and its stride.

        Args:
            planes: Width of the block's stage.
            stride: Of the block.
        """
        shared = planes // self.paths * self.paths
        widths = [shared] * (len(self.block.parts) - 1) + [planes]
        return [
            (part, part.factor * width, stride if part.strided else 1)
            for part, width in zip(self.block.parts, widths, strict=True)
        ]

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
        if min(widths) < self.paths:
            raise SiteError(
                f"network.width is {width}; {self.name} splits the width of a stage into "
                f"{self.paths} paths, so it must be at least {self.paths}; the nearest valid "
                f"value is {self.paths / min(self.planes):g}"
            )
        if self.heads and any(planes % (2 * self.heads) for planes in widths):
            step = 2 * self.heads / self.planes[0]
            near = max(step, round(factor / step) * step)
            raise SiteError(
                f"network.width is {width}; each of the {self.heads} heads of {self.name} needs "
                f"an even number of channels, so width must be a multiple of {step:g}; the "
                f"nearest valid value is {near:g}"
            )
        if self.segments and any(after != 2 * before for before, after in pairwise(widths)):
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
        if isinstance(width, str) and self.named_widths and width in WIDTH_NAMES:
            return WIDTH_NAMES[width]
        if not isinstance(width, str) and 0 < width < math.inf:
            return float(width)
        names = " or one of s, m, l" if self.named_widths else ""
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

    def check_size(self, size: Size, stem: str | None = None, key: str = "image_size") -> None:
        """Refuse images of a size that the network cannot take.

        Args:
            size: (height, width) of the image.
            stem: As for `find_stem`.
            key: What asks for them.

        Raises:
            SiteError: It cannot take them; the message says which sizes it can.
        """
        if self.least_map > 1:
            strides = {"small": 0}.get(find_stem(self, stem), 2) + len(self.depths) - 1
            least = (self.least_map - 1) * 2**strides + 1
            if min(size) < least:
                windows = f"{self.least_map}x{self.least_map}"
                raise SiteError(
                    f"{key} is {size_name(size)}; {self.name} pools {windows} windows in "
                    f"its last stage, whose map must be at least {windows}, so sides must be at "
                    f"least {least} pixels; the nearest valid value is {least}"
                )
        if self.segments:
            step = 32 * self.rows
            if any(side % step for side in size):
                why = "is halved five times and doubled back"
                if self.patches:
                    why = f"is cut into {self.rows}x{self.rows} patches, each of which {why}"
                sides = [max(step, round(side / step) * step) for side in size]
                near = sides if len(set(sides)) > 1 else sides[0]
                raise SiteError(
                    f"{key} is {size_name(size)}; {self.name} takes sides that are multiples "
                    f"of {step} pixels, since an image {why}; the nearest valid value is {near}"
                )


_PLANES = (64, 128, 256, 512)
_STEMS = ("imagenet", "small")
_50, _101 = (3, 4, 6, 3), (3, 4, 23, 3)


def _cifar(name: str, depth: int) -> Backbone:
    """He et al. 2016, section 4.2 (CIFAR, 6n+2 layers)."""
    return Backbone(name, BASIC, (depth,) * 3, (16, 32, 64), ("small",), "padded")


def _scnet(name: str, depths: tuple[int, ...], stems: Any = _STEMS, **more: Any) -> Backbone:
    """Liu et al., CVPR 2020, as in MCG-NKU/SCNet; the deep stem of 101 layers is twice as wide."""
    network = "attnsearch.blocks.hosts.scnet:SCNet"
    return Backbone(
        name, _SPLIT, depths, _PLANES, stems, network=network, paths=2, least_map=4, **more
    )


def _axial_resnet(name: str, depths: tuple[int, ...]) -> Backbone:
    """Wang et al., ECCV 2020, as in csrhddlam/axial-deeplab."""
    network = "attnsearch.blocks.hosts.axial_resnet:AxialResNet"
    return Backbone(
        name, _AXIAL, depths, _PLANES, _STEMS,
        network=network, stem_planes=32, heads=HEADS, named_widths=True,
    )  # fmt: skip


def _medical(name: str, network: str, depths: tuple[int, ...], **more: Any) -> Backbone:
    """Valanarasu et al., MICCAI 2021, as in jeya-maria-jose/Medical-Transformer."""
    planes = (16, 32, 64, 128)[: len(depths)]
    network = f"attnsearch.blocks.hosts.medt:{network}"
    return Backbone(
        name, _AXIAL, depths, planes, ("medt",),
        network=network, stem_planes=8, heads=HEADS, segments=True, **more,
    )  # fmt: skip


BACKBONES: dict[str, Backbone] = {
    backbone.name: backbone
    for backbone in (
        # He et al. 2016, arXiv:1512.03385: table 1 (ImageNet).
        Backbone("resnet18", BASIC, (2, 2, 2, 2), _PLANES, _STEMS),
        Backbone("resnet34", BASIC, _50, _PLANES, _STEMS),
        Backbone("resnet50", BOTTLENECK, _50, _PLANES, _STEMS),
        Backbone("resnet101", BOTTLENECK, _101, _PLANES, _STEMS),
        Backbone("resnet152", BOTTLENECK, (3, 8, 36, 3), _PLANES, _STEMS),
        # Zagoruyko and Komodakis 2016, arXiv:1605.07146: twice as wide inside, as torchvision's.
        Backbone("wide_resnet50_2", _WIDE, _50, _PLANES, _STEMS),
        Backbone("wide_resnet101_2", _WIDE, _101, _PLANES, _STEMS),
        _cifar("resnet20", 3),
        _cifar("resnet32", 5),
        _cifar("resnet44", 7),
        _cifar("resnet56", 9),
        _cifar("resnet110", 18),
        _scnet("scnet50", _50),
        _scnet("scnet101", _101),
        _scnet("scnet50_v1d", _50, ("deep",), shortcut="averaged"),
        _scnet("scnet101_v1d", _101, ("deep",), shortcut="averaged", stem_planes=128),
        _axial_resnet("axial_resnet26", (1, 2, 4, 1)),
        _axial_resnet("axial_resnet50", _50),
        _medical("axial_unet", "AxialUNet", (1, 2, 4, 1)),
        _medical("gated_axial_unet", "AxialUNet", (1, 2, 4, 1), gated=True),
        _medical("medt", "MedT", (1, 2), rows=4, gated=True),
        _medical("logo", "MedT", (1, 2), rows=4),
    )
}


def find_backbone(name: str) -> Backbone:
    """Return the backbone of this name, or the user's network `module:Class`.

    Raises:
        SiteError: No backbone has this name.
        BlockError: The user's network cannot be imported.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    if ":" in name:
        # Named and not imported: it knows this module, and loads torch.
        return cast(Backbone, resolve_name("attnsearch.blocks.hosts.own:own_backbone")(name))
    raise SiteError(
        f"no backbone is called {name!r}{nearest(name, BACKBONES)}; "
        f"there are {', '.join(BACKBONES)}, and module:Class for a network of your own"
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
