import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.data.dealing import deal_folds
from attnsearch.runs.data.groups import read_groups
from attnsearch.runs.data.splits import Examples, assign_parts
from attnsearch.runs.readers.source import NO_PART, PARTS, DataError

FRACTIONS = (0.7, 0.15, 0.15)
Array = np.ndarray[Any, Any]


def assign(labels: Array, groups: list[str] | None = None, **options: Any) -> Array:
    own = options.pop("own", np.full(len(labels), NO_PART))
    names = [f"class{k}" for k in range(int(labels.max()) + 1)]
    draws = (options.pop("seed", 0), options.pop("fractions", FRACTIONS))
    grouped = None if groups is None else np.array(groups)
    return assign_parts(own, Examples(labels, names, grouped, *draws), **options)[0]


def patients(count: int, seed: int = 0, classes: int = 3) -> tuple[Array, list[str]]:
    """Labels and groups: patients with 1 to 12 images, mostly of one class."""
    random = np.random.default_rng(seed)
    labels, groups = [], []
    for patient in range(count):
        main = patient % classes
        for _ in range(random.integers(1, 13)):
            labels.append(main if random.random() < 0.8 else random.integers(classes))
            groups.append(f"p{patient}")
    return np.array(labels, dtype=np.int64), groups


def shares(labels: Array, chosen: Array) -> Array:
    counts: Array = np.bincount(labels[chosen], minlength=labels.max() + 1)
    found: Array = counts / counts.sum()
    return found


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(3, 60), min_size=2, max_size=6),
    seed=st.integers(0, 2**31 - 1),
    fractions=st.tuples(*[st.floats(0.05, 1)] * 3),
)
def test_every_class_is_dealt_out_in_the_asked_shares(
    counts: list[int], seed: int, fractions: tuple[float, ...]
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    parts = assign(labels, seed=seed, fractions=fractions)
    for label, count in enumerate(counts):
        got = [int((parts[labels == label] == part).sum()) for part in range(3)]
        assert min(got) >= 1
        for part, share in enumerate(np.array(fractions) / sum(fractions)):
            assert abs(got[part] - share * count) <= 2


def test_a_seed_is_a_split() -> None:
    labels = np.arange(200) % 4
    first, again, other = assign(labels, seed=3), assign(labels, seed=3), assign(labels, seed=4)
    assert (first == again).all()
    assert (first != other).mean() > 0.2


def test_the_split_of_seed_0_never_changes() -> None:
    """Results are compared across versions of numpy and of this package."""
    labels = np.arange(20) % 2
    groups = [f"p{i // 2}" for i in range(20)]
    splits = {
        "00102002000010000101": assign(labels),
        "22000022000000000011": assign(labels, groups),
        "20120202200122000000": assign(labels, folds=3, fold=1),
        "22000000001122220022": assign(labels, groups, folds=3, fold=1),
    }
    for expected, parts in splits.items():
        assert "".join(map(str, parts)) == expected


def test_too_few_images_are_named_with_their_class() -> None:
    labels = np.array([0] * 9 + [1] * 2)
    with pytest.raises(DataError, match=r"train, val and test needs at least 3 .*class1 \(2\)"):
        assign(labels)
    with pytest.raises(DataError, match=r"5 folds needs at least 5 of each class.*class1 \(2\)"):
        assign(labels, folds=5)


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_together_and_classes_stay_even(seed: int) -> None:
    labels, groups = patients(60, seed)
    parts = assign(labels, groups, seed=seed)
    for group in set(groups):
        assert len({parts[i] for i, g in enumerate(groups) if g == group}) == 1
    sizes = [(parts == part).mean() for part in range(3)]
    assert np.abs(np.array(sizes) - FRACTIONS).max() < 0.06
    for part in range(3):
        assert np.abs(shares(labels, parts == part) - shares(labels, parts >= 0)).max() < 0.12


def test_grouped_splits_follow_the_seed() -> None:
    labels, groups = patients(60)
    splits = [assign(labels, groups, seed=seed) for seed in (0, 0, 1, 2)]
    assert (splits[0] == splits[1]).all()
    assert (splits[0] != splits[2]).any()
    assert (splits[2] != splits[3]).any()


def test_few_groups_still_make_three_parts_or_an_error() -> None:
    labels = np.arange(30) % 2
    groups = [f"p{i // 10}" for i in range(30)]
    parts = assign(labels, groups)
    assert sorted(np.bincount(parts)) == [10, 10, 10]
    with pytest.raises(DataError, match=r"at least 3 groups, found 2"):
        assign(labels[:20], groups[:20])


@pytest.mark.parametrize("seed", range(8))
def test_a_class_with_patients_enough_is_in_every_part(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 31, 24)
    groups = [f"p{i}" for i, size in enumerate(sizes) for _ in range(size)]
    labels = np.repeat(np.arange(24) % 4, sizes)  # six patients a class
    parts = assign(labels, groups, seed=seed)
    assert {(p, k) for p, k in zip(parts.tolist(), labels.tolist(), strict=True)} == {
        (part, label) for part in range(3) for label in range(4)
    }


def test_many_groups_are_dealt_out_in_seconds() -> None:
    labels = np.arange(60_000) % 10
    groups = [f"p{i // 6}" for i in range(60_000)]
    start = time.process_time()
    parts = assign(labels, groups)
    assert time.process_time() - start < 10
    assert np.abs(np.bincount(parts) / 60_000 - FRACTIONS).max() < 0.01


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("folds", [2, 5])
def test_folds_are_disjoint_cover_everything_and_are_stratified(folds: int, grouped: bool) -> None:
    labels, names = patients(60)
    groups = names if grouped else None
    times_tested = np.zeros(len(labels), dtype=int)
    for fold in range(folds):
        parts = assign(labels, groups, folds=folds, fold=fold)
        assert (parts != NO_PART).all()
        test = parts == PARTS.index("test")
        times_tested += test
        assert abs(test.mean() - 1 / folds) < (0.05 if grouped else 0.01)
        assert np.abs(shares(labels, test) - shares(labels, parts >= 0)).max() < 0.08
        val = (parts == PARTS.index("val")).sum() / (~test).sum()
        assert abs(val - 0.15 / 0.85) < 0.05
        if groups:
            found: dict[str, set[int]] = {}
            for part, group in zip(parts.tolist(), groups, strict=True):
                found.setdefault(group, set()).add(part)
            assert all(len(places) == 1 for places in found.values())
    assert (times_tested == 1).all()


def test_folds_differ_by_at_most_one_image_and_one_of_each_class() -> None:
    labels = np.repeat(np.arange(4), [7, 8, 13, 30])
    numbers = deal_folds(labels, 5, (0,))
    assert np.ptp(np.bincount(numbers)) <= 1
    for label in range(4):
        assert np.ptp(np.bincount(numbers[labels == label], minlength=5)) <= 1


def test_the_sources_own_test_part_is_outside_of_all_folds() -> None:
    labels = np.arange(100) % 2
    own = np.repeat([0, 1, 2], [60, 20, 20])
    for fold in range(4):
        parts = assign(labels, own=own, folds=4, fold=fold)
        assert (parts[80:] == NO_PART).all()
        assert (parts[:80] == PARTS.index("test")).sum() == 20


def test_without_a_fold_the_first_is_taken_and_others_are_errors() -> None:
    labels = np.arange(40) % 2
    assert (assign(labels, folds=4) == assign(labels, folds=4, fold=0)).all()
    with pytest.raises(DataError, match=r"data.fold: 4 is not one of 0..3"):
        assign(labels, folds=4, fold=4)


def test_a_group_in_two_parts_of_an_own_split_is_an_error() -> None:
    labels = np.arange(12) % 2
    own = np.repeat([0, 1, 2], 4)
    groups = [f"p{i}" for i in range(12)]
    assert (assign(labels, groups, own=own) == own).all()
    groups[11] = "p0"
    with pytest.raises(DataError, match=r"1 groups .*p0 in train and test"):
        assign(labels, groups, own=own)


NAMES = ["cat/p1_a.png", "cat/p1_b.png", "dog/p2_a.png", "dog/extra.png"]


def test_a_pattern_finds_groups_in_names() -> None:
    groups, notes = read_groups({"pattern": r"/(p\d+)_"}, NAMES)
    assert groups[0] == groups[1] == "p1"
    assert groups[2] == "p2"
    assert groups[3] not in {"p1", "p2", "dog/extra.png"[:2]}
    assert "groups: 4 images in 3 groups" in notes
    assert any("1 images (dog/extra.png)" in note for note in notes)


def test_a_pattern_means_the_files_name_and_the_folders_only_if_it_fits_none() -> None:
    names = ["train/images/p1_a.png", "val/images/p1_b.png", "val/images/site_b/p2_a.png"]
    assert read_groups({"pattern": "^([^_]+)_"}, names)[0] == ["p1", "p1", "p2"]
    assert read_groups({"pattern": "^(p[0-9]+)_"}, names)[0] == ["p1", "p1", "p2"]
    assert read_groups({"pattern": "^([a-z]+)/"}, names)[0] == ["train", "val", "val"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"patient(\d+)", r"fits none of 4 names, such as cat/p1_a\.png"),
        (r"()", "fits none"),
    ],
)
def test_patterns_that_make_no_groups_are_errors(pattern: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_groups({"pattern": pattern}, NAMES)


def table(folder: Path, rows: list[tuple[str, str]], delimiter: str = ",") -> dict[str, str]:
    path = folder / "groups.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([("name", "group"), *rows])
    return {"csv": str(path)}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("names", [NAMES, ["p1_a.png", "p1_b.png", "p2_a.png", "extra.png"]])
def test_a_table_gives_groups(tmp_path: Path, names: list[str], delimiter: str) -> None:
    spec = table(tmp_path, [*zip(names, "xxyz", strict=True), ("unused", "w")], delimiter)
    assert read_groups(spec, NAMES)[0] == list("xxyz")


def test_a_table_may_leave_out_endings(tmp_path: Path) -> None:
    stems = ["p1_a", "p1_b", "p2_a", "extra"]
    assert read_groups(table(tmp_path, list(zip(stems, "xxyz", strict=True))), NAMES)[0] == [
        *"xxyz"
    ]


def test_a_short_name_that_fits_two_images_is_missing_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lacks 2 of 2 images: cat/1\.png, dog/1\.png"):
        read_groups(table(tmp_path, [("1.png", "x")]), ["cat/1.png", "dog/1.png"])


def test_mistakes_in_a_table_are_named(tmp_path: Path) -> None:
    rows = list(zip(NAMES, "xxyz", strict=True))

    def fails(message: str, spec: dict[str, str]) -> None:
        with pytest.raises(DataError, match=message):
            read_groups(spec, NAMES)

    fails(r"lacks 1 of 4 images: dog/extra\.png", table(tmp_path, rows[:3]))
    fails(r"groups\.csv:6: cat/p1_a\.png .* x and q", table(tmp_path, [*rows, (NAMES[0], "q")]))
    fails(r"groups\.csv:6: name or group is empty", table(tmp_path, [*rows, ("x", "")]))
    fails(r"no-such\.csv cannot be read", {"csv": str(tmp_path / "no-such.csv")})
    (tmp_path / "groups.csv").write_text("file,patient\na,b\n")
    fails("columns file, patient; it needs name and group", {"csv": str(tmp_path / "groups.csv")})
    (tmp_path / "groups.csv").write_bytes(b"name,group\n\xff\xfe,1\n")
    fails("cannot be read", {"csv": str(tmp_path / "groups.csv")})
    (tmp_path / "groups.csv").write_bytes(b"")
    fails("columns none", {"csv": str(tmp_path / "groups.csv")})


def write_npz(folder: Path) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (120, 4, 4), dtype=np.uint8)
    np.savez(folder / "set.npz", train_images=images, train_labels=np.arange(120) % 3)
    return folder / "set.npz"


