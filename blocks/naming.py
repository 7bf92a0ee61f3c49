"""What a network is called: its blocks and their places, read from its config alone.

This module needs no torch, and no block is loaded.
"""

import re
from collections.abc import Mapping
from typing import Any

NONE = "none"
"""The name of no block, as a choice."""


def block_label(block: str) -> str:
    """Return the short name of a block: `Class` for a user's `package.module:Outer.Class`."""
    return block.rpartition(":")[2].rpartition(".")[2] if ":" in block else block


def entry_name(entry: Mapping[str, Any]) -> str:
    """Return what an entry's place is called: the name of its decision, or its pattern."""
    return str(entry.get("name") or entry["at"])


def insertions(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of a config with a block, in its order."""
    return [entry for entry in config.get("insert", ()) if entry["block"] != NONE]


def insertion_name(entry: Mapping[str, Any]) -> str:
    """Return what an entry is called: `ecrm@layer4`."""
    return f"{block_label(entry['block'])}@{entry_name(entry)}"


def describe(config: Mapping[str, Any]) -> str:
    """Return what is inserted where: `ecrm@layer4 psa@layer3.conv2`; `plain` for the baseline.

    Ledgers keep it, so the word stays; `shown_name` is for people.
    """
    return " ".join(map(insertion_name, insertions(config))) or "plain"


def shown_name(name: str) -> str:
    """Return a run's name as people read it: `000 baseline` for the stored `000 plain`."""
    return re.sub(r"^(\d+ |arm )?plain(?= |$)", r"\1baseline", name)
