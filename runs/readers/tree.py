"""The visible files below a user's folder, links followed: what every reader of folders sees."""

import os
from collections.abc import Iterator
from pathlib import Path

ARCHIVED = "__MACOSX"  # what archives of macOS leave behind


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield folders below one, itself first, each with the names of its folders and files, sorted.

    Hidden entries are left out. A linked folder is entered like any other, unless the link leads
    to a folder that it lies in. What is neither a folder nor a file, such as a link whose target
    is gone, counts as a file: whoever reads it says what is wrong. Names that are taken out of
    the list of folders are not entered.

    Args:
        folder: Where to begin.

    Raises:
        OSError: If a folder cannot be listed.
    """
    yield from _walk(folder, (_real(folder),))


def _walk(place: Path, trail: tuple[Path, ...]) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield `trail` holds the real folders that links were left from, then that of `place`."""
    folders: list[str] = []
    files: list[str] = []
    linked = {}
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not _is_folder(entry):
                files.append(entry.name)
            elif not entry.name.startswith(ARCHIVED):
                folders.append(entry.name)
                linked[entry.name] = entry.is_symlink()
    folders.sort()
    files.sort()
    yield place, folders, files
    for name in folders:
        if not linked[name]:
            yield from _walk(place / name, (*trail[:-1], trail[-1] / name))
            continue
        real = _real(place / name)
        if not any(passed.is_relative_to(real) for passed in trail):
            yield from _walk(place / name, (*trail, real))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
