"""Which blocks can stand where: those of a file, and those of the table that cannot, and why."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attnsearch.blocks.mechanisms import BLOCKS
from attnsearch.blocks.naming import NONE
from attnsearch.search.check.survey import Fit
from attnsearch.spaces import Space
from attnsearch.spaces.file import Problems
from attnsearch.spaces.space import Group, HostChoice, Option, decision, is_spec, read_settings

_MOST_SITES = 6  # named in one line


@dataclass(frozen=True)
class Barred:
    """Blocks that cannot stand at some sites of an entry, for one reason.

    Attributes:
        entry: The entry's number, from 0.
        at: Its pattern, or the patterns of its groups.
        blocks: The blocks; one where the reason names it.
        sites: The sites.
        where: The same in few words: `layer2.*.conv1` where all of a stage's are meant.
        of: How many sites the entry has.
        reason: Why, for the first of the sites.
    """

    entry: int
    at: str
    blocks: tuple[str, ...]
    sites: tuple[str, ...]
    where: str
    of: int
    reason: str


def barred(space: Space) -> list[Barred]:
    """Try every block of the table, and every other one of the file, at every entry's sites.

    A block has the hyperparameters that the file gives it, the first ones where they are searched,
    and its constructor's defaults for the rest. The network is the default one.
    """
    host = space.host(space.defaults())
    entries: list[Barred] = []
    for path, members in itertools.groupby(space.groups, key=lambda group: group.path):
        groups = list(members)
        entry = int(path[1])
        at = str(space.document["insert"][entry]["at"])
        entries += _entry(space, host, entry, at, groups)
    return entries


def first_params(option: Option) -> dict[str, Any]:
    """Return the hyperparameters of a file's block, the first ones where they are searched."""
    return option.params({item.name: item.default() for item in option.decisions})


def fit_tables(tried: Sequence[Fit]) -> list[tuple[list[str], list[tuple[str, ...]]]]:
    """Return headers and rows of a table for each group of sites, its blocks side by side."""
    tables = []
    for group, members in itertools.groupby(tried, key=lambda fit: fit.group):
        cells = {(fit.site, fit.block): _cell(fit) for fit in members}
        blocks = list(dict.fromkeys(block for _, block in cells))
        sites = dict.fromkeys(site for site, _ in cells)
        rows = [(site, *(cells[site, block] for block in blocks)) for site in sites]
        tables.append(([f"at {group}:", *blocks], rows))
    return tables


def _cell(fit: Fit) -> str:
    if fit.fitting == fit.tried:
        return "fits" if fit.tried == 1 else f"fits ({fit.tried} settings)"
    if not fit.fitting:
        return "cannot"
    return f"{fit.fitting} of {fit.tried} settings"


def _entry(
    space: Space, host: HostChoice, entry: int, at: str, groups: Sequence[Group]
) -> Iterator[Barred]:
    sites = [site for group in groups for site in group.sites]
    reasons: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for block in dict.fromkeys([*_options(groups), *BLOCKS]):
        by_reason: dict[str, tuple[list[str], str]] = {}
        for group in groups:
            params = _params(space, group.options.get(block), block)
            for site in group.sites:
                fault = space.fits.fault(host, replace(group, sites=(site,)), block, params)
                if fault:
                    reason = _reason(fault[1], block, site.name)
                    shape = re.sub(r"\d+", "#", reason)  # numbers differ from site to site
                    by_reason.setdefault(shape, ([], reason))[0].append(site.name)
        for names, reason in by_reason.values():
            reasons.setdefault((reason, tuple(names)), []).append(block)
    every = [site.name for site in sites]
    for (reason, where), blocks in reasons.items():
        listed = _listing(where, every)
        yield Barred(entry, at, tuple(blocks), where, listed, len(sites), reason)


def _options(groups: Sequence[Group]) -> list[str]:
    return [name for group in groups for name in group.options if name != NONE]


def _params(space: Space, option: Option | None, block: str) -> dict[str, Any]:
    """Return the hyperparameters to try a block with."""
    if option is not None:
        return first_params(option)
    written = space.document["blocks"].get(block)
    if not written:
        return {}
    # The file was checked: what stands here has no problems.
    settings = read_settings(block, BLOCKS[block], written, ("blocks", block), Problems(""))
    if settings.joint is not None:
        return dict(decision("joint", settings.joint).default())
    values = settings.values.items()
    return {
        key: decision(key, value).default() if is_spec(value) else value for key, value in values
    }


def _reason(fault: str, block: str, site: str) -> str:
    """Return a fault without the block and the site, which stand beside it."""
    text = re.sub(rf"^block {re.escape(block)} cannot stand at .*?\): ", "", fault)
    text = text.removeprefix(f"{block}: ").replace(f"{site} ", "")
    # Advice names the site that was tried first, of all that are alike.
    return re.sub(r"\blayer\d+\.\d+\.after_conv\d", "after_conv", text)


def _listing(sites: Sequence[str], every: Sequence[str]) -> str:
    """Name sites of an entry, a stage's blocks as `*` where none of them is missing."""
    if len(sites) == len(every):
        return "all of them" if len(every) > 1 else every[0]
    barred_there = set(sites)
    forms: dict[str, list[str]] = {}
    for name in every:
        forms.setdefault(re.sub(r"^(layer\d+)\.\d+", r"\1.*", name), []).append(name)
    named: list[str] = []
    for form, members in forms.items():
        there = [name for name in members if name in barred_there]
        whole = len(there) == len(members) > 1
        named += [form] if whole else there
    rest = len(named) - _MOST_SITES
    return ", ".join(named[:_MOST_SITES]) + (f" and {rest} more" if rest > 0 else "")
