"""Folders of class folders, with or without a split.

    source/cat/001.png                       source/train/cat/001.png
    source/dog/visit2/7.JPG                  source/val/cat/104.png     (or validation, dev, ...)
                                             source/test/dog/2.png

Class folders are searched to any depth. Hidden files and folders are skipped. The order is that of
the names, so it does not depend on the file system. Files that cannot be read are skipped, and
named in the notes, where they are at most 1 in 100; otherwise they are an error.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnsearch.runs.readers.images import SUFFIXES, Crop, ImageSize
from attnsearch.runs.readers.label_tables import files_source
from attnsearch.runs.readers.mask_layouts import find_pools, without_masks
from attnsearch.runs.readers.source import NO_PART, PARTS, DataError, Source, listing
from attnsearch.runs.readers.walking import images_in, named_parts, part_folders, subfolders


@dataclass(frozen=True)
class _File:
    path: Path
    name: str
    label: int
    part: int


@dataclass(frozen=True)
class _ClassFolder:
    """A folder whose images are of one class."""

    path: Path
    name: str
    part: int


def read_folder(
    folder: Path,
    image_size: ImageSize,
    channels: int | None = None,
    classes: int | Sequence[str] | None = None,
    keep: str = "memory",
    crop: Crop | None = None,
) -> Source:
    """Read all images of a folder of class folders.

    Args:
        folder: The folder.
        image_size: Images are resized to so many pixels, or (height, width).
        channels: 1 or 3; None takes 1 if all files are grey by their mode, else 3.
        classes: Names of the class folders in the order of their labels; others are left out.
            None or a number takes all folders in the order of their names.
        keep: Where the images lie afterwards: `memory`, `mapped` or `files`.
        crop: As `resize` takes it.

    Raises:
        DataError: If the layout is not understood, a class has no images, or too many images
            cannot be read.
    """
    notes: list[str] = []
    roots = _roots(folder, notes)
    wanted = None if isinstance(classes, int) else classes
    folders = _class_folders(roots, wanted, notes)
    names = _class_names(folder, folders, wanted, notes)
    files = _files(folder, roots, folders, names, notes)
    paths = {file.name: file.path for file in files}
    source = files_source(folder, paths, image_size, channels, keep, crop)
    kept = {*source.names}  # without what cannot be read
    files = [file for file in files if file.name in kept]
    source.labels = np.array([file.label for file in files], dtype=np.int64)
    source.parts = np.array([file.part for file in files], dtype=np.int64)
    source.class_names, source.notes = names, [*notes, *source.notes]
    return source


def _roots(folder: Path, notes: list[str]) -> dict[int, Path]:
    """Return the folders that hold the class folders, by part."""
    roots = part_folders(folder)
    others = [child.name for child in subfolders(folder) if child not in roots.values()]
    # A class may be called `train` beside `bus` and `car`: then its siblings are no parts.
    if not roots or (others and len(roots) == 1 and not subfolders(*roots.values())):
        return {NO_PART: folder}
    if "train" not in roots:
        raise DataError(
            f"{folder}: found {listing([f'{p.name}/' for p in roots.values()])} but no train/; "
            f"add it, or put the class folders directly into {folder.name}/"
        )
    if others:
        notes.append(f"left out beside the parts: {listing([f'{name}/' for name in others])}")
    return {PARTS.index(part): root for part, root in roots.items()}


def classes_there(folder: Path, class_names: Sequence[str]) -> list[str]:
    """Return those of a trained network's classes that a folder has folders of, in their order.

    Raises:
        DataError: If there are none, or one is written a little differently.
    """
    outer = _outer(_roots(folder, []))
    names = {top.name for top in outer} | {*(_inner(outer) or ())}
    there = [name for name in class_names if name in names]
    near = [other for name in class_names for other in _near(name, [*names - {*there}])]
    if near or not there:
        raise DataError(
            f"{folder}: the network's classes are {listing(class_names, 10)}, the folders are "
            f"{listing(near or sorted(names), 10) or 'none'}; name the folders as the classes"
        )
    return there


def classes_in_doubt(folder: Path) -> tuple[list[str], list[str]] | None:
    """Return folders inside, and those in each of them, where either may be the classes."""
    outer = _outer(_roots(folder, []))
    inner = _inner(outer)
    if len(outer) < 2 or inner is None or _are_patients(outer, inner) or named_parts([*inner]):
        return None
    return sorted({top.name for top in outer}), sorted(inner)


def class_folders_with_masks(folder: Path) -> list[str]:
    """Return folders that may be classes and hold images with masks beside them.

    Numbered folders are patients, and no classes.
    """
    pools, _ = find_pools(folder)
    names = sorted({top.name for top in _outer(_roots(folder, []))})
    numbered = all(re.search(r"\d", name) for name in names)
    beside = bool(pools) and pools[0].rule is not None
    return names if beside and len(names) > 1 and not numbered else []


def _class_folders(
    roots: Mapping[int, Path], classes: Sequence[str] | None, notes: list[str]
) -> list[_ClassFolder]:
    """Return the folders of classes: those directly inside, or what all of these hold alike."""
    outer = _outer(roots)
    inner = _inner(outer)
    if inner is None:
        return outer
    if NO_PART in roots and "train" in (parts := named_parts([*inner])):
        if sum(map(len, parts.values())) < len(inner):
            return outer
        notes.append(f"each class folder holds its parts: {listing(sorted(inner))}")
        return [
            _ClassFolder(path, top.name, PARTS.index(part))
            for top in outer
            for part, path in part_folders(top.path).items()
        ]
    named = classes is not None and inner.keys() >= {*classes}
    if not named and (classes is not None or not _are_patients(outer, inner)):
        if classes is None and len(outer) > 1:
            held = listing(sorted(inner))
            notes.append(
                f"every class folder holds the folders {held}: if these are the classes, say "
                f"data.classes: [{held}]"
            )
        return outer
    notes.append(
        f"the classes are the folders {listing(sorted(inner))} in each of {len(outer)} folders, "
        f"such as {outer[0].name}/"
    )
    return [
        _ClassFolder(path, path.name, top.part) for top in outer for path in subfolders(top.path)
    ]


def _outer(roots: Mapping[int, Path]) -> list[_ClassFolder]:
    return [
        _ClassFolder(path, path.name, part)
        for part, root in roots.items()
        for path in subfolders(root)
    ]


def _inner(outer: Sequence[_ClassFolder]) -> Counter[str] | None:
    """Return the folders that nearly all of some folders hold alike, and nothing beside them."""
    counts: Counter[str] = Counter()
    for top in outer:
        children = subfolders(top.path)
        if not children or any(
            path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
            for path in top.path.iterdir()
        ):
            return None
        counts.update(child.name for child in children)
    # A patient may lack a class.
    return counts if len(counts) > 1 and min(counts.values()) * 2 >= len(outer) else None


def _are_patients(outer: Sequence[_ClassFolder], inner: Counter[str]) -> bool:
    """Return whether folders are called like patients: numbered, but not 0, 1, 2 as classes."""
    names = {top.name for top in outer}
    counted = [{str(i + start) for i in range(len(names))} for start in (0, 1)]
    return (
        len(names) > len(inner)
        and all(re.search(r"\d", name) for name in names)
        and names not in counted
        and not named_parts([*inner])
    )


def _class_names(
    folder: Path,
    folders: Sequence[_ClassFolder],
    classes: Sequence[str] | None,
    notes: list[str],
) -> list[str]:
    names = sorted({place.name for place in folders})
    if classes is None:
        _check_task(folder, names)
        if not names:
            raise DataError(_no_images(folder))
        if len(names) == 1 and len(below := subfolders(folders[0].path)) > 1:
            inside = listing([f"{child.name}/" for child in below])
            raise DataError(
                f"{folder}: holds the one folder {names[0]}/, and that holds {inside}: give "
                f"{folders[0].path} as the data"
            )
        _check_near(folder, folders, notes)
        return names
    if missing := [name for name in classes if name not in names]:
        near = [f"{name!r} for {asked!r}" for asked in missing for name in _near(asked, names)]
        raise DataError(
            f"{folder}: data.classes names {listing(missing)}, but there is no such folder; the "
            f"folders are {listing(names, 20) or 'none'}"
            + (f"; written differently: {listing(near)}" if near else "")
        )
    if rest := [name for name in names if name not in classes]:
        notes.append(f"folders left out, not in data.classes: {listing(rest, 20)}")
    return list(classes)


def _check_task(folder: Path, names: Sequence[str]) -> None:
    """See that folders are no images with their masks.

    Raises:
        DataError: If they are.
    """
    pools, _ = find_pools(folder)
    if pools and (pools[0].rule is None or not names):
        images, masks = pools[0].sides
        where = (
            f"{images.relative_to(folder)}/ and {masks.relative_to(folder)}/"
            if pools[0].rule is None
            else f"files called {pools[0].rule.replace('{}', '<name>')} beside others"
        )
        raise DataError(
            f"{folder}: {where} look like images and their masks, for task: segmentation; for "
            f"classification put the images into one folder per class, or name the class folders "
            f"in data.classes"
        )


def _check_near(folder: Path, folders: Sequence[_ClassFolder], notes: list[str]) -> None:
    """See that no class is written in two ways that look alike.

    Raises:
        DataError: If parts write one class differently.
    """
    held = defaultdict(set)
    for place in folders:
        held[place.name].add(place.part)
    for name in held:
        for other in _near(name, [*held]):
            words = f"{name!r} and {other!r} differ in {_difference(name, other)} alone"
            if name < other and not held[name] & held[other]:
                raise DataError(
                    f"{folder}: {words}, and no part has both: if they are one class, rename one"
                )
            if name < other:
                notes.append(f"{words}: two classes")


def _near(name: str, names: Sequence[str]) -> list[str]:
    """Return those names that look like one, but are not it."""
    return [other for other in names if other != name and _looks(other) == _looks(name)]


def _looks(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()


def _difference(name: str, other: str) -> str:
    if name.strip() != name or other.strip() != other:
        return "a space at an end"
    if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", other):
        return "how accents are written (Unicode NFC and NFD)"
    return "upper and lower case"


def _files(
    folder: Path,
    roots: dict[int, Path],
    folders: Sequence[_ClassFolder],
    names: list[str],
    notes: list[str],
) -> list[_File]:
    """Return all image files, in the order of their names."""
    others: Counter[str] = Counter()
    files: list[_File] = []
    masks = 0
    for place in folders:
        if place.name in names:
            paths = images_in(place.path, others)
            images = without_masks(paths)
            masks += len(paths) - len(images)
            label = names.index(place.name)
            files += [
                _File(path, path.relative_to(folder).as_posix(), label, place.part)
                for path in images
            ]
    if masks:
        notes.append(f"masks beside their images were left out: {masks}")
    if not files:
        raise DataError(_no_images(folder, others))
    counts = Counter(file.label for file in files if file.part in (NO_PART, PARTS.index("train")))
    if lacking := [name for label, name in enumerate(names) if not counts[label]]:
        train = roots.get(PARTS.index("train"))
        where = f" in {train.name}/" if train else ""
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
