"""Which examples belong together: one patient's images are one group."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from attnsearch.runs.readers import DataError, called_in, listing
from attnsearch.runs.words import plural


def read_groups(spec: Mapping[str, str], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the group of each example.

    Args:
        spec: `{"pattern": ...}`, a regular expression searched in the last part of each name (the
            file's), or, where it fits none of these, in the whole names; its first group is the
            example's group, and a name that it does not fit is a group of its own. Or
            `{"csv": ...}`, a table with the columns `name` and `group`, where a name is an
            example's name, or its last part or that without its ending where those are unique.
        names: One per example.

    Returns:
        One group per example, and notes.

    Raises:
        DataError: If the pattern fits no name, or the table cannot be read, lacks a name, or
            gives one name two groups.
    """
    if "pattern" in spec:
        return _by_pattern(spec["pattern"], names)
    return _by_table(Path(spec["csv"]), names)


def _by_pattern(pattern: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
    expression = re.compile(pattern)
    # The file's name first: folders come before it, and "^" would mean them.
    files = [name.rpartition("/")[2] for name in names]
    matches = [expression.search(name) for name in files]
    if not any(match and match[1] for match in matches):
        matches = [expression.search(name) for name in names]
    if not any(match and match[1] for match in matches):
        raise DataError(
            f"data.groups: {pattern!r} fits none of {len(names)} names, such as "
            f"{listing(names, 2)}"
        )
    # A name cannot be mistaken for what the pattern catches: no name starts with a slash.
    groups = [
        match[1] if match and match[1] else f"/{name}"
        for match, name in zip(matches, names, strict=True)
    ]
    alone = [name for name, group in zip(names, groups, strict=True) if group == f"/{name}"]
    notes = [_dealt(groups)]
    if alone:
        notes.append(
            f"groups of their own, not fitted by {pattern!r}: {len(alone)} images "
            f"({listing(alone, 3)})"
        )
    return groups, notes


def _by_table(path: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    table = _read_table(path)
    keys = [*called_in(table, names).values()]
    if missing := [name for name, key in zip(names, keys, strict=True) if key not in table]:
        raise DataError(
            f"data.groups: {path} lacks {len(missing)} of {len(names)} images: "
            f"{listing(missing)}; add a line for each"
        )
    groups = [table[key] for key in keys]
    return groups, [_dealt(groups)]


def _dealt(groups: Sequence[str]) -> str:
    return f"groups: {plural(len(groups), 'image')} in {plural(len(set(groups)), 'group')}"


def _read_table(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.groups: {path} cannot be read: {error}") from None
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    rows = csv.DictReader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    columns = rows.fieldnames or []
    if not {"name", "group"} <= set(columns):
        raise DataError(
            f"data.groups: {path} has the columns {listing(list(columns)) or 'none'}; it needs "
            f"name and group"
        )
    table: dict[str, str] = {}
    for row in rows:
        name, group = row["name"], row["group"]
        if not name or not group:
            raise DataError(f"data.groups: {path}:{rows.line_num}: name or group is empty")
        if table.setdefault(name, group) != group:
            raise DataError(
                f"data.groups: {path}:{rows.line_num}: {name} has the groups {table[name]} "
                f"and {group}; keep one"
            )
    return table
