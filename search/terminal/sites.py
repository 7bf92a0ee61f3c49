"""Where blocks can stand: `attnsearch sites`. Needs no Torch, and so answers at once."""

from attnsearch.blocks.build import Site, backbone_sites, match
from attnsearch.blocks.errors import SiteError
from attnsearch.blocks.hosts import BACKBONES, find_backbone
from attnsearch.search.text import plural, render

# Kind of site -> its name, and what stands there.
_KINDS = {
    "stem": ("stem", "added after the stem, before stage 1"),
    "stage": ("layerN", "added after the last block of stage N"),
    "block": ("layerN.K", "added after block K of stage N: after its addition and activation"),
    "residual": (
        "layerN.K.residual",
        "added on the branch of block K, after its last normalisation, before the addition; where "
        "SE and GC stand in their papers",
    ),
    "after_conv": (
        "layerN.K.after_convM",
        "added after convolution M of the block with its normalisation and, where there is one, "
        "its activation",
    ),
    "conv": (
        "layerN.K.convM",
        "in place of convolution M of the block; where PSA, SCConv and axial attention stand in "
        "their papers",
    ),
    "decoder": (
        "decoderN",
        "added after step N of the decoder, counted from the smallest map",
    ),
}


def sites_text(
    backbone: str,
    *,
    stem: str | None,
    width: float,
    image_size: int | None,
    decoder: str | None = None,
) -> str:
    """Return the sites of a network with their shapes, and how patterns name them.

    Args:
        backbone: A name in `BACKBONES`.
        stem: `imagenet` or `small`; the backbone's default if None.
        width: Width multiplier.
        image_size: Pixels; those that the network was published with if None: 224 for the
            ImageNet networks, 32 for the CIFAR ones, 128 for those for segmentation.
        decoder: Of a network for segmentation, one of `DECODERS`.

    Raises:
        SiteError: There is no such network, or it cannot take images of this size.
    """
    host = find_backbone(backbone)
    if image_size is None:
        image_size = host.usual_size
    stem = stem or host.stems[0]
    host.check_size((image_size, image_size), stem)
    places = backbone_sites(backbone, stem, width, image_size, decoder)
    kinds = dict.fromkeys(place.kind for place in places)
    return render(
        "terminal",
        "sites",
        backbone=backbone,
        host=host,
        stem=stem,
        width=f"{width:g}",
        image_size=image_size,
        decoder=decoder,
        places=places,
        sites=_site_rows(places),
        kinds=[_KINDS[kind] for kind in kinds],
        patterns=_pattern_rows(places, len(host.depths)),
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


def _pattern_rows(places: list[Site], stages: int) -> list[tuple[str, str]]:
    meanings = {
        f"layer{stages}": "after the last stage",
        f"layer[{stages - 1}-{stages}]": "the last two stages",
        f"layer[1,{stages}].*.residual": f"every block of stages 1 and {stages}",
        "layer*.last": "the last block of every stage",
        "layer*.first.conv2": "the second convolution of every stage's first block",
        f"layer[2-{stages}].*.conv2": f"the second convolutions of stages 2 to {stages}",
        "layer*.*.after_conv*": "after every convolution",
    }
    rows = []
    for pattern, meaning in meanings.items():
        try:
            count = len(match(pattern, places))
        except SiteError:  # not every network has convolutions that a block can replace
            continue
        rows.append((pattern, f"{meaning} ({plural(count, 'site')})"))
    return rows


def _shape(channels: int, size: tuple[int, int]) -> str:
    return f"{channels} x {size[0]} x {size[1]}"
