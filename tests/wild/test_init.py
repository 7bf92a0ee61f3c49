"""What `init` makes of the data that people have: the right proposal, or a question.

A layout that is taken wrongly stands in `WRONG`, by what is wrong with it; whoever mends it takes
its line out.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.search.check import forecast as forecast_module
from attnsearch.search.cli import call
from attnsearch.search.exit import DONE, WRONG_INPUT
from attnsearch.search.terminal import budget
from attnsearch.spaces import Space, load_space
from tests.wild.layouts import LAYOUTS
from tests.wild.making import Made, plain
from tests.wild.with_arrays import swollen

PARTS = ("train", "val", "test")
WRONG: dict[str, str] = {}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_module, "seconds_per_epoch", lambda *_: 2.0)
    monkeypatch.setattr(budget, "seconds_per_epoch", lambda *_: 2.0)


def cases() -> list[object]:
    """Return the name of each layout, marked where it is wrong today."""
    marks = {name: pytest.mark.xfail(strict=True, reason=WRONG[name]) for name in WRONG}
    return [pytest.param(name, marks=marks.get(name, ())) for name in LAYOUTS]


def proposal(file: Path) -> tuple[Space, DataSet]:
    """Return the space that was written, and the data set as it takes it."""
    space = load_space(file)
    return space, load_data(space.resolve(space.defaults())["data"], space.task)


def alike(mask: NDArray[np.uint8], truth: NDArray[np.uint8], any_order: bool) -> bool:
    """Return whether two masks are equal, or with `any_order` so but for the classes' numbers."""
    if not any_order:
        return np.array_equal(mask, truth)
    pairs = {*zip(mask.ravel().tolist(), truth.ravel().tolist(), strict=True)}
    return mask.shape == truth.shape and len(pairs) == len(np.unique(mask)) == len(
        np.unique(truth)
    )


def differences(made: Made, space: Space, data: DataSet) -> Iterator[str]:
    """Yield what a proposal has otherwise than the layout means it, in words."""
    if space.task != made.task:
        yield f"task {space.task}"
        return
    names = [plain(name) for name in data.class_names]
    if isinstance(made.classes, int):
        if len(names) != made.classes:
            yield f"classes {names}"
    elif sorted(names) != sorted(map(plain, made.classes)):
        yield f"classes {names}"
        return
    if data.channels != made.channels:
        yield f"{data.channels} channels"
    found = {}
    for part in PARTS:
        split = getattr(data, part)
        for row, name in enumerate(split.names):
            found[name if made.data.is_file() else name.rpartition("/")[2]] = (part, split, row)
    wanted = {example.name for example in made.examples}
    if extra := sorted(found.keys() - wanted):
        yield f"{len(extra)} files taken for images, such as {extra[0]}"
    if lacking := sorted(wanted - found.keys()):
        yield f"{len(lacking)} images left out, such as {lacking[0]}"
    # A part that the layout lacks is taken from the training part.
    taken = {("train", part) for part in {*PARTS} - {example.part for example in made.examples}}
    places, groups = defaultdict(set), set()
    # Of colours that nobody has named, which class is the second cannot be known.
    colored = bool(space.resolve(space.defaults())["data"].get("mask_colors"))
    for example in made.examples:
        if example.name not in found:
            continue
        part, split, row = found[example.name]
        if example.part not in (None, part) and (example.part, part) not in taken:
            yield f"{example.name} in {part}"
        if isinstance(example.truth, str):
            if names[split.labels[row]] != plain(example.truth):
                yield f"{example.name} is {names[split.labels[row]]}"
        elif part != "train" and not alike(split.masks.original(row), example.truth, colored):
            # Those of the training part are kept at the network's size alone.
            yield f"{example.name}: another mask"
        if example.group is not None:
            places[example.group].add(part)
            groups.add(split.groups and split.groups[row])
    if not places and data.train.groups is not None:
        yield "groups, where names tell none"
    if places and len(groups) != len(places):
        yield f"{len(groups)} groups, not {len(places)}"
    if torn := sorted(group for group, parts in places.items() if len(parts) > 1):
        yield f"{len(torn)} patients in two parts, such as {torn[0]}"


