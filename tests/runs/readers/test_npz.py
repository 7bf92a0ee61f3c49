import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnsearch.runs.data.data import load_data
from attnsearch.runs.readers.npz import read_npz
from attnsearch.runs.readers.source import PARTS, DataError


def arrays(
    counts: dict[str, int] | None = None, shape: tuple[int, ...] = (8, 8)
) -> dict[str, Any]:
    """A file's content: parts of noise, two classes."""
    random = np.random.default_rng(0)
    content: dict[str, Any] = {}
    for part, count in (counts or {"train": 12, "val": 4, "test": 6}).items():
        content[f"{part}_images"] = random.integers(0, 256, (count, *shape), dtype=np.uint8)
        content[f"{part}_labels"] = (np.arange(count, dtype=np.uint8) % 2)[:, None]
    return content


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "set.npz"
    np.savez_compressed(path, **content)
    return path


@pytest.mark.parametrize(
    ("shape", "channels"), [((8, 8), 1), ((8, 8, 1), 1), ((8, 8, 3), 3), ((5, 9, 3), 3)]
)
def test_layouts_with_and_without_channels(
    tmp_path: Path, shape: tuple[int, ...], channels: int
) -> None:
    content = arrays(shape=shape)
    source = read_npz(write(tmp_path, content), 8)
    assert source.images.shape == (22, 8, 8, channels)
    assert source.parts.tolist() == [0] * 12 + [1] * 4 + [2] * 6
    assert source.names[11:13] == ["train/000011", "val/000000"]
    if shape[:2] == (8, 8):
        assert (source.images[:12].ravel() == content["train_images"].ravel()).all()
        assert source.notes == []
    else:
        assert source.notes == ["resized from 5x9 to 8x8"]


def test_labels_of_either_shape_are_the_same(tmp_path: Path) -> None:
    content = arrays()
    first = read_npz(write(tmp_path, content), 8)
    for part in PARTS:
        content[f"{part}_labels"] = content[f"{part}_labels"].ravel().astype(np.int32)
    second = read_npz(write(tmp_path, content), 8)
    assert first.labels.dtype == second.labels.dtype == np.int64
    assert first.labels.tolist() == second.labels.tolist()


@pytest.mark.parametrize(
    ("convert", "note"),
    [
        (lambda images: images / np.float32(255), "0..1"),
        (lambda images: images.astype(np.float64), "0..255"),
        (lambda images: images.astype(np.uint16) * 257, "16-bit"),
        (lambda images: images.astype(np.int64), "8-bit"),
    ],
    ids=["unit", "float", "uint16", "int64"],
)
def test_other_types_keep_the_pixels(tmp_path: Path, convert: Any, note: str) -> None:
    content = arrays()
    first = read_npz(write(tmp_path, content), 8)
    for part in PARTS:
        content[f"{part}_images"] = convert(content[f"{part}_images"])
    second = read_npz(write(tmp_path, content), 8)
    assert (first.images == second.images).all()
    assert any(note in text for text in second.notes)


def test_channels_are_converted_as_asked(tmp_path: Path) -> None:
    path = write(tmp_path, arrays(shape=(8, 8, 3)))
    colour, grey = read_npz(path, 8), read_npz(path, 8, channels=1)
    luma = colour.images @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey.images[..., 0] - luma).max() <= 1
    assert any("grey" in note for note in grey.notes)
    path = write(tmp_path, arrays())
    assert (read_npz(path, 8, channels=3).images == read_npz(path, 8).images).all()


def test_class_names_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, arrays() | {"class_names": np.array(["normal", "tumour"])})
    assert read_npz(path, 8).class_names == ["normal", "tumour"]
    assert load_data({"source": str(path), "image_size": 8}).class_names == ["normal", "tumour"]


