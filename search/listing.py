"""What there is to put into a space file: `attnsearch blocks` and `attnsearch sites`."""

import inspect
import re
import sys

from torch import nn

from attnsearch.blocks.catalog import (
    block_names,
    can_replace,
    find_block,
    hyperparameters,
    parameter_docs,
    summary,
)
from attnsearch.blocks.sites import BACKBONES, Site, find_backbone, match, sites
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
}
_FORMS = {
    "stem": "stem",
    "stage": "layerN",
    "block": "layerN.K",
    "residual": "layerN.K.residual",
    "after_conv": "layerN.K.after_convM",
    "conv": "layerN.K.convM",
}


def blocks_text() -> str:
    """The table of blocks, with what to do next."""
    rows = []
    for name in block_names():
        block = find_block(name)
        replaces = "any" if can_replace(block) else "same shape"
        rows.append((name, replaces, paper(block) or "-", summary(block)))
    return "\n".join(
        [
            table(["block", "replaces", "paper", "what it does"], rows),
            "",
            paragraph(
                "Every block can be added at any site. `replaces` says which convolutions it can "
                "stand in place of: any, or only those that keep the shape of their input. The "
                "word `none` in a choice of blocks means that nothing is inserted."
            ),
            paragraph(
                "Your own block is named `module:Class` (a module beside the space file), or "
                "comes by the entry-point group `attnsearch.blocks`."
            ),
            "",
            "One block and its hyperparameters:  attnsearch blocks psa",
            "Where blocks can stand:             attnsearch sites resnet18",
        ]
    )


def block_text(name: str) -> str:
    """Everything about one block, with YAML to copy.

    Raises:
        BlockError: No block has this name.
    """
    block = find_block(name)
    docs = parameter_docs(block)
    parameters = hyperparameters(block)
    rows = [
        (key, _yaml_default(parameter), " ".join(docs.get(key, "").split()))
        for key, parameter in parameters.items()
    ]
    out = [f"{name}: {summary(block)}", ""]
    header = inspect.getdoc(sys.modules[block.__module__])
    for doc in (header, _without_arguments(block)):
        if doc:
            out += [*("  " + line if line else "" for line in doc.splitlines()), ""]
    if rows:
        out += ["Hyperparameters:", table(["name", "default", "meaning"], rows, indent="  "), ""]
    else:
        out += ["It has no hyperparameters.", ""]
    out += ["Where it can stand:", *(f"  {line}" for line in _places(block)), ""]
    out += ["In a space file:", *(f"  {line}" for line in _snippet(name, block)), ""]
    out.append("Then `attnsearch check SPACE` tries it at every site that the file names.")
    return "\n".join(out)


def paper(block: type[nn.Module]) -> str | None:
    """The first link in the header of the block's module, without its `https://`."""
    header = inspect.getdoc(sys.modules[block.__module__]) or ""
    found = re.search(r"https?://([^\s,;)]+)", header)
    return found[1].rstrip(".") if found else None


def sites_text(backbone: str, *, stem: str | None, width: float, image_size: int | None) -> str:
    """The sites of a network with their shapes, and how patterns name them.

    Args:
        backbone: A name in `BACKBONES`.
        stem: `imagenet` or `small`; the backbone's default if None.
        width: Width multiplier.
        image_size: Pixels; 224 for the ImageNet networks and 32 for the CIFAR ones if None.

    Raises:
        SiteError: There is no such network.
    """
    found = find_backbone(backbone)
    if image_size is None:
        image_size = 224 if "imagenet" in found.stems else 32
    stem = stem or found.stems[0]
    places = sites(backbone, stem=stem, width=width, image_size=image_size)
    title = (
        f"{backbone}: {len(places)} sites in {len(found.depths)} stages of "
        f"{', '.join(map(str, found.depths))} {found.block} blocks; "
        f"stem {stem}, width {width:g}, image size {image_size}"
    )
    out = [title, "", table(["site", "input", "output", "what stands there"], _site_rows(places))]
    kinds = dict.fromkeys(place.kind for place in places)
    out += ["", "What the names mean (N a stage from 1, K a block from 0):"]
    out.append(table([], [(_FORMS[kind], _KINDS[kind]) for kind in kinds], indent="  "))
    out += ["", "Patterns, as `at:` takes them:"]
    out.append(table([], _pattern_rows(places, len(found.depths)), indent="  "))
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
        f"layer{stages}": "one site",
        f"layer[{stages - 1}-{stages}]": "the last two stages",
        "layer[1,3].*.residual": "every block of stages 1 and 3",
        "layer*.last": "the last block of every stage",
        "layer*.first.conv2": "the second convolution of every stage's first block",
        f"layer[2-{stages}].*.conv2": f"the second convolutions of stages 2 to {stages}",
        "layer*.*.after_conv*": "after every convolution",
    }
    rows = []
    for pattern, meaning in meanings.items():
        count = len(match(pattern, places))
        rows.append((pattern, f"{meaning} ({count} {'site' if count == 1 else 'sites'})"))
    return rows


def _shape(channels: int, size: tuple[int, int]) -> str:
    return f"{channels} x {size[0]} x {size[1]}"


def _places(block: type[nn.Module]) -> list[str]:
    lines = ["added at every site: stem, layerN, layerN.K, .residual, .after_convM"]
    if can_replace(block):
        lines.append("in place of any convolution: layerN.K.convM")
    else:
        lines.append(
            "in place of a convolution that keeps the shape of its input, such as layer1.0.conv2"
        )
    return lines


def _snippet(name: str, block: type[nn.Module]) -> list[str]:
    parameters = hyperparameters(block)
    at = "layer[2-3].*.conv2" if can_replace(block) else "layer4"
    lines = ["insert:", f"  - at: {at}", f"    block: {{choice: [none, {_quoted(name)}]}}"]
    if parameters:
        lines += ["blocks:", f"  {_quoted(name)}:"]
        width = max(len(key) + len(_yaml_default(value)) for key, value in parameters.items()) + 2
        for key, parameter in parameters.items():
            text = f"{key}: {_yaml_default(parameter)}"
            searched = _searched(parameter.default)
            lines.append(
                f"    {text:{width}}  # searched: {searched}" if searched else f"    {text}"
            )
    return lines


def _searched(default: object) -> str | None:
    """How the space file would search a hyperparameter with this default, for instance."""
    if isinstance(default, bool):
        return "{choice: [true, false]}"
    if isinstance(default, int) and default > 1:
        return f"{{choice: [{max(default // 2, 1)}, {default}, {default * 2}]}}"
    if isinstance(default, float) and default > 0:
        return f"{{choice: [{default / 2!r}, {default!r}, {default * 2!r}]}}"
    return None


def _yaml_default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "(required)"
    return yaml_text(parameter.default)


def yaml_text(value: object) -> str:
    """A plain value in YAML's flow style, exact."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(yaml_text(item) for item in value) + "]"
    return repr(value) if isinstance(value, float) else str(value)


def _quoted(name: str) -> str:
    return f'"{name}"' if ":" in name else name


def _without_arguments(block: type[nn.Module]) -> str:
    """The class docstring without its first line, which stands above, and its arguments."""
    lines = (inspect.getdoc(block) or "").splitlines()[1:]
    for index, line in enumerate(lines):
        if line.strip() == "Args:":
            after = [i for i in range(index + 1, len(lines)) if re.match(r"\S", lines[i])]
            lines = lines[:index] + (lines[after[0] :] if after else [])
            break
    return "\n".join(lines).strip()
