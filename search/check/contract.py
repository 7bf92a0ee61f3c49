"""Whether a file's own blocks, `module:Class`, keep the rules of every block."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from attnsearch.blocks.build import find_block
from attnsearch.blocks.measure import check_block
from attnsearch.blocks.mechanisms import BLOCKS
from attnsearch.blocks.naming import NONE
from attnsearch.search.check.standing import first_params
from attnsearch.search.text import plural
from attnsearch.spaces import Space, SpaceError
from attnsearch.spaces.file import apply_overrides, parse
from attnsearch.spaces.space import Option


def check_own_blocks(space: Space, path: str, overrides: Sequence[str]) -> list[str]:
    """Put every block that is not of the table through the checks of `check_block`.

    Each takes about a second: it is tried on small maps, with the hyperparameters that the file
    gives it and the first ones where they are searched. Blocks of the table are left out, the
    tests hold them.

    Args:
        space: The space.
        path: The file as the user named it.
        overrides: Texts `KEY=VALUE`.

    Returns:
        What is said of blocks that cannot stand on the 64 channels they would be tried with.

    Raises:
        SpaceError: A block breaks a rule; the problem has the place where the block is named.
    """
    document = parse(space.text, path)
    if not space.path.exists():
        document.problems.no_lines()
    apply_overrides(document, overrides)
    problems, notes = document.problems, []
    for option in _own(space):
        broken = broken_rules(find_block(option.block), first_params(option))
        if "construction" in broken:
            fault = broken["construction"]
            notes.append(f"block {option.block} was not tried by itself, on {fault}")
        elif broken:
            rule, fault = next(iter(broken.items()))
            problems.add(
                option.path,
                f"block {option.block} breaks {plural(len(broken), 'rule')} that every block "
                f"keeps; {rule}: {fault} (all of them: attnsearch blocks {option.block})",
            )
    if problems:
        raise SpaceError(problems)
    return notes


def broken_rules(block: type[nn.Module], params: Mapping[str, Any]) -> dict[str, str]:
    """Return the rules that a block breaks, each with its first fault.

    Args:
        block: Its class.
        params: Its hyperparameters.
    """
    faults: dict[str, str] = {}
    for finding in check_block(block, **params):
        faults.setdefault(finding.check, finding.message.rstrip("."))
    return faults


def _own(space: Space) -> Iterator[Option]:
    """Yield the first option of each block that is not of the table."""
    seen = {NONE, *BLOCKS}
    for group in space.groups:
        for option in group.options.values():
            if option.block not in seen:
                seen.add(option.block)
                yield option
