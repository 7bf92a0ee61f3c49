"""From a resolved config to a network."""

import copy
import inspect
import itertools
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from attnsearch.blocks import meta_device
from attnsearch.blocks.build.architecture import Insertion, complete, expand
from attnsearch.blocks.build.catalog import SUPPLIED, can_replace, find_block
from attnsearch.blocks.build.chain import Chain, starts_as_identity
from attnsearch.blocks.build.initialise import isolated_rng, seeded
from attnsearch.blocks.build.sites import Site, match, network_sites
from attnsearch.blocks.errors import AttnsearchError, BlockError, SiteError
from attnsearch.blocks.hosts import (
    Baseline,
    Host,
    as_size,
    check_task,
    find_backbone,
    host_constructor,
    load_weights,
    weights_file,
)
from attnsearch.blocks.lean_torch import on_device, torch_threads

# Weight of a block's side loss where train.aux_weight does not name it.
DEFAULT_AUX_WEIGHT = 0.4

# Maps up to which a block is tried out with numbers: milliseconds, and 10 MB of attention at most.
SMALL_CHANNELS, SMALL_PIXELS, SMALL_NUMBERS = 256, 1024, 4_000_000


def build_network(
    config: Mapping[str, Any],
    in_channels: int = 3,
    classes: int = 10,
    image_size: int | Sequence[int] = 32,
    *,
    seed: int = 0,
) -> Host:
    """Build the network of a resolved config, on the CPU.

    Every tensor is initialised from the seed and its state-dict name (`initialise.seeded`), and
    the global random generators are left as they were. ``network.weights`` are loaded by name: a
    block gets what the file has for it, and otherwise starts as without a file.

    Args:
        config: Needs ``network`` and ``insert``.
        in_channels: Channels of an image.
        classes: Outputs.
        image_size: Height and width of an image in pixels, or one number for both.
        seed: Of the initial weights.

    Returns:
        The network, with its ``config``, ``input_shape`` and ``weights_report``.

    Raises:
        SiteError: A site does not exist, a block cannot stand there, or the network cannot take
            images of this size or be built for the config's task.
        BlockError: A block cannot be built with its hyperparameters.
        WeightsError: The weights file cannot be read or does not fit.
    """
    settings = config["network"]
    size = as_size(image_size)
    backbone = find_backbone(settings["backbone"])
    check_task(backbone, config.get("task", "classification"), settings.get("decoder"))
    network = seeded(
        host_constructor(settings, in_channels, classes, size), seed, trace_device="meta"
    )
    network.config = copy.deepcopy(dict(config))
    network.input_shape = (in_channels, *size)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    places = {site.name: site for site in network_sites(settings, size, in_channels)}
    inserted: list[str] = []
    for insertion in expand(config, size):
        inserted += _insert(network, places[insertion.site], insertion, classes, seed)
    weights, rename = weights_file(settings.get("weights"))
    if weights is not None:
        baseline = Baseline(shapes, inserted)
        network.weights_report = load_weights(network, weights, rename, baseline)
    return network


def build_plain(
    config: Mapping[str, Any],
    in_channels: int = 3,
    classes: int = 10,
    image_size: int | Sequence[int] = 32,
    *,
    seed: int = 0,
) -> Host:
    """Build the baseline of a config, with nothing inserted; otherwise as `build_network`."""
    baseline = {**config, "insert": []}
    return build_network(baseline, in_channels, classes, image_size, seed=seed)


def check_fit(
    config: Mapping[str, Any],
    site: str,
    block: str,
    params: Mapping[str, Any] | None = None,
    image_size: int | Sequence[int] = 32,
    batch: int = 2,
) -> None:
    """Check that a block can stand at a site, by building and running it as in training.

    Args:
        config: Its ``network`` says which network.
        site: A site or a pattern; the block is tried at every site that it names.
        block: Its name.
        params: Hyperparameters; the constructor's defaults stand for the others.
        image_size: Height and width of an image in pixels, or one number for both.
        batch: Images in a training step.

    Raises:
        SiteError: The site does not exist, or the block cannot stand there.
        BlockError: The block cannot be built with its hyperparameters for this site.

    Warns:
        UserWarning: What the block warns of for this site.
    """
    network = config["network"]
    places = network_sites(network, image_size)
    completed = complete(block, params or {})
    for place in match(site, places):
        for message in _try(block, completed, place, batch).warnings:
            warnings.warn(message, stacklevel=2)


