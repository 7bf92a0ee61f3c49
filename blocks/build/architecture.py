"""What is inserted where, as one plain dict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from attnsearch.blocks.build.catalog import find_block, hyperparameters
from attnsearch.blocks.build.sites import config_sites, match, network_sites
from attnsearch.blocks.errors import BlockError, SiteError
from attnsearch.blocks.hosts import find_backbone, find_stem
from attnsearch.blocks.naming import insertions
from attnsearch.blocks.spelling import nearest

# A default of another type, such as a layer's class, cannot stand in a config and stays implicit.
_PLAIN = (bool, int, float, str, list, tuple, dict, type(None))


@dataclass(frozen=True)
class Insertion:
    """One block at one site.

    Attributes:
        site: A concrete site, such as ``layer2.0.conv2``.
        block: Its name, as `attnsearch.blocks.build.catalog.find_block` takes it.
        params: All its hyperparameters, defaults included, as JSON knows them.
        pretrained_safe: Whether it starts as the identity; only where it is added.
    """

    site: str
    block: str
    params: Mapping[str, Any]
    pretrained_safe: bool = False


def expand(
    config: Mapping[str, Any], image_size: int | Sequence[int] | None = None
) -> list[Insertion]:
    """Return the insertions of a resolved config: its patterns made concrete, ``none`` dropped.

    They stand in network order; those at one site in the order of their entries.

    Args:
        config: Needs ``network`` and ``insert``.
        image_size: Of the images, where a network of the user's own takes no others than those
            that the config names.

    Raises:
        SiteError: A pattern fits no site, or two blocks replace one convolution.
        BlockError: A block does not exist, or has no such hyperparameter.
    """
    network = config["network"]
    places = network_sites(network, image_size) if image_size else config_sites(config)
    at: dict[str, list[Insertion]] = {site.name: [] for site in places}
    for entry in insertions(config):
        block = entry["block"]
        params = complete(block, entry.get("params", {}).get(block, {}))
        for site in match(entry["at"], places):
            if site.replaces and at[site.name]:
                raise SiteError(
                    f"{site.name} is replaced twice, by {at[site.name][0].block} and by {block} "
                    f"(insert entry {entry['at']!r}); one convolution can be replaced once. "
                    "Make one of the two none, or add it at after_conv or residual"
                )
            safe = bool(entry.get("pretrained_safe")) and not site.replaces
            at[site.name].append(Insertion(site.name, block, params, safe))
    return [insertion for site in places for insertion in at[site.name]]


def complete(block: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return all hyperparameters of a block: the given ones, or their defaults.

    Raises:
        BlockError: The block does not exist, has no such hyperparameter, or lacks one that has
            no default.
    """
    parameters = hyperparameters(find_block(block))
    for name in params:
        if name not in parameters:
            raise BlockError(
                f"block {block} has no hyperparameter {name!r}"
                f"{nearest(name, parameters, 1, 0.6)}; it has {', '.join(parameters) or 'none'}"
            )
    completed = {}
    for name, parameter in parameters.items():
        if name in params:
            completed[name] = _plain(params[name])
        elif parameter.default is Parameter.empty:
            raise BlockError(f"block {block} needs a value for its hyperparameter {name!r}")
        elif isinstance(parameter.default, _PLAIN):
            completed[name] = _plain(parameter.default)
    return completed


def _plain(value: Any) -> Any:
    """Return the value as JSON would give it back: lists for tuples."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


def canonical_architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return network of a config in canonical form: equal for configs that build the same network.

    Returns:
        ``{"backbone", "stem", "width", "insert": [{"site", "block", "params"}, ...]}``, plain
        values throughout; an insertion has ``pretrained_safe`` too where that is so, and the
        whole ``learn_gates`` where the host's gates are trained and ``joint_patches`` where its
        patches are normalised together.

    Raises:
        SiteError: As `expand`.
        BlockError: As `expand`.
    """
    network = config["network"]
    backbone = find_backbone(network["backbone"])
    factors = backbone.multipliers(network.get("width", 1.0))
    return {
        "backbone": backbone.name,
        "stem": find_stem(backbone, network.get("stem")),
        "width": list(factors) if len(set(factors)) > 1 else factors[0],
        **({"learn_gates": True} if backbone.gated and network.get("learn_gates") else {}),
        **({"joint_patches": True} if backbone.patches and network.get("joint_patches") else {}),
        "insert": [
            {"site": insertion.site, "block": insertion.block, "params": dict(insertion.params)}
            | ({"pretrained_safe": True} if insertion.pretrained_safe else {})
            for insertion in expand(config)
        ],
    }
