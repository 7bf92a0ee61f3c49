"""What is visible in a folder, which folders are parts of a split, and names that are no text."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from attnsearch.blocks.hosts import as_size
from attnsearch.runs.readers.images import SUFFIXES, orientation
from attnsearch.runs.readers.source import PARTS, DataError, listing
from attnsearch.runs.words import plural, printable

ARCHIVED = "__MACOSX"  # what archives of macOS leave behind
PART_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "devel", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
}
PART_NAME = re.compile(
    rf"(?P<word>{'|'.join(word for words in PART_WORDS.values() for word in words)})"
    r"(?:[ _-]?(?:set|data|split|part|images|imgs|\d{4}))?"
)
"""A folder's name that says which part it is: `train`, `test_set`, `val2017`."""
LOOKED_AT = 200  # image files whose size is read


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


def folder_shapes(folder: Path) -> list[tuple[int, int]]:
    """Return (H, W) of a folder's images, upright; of some of many."""
    files = sorted(images_in(folder))
    shapes = [_shape(file) for file in files[:: max(1, len(files) // LOOKED_AT)]]
    return [shape for shape in shapes if shape is not None]


def folder_bytes(folder: Path, data: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many bytes a folder's images take as the network sees them, and nothing more."""
    height, width = as_size(data["image_size"])
    return len(images_in(folder)) * height * width * (data.get("channels") or 3), 0


def subfolders(folder: Path) -> list[Path]:
    """Return visible folders in the order of their names; archives leave `__MACOSX` behind."""
    children = (p for p in folder.iterdir() if not p.name.startswith((".", ARCHIVED)))
    return sorted((p for p in children if p.is_dir()), key=lambda p: p.name)


def _shape(file: Path) -> tuple[int, int] | None:
    try:
        with Image.open(file) as image:  # reads the header alone
            width, height = image.size
            # Pillow decodes a whole PNG to look for a tag behind the pixels.
            asked = image.format != "PNG" or "exif" in image.info
            turned = asked and orientation(image) > 4
            return (width, height) if turned else (height, width)
    except Exception:  # a damaged file: the reader judges it
        return None


def images_in(folder: Path, others: Counter[str] | None = None) -> list[Path]:
    """Return the image files in a folder at any depth.

    Args:
        folder: Where to look.
        others: Gets the count of each ending that is no image's.

    Raises:
        OSError: If a folder cannot be listed.
    """
    images = []
    for place, _, files in walk(folder):
        for file in files:
            suffix = Path(file).suffix.lower()
            if suffix in SUFFIXES:
                images.append(place / file)
            elif others is not None:
                others[suffix or "(no ending)"] += 1
    return images


def part_folders(folder: Path) -> dict[str, Path]:
    """Return the folders inside one that are called like a part of a split, by that part.

    Raises:
        DataError: If two are called like the same part.
    """
    children = {child.name: child for child in subfolders(folder)}
    named = named_parts(list(children))
    for part, names in named.items():
        if len(names) > 1:
            raise DataError(
                f"{folder}: both {names[0]}/ and {names[1]}/ look like the {part} part; keep one "
                f"of them"
            )
    return {part: children[names[0]] for part, names in named.items()}


def named_parts(names: Sequence[str]) -> dict[str, list[str]]:
    """Return those of some names that are called like a part of a split, by that part."""
    parts: dict[str, list[str]] = {}
    for name in names:
        if match := PART_NAME.fullmatch(name.lower()):
            part = next(part for part, words in PART_WORDS.items() if match["word"] in words)
            parts.setdefault(part, []).append(name)
    tests = parts.get("test", [])
    evaluated = [name for name in tests if name.lower().startswith("eval")]
    if 0 < len(evaluated) < len(tests) and "val" not in parts:  # train, eval and test
        parts |= {"val": evaluated, "test": [name for name in tests if name not in evaluated]}
    return {part: parts[part] for part in PARTS if part in parts}


def _walk(place: Path, trail: tuple[Path, ...]) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield as `walk`; `trail` is the real folders that links were left from, then of `place`."""
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


def check_names(path: Path) -> None:
    """Refuse a source with names that are not UTF-8, as an old archive leaves them.

    They would go into the ledger, tables and exports, which are UTF-8, after the whole study.

    Args:
        path: Of the source.

    Raises:
        DataError: The path has such a name, or a folder or image below it.
    """
    odd = [printable(name) for name in _all_names(path) if name != printable(name)]
    if odd:
        raise DataError(
            f"data.source: {printable(str(path))} has {plural(len(odd), 'name')} of a file or "
            f"folder that is not UTF-8 ({listing(odd)}); rename it, or all of them at once: "
            f"convmv -r -f latin1 -t utf8 --notest FOLDER"
        )


def _all_names(path: Path) -> Iterator[str]:
    yield str(path)
    if not path.is_dir():
        return
    with suppress(OSError):  # what cannot be listed is the reader's to say
        for place, folders, files in walk(path):
            images = (name for name in files if Path(name).suffix.lower() in SUFFIXES)
            for name in (*folders, *images):
                if not name.isascii():
                    yield (place.relative_to(path) / name).as_posix()
