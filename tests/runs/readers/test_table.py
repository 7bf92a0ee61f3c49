"""A data format is a file with a function, and a line of the table."""

from pathlib import Path

import numpy as np
import pytest

from attnsearch.runs.data.data import load_data
from attnsearch.runs.readers.source import NO_PART, Source
from attnsearch.runs.readers.table import READERS, Reader, native_shapes
from attnsearch.runs.training.train import Training
from attnsearch.spaces import load_space
from attnsearch.spaces.keys.built_in import BUILT_IN


def read_toy(path: Path, image_size: int, classes: int | list[str] | None = None) -> Source:
    """Read a text file with a label and a grey level in each line."""
    rows = np.loadtxt(path, dtype=np.int64)
    images = np.zeros((len(rows), image_size, image_size, 1), np.uint8)
    return Source(
        name=path.name,
        images=images + rows[:, 1, None, None, None].astype(np.uint8),
        labels=rows[:, 0],
        names=[f"line {row}" for row in range(len(rows))],
        parts=np.full(len(rows), NO_PART),
        class_names=list(classes) if isinstance(classes, list) else None,
        digests=[row.tobytes() for row in rows],
    )


def test_a_new_format_is_one_function_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        READERS,
        "toy",
        Reader("classification", read_toy, lambda path: path.suffix == ".toy", "a .toy file"),
    )
    rows = [f"{label} {100 * label + shade}" for label in (0, 1) for shade in range(20)]
    (tmp_path / "shades.toy").write_text("\n".join(rows))
    file = tmp_path / "space.yaml"
    file.write_text(
        "{name: toy, task: classification, network: {backbone: resnet20, width: 0.25},"
        " data: {source: shades.toy, image_size: 8, classes: [dark, bright]}, train: {epochs: 1}}"
    )
    config = load_space(file).resolve({})
    data = load_data(config["data"], "classification")
    assert data.class_names == ["dark", "bright"]
    assert data.train.images[data.train.labels == 1].min() >= 100
    assert Training(config, data).run_epoch()["val_loss"] > 0


def test_every_built_in_set_has_its_reader_and_its_facts() -> None:
    readers = {name: reader for name, reader in READERS.items() if reader.takes is None}
    assert {name: reader.task for name, reader in readers.items()} == {
        name: facts.task for name, facts in BUILT_IN.items()
    }


def test_the_shape_of_images_is_told_without_reading_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=np.zeros((2, 30, 20), np.uint8))
    assert native_shapes(tmp_path / "a.npz") == [(30, 20)]
    (tmp_path / "b.npz").write_text("damaged")
    assert native_shapes(tmp_path / "b.npz") == []
    assert native_shapes(tmp_path) == []
