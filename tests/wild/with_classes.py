"""Images in folders of classes, as people keep them: one function a layout."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.wild.making import SIDE, Made, in_classes, layout


@layout()
def class_folders(root: Path) -> Made:
    return in_classes(Made(root / "scans", ["healthy", "ill"]), "{name}/{name}_{i}.png")


@layout()
def folder_called_digits(root: Path) -> Made:
    """A folder with the name of a built-in data set."""
    return in_classes(Made(root / "digits", ["even", "odd"]), "{name}/{name}_{i}.png")


@layout()
def wide_images(root: Path) -> Made:
    made = Made(root / "strips", ["healthy", "ill"])
    return in_classes(made, "{name}/{name}_{i}.png", shape=(12, 32, 3))


@layout()
def tall_images(root: Path) -> Made:
    """All of one shape, which is kept."""
    made = Made(root / "columns", ["healthy", "ill"])
    return in_classes(made, "{name}/{name}_{i}.png", shape=(40, 20, 3))


@layout()
def deep_grey(root: Path) -> Made:
    """Grey of 16 bits, as microscopes write it."""
    made = Made(root / "deep", ["healthy", "ill"], channels=1)
    return in_classes(made, "{name}/{name}_{i}.png", shape=(SIDE, SIDE), depth=np.uint16)


@layout()
def unequal_classes(root: Path) -> Made:
    made = Made(root / "rare", ["common", "rare"])
    in_classes(made, "{name}/{name}_{i}.png", 32, names=["common"])
    return in_classes(made, "{name}/{name}_{i}.png", 8, names=["rare"])


@layout()
def chest_xrays(root: Path) -> Made:
    made = Made(root / "chest_xray", ["NORMAL", "PNEUMONIA"], channels=1)
    for part, count in {"train": 8, "val": 4, "test": 4}.items():
        where = f"{part}/{{name}}/{part}-{{name}}-{{i}}.jpeg"
        in_classes(made, where, count, part, names=["NORMAL"], shape=(SIDE, SIDE))
        in_classes(made, where, 3 * count, part, names=["PNEUMONIA"], shape=(SIDE, SIDE))
    return made


@layout()
def set_folders(root: Path) -> Made:
    made = Made(root / "pets", ["cats", "dogs"])
    in_classes(made, "training_set/{name}/{name}.{i}.jpg", part="train")
    return in_classes(made, "test_set/{name}/{name}.9{i}.jpg", 6, "test")


@layout()
def train_dev_eval(root: Path) -> Made:
    made = Made(root / "numerals", ["one", "two"])
    for folder, part in {"train": "train", "dev": "val", "eval": "test"}.items():
        in_classes(made, f"{folder}/{{name}}/{folder}_{{name}}_{{i}}.png", 6, part)
    return made


@layout(r"--groups")
def patients_on_top(root: Path) -> Made:
    made = Made(root / "biopsies", ["benign", "malignant"])
    for patient in range(10, 20):
        where = f"{patient}/{{name}}/{patient}_{{name}}_{{i}}.png"
        in_classes(made, where, 2, group=f"{patient}")
    return made


@layout()
def one_class_in_a_part(root: Path) -> Made:
    made = Made(root / "late", ["healthy", "ill"])
    in_classes(made, "train/{name}/t{name}{i}.png", part="train")
    in_classes(made, "val/{name}/v{name}{i}.png", 4, "val")
    return in_classes(made, "test/{name}/e{name}{i}.png", 4, "test", names=["ill"])


@layout(r"scans/scans")
def nested_in_itself(root: Path) -> Made:
    """An archive of a folder, unpacked into a folder of the same name."""
    made = Made(root / "scans", ["healthy", "ill"])
    return in_classes(made, "scans/{name}/{name}_{i}.png")


def _near(made: Made, other: str) -> Made:
    """Write two classes whose first has another name in the test part."""
    _, second = made.classes  # type: ignore[misc]
    in_classes(made, "train/{name}/{name}_{i}.png", 8, "train")
    in_classes(made, "test/{name}/{name}_9{i}.png", 4, "test", names=[other, second])
    return made


@layout(r"(?s)Cat\b.*\bcat\b|\bcat\b.*Cat\b")
def near_by_case(root: Path) -> Made:
    return _near(Made(root / "animals", ["cat", "dog"]), "Cat")


@layout(r"(?i)['\"`]cat ['\"`]|(trailing|ends|end) .{0,9}(space|blank)")
def near_by_space(root: Path) -> Made:
    return _near(Made(root / "animals", ["cat", "dog"]), "cat ")


@layout(r"(?i)NFC|NFD|unicode|accent|written differently")
def near_by_accent(root: Path) -> Made:
    name = "caf\u00e9"
    return _near(Made(root / "drinks", [name, "tea"]), unicodedata.normalize("NFD", name))


@layout(r"(?i)UTF-8")
def not_utf8(root: Path) -> Made:
    """Names of a class and of files in Latin-1; messages name them, since all are not square."""
    made = Made(root / "latin", [os.fsdecode(b"caf\xe9"), "tea"])
    in_classes(made, "{name}/{name}_{i}.png", 11, shape=(SIDE, SIDE + 2, 3))
    name = os.fsdecode(b"na\xefve.png")
    made.image(f"tea/{name}", "tea", shape=(SIDE, SIDE + 2, 3))
    return made


@layout(r"(?i)UTF-8")
def folder_not_utf8(root: Path) -> Made:
    made = Made(root / os.fsdecode(b"donn\xe9es"), ["healthy", "ill"])
    return in_classes(made, "{name}/{name}_{i}.png")


@layout()
def script_class(root: Path) -> Made:
    made = Made(root / "tags", ["<script>alert(1)", "harmless & plain"])
    return in_classes(made, "{name}/{name}_{i}.png")


def _many_of_each(made: Made, where: str, groups: Sequence[str], views: Sequence[str]) -> Made:
    """Write every view of every group; classes alternate from group to group."""
    for number, group in enumerate(groups):
        label = made.classes[number % 2]  # type: ignore[index]
        for view in views:
            made.image(where.format(label=label, group=group, view=view), label, group=group)
    return made


@layout()
def two_eyes(root: Path) -> Made:
    made = Made(root / "retina", ["healthy", "ill"])
    children = [f"{i:02d}" for i in range(1, 15)]
    return _many_of_each(made, "{label}/Image_{group}{view}.jpg", children, "LR")


@layout()
def slices(root: Path) -> Made:
    made = Made(root / "ct", ["healthy", "ill"])
    patients = [f"pat{i}" for i in range(1, 13)]
    views = [f"{i:03d}" for i in range(10, 14)]
    return _many_of_each(made, "{label}/{group}_slice{view}.png", patients, views)


@layout()
def frames(root: Path) -> Made:
    made = Made(root / "endoscopy", ["polyp", "wall"])
    videos = [f"video{i}" for i in range(1, 13)]
    views = [f"{i:04d}" for i in (31, 32, 33)]
    return _many_of_each(made, "{label}/{group}_frame_{view}.png", videos, views)


@layout()
def visits(root: Path) -> Made:
    made = Made(root / "skin", ["mole", "naevus"])
    patients = [f"P{i:03d}" for i in range(7, 19)]
    return _many_of_each(made, "{label}/{group}_visit{view}.png", patients, ["1", "2"])
