import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.blocks.hosts import as_size
from attnsearch.runs.data import data as data_module
from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.readers import resize
from attnsearch.runs.readers.source import DataError


def content(counts: tuple[int, int, int] = (30, 6, 9), size: int = 6) -> dict[str, Any]:
    random = np.random.default_rng(1)
    arrays: dict[str, Any] = {}
    for part, count in zip(("train", "val", "test"), counts, strict=True):
        arrays[f"{part}_images"] = random.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(count) % 3
    return arrays


def load(folder: Path, arrays: dict[str, Any] | None = None, **options: Any) -> DataSet:
    path = folder / "set.npz"
    np.savez(path, **(content() if arrays is None else arrays))
    return load_data({"source": str(path), "image_size": 6, **options}, "classification")


def test_every_part_is_a_contiguous_read_only_array(tmp_path: Path) -> None:
    mixed = content()
    del mixed["val_images"], mixed["val_labels"]
    for data in (load(tmp_path), load(tmp_path, mixed), load(tmp_path, folds=3)):
        for split in (data.train, data.val, data.test):
            assert split.images.dtype == np.uint8
            assert split.labels.dtype == np.int64
            assert split.images.flags.c_contiguous
            assert not split.images.flags.writeable
            assert not split.labels.flags.writeable
            assert len(split) == len(split.images) == len(split.labels) == len(split.names)


def test_a_pickled_data_set_shares_its_arrays_buffers(tmp_path: Path) -> None:
    data = load(tmp_path)
    buffers: list[pickle.PickleBuffer] = []
    small = pickle.dumps(data, protocol=5, buffer_callback=buffers.append)
    raw = sum(buffer.raw().nbytes for buffer in buffers)
    arrays = [
        getattr(s, a) for s in (data.train, data.val, data.test) for a in ("images", "labels")
    ]
    assert raw == sum(array.nbytes for array in arrays)
    assert len(small) < 4000
    again = pickle.loads(small, buffers=[bytes(buffer.raw()) for buffer in buffers])
    assert (again.train.images == data.train.images).all()
    assert again.describe() == data.describe()


def test_statistics_are_those_of_the_training_part(tmp_path: Path) -> None:
    data = load(tmp_path)
    pixels = data.train.images.astype(np.float64) / 255
    assert np.allclose(data.mean, pixels.mean((0, 1, 2)), rtol=0, atol=1e-12)
    assert np.allclose(data.std, pixels.std((0, 1, 2)), rtol=0, atol=1e-12)
    other = content() | {"val_images": np.zeros((6, 6, 6, 3), np.uint8)}
    assert load(tmp_path, other).mean == data.mean


def test_statistics_of_constant_images_are_exact(tmp_path: Path) -> None:
    data = load(tmp_path, content() | {"train_images": np.full((30, 6, 6), 51, np.uint8)})
    assert data.mean == pytest.approx((0.2,) * 3)
    assert data.std == (0.0,) * 3


def test_statistics_of_many_images_do_not_overflow(tmp_path: Path) -> None:
    images = np.full((3000, 64, 64, 1), 255, np.uint8)
    labels = {"train_labels": np.arange(3000) % 3}
    arrays = content() | {"train_images": images} | labels
    for part in ("val", "test"):
        arrays[f"{part}_images"] = arrays[f"{part}_images"][..., :1]
    np.savez(tmp_path / "big.npz", **arrays)
    data = load_data({"source": str(tmp_path / "big.npz"), "image_size": 64})
    assert data.mean == (1.0,)
    assert data.std == (0.0,)


def test_the_fingerprint_changes_with_what_decides_a_result(tmp_path: Path) -> None:
    base = content()
    data = load(tmp_path, base)
    changed_pixel, changed_label = content(), content()
    changed_pixel["train_images"][3, 2, 1, 0] ^= 1
    changed_label["val_labels"] = changed_label["val_labels"][::-1]
    moved = {
        f"{part}_{kind}": base[f"{source}_{kind}"]
        for part, source in (("train", "train"), ("val", "test"), ("test", "val"))
        for kind in ("images", "labels")
    }
    prints = {
        load(tmp_path, arrays, **options).fingerprint
        for arrays, options in (
            (base, {}),
            (changed_pixel, {}),
            (changed_label, {}),
            (moved, {}),
            (base, {"image_size": 5}),
            (base, {"channels": 1}),
            (base, {"folds": 3, "fold": 0}),
            (base, {"folds": 3, "fold": 1}),
        )
    }
    assert len(prints) == 8
    assert load(tmp_path, base | {"class_names": np.array(list("abc"))}).fingerprint in prints
    assert load(tmp_path, base, seed=9).fingerprint == data.fingerprint


def test_the_test_fingerprint_knows_the_same_images_in_any_form(tmp_path: Path) -> None:
    base = content()
    first = load(tmp_path, base).test_fingerprint
    order = np.random.default_rng(0).permutation(9)
    same = base | {key: base[key][order] for key in ("test_images", "test_labels")}
    same["train_images"] = base["train_images"][::-1]
    for arrays, options in ((same, {}), (base, {"image_size": 12}), (base, {"channels": 1})):
        assert load(tmp_path, arrays, **options).test_fingerprint == first
    other = base | {"test_images": base["test_images"] ^ 1}
    assert load(tmp_path, other).test_fingerprint != first
    other = base | {"test_labels": base["test_labels"][::-1]}
    assert load(tmp_path, other).test_fingerprint != first


