"""Whether blocks can stand where a space file puts them.

Each block is built and run on the meta device for every different shape of site, every fixed
hyperparameter and every combination of searched ones. A block, or a member of a choice, that can
stand nowhere is a problem of the file; a combination that cannot is infeasible, which `check`
lists and `Space.forbidden` tells the sampler.
"""

import itertools
import math
import random
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from attnsearch.blocks.build import Site, backbone_sites, check_fit
from attnsearch.blocks.errors import AttnsearchError
from attnsearch.blocks.hosts import Size
from attnsearch.blocks.naming import NONE
from attnsearch.spaces.file import KeyPath, Problems
from attnsearch.spaces.keys import label
from attnsearch.spaces.space.decisions import Decision
from attnsearch.spaces.space.insertions import Group, Option

#: Values tried of one searched hyperparameter, combinations of them, and blocks built in all.
_MAX_VALUES = 16
_MAX_COMBINATIONS = 256
_MAX_BUILT = 1500


@dataclass(frozen=True)
class HostChoice:
    """The network that blocks are inserted into, and how it is trained.

    Attributes:
        backbone: Its name.
        stem: Its stem.
        width: Its width multiplier, or one for each stage.
        image_size: (H, W) of the images in pixels.
        batch: Images in a training step: 1, or 2 for any number above.
        decoder: For segmentation.
    """

    backbone: str
    stem: str | None
    width: float | str | tuple[float, ...]
    image_size: Size
    batch: int = 2
    decoder: str | None = None

    def sites(self) -> list[Site]:
        """Return its sites."""
        return backbone_sites(self.backbone, self.stem, self.width, self.image_size, self.decoder)


@dataclass(frozen=True)
class Infeasible:
    """A combination that cannot be built.

    Attributes:
        group: Name of the group of sites.
        block: The block.
        values: Decision values of the block's hyperparameters; empty where no value helps.
        host: Decision values of the network; empty where they do not matter.
        site: The first site where it cannot stand.
        reason: Why.
    """

    group: str
    block: str
    values: Mapping[str, Any]
    host: Mapping[str, Any]
    site: str
    reason: str

    def __str__(self) -> str:
        settings = {**self.host, **self.values}
        under = "".join(f", {name} = {label(value)}" for name, value in settings.items())
        return f"{self.block} at {self.group}{under}: {self.reason}"


class Fits:
    """Remembers what fits where; two sites of one shape are one question."""

    def __init__(self) -> None:
        self.warnings: dict[str, None] = {}
        self._answers: dict[tuple[Any, ...], str | None] = {}

    @property
    def built(self) -> int:
        """How many questions were answered by building a block."""
        return len(self._answers)

    def fault(
        self, host: HostChoice, group: Group, block: str, params: Mapping[str, Any]
    ) -> tuple[str, str] | None:
        """Return the first site of a group where a block cannot stand, and why; None if all fit.

        Args:
            host: The network.
            group: The sites.
            block: Name of a block, or `none`.
            params: Its hyperparameters, without defaults.
        """
        if block == NONE:
            return None
        return next(iter(self._faults(host, group.sites, block, params)), None)

    def standing(
        self, host: HostChoice, group: Group, block: str, params: Mapping[str, Any]
    ) -> list[str]:
        """Return the sites of a group where a block can stand."""
        faulty = {site for site, _ in self._faults(host, group.sites, block, params)}
        return [site.name for site in group.sites if site.name not in faulty]

    def _faults(
        self, host: HostChoice, group_sites: Sequence[Site], block: str, params: Mapping[str, Any]
    ) -> Iterable[tuple[str, str]]:
        places = _places(host)
        written = label(dict(params))
        for named in group_sites:
            site = places[named.name]
            shape = (site.kind == "conv", site.channels, site.size, site.out_channels)
            key = (block, written, *shape, site.out_size, site.stride, site.kernel, host.batch)
            if key not in self._answers:
                self._answers[key] = self._try(host, site, block, params)
            fault = self._answers[key]
            if fault is not None:
                yield site.name, fault

    def _try(
        self, host: HostChoice, site: Site, block: str, params: Mapping[str, Any]
    ) -> str | None:
        keys = ("backbone", "stem", "width", "decoder")
        config = {"network": {key: getattr(host, key) for key in keys}}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                check_fit(config, site.name, block, params, host.image_size, host.batch)
            except AttnsearchError as error:
                return str(error)
            except Exception as error:  # a user's block may raise anything
                return f"{block} at {site.name}: {type(error).__name__}: {error}"
        for warning in caught:
            self.warnings[f"{block} at {site.name}: {warning.message}"] = None
        return None


@lru_cache(maxsize=32)
def _places(host: HostChoice) -> dict[str, Site]:
    return {site.name: site for site in host.sites()}


