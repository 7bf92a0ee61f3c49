"""Where blocks can stand: `attnsearch sites`. Needs no Torch, and so answers at once."""

from pathlib import Path

from attnsearch.blocks.build import Site, backbone_sites, match
from attnsearch.blocks.errors import SiteError
from attnsearch.blocks.hosts import BACKBONES, as_size, find_backbone, size_name
from attnsearch.blocks.imported import importable
from attnsearch.search.text import render


def sites_text(
    backbone: str,
    *,
    stem: str | None,
    width: float,
    image_size: int | tuple[int, int] | None,
    decoder: str | None = None,
) -> str:
    """Return the sites of a network with their shapes, and how patterns name them.

    Args:
        backbone: A name in `BACKBONES`, or `module:Class`.
        stem: `imagenet` or `small`; the backbone's default if None.
        width: Width multiplier.
        image_size: Pixels, one number or (height, width); the published ones if None: 224 for the
            ImageNet networks, 32 for the CIFAR ones, 128 for those for segmentation.
        decoder: Of a network for segmentation, one of `DECODERS`.

    Raises:
        SiteError: There is no such network, or it cannot take images of this size.
    """
    if ":" in backbone:
        importable(Path.cwd())
    host = find_backbone(backbone)
    if image_size is None:
        image_size = host.usual_size
    stem = stem or host.stems[0]
    size = as_size(image_size)
    host.check_size(size, stem)
    places = backbone_sites(backbone, stem, width, size, decoder)

    def count(pattern: str) -> int:
        try:
            return len(match(pattern, places))
        except SiteError:  # not every network has convolutions that a block can replace
            return 0

    return render(
        "terminal",
        "sites.txt",
        backbone=backbone,
        host=host,
        stem=stem,
        width=f"{width:g}",
        image_size=size_name(size),
        decoder=decoder,
        places=places,
        sites=_site_rows(places),
        kinds=dict.fromkeys(place.kind for place in places),
        count=count,
        others=[name for name in BACKBONES if name != backbone],
    )


def _site_rows(places: list[Site]) -> list[tuple[str, str, str, str]]:
    rows = []
    for place in places:
        output, what = "same", "added"
        if place.replaces:
            what = f"replaces a {place.kernel}x{place.kernel} convolution"
            if place.stride > 1:
                what += f" with stride {place.stride}"
            if not place.keeps_shape:
                output = _shape(place.out_channels, place.out_size)
        rows.append((place.name, _shape(place.channels, place.size), output, what))
    return rows


def _shape(channels: int, size: tuple[int, int]) -> str:
    return f"{channels} x {size[0]} x {size[1]}"
