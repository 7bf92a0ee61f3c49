"""Which names tell groups, and which only look like it."""

from collections.abc import Iterable

import pytest

from attnsearch.runs.data.group_names import groups_in_names
from attnsearch.runs.data.groups import read_groups

GROUPED = {
    "left and right as words": [
        f"{i}_{side}.jpeg" for i in range(9) for side in ("left", "right")
    ],
    "OD and OS": [f"x/p{i}-{eye}.png" for i in range(9) for eye in ("OD", "OS")],
    "several images an eye": [f"c{i}_{e}_{n}.png" for i in range(9) for e in "LR" for n in "12"],
    "slices without a stroke": [f"s{i}slice{n}.png" for i in range(9) for n in range(3)],
    "folders of patients": [f"images/patient{i}/{n}.png" for i in range(9) for n in range(3)],
    "cases": [f"case_{i}_{n}.png" for i in range(9) for n in range(3)],
    "views by number": [f"images/a{i}f_{n:02d}.jpg" for i in range(9) for n in range(16)],
}
PLAIN: dict[str, Iterable[str]] = {
    "classes": [f"{name}/{name}_{i}.png" for name in ("healthy", "ill") for i in range(9)],
    "classes that end in l and r": [
        f"{name}_{i}.png" for name in ("animal", "car") for i in "123"
    ],
    "one case each": [f"case_{i:03d}.png" for i in range(30)],
    "a year and a running number": [f"{2007 + i % 6}_{i:06d}.jpg" for i in range(60)],
    "slices of two scans": [f"scan{i}_slice{n}.png" for i in range(2) for n in range(9)],
    "arrays": [f"train/{i:06d}" for i in range(30)],
}


@pytest.mark.parametrize("kind", GROUPED)
def test_names_with_a_structure_tell_groups(kind: str) -> None:
    names = GROUPED[kind]
    named = groups_in_names(names)
    assert named is not None
    assert (named.groups, named.images) == (9, len(names))
    groups, _ = read_groups({"pattern": named.pattern}, names)
    assert len(set(groups)) == 9, "the space file's pattern means the same"


@pytest.mark.parametrize("kind", PLAIN)
def test_names_without_one_tell_none(kind: str) -> None:
    assert groups_in_names(list(PLAIN[kind])) is None
