"""From the settings of a host network to what constructs it."""

import inspect
from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any, cast

from attnsearch.blocks.errors import SiteError
from attnsearch.blocks.hosts.backbones import BACKBONES, Backbone, find_backbone
from attnsearch.blocks.hosts.decoders import decoder_class, make_heads
from attnsearch.blocks.hosts.host import Host
from attnsearch.blocks.hosts.pyramid import DECODERS, check_heads, decoder_steps, encoder_maps
from attnsearch.blocks.hosts.sizes import Size

Made = tuple[Callable[..., Any], tuple[Any, ...]]
"""What makes something, and its arguments."""


def check_task(backbone: Backbone, task: str, decoder: str | None) -> None:
    """Refuse a network that is not built for the task.

    Args:
        backbone: The host.
        task: ``classification``, ``multilabel`` or ``segmentation``.
        decoder: Of the network; with one, a host for classification segments.

    Raises:
        SiteError: It is built for the other one.
    """
    if decoder is not None and (backbone.task == "segmentation" or task != "segmentation"):
        raise SiteError(
            f"network.decoder is {decoder!r}; "
            + (
                f"{backbone.name} has a decoder of its own"
                if backbone.task == "segmentation"
                else "a decoder needs task: segmentation"
            )
        )
    if (task == "segmentation") == (backbone.task == "segmentation") or decoder is not None:
        return
    if backbone.task == "segmentation":
        raise SiteError(
            f"{backbone.name} gives a mask for each image, so task must be segmentation, "
            f"not {task!r}"
        )
    raise SiteError(
        f"task is {task!r}; {backbone.name} is built for classification unless it gets a "
        f"network.decoder ({', '.join(DECODERS)}). Networks for segmentation are "
        + ", ".join(name for name, host in BACKBONES.items() if host.segments)
    )


def host_constructor(
    settings: Mapping[str, Any], in_channels: int, classes: int, size: Size
) -> Callable[[], Host]:
    """Return what constructs a host with nothing inserted.

    Args:
        settings: The ``network`` of a config.
        in_channels: Channels of the images.
        classes: Outputs.
        size: Height and width of the images in pixels.

    Raises:
        SiteError: There is no such backbone or stem, or it cannot take images of this size or be
            that wide.
    """
    cls, given, arguments = host_arguments(settings, in_channels, classes, size)
    decoded = decoder_arguments(settings, classes, size)
    if decoded is None:
        return lambda: cls(*given, **arguments)
    decoder, heads = decoded

    def construct() -> Host:
        network: Any = cls(*given, **arguments)
        network.decode_with(decoder[0](*decoder[1]), heads[0](*heads[1]))
        return cast(Host, network)

    return construct


def host_arguments(
    settings: Mapping[str, Any], in_channels: int, classes: int, size: Size
) -> tuple[type[Host], tuple[Any, ...], dict[str, Any]]:
    """Return the class of a host and what it is constructed with, as for `host_constructor`."""
    backbone = find_backbone(settings["backbone"])
    stem, width = settings.get("stem"), settings.get("width", 1.0)
    backbone.check_size(size, stem)
    cls = resolve_name(backbone.network)
    offered = {"stem": stem, "width": width, "size": size}
    offered |= {key: settings.get(key, False) for key in ("learn_gates", "joint_patches")}
    accepted = inspect.signature(cls).parameters
    arguments = {key: value for key, value in offered.items() if key in accepted}
    return cls, (backbone, in_channels, classes), arguments


def decoder_arguments(
    settings: Mapping[str, Any], classes: int, size: Size
) -> tuple[Made, Made] | None:
    """Return what makes a host's decoder and its auxiliary heads; None where it has none of ours.

    As for `host_constructor`.
    """
    backbone, decoder = find_backbone(settings["backbone"]), settings.get("decoder")
    if decoder is None or backbone.segments:
        return None
    stem, width = settings.get("stem"), settings.get("width", 1.0)
    maps = encoder_maps(backbone, stem, width, size)
    decoder_steps(decoder, maps)
    heads = check_heads(settings.get("aux_heads") or (), maps)
    return (decoder_class(decoder), (maps, classes)), (make_heads, (heads, maps, classes))