@dataclass
class Survey:
    """Tries everything that a file may insert, and records what cannot stand.

    Attributes:
        fits: What is known of what fits.
        hosts: The networks, each with the decisions that give it.
        problems: Where mistakes are recorded.
        infeasible: Combinations that cannot be built.
        useless: The members of choices that can stand nowhere, and why.
    """

    fits: Fits
    hosts: Sequence[tuple[Mapping[str, Any], HostChoice]]
    problems: Problems
    infeasible: list[Infeasible] = field(default_factory=list)
    useless: dict[KeyPath, str] = field(default_factory=dict)

    def run(self, groups: Sequence[Group]) -> None:
        """Survey the groups of a file."""
        tried: dict[KeyPath, list[str]] = defaultdict(list)
        for _, entry in itertools.groupby(groups, key=lambda group: group.path):
            self._entry(list(entry), tried)
        for path, faults in tried.items():
            if all(faults):
                self._useless(path, faults[0])
                self.problems.add(path, f"can stand nowhere: {faults[0]}")

    def _entry(self, groups: list[Group], tried: dict[KeyPath, list[str]]) -> None:
        """Survey an entry, and add what became of its values, "" where one stands, to `tried`."""
        options: dict[str, Option] = {}
        standing: set[str] = set()
        first_faults: dict[str, str] = {}
        outcomes: list[tuple[str, KeyPath, str]] = []
        empty: list[Group] = []
        for group in groups:
            options |= group.options
            alive = {
                block
                for block, option in group.options.items()
                if self._option(group, option, first_faults, outcomes)
            }
            standing |= alive
            empty += [] if alive else [group]
        for block, option in options.items():
            if block not in standing:
                fault = first_faults[block]
                self._useless(option.path, fault)
                self.problems.add(_blamed(option, fault), fault + self._advice(groups, option))
        for group in empty:
            block = next(iter(group.options))
            if block in standing:
                self.problems.add(
                    (*group.path, "block"),
                    f"nothing that may stand at {group.name} can: {first_faults[block]}; "
                    "add none to the choice, or narrow the pattern",
                )
        for block, path, fault in outcomes:
            if block in standing:
                tried[path].append(fault)

    def _option(
        self,
        group: Group,
        option: Option,
        first_faults: dict[str, str],
        outcomes: list[tuple[str, KeyPath, str]],
    ) -> bool:
        """Try one block in one group with all its hyperparameters; whether any of them fits."""
        combinations, complete = _combinations(option)
        infeasible: list[Infeasible] = []
        stands = False
        for chosen, host in self.hosts:
            faulty: list[Infeasible] = []
            for values in combinations:
                if self.fits.built > _MAX_BUILT:
                    return True
                fault = self.fits.fault(host, group, option.block, option.params(values))
                if fault:
                    first_faults.setdefault(option.block, fault[1])
                    faulty.append(Infeasible(group.name, option.block, values, chosen, *fault))
                if complete:
                    reason = fault[1] if fault else ""
                    outcomes += [(option.block, path, reason) for path in _members(option, values)]
            if len(faulty) == len(combinations):
                faulty = [replace(faulty[0], values={})]  # whatever the values
            else:
                stands = True
            infeasible += faulty
        if not complete and not stands:
            return True  # what was not tried may fit
        if stands or len(group.options) > 1:
            self.infeasible += infeasible
        return stands

    def _useless(self, path: KeyPath, fault: str) -> None:
        if "choice" in path[-2:-1]:
            self.useless[path] = fault

    def _advice(self, groups: list[Group], option: Option) -> str:
        """Say where a block could stand of the sites that `together` gives it."""
        combinations, _ = _combinations(option)
        for group in groups:
            for values in combinations[:_MAX_VALUES]:
                good = self.fits.standing(
                    self.hosts[0][1], group, option.block, option.params(values)
                )
                if good:
                    return (
                        f"; it can stand at {', '.join(good[:4])}"
                        f"{', ...' if len(good) > 4 else ''}, but one choice puts it at all "
                        f"of {group.at}: narrow the pattern, or write decide: stage or each with "
                        "none in the choice"
                    )
        return ""


def _members(option: Option, values: Mapping[str, Any]) -> Iterator[KeyPath]:
    """Yield the places in the file of the values that were tried."""
    searched = [*option.searched.items(), *([("", option.joint)] if option.joint else [])]
    for key, choice in searched:
        path = option.places[key]
        if choice.kind == "choice":
            index = [label(member) for member in choice.choices].index(label(values[choice.name]))
            path = (*path, "choice", index)
        yield path


def _blamed(option: Option, fault: str) -> KeyPath:
    """Return the place of the hyperparameter that a fault names, else that of the block."""
    for key, path in option.places.items():
        if key and re.search(rf"\b{re.escape(key)}\b", fault):
            return path
    return option.path


def _combinations(option: Option) -> tuple[list[dict[str, Any]], bool]:
    """Return values of a block's decisions to try, and whether these are all there are."""
    axes = [[(choice.name, value) for value in _values(choice)] for choice in option.decisions]
    if math.prod(map(len, axes)) <= _MAX_COMBINATIONS:
        return [dict(combination) for combination in itertools.product(*axes)], True
    draw = random.Random(0)
    return [dict(draw.choice(axis) for axis in axes) for _ in range(_MAX_COMBINATIONS)], False


def _values(choice: Decision) -> list[Any]:
    """Return values of one decision to try: the ends and the default of a long range."""
    if choice.kind == "choice":
        return list(choice.choices)
    if choice.count is not None and choice.count <= _MAX_VALUES:
        return list(choice.values())
    return [choice.low, choice.default(), choice.high]
