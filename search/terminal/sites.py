"""Where blocks can stand: `attnsearch sites`. Needs no Torch, and so answers at once."""

from attnsearch.blocks.build import Site, backbone_sites, match
from attnsearch.blocks.errors import SiteError
from attnsearch.blocks.hosts import BACKBONES, find_backbone
from attnsearch.search.text import paragraph, table

_KINDS = {
    "stem": "added after the stem, before stage 1",
    "stage": "added after the last block of stage N",
    "block": "added after block K of stage N: after its addition and activation",
    "residual": "added on the branch of block K, after its last normalisation, before the "
    "addition; where SE and GC stand in their papers",
    "after_conv": "added after convolution M of the block with its normalisation and, where "
    "there is one, its activation",
    "conv": "in place of convolution M of the block; where PSA, SCConv and axial attention stand "
    "in their papers",
    "decoder": "added after step N of the decoder, counted from the smallest map",
}
_FORMS = {
    "stem": "stem",
    "stage": "layerN",
    "block": "layerN.K",
    "residual": "layerN.K.residual",
    "after_conv": "layerN.K.after_convM",
    "conv": "layerN.K.convM",
    "decoder": "decoderN",
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
    title = (
        f"{backbone}: {len(places)} sites in {len(host.depths)} stages of "
        f"{', '.join(map(str, host.depths))} {host.block.name} blocks; "
        f"stem {stem}, width {width:g}, image size {image_size}"
        + (f", decoder {decoder}" if decoder else "")
    )
    out = [title, "", table(["site", "input", "output", "what stands there"], _site_rows(places))]
    kinds = dict.fromkeys(place.kind for place in places)
    out += ["", "What the names mean (N a stage from 1, K a block from 0):"]
    out.append(table([], [(_FORMS[kind], _KINDS[kind]) for kind in kinds], indent="  "))
    out += ["", "Patterns, as `at:` takes them:"]
    out.append(table([], _pattern_rows(places, len(host.depths)), indent="  "))
    out += [
        "",
        paragraph(
            "With several matches, `decide:` says how many decisions there are: `together` (one "
            "for all, the default), `stage` (one for each stage) or `each`."
        ),
        "",
        "Which blocks there are:  attnsearch blocks",
        "Other networks:          " + " ".join(name for name in BACKBONES if name != backbone),
    ]
    return "\n".join(out)


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
        rows.append((pattern, f"{meaning} ({count} {'site' if count == 1 else 'sites'})"))
    return rows


def _shape(channels: int, size: tuple[int, int]) -> str:
    return f"{channels} x {size[0]} x {size[1]}"
