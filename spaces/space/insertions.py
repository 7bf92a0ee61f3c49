"""The entries of `insert`: which sites they name, how their decisions are called."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attnsearch.blocks.build import Site, hyperparameters, match
from attnsearch.blocks.naming import NONE
from attnsearch.spaces.file import KeyPath, Problems
from attnsearch.spaces.keys import NAME_MOST, Entry, SpaceFile, shown
from attnsearch.spaces.space.decisions import (
    NAME_CHARACTERS,
    Decision,
    block_decision,
    decision,
    is_spec,
    parameter_decision,
)
from attnsearch.spaces.space.parameters import Blocks, BlockSettings, read_settings

_MAX_STARS = 6


@dataclass(frozen=True)
class Option:
    """A block that a group can have, with its hyperparameters.

    Attributes:
        block: Its name, or `none`.
        fixed: Plain values by hyperparameter.
        searched: Decisions by hyperparameter.
        joint: A decision between whole sets of hyperparameters.
        path: Where the block is named.
        places: Where its hyperparameters stand, by name.
    """

    block: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    searched: Mapping[str, Decision] = field(default_factory=dict)
    joint: Decision | None = None
    path: KeyPath = ()
    places: Mapping[str, KeyPath] = field(default_factory=dict)

    @property
    def decisions(self) -> list[Decision]:
        """The decisions that matter where this block is chosen."""
        return [*self.searched.values(), *([self.joint] if self.joint else [])]

    def params(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the hyperparameters under values of the decisions, without defaults."""
        chosen = {key: values[choice.name] for key, choice in self.searched.items()}
        return {**self.fixed, **chosen, **(values[self.joint.name] if self.joint else {})}


@dataclass(frozen=True)
class Group:
    """Sites that get one block, decided once.

    Attributes:
        name: What its decisions' names begin with.
        at: The pattern of just these sites.
        sites: The sites.
        decision: Which block, where that is decided.
        options: The blocks by name; one where the block is fixed.
        path: Of the entry in the file.
        pretrained_safe: Whether added blocks start as the identity.
    """

    name: str
    at: str
    sites: tuple[Site, ...]
    decision: Decision | None
    options: Mapping[str, Option]
    path: KeyPath
    pretrained_safe: bool = False

    @property
    def allows_none(self) -> bool:
        """Whether the group can stay empty."""
        return NONE in self.options

    def option(self, values: Mapping[str, Any]) -> Option:
        """Return the block that values of the decisions choose."""
        if self.decision is None:
            return next(iter(self.options.values()))
        return self.options[values[self.decision.name]]

    @property
    def decisions(self) -> list[Decision]:
        """The group's decisions, the block's first."""
        inner = [choice for option in self.options.values() for choice in option.decisions]
        return [*([self.decision] if self.decision else []), *inner]


def read_groups(
    file: SpaceFile, sites: list[Site] | None, blocks: Blocks, problems: Problems
) -> list[Group]:
    """Read the entries of a file.

    Args:
        file: The file, checked against the model.
        sites: All sites of the host; None where the host is wrong, so that no site can be found.
        blocks: Looks blocks up.
        problems: Where mistakes are recorded.
    """
    general = _general_settings(file, blocks, problems)
    groups: list[Group] = []
    taken: dict[str, str] = {}
    for index, entry in enumerate(file.insert):
        path: KeyPath = ("insert", index)
        if problems.wrong(path):
            continue  # something else stands in for it
        options = _options(entry, path, general, blocks, problems)
        if sites is None or not options:
            continue
        parts = list(_partition(entry, _match(entry, path, sites, problems)))
        for name, at, members in parts:
            if entry.name and len(name) > NAME_MOST:
                problems.add(
                    (*path, "name"),
                    f"with its places it becomes {len(name)} characters long ({shown(name)}), at "
                    f"most {NAME_MOST}; shorten it",
                )
            if name in taken:
                problems.add(
                    path,
                    f"its decisions would be called {name!r}, like those of {taken[name]}; "
                    "give one of the entries a `name:`",
                )
                break
            groups.append(_group(entry, path, name, at, members, options))
        taken |= {name: f"the entry at {problems.place(path)}" for name, _, _ in parts}
    return groups


def _general_settings(
    file: SpaceFile, blocks: Blocks, problems: Problems
) -> dict[str, BlockSettings]:
    """Read the `blocks` section."""
    general = {}
    for name, raw in file.blocks.items():
        path: KeyPath = ("blocks", name)
        if name == NONE:
            message = "none is no block and has no hyperparameters; remove it"
            problems.add(path, message, at_key=True)
        elif cls := blocks.find(name, path):
            general[name] = read_settings(name, cls, raw, path, problems)
    return general


