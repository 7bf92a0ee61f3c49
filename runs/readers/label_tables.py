"""Folders of images with a table of what each shows: any number of classes an image.

    source/labels.csv            name,edema,mass          name,labels
    source/images/001.png        001.png,1,0              001.png,edema|mass
    source/images/002.png        002.png,0,0              002.png,

The table is `labels.csv`, else the only `.csv` of the folder, divided by commas, semicolons or
tabs. Its first column has the images: paths in the folder, or names, with or without the ending,
where one image alone is called so. Then there is a column of 0 and 1 for each class, or one column
of classes, divided by `|` or `;`. A column `split` or `part` says train, val or test; else
folders of that name do, if there are any. Images lie to any depth.
"""

import csv
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from attnsearch.blocks.hosts import as_size
from attnsearch.runs.keeping import Anywhere, Lazy
from attnsearch.runs.readers.images import (
    Crop,
    ImageSize,
    common_rule,
    decode,
    decode_all,
    note_conversions,
)
from attnsearch.runs.readers.source import NO_PART, PARTS, DataError, Source, by_reason, listing
from attnsearch.runs.readers.walking import images_in, named_parts
from attnsearch.runs.words import plural

TABLE = "labels.csv"
NOTHING = {"", "no finding", "no_finding"}  # as the NIH's chest X-rays say it
_PART_COLUMNS = {"split", "part"}
_NUMBERS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
UNREADABLE_ONE_IN = 100


def label_table(folder: Path) -> Path | None:
    """Return the table of a folder; None where there is none, or it is no folder."""
    if not folder.is_dir():
        return None
    tables = sorted(path for path in folder.glob("*.csv") if not path.name.startswith("."))
    named = [path for path in tables if path.name.lower() == TABLE]
    return named[0] if named else tables[0] if len(tables) == 1 else None


def read_labelled(
    folder: Path,
    image_size: ImageSize,
    channels: int | None = None,
    classes: int | Sequence[str] | None = None,
    keep: str = "memory",
    crop: Crop | None = None,
) -> Source:
    """Read the images of a folder that its table names.

    Args:
        folder: The folder.
        image_size: Images are resized to so many pixels, or (height, width).
        channels: 1 or 3; None takes 1 if all files are grey by their mode, else 3.
        classes: Names of the classes in the order of their labels; others are left out. None or a
            number takes all: columns in their order, names in a column in theirs.
        keep: Where the images lie afterwards: `memory`, `mapped` or `files`.
        crop: As `resize` takes it.

    Raises:
        DataError: If there is no such table, it names no image or says something else than 0, 1
            or classes, or too many images cannot be read.
    """
    table = label_table(folder)
    if table is None:
        raise DataError(f"{folder}: has no {TABLE}, and not just one other .csv")
    notes: list[str] = []
    columns, rows = _rows(table)
    found = {path.relative_to(folder).as_posix(): path for path in images_in(folder, Counter())}
    called = called_in(rows, [*found])
    names = sorted(name for name, key in called.items() if key in rows)
    if not names:
        raise DataError(
            f"{table}: names none of the {len(found)} images in {folder.name}/, such as "
            f"{listing(sorted(found), 2) or 'none'}; its first line is {listing([*rows], 1)}"
        )
    if rest := sorted(found.keys() - {*names}):
        notes.append(
            f"{plural(len(rest), 'image')} that {table.name} does not name: {listing(rest, 3)}"
        )
    if gone := sorted(rows.keys() - {called[name] for name in names}):
        notes.append(
            f"{plural(len(gone), 'line')} of {table.name} without an image: {listing(gone, 3)}"
        )
    mine = [rows[called[name]] for name in names]
    class_names, labels = _labels(table, columns, mine, classes, notes)
    parts = _parts(table, names, mine)
    source = files_source(folder, {n: found[n] for n in names}, image_size, channels, keep, crop)
    place = {name: row for row, name in enumerate(names)}
    kept = [place[name] for name in source.names]
    source.labels, source.parts = labels[kept], parts[kept]
    source.class_names, source.notes = class_names, [*notes, *source.notes]
    return source


def files_source(
    folder: Path,
    files: Mapping[str, Path],
    image_size: ImageSize,
    channels: int | None,
    keep: str,
    crop: Crop | None,
) -> Source:
    """Return image files by their names as a source whose labels and parts are still to be said.

    Raises:
        DataError: If too many cannot be read.
    """
    notes: list[str] = []
    size = as_size(image_size)
    decoded, unreadable, items = decode_all(
        partial(decode, size=size, crop=crop),
        files,
        keep,
        ["images", *size, *([] if crop is None else [crop])],
    )
    if unreadable:
        _judge_unreadable(unreadable, len(files), notes)
    note_conversions(decoded, notes, image_size if crop is None else None)
    rule = common_rule(decoded, channels, notes)
    images: Anywhere
    if items is None:
        images = np.stack([rule(image.pixels, n) for n, image in enumerate(decoded.values())])
    else:
        images = Lazy(items, rule, np.arange(len(decoded)), (*size, rule.channels))
    return Source(
        name=folder.name,
        images=images,
        labels=np.zeros(len(decoded), dtype=np.int64),
        names=list(decoded),
        parts=np.full(len(decoded), NO_PART),
        class_names=None,
        digests=[image.digest for image in decoded.values()],
        notes=notes,
    )


