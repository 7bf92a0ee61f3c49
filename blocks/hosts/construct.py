"""From the settings of a host network to what constructs it."""

from collections.abc import Callable, Mapping
from typing import Any

from attnsearch.blocks.errors import SiteError
from attnsearch.blocks.hosts.axial_resnet import AxialResNet
from attnsearch.blocks.hosts.backbones import Backbone, Size, find_backbone
from attnsearch.blocks.hosts.decoders import make_decoder, make_heads
from attnsearch.blocks.hosts.host import Host
from attnsearch.blocks.hosts.medt import AxialUNet, MedT
from attnsearch.blocks.hosts.pyramid import DECODERS, check_heads, decoder_steps, encoder_maps
from attnsearch.blocks.hosts.resnet import ResNet
from attnsearch.blocks.hosts.scnet import SCNet


def check_task(backbone: Backbone, task: str, decoder: str | None) -> None:
    """Refuse a network that is not built for the task.

    Args:
        backbone: The host.
        task: ``classification`` or ``segmentation``.
        decoder: Of the network; with one, a host for classification segments.

    Raises:
        SiteError: It is built for the other one.
    """
    if decoder is not None and (backbone.task == "segmentation" or task == "classification"):
        raise SiteError(
            f"network.decoder is {decoder!r}; "
            + (
                f"{backbone.name} has a decoder of its own"
                if backbone.task == "segmentation"
                else "a decoder needs task: segmentation"
            )
        )
    if task == backbone.task or decoder is not None:
        return
    if backbone.task == "segmentation":
        raise SiteError(
            f"{backbone.name} gives a mask for each image, so task must be segmentation, "
            f"not {task!r}"
        )
    raise SiteError(
        f"task is {task!r}; {backbone.name} is built for classification unless it gets a "
        f"network.decoder ({', '.join(DECODERS)}). Networks for segmentation are medt, logo, "
        "gated_axial_unet and axial_unet"
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
    backbone = find_backbone(settings["backbone"])
    stem, width = settings.get("stem"), settings.get("width", 1.0)
    backbone.check_size(size, stem)
    if backbone.task == "segmentation":
        given = (backbone, in_channels, classes, width, size, settings.get("learn_gates", False))
        if not backbone.patches:
            return lambda: AxialUNet(*given)
        return lambda: MedT(*given, settings.get("joint_patches", False))
    kinds = {"scnet": SCNet, "axial_resnet": AxialResNet}
    kind: type[ResNet] = kinds.get(backbone.family, ResNet)
    decoder = settings.get("decoder")
    if decoder is None:
        return lambda: kind(backbone, in_channels, classes, stem, width, size)
    maps = encoder_maps(backbone, stem, width, size)
    decoder_steps(decoder, maps)
    heads = check_heads(settings.get("aux_heads") or (), maps)

    def construct() -> Host:
        network = kind(backbone, in_channels, classes, stem, width, size)
        network.decode_with(make_decoder(decoder, maps, classes), make_heads(heads, maps, classes))
        return network

    return construct