def test_describe_is_one_line_without_a_path(tmp_path: Path) -> None:
    grouped = load(tmp_path, groups={"pattern": r"(\w+/\d+)\d$"})
    text = grouped.describe()
    assert text == ("set.npz: 3 classes, 30 train + 6 val + 9 test in 5 groups, 6x6 colour")
    assert "groups: 45 images in 5 groups" in grouped.notes


def test_an_image_in_two_parts_is_said(tmp_path: Path) -> None:
    arrays = content()
    arrays["test_images"][4] = arrays["train_images"][7]
    notes = load(tmp_path, arrays).notes
    assert notes == ["the same image in two parts: train/000007 = test/000004"]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"train_labels": np.full(30, -1)}, {}, r"label -1 of train/000000 is out of range"),
        ({"val_labels": np.full(6, 7)}, {"classes": 3}, r"label 7 of val/000000.* 0\.\.2"),
        ({"class_names": np.array(["a", "b"])}, {}, r"label 2 of .*2 classes have labels 0\.\.1"),
        ({}, {"classes": ["a", "b"]}, "label 2 of train/000002"),
        ({}, {"classes": 4}, "no training images of class 3"),
        ({"val_labels": np.full(6, 3)}, {}, "no training images of class 3"),
        ({"class_names": np.array(list("abc"))}, {"classes": 4}, "names 3 classes: a, b, c"),
        ({"class_names": np.array(["a", "b", "a"])}, {}, "two classes are called a"),
        (
            {key: np.zeros(n, int) for key, n in (("train_labels", 30), ("val_labels", 6))}
            | {"test_labels": np.zeros(9, int)},
            {},
            "only one class",
        ),
        ({}, {"groups": {"pattern": r"p(\d+)"}}, "fits none"),
        ({}, {"groups": {"csv": "/no/such.csv"}}, "cannot be read"),
    ],
)
def test_mistakes_are_data_errors(
    tmp_path: Path, change: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as error:
        load(tmp_path, content() | change, **options)
    assert isinstance(error.value, AttnsearchError)


def test_a_class_missing_in_val_or_test_is_a_note(tmp_path: Path) -> None:
    notes = load(tmp_path, content() | {"test_labels": np.arange(9) % 2}).notes
    assert notes == ["no test images of class 2"]


def test_sources_that_are_none(tmp_path: Path) -> None:
    def fails(source: Any, message: str, task: str = "classification") -> None:
        with pytest.raises(DataError, match=message):
            load_data({"source": source, "image_size": 8}, task)

    np.savez(tmp_path / "breast.npz", **content())
    fails(None, "data.source is null")
    fails(str(tmp_path / "breasts.npz"), r"does not exist; did you mean breast\.npz\?")
    fails(str(tmp_path / "no" / "such"), "does not exist")
    fails(str(tmp_path / "digit"), "did you mean digits")
    (tmp_path / "x.csv").write_text("")
    fails(str(tmp_path / "x.csv"), r"is not an \.npz file .* or a folder of")
    fails("digits", "'regression' has no data reader", task="regression")


@pytest.mark.parametrize(
    "options", [{"eval_crop": 0.75}, {"eval_size": 9}, {"eval_size": [4, 9], "eval_crop": 12}]
)
def test_evaluation_sees_other_images_than_training_does(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    plain, data = load(tmp_path), load(tmp_path, **options)
    assert (data.train.images == plain.train.images).all()
    assert (data.mean, data.std, data.image_size) == (plain.mean, plain.std, (6, 6))
    stored = content()
    for part in ("val", "test"):
        shown = getattr(data, part)
        size = as_size(options.get("eval_size", 6))
        assert shown.images.shape[1:3] == data.eval_size == size
        for image, pixels in zip(shown.images, stored[f"{part}_images"], strict=True):
            assert (image == resize(pixels, size, crop=options.get("eval_crop"))).all()
        assert shown.names == getattr(plain, part).names
    assert data.fingerprint != plain.fingerprint
    assert data.test_fingerprint == plain.test_fingerprint
    assert "validation and test images are" in data.notes[-1]


def test_evaluation_at_the_size_of_training_is_that_of_before(tmp_path: Path) -> None:
    assert load(tmp_path, eval_size=6).fingerprint == load(tmp_path).fingerprint


def test_a_file_that_changes_between_training_and_evaluation_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = data_module.read_source

    def overwritten(config: Any, task: str) -> Any:
        source = read(config, task)
        changed = content()
        changed["val_images"][0] = 0
        np.savez(config["source"], **changed)
        return source

    monkeypatch.setattr(data_module, "read_source", overwritten)
    with pytest.raises(DataError, match="was changed while it was read"):
        load(tmp_path, eval_crop=0.5)