def _options(
    entry: Entry,
    path: KeyPath,
    general: Mapping[str, BlockSettings],
    blocks: Blocks,
    problems: Problems,
) -> list[tuple[str, KeyPath, BlockSettings]]:
    """Read which blocks an entry can have, each with its place and hyperparameters."""
    where: KeyPath = (*path, "block")
    members: list[tuple[str, KeyPath]] = [(str(entry.block), where)]
    if is_spec(entry.block):
        choice = entry.block.choice  # type: ignore[union-attr]
        members = [(name, (*where, "choice", index)) for index, name in enumerate(choice)]
    own = {}
    for name, raw in entry.params.items():
        place = (*path, "params", name)
        if name != NONE and (cls := blocks.find(name, place)):
            own[name] = read_settings(name, cls, raw, place, problems)
    options: list[tuple[str, KeyPath, BlockSettings]] = []
    for name, place in members:
        if name == NONE:
            options.append((name, place, BlockSettings()))
            continue
        cls = blocks.find(name, place)
        if cls is None:
            continue
        base = general.get(name, BlockSettings())
        settings = own.get(name, BlockSettings()).over(base)
        valued = set(settings.values)
        if settings.joint is not None:
            valued |= set.intersection(*(set(member) for member in settings.joint.choice))
        missing = [
            key
            for key, parameter in hyperparameters(cls).items()
            if parameter.default is inspect.Parameter.empty and key not in valued
        ]
        if missing and not any(problems.wrong(place) for place in settings.places.values()):
            problems.add(
                place,
                f"{name} needs a value for {', '.join(missing)}; write it under "
                f"blocks: {{{name}: {{{missing[0]}: ...}}}}",
            )
            continue
        options.append((name, place, settings))
    return options


def _match(entry: Entry, path: KeyPath, sites: list[Site], problems: Problems) -> list[Site]:
    where = (*path, "at")
    if entry.at.count("*") > _MAX_STARS:
        problems.add(where, f"{shown(entry.at)} has more than {_MAX_STARS} stars")
        return []
    with problems.errors_at(where):
        return match(entry.at, sites)
    return []


def _partition(entry: Entry, sites: list[Site]) -> Iterator[tuple[str, str, tuple[Site, ...]]]:
    """Yield name, pattern and sites of each group of an entry."""
    pattern = entry.at.strip()
    if not sites:
        return
    if entry.decide == "together":
        yield entry.name or _pattern_name(pattern), pattern, tuple(sites)
        return
    if entry.decide == "each":
        for site in sites:
            yield (f"{entry.name}.{site.name}" if entry.name else site.name), site.name, (site,)
        return
    parts, place = pattern.split("."), sites[0].stage_of(pattern)
    for stage in dict.fromkeys(site.name.split(".")[place] for site in sites):
        members = tuple(site for site in sites if site.name.split(".")[place] == stage)
        at = ".".join([*parts[:place], stage, *parts[place + 1 :]])
        name = f"{entry.name}.{stage}" if entry.name else _pattern_name(at)
        yield name, at, members


def _pattern_name(pattern: str) -> str:
    """Return a pattern as part of a decision's name: `layer[2-3].*.conv2` as `layer2-3.conv2`."""
    parts = []
    for part in pattern.split("."):
        word = re.sub(r"[\[\]*\s]", "", part).replace(",", "_")
        parts += [word] if word else []
    name = ".".join(parts) or "all"
    return name if NAME_CHARACTERS.fullmatch(name) else re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _group(
    entry: Entry,
    path: KeyPath,
    name: str,
    at: str,
    sites: tuple[Site, ...],
    options: list[tuple[str, KeyPath, BlockSettings]],
) -> Group:
    which = decision(block_decision(name), entry.block) if is_spec(entry.block) else None
    built = {}
    for block, place, settings in options:
        parents = ((which.name, frozenset([block])),) if which else ()
        fixed = {key: value for key, value in settings.values.items() if not is_spec(value)}
        searched = {
            key: decision(parameter_decision(name, block, key), spec, parents)
            for key, spec in settings.values.items()
            if is_spec(spec)
        }
        joint = None
        if settings.joint is not None:
            joint = decision(parameter_decision(name, block, "params"), settings.joint, parents)
        built[block] = Option(block, fixed, searched, joint, place, settings.places)
    return Group(name, at, sites, which, built, path, entry.pretrained_safe)


def inserted_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config inserts, by the names of the decisions that could have led to it.

    Args:
        config: As `Space.resolve` returns it.
    """
    values: dict[str, Any] = {}
    for entry in config.get("insert", ()):
        group, block = entry.get("name") or entry["at"], entry["block"]
        values[block_decision(group)] = block
        for key, value in entry.get("params", {}).get(block, {}).items():
            values[parameter_decision(group, block, key)] = value
    return values


def other_names(file: SpaceFile, groups: Sequence[Group]) -> dict[str, str]:
    """Return the names that block decisions would have under another `decide:`, with advice."""
    names: dict[str, str] = {}
    for index, entry in enumerate(file.insert):
        own = [group for group in groups if group.path == ("insert", index)]
        sites = [site for group in own for site in group.sites]
        for decide in ("stage", "each", "together"):
            if decide == entry.decide or not sites:
                continue
            other = entry.model_copy(update={"decide": decide})
            for name, _, members in _partition(other, sites):
                here = next(g.name for g in own if members[0] in g.sites)
                there = block_decision(name)
                names.setdefault(
                    there,
                    f"here it is {block_decision(here)}; decide: {decide} would make it {there}",
                )
    return names
