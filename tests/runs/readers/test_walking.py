"""Names that are not UTF-8 are refused before anything is trained, with what to do."""

import os
from pathlib import Path

import pytest

from attnsearch.runs.readers.source import DataError
from attnsearch.runs.readers.table import read_source
from attnsearch.runs.readers.walking import check_names

ODD = os.fsdecode(b"caf\xe9")


def data(source: Path) -> dict[str, object]:
    return {"source": str(source), "image_size": 8, "classes": None}


@pytest.mark.parametrize("odd", [f"{ODD}/a.png", f"train/{ODD}/a.png", f"ill/{ODD}.PNG"])
def test_an_odd_name_is_refused_with_its_remedy(odd: str, tmp_path: Path) -> None:
    file = tmp_path / odd
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(DataError, match=r"caf\\udce9.*convmv") as refusal:
        read_source(data(tmp_path), "classification")
    assert str(refusal.value).encode("utf-8")


def test_masks_and_arrays_are_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / f"{ODD}.png").touch()
    with pytest.raises(DataError, match="UTF-8"):
        read_source(data(tmp_path), "segmentation")
    (tmp_path / f"{ODD}.npz").touch()
    with pytest.raises(DataError, match="UTF-8"):
        read_source(data(tmp_path / f"{ODD}.npz"), "classification")


def test_what_is_not_read_may_be_called_anything(tmp_path: Path) -> None:
    (tmp_path / "\u00fcbel").mkdir()
    for name in (f"{ODD}.txt", f".{ODD}.png", "\u00fcbel/\u00e9.png"):
        (tmp_path / name).touch()
    check_names(tmp_path)