def test_a_data_set_carries_its_groups(tmp_path: Path) -> None:
    def load(**options: Any) -> DataSet:
        return load_data({"source": str(write_npz(tmp_path)), "image_size": 4, **options})

    # train/000042 belongs to group 00004: ten images in a row.
    data = load(groups={"pattern": r"(\d+)\d$"})
    found = {part: set(getattr(data, part).groups) for part in PARTS}
    assert not found["train"] & found["val"] | found["train"] & found["test"]
    assert not found["val"] & found["test"]
    for part in PARTS:
        split = getattr(data, part)
        assert split.groups == [name[-6:-1] for name in split.names]
    assert "groups: 120 images in 12 groups" in data.notes
    assert load().train.groups is None
    folded = [load(groups={"pattern": r"(\d+)\d$"}, folds=4, fold=i).test for i in range(4)]
    assert sorted(name for split in folded for name in split.names) == sorted(
        f"train/{i:06d}" for i in range(120)
    )


def test_the_development_part_is_outside_of_all_folds() -> None:
    labels, groups = patients(60)
    options: dict[str, Any] = {"folds": 4, "development": 0.25}
    developing = assign(labels, groups, **options)
    used = developing != NO_PART
    assert set(developing[used].tolist()) == {0, 1}  # no test part
    assert 0.15 < used.mean() < 0.35
    names = np.array(groups)
    tested = np.zeros(len(labels), dtype=int)
    for fold in range(4):
        parts = assign(labels, groups, fold=fold, **options)
        assert not set(names[parts != NO_PART]) & set(names[used])
        assert not set(names[parts == 2]) & set(names[parts < 2]) - set(names[parts == NO_PART])
        tested += parts == 2
    assert (tested == ~used).all()
    # Shares of the classes are kept.
    assert np.abs(shares(labels, used) - shares(labels, ~used)).max() < 0.15