def without(key: str) -> dict[str, Any]:
    content = arrays()
    del content[key]
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no train_images, train_labels; expected MedMNIST's layout .* found nothing"),
        ({"x": np.zeros(3)}, "no train_images, train_labels; .* found x"),
        (without("train_labels"), "no train_labels"),
        (without("val_labels"), "has images but no val_labels"),
        (without("test_images"), "has labels but no test_images"),
        (arrays() | {"train_labels": np.zeros((12, 14), np.uint8)}, "12x14: several labels"),
        (arrays() | {"train_labels": np.zeros(12)}, "train_labels is of type float64"),
        (arrays() | {"train_labels": np.zeros(11, int)}, "has 11 labels for 12 images"),
        (arrays() | {"train_labels": np.zeros((12, 1, 1), int)}, r"12x1x1; expected \(N,\)"),
        (arrays() | {"train_images": np.zeros((12, 8))}, r"12x8; expected \(N, H, W\)"),
        (arrays() | {"val_images": np.zeros((0, 8, 8))}, r"val_images is 0x8x8"),
        (arrays() | {"train_images": np.zeros((12, 3, 8, 8))}, "12x3x8x8.*channels come last"),
        (arrays() | {"train_images": np.zeros((12, 8, 8, 8))}, "volumes are not read"),
        (arrays() | {"train_images": np.zeros((12, 8, 8, 4))}, "RGBA of type float64"),
        (arrays() | {"valid_images": np.zeros((4, 8, 8))}, "val_ and valid_ look like the val"),
        (arrays() | {"train_images": np.full((12, 8, 8), "x")}, "train_images is of type <U1"),
        (arrays() | {"train_images": np.full((12, 8, 8), -1.0)}, "floats from -1 to -1"),
        (arrays() | {"train_images": np.full((12, 8, 8), 300.0)}, "floats from 300 to 300"),
        (arrays() | {"train_images": np.full((12, 8, 8), np.nan)}, "nan"),
        (arrays() | {"train_images": np.full((12, 8, 8), 70000)}, "integers from 70000"),
        (arrays() | {"class_names": np.array([[1, 2]])}, "class_names is int64 of shape"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=message) as error:
        load_data({"source": str(path), "image_size": 8})
    assert str(path) in str(error.value)


def test_one_hot_labels_are_one_class_an_image_and_others_are_not(tmp_path: Path) -> None:
    content = arrays()
    hot = content | {k: np.eye(2)[v[:, 0]] for k, v in content.items() if k.endswith("labels")}
    assert read_npz(write(tmp_path, hot), 8).labels.tolist() == [0, 1] * 11
    hot["train_labels"] = np.ones((12, 2), int)
    with pytest.raises(DataError, match="several labels"):
        read_npz(write(tmp_path, hot), 8)


def several(**parts: Any) -> dict[str, Any]:
    """Arrays with two labels an image; the second class is in every third one."""
    content = arrays()
    for key, value in content.items():
        if key.endswith("labels"):
            content[key] = np.column_stack([value[:, 0], np.arange(len(value)) % 3 == 0])
    return content | parts


