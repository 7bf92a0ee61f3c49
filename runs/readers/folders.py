"""Folders of class folders, with or without a split.

    source/cat/001.png                       source/train/cat/001.png
    source/dog/visit2/7.JPG                  source/val/cat/104.png     (or valid, validation)
                                             source/test/dog/2.png

Class folders are searched to any depth. Hidden files and folders are skipped. The order is that of
the names, so it does not depend on the file system. Files that cannot be read are skipped, and
named in the notes, where they are at most 1 in 100; otherwise they are an error.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from attnsearch.runs.readers.images import (
    SUFFIXES,
    attempt_all,
    decode,
    note_conversions,
    to_common,
)
from attnsearch.runs.readers.source import NO_PART, PARTS, DataError, Source, listing

ARCHIVED = "__MACOSX"  # what archives of macOS leave behind
PART_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
UNREADABLE_ONE_IN = 100
LOOKED_AT = 200  # image files whose size is read


@dataclass(frozen=True)
class _File:
    path: Path
    name: str
    label: int
    part: int


def read_folder(
    folder: Path,
    image_size: int,
    channels: int | None = None,
    classes: int | Sequence[str] | None = None,
) -> Source:
    """Read all images of a folder of class folders.

    Args:
        folder: The folder.
        image_size: Images are resized to so many pixels, high and wide.
        channels: 1 or 3; None takes 1 if all files are grey by their mode, else 3.
        classes: Names of the class folders in the order of their labels; others are left out.
            None or a number takes all folders in the order of their names.

    Raises:
        DataError: If the layout is not understood, a class has no images, or too many images
            cannot be read.
    """
    notes: list[str] = []
    roots = _roots(folder, notes)
    wanted = None if isinstance(classes, int) else classes
    names = _class_names(folder, roots, wanted, notes)
    files = _files(folder, roots, names, notes)
    decoded, unreadable = attempt_all(
        lambda path: decode(path, image_size), {file.name: file.path for file in files}
    )
    if unreadable:
        _judge_unreadable(unreadable, len(files), notes)
        files = [file for file in files if file.name in decoded]
    note_conversions(decoded, notes)
    return Source(
        name=folder.name,
        images=np.stack(to_common(decoded, channels, notes)),
        labels=np.array([file.label for file in files], dtype=np.int64),
        names=list(decoded),
        parts=np.array([file.part for file in files], dtype=np.int64),
        class_names=names,
        digests=[image.digest for image in decoded.values()],
        notes=notes,
    )


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


def folder_side(folder: Path) -> int | None:
    """Return the median of the shorter sides of a folder's images, in pixels; of some of many."""
    files = sorted(images_in(folder))
    sides = [_short_side(file) for file in files[:: max(1, len(files) // LOOKED_AT)]]
    readable = [side for side in sides if side is not None]
    return round(median(readable)) if readable else None


def _short_side(file: Path) -> int | None:
    try:
        with Image.open(file) as image:  # reads the header alone
            return int(min(image.size))
    except Exception:  # a damaged file: the reader judges it
        return None


def _subfolders(folder: Path) -> list[Path]:
    """Return visible folders in the order of their names; archives leave `__MACOSX` behind."""
    children = (p for p in folder.iterdir() if not p.name.startswith((".", ARCHIVED)))
    return sorted((p for p in children if p.is_dir()), key=lambda p: p.name)


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
    parts: dict[str, Path] = {}
    for child in _subfolders(folder):
        for part, names in PART_NAMES.items():
            if child.name.lower() in names and parts.setdefault(part, child) != child:
                raise DataError(
                    f"{folder}: both {parts[part].name}/ and {child.name}/ look like the {part} "
                    f"part; keep one of them"
                )
    return parts


def _roots(folder: Path, notes: list[str]) -> dict[int, Path]:
    """Return the folders that hold the class folders, by part."""
    roots = part_folders(folder)
    others = [child.name for child in _subfolders(folder) if child not in roots.values()]
    # A class may be called `train` beside `bus` and `car`: then its siblings are no parts.
    if not roots or (others and len(roots) == 1 and not _subfolders(*roots.values())):
        return {NO_PART: folder}
    if "train" not in roots:
        raise DataError(
            f"{folder}: found {listing([f'{p.name}/' for p in roots.values()])} but no train/; "
            f"add it, or put the class folders directly into {folder.name}/"
        )
    if others:
        notes.append(f"left out beside the parts: {listing([f'{name}/' for name in others])}")
    return {PARTS.index(part): root for part, root in roots.items()}


def _class_names(
    folder: Path, roots: dict[int, Path], classes: Sequence[str] | None, notes: list[str]
) -> list[str]:
    folders = sorted({child.name for root in roots.values() for child in _subfolders(root)})
    if classes is None:
        if not folders:
            raise DataError(_no_images(folder))
        if {name.lower() for name in folders} == {"images", "masks"}:
            raise DataError(
                f"{folder}: images/ and masks/ are a folder for task: segmentation; for "
                f"classification put the images into one folder per class"
            )
        return folders
    if missing := [name for name in classes if name not in folders]:
        raise DataError(
            f"{folder}: data.classes names {listing(missing)}, but there is no such folder; the "
            f"folders are {listing(folders, 20) or 'none'}"
        )
    if rest := [name for name in folders if name not in classes]:
        notes.append(f"folders left out, not in data.classes: {listing(rest, 20)}")
    return list(classes)


def _files(
    folder: Path, roots: dict[int, Path], names: list[str], notes: list[str]
) -> list[_File]:
    """Return all image files, in the order of their names."""
    others: Counter[str] = Counter()
    files = []
    for part, root in roots.items():
        for label, name in enumerate(names):
            # A part may lack a class.
            paths = images_in(root / name, others) if (root / name).is_dir() else []
            files += [_File(p, p.relative_to(folder).as_posix(), label, part) for p in paths]
    if not files:
        raise DataError(_no_images(folder, others))
    counts = Counter(file.label for file in files if file.part in (NO_PART, PARTS.index("train")))
    if lacking := [name for label, name in enumerate(names) if not counts[label]]:
        where = "" if NO_PART in roots else f" in {roots[PARTS.index('train')].name}/"
        raise DataError(
            f"{folder}: no images of class {listing(lacking)}{where}; add some, remove the "
            f"folder, or name the classes to use in data.classes"
        )
    if others:
        counted = [f"{count} {suffix}" for suffix, count in sorted(others.items())]
        notes.append(f"files that are no images were left out: {listing(counted)}")
    loose = [
        path.name
        for root in {folder, *roots.values()}
        for path in root.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]
    if loose:
        notes.append(f"{len(loose)} images outside of class folders were left out")
    return sorted(files, key=lambda file: file.name)


def _no_images(folder: Path, others: Counter[str] | None = None) -> str:
    others = Counter() if others is None else others
    if outside := images_in(folder, others):
        example = min(path.relative_to(folder).as_posix() for path in outside)
        return (
            f"{folder}: {len(outside)} images, but none in a class folder (such as {example}); "
            f"put them into one folder per class"
        )
    seen = f" (only {listing(sorted(others))})" if others else ""
    return (
        f"{folder}: no images{seen}; expected class folders with "
        f"{' '.join(sorted(SUFFIXES))} files, with or without train/, val/ and test/ above them"
    )


def _judge_unreadable(unreadable: dict[str, str], total: int, notes: list[str]) -> None:
    shown = [f"{name} ({reason})" for name, reason in unreadable.items()]
    if len(unreadable) * UNREADABLE_ONE_IN > total:
        raise DataError(
            f"{len(unreadable)} of {total} images cannot be read: {listing(shown)}; repair or "
            f"remove them (up to 1 in {UNREADABLE_ONE_IN} would be skipped)"
        )
    notes.append(f"skipped, cannot be read ({len(unreadable)} of {total}): {listing(shown, 20)}")


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
