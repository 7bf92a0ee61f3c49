"""The networks that a file can make, before anything is inserted, and what they must allow."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from attnsearch.blocks.hosts import BACKBONES, as_size, as_width, size_name
from attnsearch.blocks.naming import NONE
from attnsearch.spaces.file import KeyPath, Problems
from attnsearch.spaces.keys import SpaceFile
from attnsearch.spaces.space.decisions import decision, is_spec, members
from attnsearch.spaces.space.fits import HostChoice
from attnsearch.spaces.space.insertions import Group

Hosts = Sequence[tuple[Mapping[str, Any], HostChoice]]


def decoder_of(file: SpaceFile) -> str | None:
    """Return the decoder of a file's network: `unet` where it needs one and names none."""
    backbone = BACKBONES.get(file.network.backbone)
    if ":" in file.network.backbone:
        return None
    if file.task != "segmentation" or (backbone is not None and backbone.task == file.task):
        return None
    return file.network.decoder or "unet"


def possible_hosts(file: SpaceFile) -> list[tuple[dict[str, Any], HostChoice]]:
    """Return the networks to try blocks in, each with the decision values that make it.

    Of a range of widths the ends and the default stand for all.
    """
    network, batch_size = file.network, file.train.batch_size
    widths = members(network.width)
    if is_spec(network.width):
        widths.append(decision("network.width", network.width).default())
    sizes = members(batch_size)
    batches = [2] * any(size > 1 for size in sizes) + [1] * (1 in sizes)
    stems, distinct = members(network.stem), dict.fromkeys(map(as_width, widths))
    size, decoder = as_size(file.data.image_size), decoder_of(file)
    hosts = []
    for stem, width, batch in itertools.product(stems, distinct, batches):
        chosen: dict[str, Any] = {}
        if is_spec(network.stem):
            chosen["network.stem"] = stem
        if is_spec(network.width):
            chosen["network.width"] = width
        if is_spec(batch_size) and batch == 1:
            chosen["train.batch_size"] = 1
        hosts.append((chosen, HostChoice(network.backbone, stem, width, size, batch, decoder)))
    return hosts


def check_single_images(hosts: Hosts, problems: Problems) -> None:
    """Record where a batch of one image leaves a network one value to normalise."""
    for _, host in hosts:
        if host.batch > 1:
            continue
        for site in host.sites():
            if site.out_size == (1, 1):
                problems.add(
                    ("train", "batch_size"),
                    "1: batch normalisation in training needs at least 2 values per channel, but "
                    f"the map at {site.name} of {host.backbone} is 1x1 for images of "
                    f"{size_name(host.image_size)} pixels; the nearest valid value is 2",
                )
                return


def check_pretrained_safe(groups: Sequence[Group], problems: Problems) -> None:
    """Warn where a block replaces a convolution, whose weights no gate can keep."""
    replaced: dict[KeyPath, list[str]] = {}
    for group in groups:
        names = [site.name for site in group.sites if site.replaces]
        if group.pretrained_safe and names and list(group.options) != [NONE]:
            replaced.setdefault(group.path, []).extend(names)
    for path, names in replaced.items():
        where = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        problems.warn(
            (*path, "pretrained_safe"),
            f"has no effect at {where}: a block in place of a convolution loses its pretrained "
            "weights; add it at after_conv or residual to keep them",
        )
