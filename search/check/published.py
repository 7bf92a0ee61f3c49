"""The published networks: `attnsearch blocks --published`, and their figures beside ours."""

from collections.abc import Mapping
from typing import Any

from attnsearch.search.check.survey import Example
from attnsearch.search.text import render
from attnsearch.spaces.file import published
from attnsearch.spaces.keys import COUNTED

_ROUNDED = 5  # digits; a figure with more is exact


def networks_text() -> str:
    """Return the shipped space files of published networks, with what their authors state."""
    rows = [
        (
            f"spaces/{name}.yaml",
            *(_stated(facts[key]) if key in facts else "-" for key in COUNTED),
            f"{facts['about']}. {facts['code']}",
        )
        for name, facts in published().items()
    ]
    return render("check", "published.txt", rows=rows)


def published_rows(facts: Mapping[str, Any], example: Example) -> list[tuple[str, ...]]:
    """Return each count of a network: its name, ours, the published one, and how they compare.

    Args:
        facts: The `published` section of a file.
        example: The network as it is built.
    """
    return [
        (
            name,
            "-" if counted is None else f"{counted:,}",
            "-" if stated is None else _stated(stated),
            _compared(counted, stated),
        )
        for name, counted, stated in (
            ("params", example.params, facts["params"]),
            ("MACs", example.macs, facts["macs"]),
        )
    ]


def _digits(stated: float) -> int:
    """Return how many digits a figure is published with: 4 for 22.56e6."""
    return len(f"{stated:.0f}".rstrip("0")) or 1


def _stated(stated: float) -> str:
    """Return a published figure with the digits that it is published with."""
    exact = f"{stated:.0f}"
    if _digits(stated) > _ROUNDED:
        return f"{int(exact):,}"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if stated >= size:
            decimals = max(0, _digits(stated) - len(f"{stated / size:.0f}".rstrip()))
            return f"{stated / size:.{max(decimals, 2 if size > 1e3 else 0)}f} {unit}"
    return exact


def _compared(counted: int | None, stated: float | None) -> str:
    if counted is None or stated is None:
        return ""
    exact = _digits(stated) > _ROUNDED
    place = 0 if exact else len(f"{stated:.0f}") - max(_digits(stated), 2)
    if round(counted, -place) == round(stated):
        return "the same"
    return f"{100 * (counted - stated) / stated:+.1f} % here"
