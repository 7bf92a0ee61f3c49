"""The backbones, and the sites in them where a block can stand.

A site is a place with a name. Blocks are *added* at

* ``stem``: after the stem, before stage 1;
* ``layerN``: after stage N;
* ``layerN.K``: after block K of stage N, its addition and activation;
* ``layerN.K.residual``: on the branch, after its last normalisation, before the addition;
* ``layerN.K.after_convM``: after convolution M with its normalisation and, where there is one,
  its activation;
* ``decoderN``: after step N of a decoder, counted from the smallest map;

and stand *in place of* a convolution at ``layerN.K.convM``.

Hosts that are no plain ResNets have these sites too, as far as they have the places. In an SCNet
``after_conv2`` is where its two paths have been joined, and only ``conv3`` can be replaced. In an
axial block 1 and 3 are its 1x1 convolutions and 2 its two attentions; nothing can be replaced.
MedT and LoGo have sites in their global branch, not in the one that sees patches.

This module needs no torch: shapes follow from the arithmetic of convolutions, so that a space
file can be checked without a network. A network of the user's own is built and tried instead: its
sites are the paths of its modules, ``PATH`` in place of a convolution and ``PATH.after`` behind
it, and ``PATH`` after any other module.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from attnsearch.blocks.errors import SiteError
from attnsearch.blocks.hosts import (
    Size,
    Width,
    as_size,
    as_width,
    decoder_steps,
    encoder_maps,
    find_backbone,
    find_stem,
    halved,
)
from attnsearch.blocks.spelling import nearest

Kind = Literal["stem", "stage", "block", "residual", "after_conv", "conv", "decoder", "module"]


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
        ends: Which parts of the name can be ``first`` or ``last`` in a pattern.
        beside: Where a block is added that cannot stand in place of a convolution.
        own: Whether it is of a network of the user's own.
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
    ends: frozenset[tuple[int, str]] = field(default=frozenset(), compare=False, repr=False)
    beside: str = field(default="", compare=False, repr=False)
    own: bool = field(default=False, compare=False, repr=False)

    @property
    def replaces(self) -> bool:
        """Whether a block here stands in place of a convolution."""
        return self.kind == "conv"

    @property
    def keeps_shape(self) -> bool:
        """Whether the block gives a map of the shape that it gets."""
        return self.channels == self.out_channels and self.stride == 1

    def __str__(self) -> str:
        """Return the name with the shapes, as error messages and listings print it."""
        height, width = self.size
        text = f"{self.name} ({self.channels} channels, {height}x{width}"
        if self.replaces:
            text += f" -> {self.out_channels} channels, {self.out_size[0]}x{self.out_size[1]}"
        return text + ")"

    def stage_of(self, pattern: str) -> int:
        """Return which part of its name tells its stage, for a pattern that names it.

        In a network of the user's own it is the first part that a pattern leaves open.
        """
        if not self.own:
            return 0
        parts = pattern.split(".")
        return next((n for n, part in enumerate(parts) if part != self.name.split(".")[n]), 0)


def backbone_sites(
    backbone: str,
    stem: str | None = None,
    width: Width = 1.0,
    image_size: int | Sequence[int] = 224,
    decoder: str | None = None,
    in_channels: int = 3,
) -> list[Site]:
    """Return every site of a network, in the order in which data passes them.

    Args:
        backbone: A name in `BACKBONES`.
        stem: One of the backbone's stems, for instance ``imagenet`` (7x7, stride 2, pooling) or
            ``small`` (3x3, no pooling); None takes its default.
        width: Width multiplier, or one for each stage; for axial ResNets also ``s``, ``m`` or
            ``l``.
        image_size: Height and width of the input in pixels, or one number for both.
        decoder: Of a network for segmentation, one of `DECODERS`.
        in_channels: Of an image, for a network of the user's own.

    Raises:
        SiteError: The backbone, stem or decoder does not exist, or a number is out of range; a
            network of the user's own fails.
    """
    if ":" in backbone:
        return _own_sites(backbone, as_width(width), as_size(image_size), in_channels)
    return list(_sites(backbone, stem, as_width(width), as_size(image_size), decoder))


def config_sites(config: Mapping[str, Any]) -> list[Site]:
    """Return every site of the network of a resolved config, for images as it says."""
    data = config.get("data") or {}
    return network_sites(config["network"], data.get("image_size") or 224)


def network_sites(
    network: Mapping[str, Any], image_size: int | Sequence[int] = 224, in_channels: int = 3
) -> list[Site]:
    """Return every site of the network that the ``network`` section of a config describes.

    Args:
        network: Needs ``backbone``.
        image_size: As for `backbone_sites`, like the next one.
        in_channels: Of an image.

    Raises:
        SiteError: As `backbone_sites`.
    """
    return backbone_sites(
        network["backbone"],
        network.get("stem"),
        network.get("width", 1.0),
        image_size,
        network.get("decoder"),
        in_channels,
    )


def _own_sites(
    name: str, width: float | str | tuple[float, ...], size: Size, in_channels: int
) -> list[Site]:
    from attnsearch.blocks.build.initialise import isolated_rng  # loads torch, for these alone
    from attnsearch.blocks.hosts import AFTER, own_backbone, places

    with isolated_rng():
        found = places(own_backbone(name), in_channels, width, size)
    sites: dict[str, Site] = {}
    for place in found:
        channels, *out_size = place.after
        shape: Any = (channels, tuple(out_size))
        at = place.path if place.plain else f"{place.path}.{AFTER}"
        more: dict[str, Any] = {"ends": place.ends, "own": True}
        new = [Site(at, "module", *shape, *shape, **more)]
        if place.before and place.convolution:
            kernel, stride = place.convolution
            given: Any = (place.before[0], place.before[1:])
            more["beside"] = at
            shapes = (*given, *shape, stride, kernel)
            new.insert(0, Site(place.path, "conv", *shapes, **more))
        for site in new:  # `a.b_c` and `a_b.c` cannot both have blocks: these share a name
            sites.setdefault(site.name.replace(".", "_"), site)
    return list(sites.values())


@lru_cache(maxsize=256)
def _sites(
    backbone_name: str,
    stem: str | None,
    width: float | str | tuple[float, ...],
    image_size: Size,
    decoder: str | None,
) -> list[Site]:
    backbone = find_backbone(backbone_name)
    widths = backbone.widths(width)
    size = backbone.stem_size(image_size, find_stem(backbone, stem))
    channels = backbone.stem_width(width)
    sites: list[Site] = []

    def add(name: str, kind: Kind, **place: Any) -> None:
        sites.append(Site(name, kind, channels, size, channels, size, **place))

    add("stem", "stem")
    for stage, (planes, depth) in enumerate(zip(widths, backbone.depths, strict=True), start=1):
        for block in range(depth):
            name = f"layer{stage}.{block}"
            ends = {(1, "first")} if block == 0 else set()
            ends |= {(1, "last")} if block == depth - 1 else set()
            place: dict[str, Any] = {"stage": stage, "block": block, "ends": frozenset(ends)}
            stride = 2 if stage > 1 and block == 0 else 1
            for part, out, step in backbone.convolutions(planes, stride):
                out_size = halved(size) if step == 2 else size
                if part.kernel:
                    shapes = (channels, size, out, out_size, step, part.kernel)
                    site, beside = (f"{name}.{at}conv{part.number}" for at in ("", "after_"))
                    sites.append(Site(site, "conv", *shapes, beside=beside, **place))
                channels, size = out, out_size
                add(f"{name}.after_conv{part.number}", "after_conv", **place)
            add(f"{name}.residual", "residual", **place)
            add(name, "block", **place)
        add(f"layer{stage}", "stage", stage=stage)
    if decoder is not None:
        steps = decoder_steps(decoder, encoder_maps(backbone, stem, width, image_size))
        for number, level in enumerate(steps, start=1):
            channels, size = level.channels, level.size
            add(f"decoder{number}", "decoder")
    return sites


def match(pattern: str, sites: Sequence[Site]) -> list[Site]:
    """Return the sites that a pattern names, in network order.

    Dots separate the parts of a name; inside a part ``*`` stands for any characters, ``[2-3]`` and
    ``[1,3]`` for numbers. In place of a block's number ``first`` and ``last`` stand for the first
    and the last block of its stage.

    Raises:
        SiteError: The pattern cannot be read, or names no site.
    """
    if not isinstance(pattern, str) or not pattern.strip():
        raise SiteError(f"a site pattern is a text such as layer2.*.conv2, not {pattern!r}")
    parts = [_part(part, pattern) for part in pattern.strip().split(".")]
    matching = [site for site in sites if _fits(site, parts)]
    if matching:
        return matching
    names = dict.fromkeys(
        form for site in sites for form in (site.name, re.sub(r"\.\d+(\.|$)", r".*\1", site.name))
    )
    if sites and sites[0].own:
        raise SiteError(
            f"no site fits {pattern!r}{nearest(pattern, names)}; sites are the paths of the "
            "network's modules, as `attnsearch sites module:Class` lists them"
        )
    raise SiteError(
        f"no site fits {pattern!r}{nearest(pattern, names)}; sites are stem, layerN, "
        "layerN.K, layerN.K.residual, layerN.K.after_convM and layerN.K.convM, with N from 1 to "
        f"{max((site.stage or 0 for site in sites), default=0)} and K from 0, first, last or *"
        + (", and decoderN" if sites and sites[-1].kind == "decoder" else "")
    )


def _fits(site: Site, parts: Sequence[re.Pattern[str]]) -> bool:
    words = site.name.split(".")
    if len(words) != len(parts):
        return False
    forms = [[word] for word in words]
    for index, end in site.ends:
        forms[index].append(end)
    return all(
        any(part.fullmatch(form) for form in options)
        for part, options in zip(parts, forms, strict=True)
    )


def _part(part: str, pattern: str) -> re.Pattern[str]:
    """Return one part of a pattern as a regular expression."""
    text = ""
    for piece in re.split(r"(\[[^\[\]]*\]|\*)", part):
        if piece == "*":
            text += ".*"
        elif piece.startswith("["):
            text += f"(?:{'|'.join(map(str, _numbers(piece, pattern)))})"
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
