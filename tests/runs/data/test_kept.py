"""Wherever examples lie, all that is known of them is the same."""

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attnsearch.runs.data.contents import example_contents
from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.data.duplicates import find_duplicates
from attnsearch.runs.keeping import Lazy
from attnsearch.runs.metrics.given import why_undefined
from tests.runs.mask_sets import whole

Maker = Callable[[Path], tuple[dict[str, Any], str]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decoded"


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def classes(folder: Path) -> tuple[dict[str, Any], str]:
    """Colour, grey, 16 bits, transparent; two are the same image, one file is damaged."""
    for number in range(110):
        place = folder / "set" / "ab"[number % 2]
        pixels = noise(number, 9 + number % 5, 12, 3)
        if number % 7 == 1:
            pixels = pixels[..., 0]
        if number % 7 == 2:
            pixels = pixels[..., 0].astype(np.uint16) * 16
        if number % 7 == 3:
            pixels = noise(number, 9, 9, 4)
        save(place / f"{number:03d}.{'jpg' if number % 7 == 0 else 'png'}", pixels)
    for name in ("200", "201", "202"):
        save(folder / "set" / "a" / f"{name}.png", noise(7, 8, 8, 3))
    (folder / "set" / "b" / "bad.png").write_bytes(b"no image")
    return {"source": str(folder / "set"), "image_size": [8, 6]}, "classification"


def grey(folder: Path) -> tuple[dict[str, Any], str]:
    data, task = classes(folder)
    return {**data, "channels": 1, "folds": 3, "fold": 1}, task


def cropped(folder: Path) -> tuple[dict[str, Any], str]:
    data, task = classes(folder)
    return {**data, "eval_crop": 0.8}, task


def masks(folder: Path) -> tuple[dict[str, Any], str]:
    for number in range(12):
        height, width = 11 + number, 17 - number % 3
        save(folder / "set" / "images" / f"{number}.png", noise(number, height, width, 3))
        mask = (noise(number + 50, height, width) % 3).astype(np.uint8)
        mask[0, 0] = 255
        save(folder / "set" / "masks" / f"{number}.png", mask)
    return {
        "source": str(folder / "set"),
        "image_size": 8,
        "classes": ["background", "b", "c"],
        "ignore_index": 255,
    }, "segmentation"


def tiles(folder: Path) -> tuple[dict[str, Any], str]:
    data, task = masks(folder)
    return {**data, "tile_overlap": 0.25, "image_size": [12, 8]}, task


def colours(folder: Path) -> tuple[dict[str, Any], str]:
    for number in range(8):
        save(folder / "set" / "images" / f"{number}.png", noise(number, 9, 7))
        mask = np.zeros((9, 7, 3), np.uint8)
        mask[2:5] = (255, 0, 0)
        save(folder / "set" / "masks" / f"{number}.png", mask)
    palette = {"background": [0, 0, 0], "vessel": [255, 0, 0]}
    return {"source": str(folder / "set"), "image_size": 8, "mask_colors": palette}, "segmentation"


def npz(folder: Path, dtype: Any = np.uint8, *more: int) -> tuple[dict[str, Any], str]:
    arrays: dict[str, Any] = {}
    for part, count in (("train", 40), ("val", 9), ("test", 7)):
        arrays[f"{part}_images"] = noise(count, count, 7, 9, *more).astype(dtype)
        arrays[f"{part}_labels"] = np.arange(count)[:, None] % 3
    np.savez(folder / "set.npz", **arrays)
    return {"source": str(folder / "set.npz"), "image_size": 8}, "classification"


def deep_npz(folder: Path) -> tuple[dict[str, Any], str]:
    return npz(folder, np.uint16, 3)


def clear_npz(folder: Path) -> tuple[dict[str, Any], str]:
    return npz(folder, np.uint8, 4)


def cropped_npz(folder: Path) -> tuple[dict[str, Any], str]:
    data, task = npz(folder, np.uint16, 3)
    return {**data, "eval_crop": 12}, task


KINDS = [classes, grey, cropped, masks, tiles, colours, npz, deep_npz, clear_npz, cropped_npz]


def told(data: DataSet) -> Iterator[Any]:
    """All that is known of a data set, and all of its pixels."""
    for part in (data.train, data.val, data.test):
        rows = np.arange(len(part.images))[::-1]
        yield part.images.shape, part.images.nbytes
        yield part.images[rows].tolist(), part.images[1:3].tolist(), part.images[0].tolist()
        yield part.labels.tolist(), part.names, part.groups
        if part.masks is not None:
            yield part.masks.resized[rows].tolist(), part.masks.image.tolist()
            yield part.masks.cut.tolist()
            yield why_undefined("dice", part.labels, part.masks, data.class_names)
    yield {name: mask.tolist() for name, mask in whole(data).items()}
    yield data.fingerprint, data.test_fingerprint, data.mean, data.std, data.notes
    yield find_duplicates({"train": data.train, "val": data.val, "test": data.test})
    yield example_contents(data)


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("keep", ["mapped", "files"])
def test_all_ways_give_the_same_examples(tmp_path: Path, make: Maker, keep: str) -> None:
    config, task = make(tmp_path)
    plain = load_data(config, task)
    assert isinstance(plain.train.images, np.ndarray)
    kept = load_data({**config, "keep": keep}, task)
    assert isinstance(kept.train.images, Lazy)
    expected = list(told(plain))
    assert list(told(kept)) == expected
    # As a worker gets it, and as the next start finds it.
    assert list(told(pickle.loads(pickle.dumps(kept)))) == expected
    assert list(told(load_data({**config, "keep": keep}, task))) == expected


def test_what_a_worker_gets_is_small(tmp_path: Path) -> None:
    config, task = classes(tmp_path)
    config["image_size"] = 256
    sizes = {}
    for keep in ("memory", "mapped", "files"):
        sizes[keep] = len(pickle.dumps(load_data({**config, "keep": keep}, task)))
    assert sizes["memory"] > 100 * 256 * 256 * 3
    assert sizes["mapped"] < 60_000 > sizes["files"]


def test_a_compressed_npz_is_expanded_once_or_refused(tmp_path: Path, cache: Path) -> None:
    config, task = npz(tmp_path)
    plain = load_data(config, task)
    with np.load(config["source"]) as arrays:
        np.savez_compressed(config["source"], **arrays)
    mapped = load_data({**config, "keep": "mapped"}, task)
    assert list(told(mapped)) == list(told(plain))
    (expanded,) = cache.glob("mapped-*/pixels.bin")
    written = expanded.stat().st_mtime_ns
    load_data({**config, "keep": "mapped"}, task)
    assert expanded.stat().st_mtime_ns == written
    content = bytearray(expanded.read_bytes())
    content[-5] ^= 1
    expanded.write_bytes(content)
    assert load_data({**config, "keep": "mapped"}, task).fingerprint == plain.fingerprint
    with pytest.raises(
        ValueError, match=r"is compressed \(.* MB\), .*numpy\.savez, or .*keep: mapped"
    ):
        load_data({**config, "keep": "files"}, task)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_npz_that_memory_does_not_hold_is_mapped_by_itself(
    tmp_path: Path, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What auto counts is what reading it into memory refuses."""
    config, task = npz(tmp_path, dtype, 3)
    raw = 56 * 7 * 9 * 3 * np.dtype(dtype).itemsize
    for free in (2 * raw - 1, 2 * raw + 56 * 8 * 8 * 3 - 1):
        monkeypatch.setattr("attnsearch.runs.keeping.choice.free_memory", lambda free=free: free)
        kept = load_data({**config, "channels": 3}, task)
        assert kept.kept is not None and kept.kept.how == "mapped" and kept.kept.notable


def test_auto_counts_what_is_evaluated_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, task = classes(tmp_path)
    config = {**config, "image_size": 64}
    once = 114 * 64 * 64 * 3
    monkeypatch.setattr("attnsearch.runs.keeping.choice.free_memory", lambda: 4 * once)
    for more, how in (({}, "memory"), ({"eval_size": 80}, "mapped")):
        kept = load_data({**config, **more}, task).kept
        assert kept is not None and kept.how == how