@pytest.mark.parametrize("name", cases())
def test_init_takes_a_layout_as_it_is_meant_or_asks(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout, file = LAYOUTS[name], tmp_path / "space.yaml"
    made = layout.make(tmp_path)
    status = call(["init", str(made.data), "--to", str(file)])
    told = capsys.readouterr()
    assert not layout.never or not re.search(layout.never, told.out + told.err)
    if status == WRONG_INPUT:
        (message,) = told.err.splitlines()
        assert any(re.search(pattern, message) for pattern in layout.asks), message
        assert not file.exists()
        return
    assert status == DONE, told.err
    assert list(differences(made, *proposal(file))) == []
    if any(example.group for example in made.examples):
        assert "group" in told.out.lower(), "that images belong together must be said"


@pytest.mark.parametrize(
    ("name", "options"),
    {
        "two_annotators": ["--mask-name", "{}_1stHO"],
        "cityscapes": ["--mask-values", "7,11,23"],
        "masks_in_class_folders": ["--task", "classification"],
    }.items(),
)
def test_what_init_asks_for_can_be_given(name: str, options: list[str], tmp_path: Path) -> None:
    made, file = LAYOUTS[name].make(tmp_path), tmp_path / "space.yaml"
    assert call(["init", str(made.data), "--to", str(file)]) == WRONG_INPUT
    assert call(["init", str(made.data), "--to", str(file), *options]) == DONE
    assert list(differences(made, *proposal(file))) == []


@pytest.mark.parametrize("name", ["unequal_classes", "chest_xrays"])
def test_unequal_classes_are_not_judged_by_accuracy(name: str, tmp_path: Path) -> None:
    made, file = LAYOUTS[name].make(tmp_path), tmp_path / "space.yaml"
    assert call(["init", str(made.data), "--to", str(file)]) == DONE
    assert "val_accuracy" not in load_space(file).document["search"]["objectives"]


def test_chests_are_not_mirrored(tmp_path: Path) -> None:
    made, file = LAYOUTS["chest_xrays"].make(tmp_path), tmp_path / "space.yaml"
    assert call(["init", str(made.data), "--to", str(file)]) == DONE
    assert not load_space(file).document["data"]["augment"].get("flip")


def test_a_small_set_is_trained_for_enough_steps(tmp_path: Path) -> None:
    made, file = LAYOUTS["images_and_masks"].make(tmp_path), tmp_path / "space.yaml"
    assert call(["init", str(made.data), "--to", str(file)]) == DONE
    space, data = proposal(file)
    train = space.resolve(space.defaults())["train"]
    assert train["epochs"] * (len(data.train) // train["batch_size"]) >= 100


def test_check_tells_that_a_part_of_one_class_has_no_auroc(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, file = LAYOUTS["one_class_in_a_part"].make(tmp_path), tmp_path / "space.yaml"
    assert call(["init", str(made.data), "--to", str(file)]) == DONE
    capsys.readouterr()
    call(["check", str(file), "--set", "search.objectives={val_auroc: max}"])
    told = capsys.readouterr()
    said = [line for line in (told.out + told.err).splitlines() if "auroc" in line.lower()]
    assert any("test" in line and ("one class" in line or "healthy" in line) for line in said)


def test_an_array_that_does_not_fit_in_memory_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """60 MB from 60 kB, where 40 MB are free; whoever mends it sets the limit in its own way."""
    file = swollen(tmp_path, 60)
    assert file.stat().st_size < 2**19
    little = psutil.virtual_memory()._replace(total=2**26, available=40 * 2**20, free=40 * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    assert call(["init", str(file), "--to", str(tmp_path / "space.yaml")]) == WRONG_INPUT
    assert re.search(r"\d ?[MG]i?B", capsys.readouterr().err)


def test_empty_folders_of_images_and_masks_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("images", "labelsTr"):
        (tmp_path / "data" / name).mkdir(parents=True)
    file = tmp_path / "space.yaml"
    assert call(["init", str(tmp_path / "data"), "--to", str(file)]) == WRONG_INPUT
    assert "unexpected" not in capsys.readouterr().err