def _insert(network: Host, site: Site, insertion: Insertion, classes: int, seed: int) -> list[str]:
    """Put one block in its place, with an auxiliary head where it has a side loss.

    Returns:
        The module paths of what is new.
    """
    prototype = _try(insertion.block, insertion.params, site).prototype
    key = site.name.replace(".", "_")
    chain = network.inserted[key] if key in network.inserted else Chain()
    assert isinstance(chain, Chain)
    index = len(chain)
    path = site.name if site.replaces else f"inserted.{key}.{index}"
    construct = _constructor(find_block(insertion.block), insertion.params, site)
    block = seeded(construct, seed, f"{path}.")
    if site.replaces:
        network.replace(site.name, block)
    else:
        chain.add(block, site.channels if has_gate(insertion, site) else None)
        network.inserted[key] = chain
        if not index:
            network.follow(site.name)
    if prototype is not None:
        network.side_paths.append((site.name, index, path))
    if prototype is not None and not network.segments:
        heads = network.auxiliary[key] if key in network.auxiliary else nn.ModuleDict()
        head = seeded(lambda: nn.Linear(prototype, classes), seed, f"auxiliary.{key}.{index}.")
        heads.add_module(str(index), head)
        network.auxiliary[key] = heads
    return [path, f"inserted.{key}.gate_{index}", f"auxiliary.{key}.{index}"]


def has_gate(insertion: Insertion, site: Site) -> bool:
    """Return whether a block stands behind a gate that starts at 0; see `blocks.chain`.

    Args:
        insertion: The block, and whether it is to be safe for pretrained hosts.
        site: Where it stands.
    """
    if not insertion.pretrained_safe or site.replaces:
        return False
    cls: Any = find_block(insertion.block)
    return not _is_identity(cls, *_fit_key(insertion.params, site))


def _fit_key(params: Mapping[str, Any], site: Site) -> tuple[str, Site]:
    """Return hyperparameters and site as a cache's key: equal for sites of equal shapes."""
    return json.dumps(params, sort_keys=True), replace(site, name="", stage=None, block=None)


@lru_cache(maxsize=4096)
def _is_identity(cls: type[nn.Module], params: str, site: Site) -> bool:
    with isolated_rng():
        block = _constructor(cls, json.loads(params), site)()
    return starts_as_identity(block, site.channels, site.size)


def block_arguments(
    block: type[nn.Module], params: Mapping[str, Any], site: Site
) -> dict[str, Any]:
    """Return what a block is constructed with at a site beside the input channels.

    Args:
        block: Its class.
        params: Its hyperparameters.
        site: What the class asks to be told of the site is told.
    """
    accepted = inspect.signature(block).parameters
    supplied = {name: getattr(site, name) for name in accepted.keys() & SUPPLIED}
    return {**supplied, **{name: _tupled(value) for name, value in params.items()}}


def _constructor(
    block: type[nn.Module], params: Mapping[str, Any], site: Site
) -> Callable[[], nn.Module]:
    """Return what constructs a block for a site: its hyperparameters, and what the site says."""
    arguments = block_arguments(block, params, site)

    def construct() -> nn.Module:
        built = block(site.channels, **arguments)
        # Some blocks start otherwise in place of a convolution than by themselves.
        if site.replaces and hasattr(built, "start_as_convolution"):
            built.start_as_convolution()  # type: ignore[operator]
        return built

    return construct


def _tupled(value: Any) -> Any:
    """Return tuples for the lists of a config, as the constructors' defaults are written."""
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value


class _Fit(NamedTuple):
    """What trying a block showed.

    Attributes:
        prototype: Length of a flattened prototype of its side outputs; None without a side loss.
        warnings: What it warned of.
    """

    prototype: int | None
    warnings: tuple[str, ...]


