"""Paths in a space file, made absolute and looked for."""

import re
from pathlib import Path

from attnsearch.blocks.spelling import did_you_mean
from attnsearch.spaces.file import KeyPath, Problems
from attnsearch.spaces.keys import BUILT_IN, GIVEN, shown


def place_file(text: str, base: Path, path: KeyPath, problems: Problems, *, exists: bool) -> str:
    """Return a path in the file as an absolute one.

    Args:
        text: The path as written.
        base: The folder that it is relative to.
        path: Where it stands in the file.
        problems: Where mistakes are recorded.
        exists: Whether there must be a file.
    """
    try:
        absolute = Path(base, Path(text).expanduser()).resolve()
        there = absolute.exists()
    except (OSError, ValueError, RuntimeError) as error:
        problems.add(path, f"{shown(text)} is no path: {error}")
        return text
    if exists and not there:
        problems.add(path, f"there is no file {absolute}; paths are relative to {base}")
    return str(absolute)


def place_source(text: str, base: Path, path: KeyPath, problems: Problems) -> str:
    """Return a data source: a built-in name as it is, a path made absolute."""
    if text in BUILT_IN:
        if Path(base, text).exists():
            problems.warn(
                path, f"{text} is the built-in set; the folder beside this file is ./{text}"
            )
        return text
    absolute = place_file(text, base, path, problems, exists=False)
    if text == GIVEN and not Path(absolute).exists():
        return text
    is_word = re.fullmatch(r"[A-Za-z0-9_-]+", text)
    if is_word and not problems.wrong(path) and not Path(absolute).exists():
        problems.add(
            path,
            f"{text!r} is not built in ({', '.join(BUILT_IN)}){did_you_mean(text, BUILT_IN)}, and "
            f"there is no file or folder {absolute}",
        )
    return absolute
