"""What there is of each class, and what happened to the data: a part of `attnsearch check`."""

from collections.abc import Sequence

import numpy as np

from attnsearch.blocks.build import Images
from attnsearch.runs.data import DataSet, Split
from attnsearch.runs.readers import IGNORED, PARTS
from attnsearch.search.text import paragraph, table


def data_text(
    images: Images, data: DataSet | None, data_note: str | None, duplicates: Sequence[str]
) -> str:
    """Return what `attnsearch check` says of a data set.

    Args:
        images: What networks are built for.
        data: The data set; None where the file names none.
        data_note: Why there is no data set.
        duplicates: What is said of images that stand in two parts.
    """
    if data is None:
        return paragraph(
            f"Data: {data_note}. Networks below are for {images.channels} x "
            f"{images.size[0]} x {images.size[1]} images and {images.classes} classes."
        )
    counts = ", ".join(
        f"{len(getattr(data, key).labels):,} {name}"
        for key, name in (("train", "training"), ("val", "validation"), ("test", "test"))
    )
    out = [
        f"Data: {counts} images of {data.channels} x {data.image_size[0]} x "
        f"{data.image_size[1]}; {len(data.class_names)} classes"
    ]
    counted = _pixel_shares if data.task == "segmentation" else _class_counts
    columns = [counted(getattr(data, part), data.classes) for part in PARTS]
    rows = list(zip(data.class_names, *columns, strict=True))
    shown = rows if len(rows) <= 20 else rows[:20]
    headers = ["pixels of class" if data.task == "segmentation" else "class", *PARTS]
    out.append(table(headers, shown, right=set(PARTS), indent="  "))
    if len(rows) > len(shown):
        out.append(f"  and {len(rows) - len(shown)} more classes")
    notes = [*data.notes, *(f"warning: {note}" for note in duplicates)]
    out += [paragraph(note, indent="  * ", hanging="    ") for note in notes]
    return "\n".join(out)


def _class_counts(part: Split, classes: int) -> list[int]:
    return [int(count) for count in np.bincount(part.labels, minlength=classes)]


def _pixel_shares(part: Split, classes: int) -> list[str]:
    """Return the share of each class in the pixels that count, at the network's size."""
    if part.masks is None or not len(part):
        return ["-"] * classes
    counts = np.bincount(part.masks.resized.ravel(), minlength=IGNORED + 1)[:classes]
    return [f"{share:.1%}" for share in counts / max(1, counts.sum())]
