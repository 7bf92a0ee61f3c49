"""The commands that say what there is, and the one that writes a first space file."""

import click

from attnsearch.search import check, terminal
from attnsearch.search.commands.group import Verbatim
from attnsearch.search.text import doing


@click.command(cls=Verbatim)
@click.argument("name", required=False)
@click.option("--published", is_flag=True, help="List the published networks instead.")
def blocks(name: str | None, published: bool) -> str | tuple[str, bool]:
    """List the blocks, or explain one: WHICH may be inserted.

    NAME is a block of the list, or your own as `module:Class`, which is
    tried: where it breaks a rule that every block keeps, such as shapes,
    gradients and saved state, that is said and the exit status is 1.

    Examples:
      attnsearch blocks
      attnsearch blocks psa
      attnsearch blocks my_blocks:Gate
      attnsearch blocks --published

    Next: `attnsearch sites BACKBONE` for where it can stand.
    """
    if published and name is not None:
        raise click.UsageError("--published lists networks; leave out the block's name")
    if published:
        return check.networks_text()
    return terminal.blocks_text() if name is None else terminal.block_text(name)


def _pixels(text: str) -> tuple[int, int]:
    """Return (height, width) from `96` or `96x160`."""
    high, _, wide = text.partition("x")
    sides = [high, wide] if "x" in text else [high, high]
    if not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise click.BadParameter(f"{text!r} is no size: write 96, or 96x160 (height x width)")
    return int(sides[0]), int(sides[1])


@click.command(cls=Verbatim)
@click.argument("backbone")
@click.option("--stem", type=click.Choice(["imagenet", "small"]), help="As network.stem.")
@click.option("--width", type=float, default=1.0, show_default=True, help="As network.width.")
@click.option(
    "--image-size",
    type=_pixels,
    metavar="N|HxW",
    help="As data.image_size: 96, or 96x160 for [96, 160].  [default: as published]",
)
@click.option("--decoder", help="As network.decoder, for segmentation: unet, fpn, fcn or aspp.")
def sites(
    backbone: str,
    stem: str | None,
    width: float,
    image_size: tuple[int, int] | None,
    decoder: str | None,
) -> str:
    """List the sites of a network: WHERE blocks may stand.

    BACKBONE is one of resnet18 34 50 101 152 (ImageNet's),
    resnet20 32 44 56 110 (CIFAR's) and the published networks, such as
    scnet50, axial_resnet26 or medt; the end of a listing names them all.
    Or it is a network of your own, `module:Class`, which is tried.

    Examples:
      attnsearch sites resnet18
      attnsearch sites resnet50 --stem small --width 0.5 --image-size 64
      attnsearch sites resnet34 --decoder unet --image-size 128

    Next: name them under `insert:` in the space file, then
    `attnsearch check SPACE`.
    """
    return terminal.sites_text(
        backbone, stem=stem, width=width, image_size=image_size, decoder=decoder
    )


@click.command(cls=Verbatim)
def schema() -> str:
    """Print the JSON Schema of space files, for editors.

    Example:
      attnsearch schema > space.schema.json

    Next: an editor that knows the schema completes the keys of a file that
    begins with `# yaml-language-server: $schema=space.schema.json`.
    """
    import json

    from attnsearch.spaces import schema as space_schema

    return json.dumps(space_schema(), indent=2)


@click.command(cls=Verbatim)
@click.argument("data")
@click.option("--to", "file", required=True, metavar="FILE", help="The space file to write.")
@click.option(
    "--task",
    type=click.Choice(["classification", "segmentation", "multilabel"]),
    help="What DATA is for, where it may be either.",
)
@click.option("--classes", metavar="A,B", help="The class folders, or the names of mask classes.")
@click.option(
    "--groups",
    metavar="PATTERN|CSV|none",
    help="What belongs together, as data.groups; none: nothing, whatever names tell.",
)
@click.option("--mask-name", metavar="RULE", help='How masks are named, as "{}_mask".')
@click.option("--mask-values", metavar="0,1,4", help="The mask value of each class, in order.")
@click.option(
    "--mask-colors",
    metavar="NAME=#RRGGBB,...",
    help="The colour of each class in colour-coded masks, in order; `ignore` does not count.",
)
@click.option(
    "--hours",
    metavar="H",
    type=click.FloatRange(min=0, min_open=True),
    default=12,
    show_default=True,
    help="In which all acts are to end at most, by a step measured here.",
)
def init(data: str, file: str, hours: float, **asked: str | None) -> str:
    """Write a commented space file for DATA.

    DATA is a folder of class folders, or one with images/ and masks/ for
    segmentation (both with or without train/val/test), or of images with
    labels.csv, where each shows several classes; an .npz file in MedMNIST
    layout, `digits` or `scenes`. Classes, counts and image sizes decide
    what is proposed, and a measured training step how many epochs fit into
    the hours; the comments say why. An existing FILE is left alone. Where
    DATA cannot be told, an option is asked for.

    Examples:
      attnsearch init ~/xrays --to xrays.yaml
      attnsearch init ~/polyps --to polyps.yaml
      attnsearch init pathmnist.npz --to path.yaml

    Next: read the file, then `attnsearch check FILE`.
    """
    with doing("looking at the data, then timing a few training steps"):
        return terminal.write_space(data, file, terminal.Asked(**asked), hours)