def _try(block: str, params: Mapping[str, Any], site: Site, batch: int = 2) -> _Fit:
    """Raise unless the block can stand at the site."""
    cls: Any = find_block(block)
    if site.replaces and not site.keeps_shape and not can_replace(cls):
        raise SiteError(
            f"block {block} cannot stand at {site}: it takes no out_channels and stride, so it "
            "replaces only a convolution that keeps its map's shape. Add it at "
            f"{site.beside}, or replace another convolution"
        )
    try:
        return _dry_run(cls, *_fit_key(params, site), batch)
    except AttnsearchError as error:
        kind = SiteError if isinstance(error, SiteError) else BlockError
        raise kind(f"block {block} cannot stand at {site}: {error}") from error


@lru_cache(maxsize=4096)
def _dry_run(cls: type[nn.Module], params: str, site: Site, batch: int) -> _Fit:
    """Build a block and run it as in training, on the meta device where it can run there."""
    construct = _constructor(cls, json.loads(params), site)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        block, y = _forward(construct, (batch, site.channels, *site.size))
    wanted = (batch, site.out_channels, *site.out_size)
    if shape_or_type(y) != wanted:
        raise SiteError(
            f"for {batch} images it must give a tensor of shape {wanted}, not {shape_or_type(y)}"
        )
    messages = tuple(dict.fromkeys(str(warning.message) for warning in caught))
    return _Fit(_prototype(block), messages)


def _prototype(block: nn.Module) -> int | None:
    """Return length of a flattened prototype in the side outputs, if it has a side loss.

    Raises:
        BlockError: The block has a side loss and no prototype for it.
    """
    if getattr(block, "side_loss", None) is None:
        return None
    prototype = getattr(block, "side", {}).get("prototype")
    if not isinstance(prototype, Tensor):
        raise BlockError(
            "it has a side_loss, so its forward in training must set side['prototype'], a tensor "
            "(B, ...), from which an auxiliary head names the class"
        )
    return prototype[0].numel()


def _forward(construct: Callable[[], nn.Module], shape: Sequence[int]) -> tuple[nn.Module, Any]:
    """Return a block and what it makes of a batch of this shape, in training mode.

    On the meta device nothing is computed, but torch loads for two seconds what it needs there;
    so small batches are computed, by one thread: waking more takes longer. Each device cannot run
    something that the other can, so any error but our own is believed only when both have one;
    then it is the CPU's.
    """
    small = shape[1] <= SMALL_CHANNELS and math.prod(shape[2:]) <= SMALL_PIXELS
    errors: dict[str, Exception] = {}
    for device in ("cpu", "meta") if small else ("meta", "cpu"):
        try:
            if device == "meta":
                meta_device.load()
            with isolated_rng(), torch_threads(1), torch.no_grad(), on_device(device):
                block = construct()
                if any(is_lazy(parameter) for parameter in block.parameters()):
                    raise BlockError("lazy layers have no shape yet; give the input channels")
                tensors = itertools.chain(block.parameters(), block.buffers())
                tried = device == "cpu" and small and not errors
                if tried and sum(map(Tensor.numel, tensors)) > SMALL_NUMBERS:
                    errors[device] = MemoryError("too large to be tried with numbers")
                    continue
                # A constructor may have made constants on the CPU in so many words.
                block = block.to(device).train()
                return block, block(torch.zeros(*shape))
        except AttnsearchError:
            raise
        except Exception as error:
            errors[device] = error
    cause = errors["cpu"]
    raise BlockError(f"{type(cause).__name__}: {cause}") from cause


def shape_or_type(output: Any) -> tuple[int, ...] | str:
    """Return the shape of what a block gives, as messages print it; the type of no tensor."""
    return tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__


def side_outputs(network: nn.Module) -> list[tuple[str, int, nn.Module]]:
    """Return the blocks that have a side loss: their site, their index there, and the block.

    In training mode such a block leaves in ``block.side`` what its loss needs, anew in every
    forward pass; in evaluation mode ``block.side`` is empty.
    """
    paths: list[tuple[str, int, str]] = getattr(network, "side_paths", [])
    return [(site, index, network.get_submodule(path)) for site, index, path in paths]


@dataclass(frozen=True)
class Images:
    """What a network is built for.

    Attributes:
        channels: Of an image.
        size: Height and width in pixels.
        classes: Outputs.
    """

    channels: int
    size: tuple[int, int]
    classes: int
