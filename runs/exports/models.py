"""Networks under names as timm has them, and the maps of their stages for other frameworks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from attnsearch.blocks.build import block_names, build_network, network_sites
from attnsearch.blocks.hosts import BACKBONES
from attnsearch.blocks.naming import insertions
from attnsearch.blocks.spelling import did_you_mean
from attnsearch.runs.exports.export import load_export
from attnsearch.runs.exports.weights import ExportError


class Features(nn.Module):
    """The maps after the stages of a ResNet, for a neck such as a feature pyramid.

    Args:
        network: From `load_export`, `create_model` or `build_network`, with stages; what it has
            behind them is not run.
        out_indices: Which stages, from 0; None for all.

    Attributes:
        feature_info: For each map, as in timm: `num_chs`, `reduction` (its stride) and `module`.

    Raises:
        ExportError: The network has no stages, or no such ones.
    """

    def __init__(self, network: nn.Module, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        stages: list[str] = getattr(network, "stages", [])
        indices = range(len(stages)) if out_indices is None else out_indices
        if not stages or any(not 0 <= index < len(stages) for index in indices):
            raise ExportError(
                f"out_indices={list(indices)}: the network has {len(stages) or 'no'} stages that "
                f"give maps, counted from 0"
            )
        host: Any = network
        self.network = network
        self.out_indices = tuple(indices)
        size = host.input_shape[1:]
        sites = {site.name: site for site in network_sites(host.config["network"], size)}
        self.feature_info = [
            {
                "num_chs": sites[stages[index]].channels,
                "reduction": round(max(size) / max(sites[stages[index]].size)),
                "module": stages[index],
            }
            for index in self.out_indices
        ]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return images (B, C, H, W), normalised, as maps (B, num_chs, h, w), largest first."""
        host: Any = self.network
        _, maps = host.encode(images)
        return [maps[index] for index in self.out_indices]


def create_model(
    name: str,
    pretrained: str | Path | None = None,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    image_size: int | Sequence[int] = 224,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    **network: Any,
) -> nn.Module:
    """Return a network by a name such as `resnet20_gc_layer3_psa_layer2.*.conv2`.

    A backbone, and after it each block before the site, or the pattern of sites, where it stands.

    Args:
        name: With blocks at their default hyperparameters; with `pretrained` at the export's.
        pretrained: An export, whose weights and config count; None for new weights.
        num_classes: Outputs, 1000 by default; those of the export.
        in_chans: Channels of the images, 3 by default; those of the export.
        image_size: Pixels of their sides, without `pretrained`.
        features_only: Return `Features` of it.
        out_indices: Which stages those give.
        network: Further keys of a space file's `network`, as `width`, without `pretrained`.

    Raises:
        ExportError: The name cannot be read, or the export is of another network.
        AttnsearchError: As `build_network` and `load_export`.
    """
    backbone, insert = _read_name(name)
    if pretrained is None:
        settings = {"stem": None, "width": 1.0, "weights": None, **network, "backbone": backbone}
        task = BACKBONES[backbone].task
        task = "segmentation" if settings.get("decoder") else task
        config = {"name": name, "task": task, "network": settings, "insert": insert}
        net: Any = build_network(config, in_chans or 3, num_classes or 1000, image_size)
    else:
        if network:
            raise ExportError(f"{', '.join(network)}: the export says that; leave it out")
        net = load_export(pretrained)
        given = num_classes or len(net.class_names), in_chans or net.interface.channels
        own = (len(net.class_names), net.interface.channels)
        if model_name(net.config) != name or given != own:
            raise ExportError(
                f"{pretrained} is {model_name(net.config)} with num_classes={own[0]} and "
                f"in_chans={own[1]}, not {name} with {given[0]} and {given[1]}"
            )
    return Features(net, out_indices) if features_only else net


def model_name(config: Mapping[str, Any]) -> str:
    """Return the name under which `create_model` knows the network of a config."""
    blocks = [f"{entry['block']}_{entry['at']}" for entry in insertions(config)]
    return "_".join([config["network"]["backbone"], *blocks])


def _read_name(name: str) -> tuple[str, list[dict[str, Any]]]:
    """Return the backbone and the `insert` that a name says."""
    heads = [known for known in BACKBONES if name == known or name.startswith(f"{known}_")]
    if not heads:
        hint = did_you_mean(name, BACKBONES)
        own = "; a network of your own has no such name: use build_network, or load_export"
        hint = hint or (own if ":" in name else "; see `attnsearch sites`")
        raise ExportError(f"{name!r} begins with no backbone{hint}")
    backbone = max(heads, key=len)
    blocks, entries = block_names(), []
    for word in name[len(backbone) + 1 :].split("_") if name != backbone else ():
        if word in blocks or ":" in word:
            entries.append([word, ""])
        elif entries:
            entries[-1][1] += ("_" if entries[-1][1] else "") + word
        else:
            hint = did_you_mean(word, blocks)
            raise ExportError(f"{name!r}: {word!r} is no block{hint}; write BACKBONE_BLOCK_SITE")
    if bare := [block for block, site in entries if not site]:
        raise ExportError(f"{name!r} does not say where {bare[0]} stands; write {bare[0]}_layer2")
    return backbone, [
        {"at": site, "name": f"{site}-{number}", "block": block}
        for number, (block, site) in enumerate(entries)
    ]