def test_a_development_part_is_a_data_set_without_test_images() -> None:
    config = {"source": "digits", "image_size": 8, "folds": 3, "development": 0.3}
    data = load_data(config)
    assert (len(data.test), data.test.images.shape[1:]) == (0, (8, 8, 1))
    developed = {*data.train.names, *data.val.names}
    assert any("outside of all folds" in note for note in data.notes)
    assert not any("no test images" in note for note in data.notes)
    for fold in range(3):
        one = load_data({**config, "fold": fold})
        assert len(one.test)
        assert developed.isdisjoint([*one.train.names, *one.val.names, *one.test.names])


def several(images: int, seed: int = 0) -> Array:
    """Labels of four classes, of which one is rare; a third of the images has none."""
    random = np.random.default_rng(seed)
    labels = (random.random((images, 4)) < [0.4, 0.3, 0.1, 0.0]).astype(np.int64)
    labels[random.permutation(images)[:7], 3] = 1
    return labels


def assign_several(labels: Array, groups: list[str] | None = None, **options: Any) -> Array:
    names = [f"class{k}" for k in range(labels.shape[1])]
    grouped = None if groups is None else np.array(groups)
    examples = Examples(labels, names, grouped, options.pop("seed", 0), FRACTIONS)
    return assign_parts(np.full(len(labels), NO_PART), examples, **options)[0]


