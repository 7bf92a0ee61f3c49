"""Where the papers of blocks put them, as values of a space's decisions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attnsearch.blocks.build import Site, complete
from attnsearch.blocks.hosts import find_backbone
from attnsearch.blocks.naming import NONE
from attnsearch.spaces.file import DecisionError
from attnsearch.spaces.space.decisions import Decision
from attnsearch.spaces.space.space import Space

PUBLISHED = "published"
"""The word for these places among what `search.first` names."""


@dataclass(frozen=True)
class Placement:
    """Where a paper has its block in a ResNet.

    Attributes:
        words: The places, in words.
        holds: Whether a site, in a network of so many stages, is one of them.
    """

    words: str
    holds: Callable[[Site, int], bool]


def _in_branch(site: Site, stages: int) -> bool:
    return site.kind == "residual"


def _convolution(site: Site, stages: int) -> bool:
    return site.kind == "conv" and site.kernel == 3


_BRANCHES = Placement("after the last normalisation of every branch", _in_branch)
_CONVOLUTIONS = Placement("in place of every 3x3 convolution", _convolution)

# `coordinate` was published for MobileNets; for `simam` no one place in a ResNet is stated here.
PLACEMENTS = {
    "gc": Placement(
        "after the last normalisation of the branches of stages 2 to 4",
        lambda site, stages: site.kind == "residual" and (site.stage or 0) >= 2,
    ),
    "psa": _CONVOLUTIONS,
    "scconv": _CONVOLUTIONS,
    "ecrm": Placement(
        "after the last stage", lambda site, stages: site.kind == "stage" and site.stage == stages
    ),
    "se": _BRANCHES,
    "eca": _BRANCHES,
    "cbam": _BRANCHES,
    "axial": _CONVOLUTIONS,
    "nonlocal": Placement(
        "after every other block of stages 2 and 3",
        lambda site, stages: (
            site.kind == "block" and site.stage in (2, 3) and (site.block or 0) % 2 == 1
        ),
    ),
}


def published_values(space: Space) -> dict[str, dict[str, Any]]:
    """Return the values of a space's decisions that put each block where its paper has it.

    A group of sites gets the block where all its sites are such places, and stays empty
    otherwise. Hyperparameters are the block's own defaults, and everything else that of the
    space, where a decision allows no such value.

    Returns:
        Words, such as ``gc after ...``, to values; blocks without such a place are left out.
    """
    stages = len(find_backbone(space.document["network"]["backbone"]).planes)
    placed = {}
    for block, placement in PLACEMENTS.items():
        fitting = [
            group.name
            for group in space.groups
            if group.decision is not None
            and block in group.options
            and all(placement.holds(site, stages) for site in group.sites)
        ]
        chosen: list[str] = []
        for name in fitting:  # one after the other: two may want the same convolution
            if space.forbidden(_values(space, block, [*chosen, name])) is None:
                chosen.append(name)
        if chosen:
            placed[f"{block} {placement.words}"] = _values(space, block, chosen)
    return placed


def _values(space: Space, block: str, names: list[str]) -> dict[str, Any]:
    """Return the values under which some groups have a block, and the others nothing."""
    wanted: dict[str, Any] = {}
    for group in space.groups:
        if group.decision is not None and group.name in names:
            wanted[group.decision.name] = block
            own = complete(block, group.options[block].fixed)
            for key, decision in group.options[block].searched.items():
                wanted[decision.name] = own.get(key)
        elif group.decision is not None and group.allows_none:
            wanted[group.decision.name] = NONE

    def choose(decision: Decision) -> Any:
        try:
            return decision.check(wanted[decision.name])
        except (KeyError, DecisionError):
            return decision.default()

    return space.ask(choose)
