"""From a space file, or what would stand in one, to a `Space`: read, override, have it checked."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnsearch.spaces.file import (
    CALLED,
    Position,
    SpaceError,
    apply_overrides,
    find_space_file,
    parse,
    read_text,
    validate,
    written,
)
from attnsearch.spaces.keys import SpaceFile
from attnsearch.spaces.space.load import LeftOut, Loading
from attnsearch.spaces.space.space import Space

SpaceLike = Space | SpaceFile | Mapping[str, Any] | str | Path
"""What stands for a space: one, its file, or what would stand in the file."""


def load_space(
    path: SpaceFile | Mapping[str, Any] | str | Path,
    overrides: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
) -> Space:
    """Read and check a space file, or what would stand in one.

    The file's folder becomes importable where the file names a `module:Class` of its own.

    Members of the file's choices that can stand nowhere in a network which an override has changed
    are left out, with a warning.

    Args:
        path: A file; where there is none of this name, the shipped one of the same file name.
            Or a mapping of the same keys, or a `SpaceFile`: paths in it are relative to the
            current folder, and its own blocks are looked for there.
        overrides: Texts `KEY=VALUE` that change keys, as `--set` takes them.
        data: Of data that a program gives: its `source`, in place of the file's, and other keys
            of `data` that count where the file has none.

    Raises:
        SpaceError: The file cannot be used; it holds every mistake with its place.
    """
    in_file = isinstance(path, str | Path)
    if isinstance(path, str | Path):
        file_path, called = find_space_file(path), str(path)
        text = read_text(file_path, called)
    else:
        file_path, called, text = Path(CALLED), CALLED, written(path)
    left_out: list[LeftOut] = []
    while True:
        document = parse(text, called)
        if not in_file:
            document.problems.no_lines()
        if data is not None and isinstance(document.value, dict):
            own = document.value.get("data") or {}
            document.value["data"] = {**data, **own, "source": data["source"]}
        apply_overrides(document, overrides)
        for member in left_out:
            member.remove(document.value)
        problems = document.problems
        file = validate(document.value, problems)
        if file is None:
            raise SpaceError(problems)
        loading = Loading(file_path, text, document.value, file, problems)
        space = loading.space()
        if space is not None and not problems:
            if data is not None:
                space.document["data"]["source"] = data["source"]
            space.warnings[:0] = [str(member) for member in left_out]
            return space
        useless = loading.useless()
        if not overrides or not useless:
            raise SpaceError(problems)
        left_out += useless


def as_space(
    space: SpaceLike, overrides: Sequence[str] = (), data: Mapping[str, Any] | None = None
) -> Space:
    """Return a space as it is, or loaded as `load_space` does.

    Args:
        space: The space, or what it is loaded from.
        overrides: As in `load_space`.
        data: As in `load_space`; of a space that is loaded only the `source` is changed.

    Raises:
        SpaceError: As `load_space`; or there are overrides for a space that is loaded already.
    """
    if not isinstance(space, Space):
        return load_space(space, overrides, data)
    if overrides:
        place = Position(f"--set {overrides[0]}")
        message = "the space is loaded already; give overrides to load_space, or give its path"
        raise SpaceError([place.problem("", message)])
    if data is None:
        return space
    section = {**space.document["data"], "source": data["source"]}
    return replace(space, document={**space.document, "data": section})
