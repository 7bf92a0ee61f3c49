"""Folders of images with a table of what each shows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attnsearch.runs.data.data import load_data
from attnsearch.runs.readers.label_tables import called_in, label_table
from attnsearch.runs.readers.source import PARTS, DataError, Source
from attnsearch.runs.readers.table import read_source, several_labels

NAMES = [f"images/p{number:02d}.png" for number in range(12)]


def fill(folder: Path, table: str, names: list[str] = NAMES, file: str = "labels.csv") -> Path:
    draws = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 255, (9, 9), dtype=np.uint8)).save(folder / name)
    (folder / file).write_text(table, encoding="utf-8")
    return folder


def columns(cells: str = "{0},{1}", head: str = "name,edema,mass", ending: str = ".png") -> str:
    lines = [f"p{n:02d}{ending}," + cells.format(n % 2, int(n % 3 == 0)) for n in range(12)]
    return "\n".join([head, *lines])


def read(folder: Path, **more: Any) -> Source:
    return read_source({"source": str(folder), "image_size": 8, **more}, "multilabel")


SHOWN = [[n % 2, int(n % 3 == 0)] for n in range(12)]
WORDS = "\n".join(
    ["Image Index;Finding Labels"]
    + [
        f"p{n:02d};" + ("|".join(w for w, yes in zip(("edema", "mass"), own, strict=True) if yes))
        for n, own in enumerate(SHOWN)
    ]
)


@pytest.mark.parametrize(
    "table",
    [
        columns(),
        columns(ending=""),
        columns("{0}.0\t{1}", "file\tedema\tmass").replace(",", "\t"),
        columns(head="name, edema, mass").replace("\np", "\nimages/p"),
        WORDS,
        WORDS.replace("p04;\n", "p04;No Finding\n"),
    ],
)
def test_a_table_says_what_images_show(tmp_path: Path, table: str) -> None:
    source = read(fill(tmp_path, table))
    assert (source.class_names, source.names) == (["edema", "mass"], NAMES)
    assert source.labels.tolist() == SHOWN
    assert source.images.shape == (12, 8, 8, 1)
    assert several_labels(tmp_path)
    data = load_data({"source": str(tmp_path), "image_size": 8}, "multilabel")
    assert data.classes == 2 and len(data.train) + len(data.val) + len(data.test) == 12


def test_parts_are_those_of_the_table_or_of_folders(tmp_path: Path) -> None:
    parts = ["train", "valid", "test"]
    lines = columns().splitlines()
    table = [f"{lines[0]},Split", *(f"{line},{parts[n % 3]}" for n, line in enumerate(lines[1:]))]
    source = read(fill(tmp_path / "a", "\n".join(table)))
    assert source.parts.tolist() == [n % 3 for n in range(12)]
    assert source.class_names == ["edema", "mass"]
    names = [f"{parts[n % 3]}/p{n:02d}.png" for n in range(12)]
    source = read(fill(tmp_path / "b", columns(), names))
    assert {name.split("/")[0] for name in source.names} == {*parts}
    told = [PARTS[part] for part in source.parts]
    assert told == [name.split("/")[0].replace("valid", "val") for name in source.names]
    table[3] = table[3].replace("valid", "later").replace("test", "later")
    with pytest.raises(DataError, match="the column Split holds 'later'; it says train, val"):
        read(fill(tmp_path / "c", "\n".join(table)))


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    table = columns("{0},{1},0", "name,edema,mass,rare") + "\np99.png,1,1,0"
    folder = fill(tmp_path, table, [*NAMES, "images/extra.png"])
    source = read(folder, classes=["mass", "edema"])
    assert source.labels.tolist() == [own[::-1] for own in SHOWN]
    assert source.notes[:3] == [
        "1 image that labels.csv does not name: images/extra.png",
        "1 line of labels.csv without an image: p99.png",
        "columns or classes left out, not in data.classes: rare",
    ]
    with pytest.raises(DataError, match=r"names hernia; the table has edema, mass, rare"):
        read(folder, classes=["mass", "hernia"])
    with pytest.raises(DataError, match=r"at least 3 of each class; .*: rare \(0\)"):
        load_data({"source": str(folder), "image_size": 8}, "multilabel")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (columns("{0},-1"), "the column mass holds '-1'; a class has 0 .* uncertain or empty"),
        (columns("{0},"), "the column mass holds ''"),
        ("name\np01.png", "has the columns name; it needs"),
        ("name,mass,mass\np01.png,1,0", "has the columns name, mass, mass"),
        (columns().replace("p", "q"), "names none of the 12 images in .*, such as images/p00"),
        (columns() + "\np01.png,0,0", "labels.csv:14: p01.png stands twice, with other labels"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(fill(tmp_path, table))


def test_one_class_for_each_image_is_said(tmp_path: Path) -> None:
    table = "\n".join(["name,label", *(f"p{n:02d}.png,{'ab'[n % 2]}" for n in range(12))])
    assert "names one class for each image" in read(fill(tmp_path, table)).notes[0]


def test_which_file_is_the_table(tmp_path: Path) -> None:
    assert label_table(fill(tmp_path, columns(), file="Data_Entry.csv")) is not None
    assert not several_labels(tmp_path)  # it may say anything: for init, --task multilabel
    (tmp_path / "more.csv").write_text("a,b")
    assert label_table(tmp_path) is None
    with pytest.raises(DataError, match=r"an .npz file .* or a folder of images with labels\.csv"):
        read(tmp_path)
    fill(tmp_path, columns())
    assert label_table(tmp_path) == tmp_path / "labels.csv"


def test_what_a_table_calls_an_image() -> None:
    names = ["a/1.png", "b/1.png", "b/2.png", "c/x.y.png"]
    assert called_in({"a/1.png", "1.png", "2", "x.y"}, names) == {
        "a/1.png": "a/1.png",
        "b/1.png": "b/1.png",
        "b/2.png": "2",
        "c/x.y.png": "x.y",
    }