@pytest.mark.parametrize("seed", range(5))
def test_every_class_of_several_an_image_is_in_every_part_in_its_share(seed: int) -> None:
    labels = several(200, seed)
    parts = assign_several(labels, seed=seed)
    assert np.bincount(parts).tolist() == [140, 30, 30]
    for k, count in enumerate(labels.sum(0)):
        got = np.bincount(parts[labels[:, k] == 1], minlength=3)
        assert got.min() >= 1
        assert np.abs(got - count * np.array(FRACTIONS)).max() <= 2
    np.testing.assert_array_equal(parts, assign_several(labels, seed=seed))
    assert (parts != assign_several(labels, seed=seed + 1)).any()


def test_folds_of_several_classes_an_image() -> None:
    labels = several(90)
    folds = deal_folds(labels, 5, (0,))
    assert np.bincount(folds).tolist() == [18] * 5
    for k in range(4):
        assert np.ptp(np.bincount(folds[labels[:, k] == 1], minlength=5)) <= 2


def test_groups_of_several_classes_an_image_stay_together() -> None:
    labels = several(300)
    groups = [f"p{row // 3}" for row in range(300)]
    parts = assign_several(labels, groups)
    assert all(len({*parts[row : row + 3]}) == 1 for row in range(0, 300, 3))
    for k in range(3):
        got = np.bincount(parts[labels[:, k] == 1], minlength=3) / labels[:, k].sum()
        assert np.abs(got - FRACTIONS).max() < 0.08
    assert np.abs(np.bincount(parts) / 300 - FRACTIONS).max() < 0.08


def test_too_few_images_of_a_class_are_told() -> None:
    labels = several(60)
    labels[:, 3] = 0
    labels[:2, 3] = 1
    with pytest.raises(DataError, match=r"at least 3 of each class; .*: class3 \(2\)"):
        assign_several(labels)
