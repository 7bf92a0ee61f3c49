"""From data to predictions: init, check, run, export, predict, over all layouts."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from attnsearch.search.check import forecast as forecast_module
from attnsearch.search.cli import call
from attnsearch.search.exit import DONE, FAILED, WRONG_INPUT
from attnsearch.search.terminal import budget
from tests.wild.layouts import LAYOUTS
from tests.wild.making import Made, picture, plain, save
from tests.wild.test_init import WRONG, differences, proposal

# One of each task.
QUICK = ("class_folders", "images_and_masks")
# By decision: what brought 16 bits to 8 belongs to the training data.
REFUSED_BY_PREDICT = {"deep_grey": "8 bits"}


def cases() -> list[object]:
    """Return the name of each layout, marked as slow, and where it is wrong today."""
    marks = {
        name: [
            *([] if name in QUICK else [pytest.mark.slow]),
            *([pytest.mark.xfail(strict=True, reason=WRONG[name])] if name in WRONG else []),
        ]
        for name in LAYOUTS
    }
    return [pytest.param(name, marks=marks[name]) for name in LAYOUTS]


def make_tiny(file: Path) -> None:
    """Keep what `init` says of the data, its task and its objective; train next to nothing."""
    space = yaml.safe_load(file.read_text(encoding="utf-8"))
    del space["blocks"], space["ablation"]
    space["network"] |= {"backbone": "resnet20", "stem": "small", "width": 0.25}
    space["insert"] = [{"at": "layer3", "block": {"choice": ["none", "se"]}}]
    space["train"] |= {"epochs": 1, "batch_size": 4, "lr": 0.05, "aux_weight": {}}
    space["search"] |= {"sampler": "grid", "scheduler": "none", "trials": 2}
    space["confirm"] = {"top": 1, "seeds": 2, "controls": ["baseline"]}
    space["resources"]["workers"] = 1
    file.write_text(yaml.safe_dump(space, allow_unicode=True), encoding="utf-8")


def images_of(made: Made, folder: Path) -> dict[str, Path]:
    """Return image files to predict, by the names of what is predicted."""
    paths = [example.path for example in made.examples if example.path is not None]
    if not paths:  # arrays have no files
        shape = (24, 24) if made.channels == 1 else (24, 24, 3)
        paths = [save(folder / f"{i}.png", picture(i % 2, i, shape)) for i in range(4)]
    return {path.name: path for path in paths}


@pytest.mark.parametrize("name", cases())
def test_a_layout_goes_the_whole_way(
    name: str,
    tmp_path: Path,
    in_process: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATTNSEARCH_LEDGER", raising=False)
    monkeypatch.setattr(forecast_module, "seconds_per_epoch", lambda *_: 0.1)
    monkeypatch.setattr(budget, "seconds_per_epoch", lambda *_: 0.1)
    # What the networks cost is told elsewhere, and takes longer to measure than these to train.
    monkeypatch.setattr("attnsearch.runs.training.train.costs", lambda *_, **__: {"params": 1.0})
    made = LAYOUTS[name].make(tmp_path)
    status = call(["init", str(made.data), "--to", "space.yaml"])
    if status == WRONG_INPUT and name not in WRONG and LAYOUTS[name].asks:
        pytest.skip(f"asks first: {capsys.readouterr().err}")
    assert status == DONE, capsys.readouterr().err
    assert list(differences(made, *proposal(tmp_path / "space.yaml"))) == []
    make_tiny(tmp_path / "space.yaml")
    study = yaml.safe_load((tmp_path / "space.yaml").read_text(encoding="utf-8"))["name"]
    for words in (["check", "space.yaml"], ["run", "space.yaml"], ["export", study, "--to", "e"]):
        status = call(words)
        assert status == DONE, (words, capsys.readouterr())
    assert "<script" not in (tmp_path / "e/README.md").read_text(encoding="utf-8")

    images = images_of(made, tmp_path / "more")
    capsys.readouterr()
    status = call(["predict", "e", *map(str, images.values()), "--to", "out"])
    if refusal := REFUSED_BY_PREDICT.get(name):
        assert status == FAILED
        assert refusal in capsys.readouterr().out
        return
    assert status == DONE, capsys.readouterr()
    check = check_masks if made.task == "segmentation" else check_labels
    check(made, images, tmp_path / "out")


def check_labels(made: Made, images: dict[str, Path], out: Path) -> None:
    """See that each image has one label, one of the layout's classes."""
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    assert not isinstance(made.classes, int)
    classes = sorted(map(plain, made.classes))
    assert (head[:2], sorted(map(plain, head[2:]))) == (["name", "label"], classes)
    assert sorted(row[0] for row in rows) == sorted(images)
    for row in rows:
        shares = dict(zip(head[2:], map(float, row[2:]), strict=True))
        assert shares[row[1]] == max(shares.values())
        assert sum(shares.values()) == pytest.approx(1, abs=1e-4)


def check_masks(made: Made, images: dict[str, Path], out: Path) -> None:
    """See that each image has one mask of its size, and that its values are classes."""
    with (out / "classes.csv").open(encoding="utf-8", newline="") as stream:
        classes = [row["class"] for row in csv.DictReader(stream)]
    if isinstance(made.classes, int):
        assert len(classes) == made.classes
    else:
        assert classes == list(made.classes)
    masks = {path.stem: path for path in out.rglob("*.png")}
    assert sorted(masks) == sorted(path.stem for path in images.values())
    for path in images.values():
        mask = Image.open(masks[path.stem])
        assert mask.size == Image.open(path).size
        assert np.asarray(mask).max() < len(classes)