def called_in(table: Collection[str], names: Sequence[str]) -> dict[str, str]:
    """Return what a table calls each name: the name, its last part, or that without ending.

    The shorter ones where one name alone has them; of a name that is in none the name itself.
    """
    keys = {name: name for name in names}
    paths = [PurePosixPath(name) for name in names]
    for short in ([path.name for path in paths], [path.stem for path in paths]):
        counts = Counter(short)
        for name, shortened in zip(names, short, strict=True):
            if keys[name] not in table and counts[shortened] == 1:
                keys[name] = shortened
    return {name: key if key in table else name for name, key in keys.items()}


def _rows(table: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return the columns after the first, and each line by the image that it names."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table}: cannot be read: {error}") from None
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    lines = csv.DictReader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    columns = [name.strip() for name in lines.fieldnames or []]
    if len(columns) < 2 or len({*columns}) < len(columns):
        raise DataError(
            f"{table}: has the columns {listing(columns) or 'none'}; it needs the images' names, "
            f"and a column of 0 and 1 for each class or one of classes"
        )
    lines.fieldnames = columns
    rows: dict[str, dict[str, str]] = {}
    for line in lines:
        row = {key: (value or "").strip() for key, value in line.items() if key is not None}
        name = row.pop(columns[0]).replace("\\", "/").removeprefix("./")
        if rows.setdefault(name, row) != row:
            raise DataError(f"{table}:{lines.line_num}: {name} stands twice, with other labels")
    return columns[1:], rows


def _labels(
    table: Path,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    classes: int | Sequence[str] | None,
    notes: list[str],
) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of the classes, and labels (N, K) of 0 and 1."""
    columns = [name for name in columns if name.lower() not in _PART_COLUMNS]
    said: list[set[str]] = []
    if len(columns) == 1:
        said = [{word.strip() for word in re.split(r"[|;]", row[columns[0]])} for row in rows]
        words = {word for own in said for word in own if word.lower() not in NOTHING}
        there = sorted(words)
        if all(len(own) == 1 for own in said) and not {*map(str.lower, said[0])} & NOTHING:
            notes.append(
                f"{table.name} names one class for each image: as task: classification, which "
                f"takes one folder a class, they would exclude one another"
            )
    else:
        there = columns
    wanted = there if classes is None or isinstance(classes, int) else [*classes]
    missing = [] if said else [name for name in wanted if name not in there]
    if missing:
        raise DataError(
            f"{table}: data.classes names {listing(missing)}; the table has {listing(there, 20)}"
        )
    if rest := [name for name in there if name not in wanted]:
        notes.append(f"columns or classes left out, not in data.classes: {listing(rest, 20)}")
    labels = np.zeros((len(rows), len(wanted)), dtype=np.int64)
    for number, row in enumerate(rows):
        for k, name in enumerate(wanted):
            if said:
                labels[number, k] = name in said[number]
            elif row[name] in _NUMBERS:
                labels[number, k] = _NUMBERS[row[name]]
            else:
                raise DataError(
                    f"{table}: the column {name} holds {row[name]!r}; a class has 0 (not shown) "
                    f"or 1 (shown): make uncertain or empty cells one of them, or name the "
                    f"columns that are classes in data.classes"
                )
    return wanted, labels


def _parts(
    table: Path, names: Sequence[str], rows: Sequence[Mapping[str, str]]
) -> NDArray[np.int64]:
    """Return each image's part, by the table or else by the folders."""
    column = next((name for name in rows[0] if name.lower() in _PART_COLUMNS), None)
    words = (
        [row[column] for row in rows]
        if column is not None
        else [re.split("/", name)[0] if "/" in name else "" for name in names]
    )
    part_of = {word: p for p, own in named_parts(sorted({*words})).items() for word in own}
    if column is not None and (odd := sorted({*words} - part_of.keys())):
        raise DataError(
            f"{table}: the column {column} holds {listing([repr(word) for word in odd])}; it says "
            f"train, val or test"
        )
    if "train" not in part_of.values() or {*words} - part_of.keys():
        return np.full(len(names), NO_PART)
    return np.array([PARTS.index(part_of[word]) for word in words])


def _judge_unreadable(unreadable: Mapping[str, str], total: int, notes: list[str]) -> None:
    shown = by_reason(unreadable)
    if len(unreadable) * UNREADABLE_ONE_IN > total:
        raise DataError(
            f"{len(unreadable)} of {total} images cannot be read: {listing(shown)}; repair or "
            f"remove them (up to 1 in {UNREADABLE_ONE_IN} would be skipped)"
        )
    notes.append(f"skipped, cannot be read ({len(unreadable)} of {total}): {listing(shown, 20)}")