def test_any_number_of_classes_an_image(tmp_path: Path) -> None:
    content = several(class_names=np.array(["edema", "mass"]))
    data = load_data({"source": str(write(tmp_path, content)), "image_size": 8}, "multilabel")
    assert data.class_names == ["edema", "mass"]
    np.testing.assert_array_equal(data.train.labels, content["train_labels"])
    assert data.train.labels.dtype == np.int64
    other = several()
    other["train_labels"][0] = 1 - other["train_labels"][0]
    assert (
        load_data(
            {"source": str(write(tmp_path, other)), "image_size": 8}, "multilabel"
        ).fingerprint
        != data.fingerprint
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (arrays(), "train_labels is 12x1; task: multilabel takes 0 or 1 .* task: classification"),
        (several(val_labels=np.full((4, 2), -1)), "val_labels holds -1; .* uncertain or unknown"),
        (several(val_labels=np.full((4, 2), np.nan)), "val_labels holds nan"),
        (several(val_labels=np.ones((4, 3))), "in their number of classes: 2 in train, 3 in val"),
        (several(val_labels=np.ones((5, 2))), "has 5 labels for 4 images"),
        (several(class_names=np.array(["a", "b", "c"])), "labels of 2 classes, but 3 names"),
        (several(train_labels=np.eye(2)[[0] * 12]), "no training images of class 1"),
    ],
)
def test_mistakes_of_several_labels(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data({"source": str(write(tmp_path, content)), "image_size": 8}, "multilabel")


@pytest.mark.parametrize(
    ("names", "expected"), [(None, ["1", "2"]), (["a", "b"], ["a", "b"]), (["x", "a", "b"], None)]
)
def test_labels_may_be_counted_from_one(
    names: list[str] | None, expected: list[str] | None, tmp_path: Path
) -> None:
    content = arrays()
    content |= {key: value + 1 for key, value in content.items() if key.endswith("labels")}
    path = write(tmp_path, content | ({} if names is None else {"class_names": np.array(names)}))
    if expected is None:  # of three names the first has no images
        with pytest.raises(DataError, match="no training images of class x"):
            load_data({"source": str(path), "image_size": 8})
        return
    source = read_npz(path, 8)
    assert (source.class_names, sorted({*source.labels.tolist()})) == (expected, [0, 1])


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    content = arrays(shape=(8, 8, 4))
    content["train_images"][..., 3] = 255
    content["train_images"][0, ..., 3] = 0
    images = read_npz(write(tmp_path, content), 8).images
    assert not images[0].any()
    assert (images[1] == content["train_images"][1, ..., :3]).all()


class Touch:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trap = np.array([Touch(tmp_path / "trapped")], dtype=object)
    for key in ("class_names", "train_labels"):
        path = write(tmp_path, arrays() | {key: trap})
        with pytest.raises(DataError, match=f"{key}: holds Python objects"):
            read_npz(path, 8)
    pickled = tmp_path / "pickled.npz"
    pickled.write_bytes(trap.dumps())
    with pytest.raises(DataError, match=r"pickled\.npz: holds Python objects or is no \.npz"):
        read_npz(pickled, 8)
    assert not (tmp_path / "trapped").exists()


def test_damaged_files_are_errors(tmp_path: Path) -> None:
    path = write(tmp_path, arrays())
    content = path.read_bytes()
    for damaged in (b"", b"PK\x03\x04", content[: len(content) // 2], content[:300] + b"\0" * 300):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"set\.npz"):
            read_npz(path, 8)
    middle = bytearray(content)
    middle[len(content) // 3] ^= 0xFF
    path.write_bytes(bytes(middle))
    with pytest.raises(DataError, match=r"set\.npz"):
        read_npz(path, 8)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match=r"set\.npz: no train_images.* found nothing"):
        read_npz(path, 8)


def test_no_flipped_bit_gives_anything_but_a_data_error(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    path = write(tmp_path, arrays({"train": 6}, (4, 4)))
    content = path.read_bytes()
    refused = 0
    for _ in range(400):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] = random.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            read_npz(path, 4)
        except DataError:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    ("given", "taken", "sizes"),
    [
        ({"train": 40}, "split in train, val and test", (28, 6, 6)),
        ({"train": 40, "val": 8}, "no test part: taken from train", (32, 8, 8)),
        ({"train": 40, "test": 8}, "no val part: taken from train", (32, 8, 8)),
        ({"train": 40, "val": 8, "test": 8}, None, (40, 8, 8)),
    ],
)
def test_missing_parts_come_from_train_and_are_said(
    tmp_path: Path, given: dict[str, int], taken: str | None, sizes: tuple[int, ...]
) -> None:
    path = write(tmp_path, arrays(given))
    data = load_data({"source": str(path), "image_size": 8, "seed": 4})
    assert (len(data.train), len(data.val), len(data.test)) == sizes
    said = [note for note in data.notes if "data.seed 4" in note]
    assert [taken in note for note in said] == [True] if taken else said == []
    names = [*data.train.names, *data.val.names, *data.test.names]
    assert len(set(names)) == sum(given.values())


def test_cifar10_loads_in_a_second_and_a_half(shared: Path) -> None:
    times = []  # of the processor: others may be busy on this machine
    for _ in range(2):
        start = time.process_time()
        data = load_data({"source": str(shared / "data" / "cifar10_small.npz"), "image_size": 32})
        times.append(time.process_time() - start)
    assert min(times) < 1.5
    assert (len(data.train), len(data.val), len(data.test)) == (8500, 1000, 2000)
    assert data.class_names[:2] == ["airplane", "automobile"]
    assert data.notes == []
    pixels = data.train.images / 255
    assert np.allclose(data.mean, pixels.mean((0, 1, 2)), rtol=0, atol=1e-9)
    assert np.allclose(data.std, pixels.std((0, 1, 2)), rtol=0, atol=1e-9)


def test_arrays_take_a_size_of_two_sides(tmp_path: Path) -> None:
    path = write(tmp_path, arrays(shape=(9, 15, 3)))
    assert (read_npz(path, [9, 15]).images[:12] == arrays(shape=(9, 15, 3))["train_images"]).all()
    source = read_npz(path, [6, 20])
    assert source.images.shape == (22, 6, 20, 3)
    assert source.notes == ["resized from 9x15 to 6x20"]
