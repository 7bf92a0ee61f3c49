"""Attention maps: where in an image a block looks.

A block that pools or attends over positions may have a method `attention_map(x)`, from its input
(B, C, H, W) to a map (B, H, W) that is not negative and sums to 1 over each image. It computes
without gradients and changes nothing in the block. Of the blocks here it is

* `gc`: the weights of the positions in the context;
* `ecrm`: the region that its prototypes are the mean of;
* `axial`: how much attention a position receives, the mean over heads, queries and both axes.

Of hosts that are made of axial attention, the last block of each stage has its map likewise.
A user's own block takes part by having the method.
"""

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from attnsearch.blocks.evaluating import evaluating
from attnsearch.blocks.hosts import AxialBlock
from attnsearch.blocks.mechanisms import BLOCKS


def mapped_blocks(network: nn.Module) -> dict[str, nn.Module]:
    """Return what has an attention map in a network, by name and site, as `gc@layer4`.

    Blocks; of the host's own axial blocks the last of each stage.

    Two of one name at one site are told apart by their place: `gc@layer4`, `gc@layer4 (2)`.
    """
    names = {block: name for name, block in BLOCKS.items()} | {AxialBlock: "axial"}
    mapped: dict[str, nn.Module] = {}
    taken: list[str] = []
    for path, module in network.named_modules():
        inside = any(path.startswith(f"{above}.") for above in taken)
        if inside or not callable(getattr(module, "attention_map", None)):
            continue
        taken.append(path)
        if isinstance(module, AxialBlock) and not _is_last(network, path):
            continue
        site = f"{names.get(type(module), type(module).__name__)}@{_site(path)}"
        count = 1 + sum(name.partition(" (")[0] == site for name in mapped)
        mapped[site if count == 1 else f"{site} ({count})"] = module
    return mapped


def attention_maps(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return where each block with an attention map looks, in one forward pass in evaluation mode.

    Args:
        network: As `build_network` gives it; left as it was.
        x: Its input (B, C, H, W).

    Returns:
        Maps (B, h, w) by the blocks' names, in the order of `mapped_blocks`.
    """
    blocks = mapped_blocks(network)
    maps: dict[str, Tensor] = {}

    def look(site: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            maps[site] = block.attention_map(*inputs)  # type: ignore[operator]

        return hook

    hooks = [block.register_forward_pre_hook(look(site)) for site, block in blocks.items()]
    try:
        with evaluating(network), torch.no_grad():
            network(x)
    finally:
        for handle in hooks:
            handle.remove()
    return {site: maps[site] for site in blocks if site in maps}


def _is_last(network: nn.Module, path: str) -> bool:
    """Return whether a block is the last one of its stage."""
    stage, _, place = path.rpartition(".")
    return int(place) + 1 == len(list(network.get_submodule(stage).children()))


def _site(path: str) -> str:
    """Return the site of a block by its path in the network."""
    if not path.startswith("inserted."):
        return path
    return re.sub(r"(?<!after)_", ".", path.split(".")[1])
