"""A trained segmentation leaves: export, masks of a user's images, pictures."""

import csv
import io
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnsearch.runs.data.data import load_data
from attnsearch.runs.exports.explain import Truths, explain_images
from attnsearch.runs.exports.export import load_export, save_export
from attnsearch.runs.exports.inputs import ImageFile
from attnsearch.runs.exports.predict import _write_rows, output_names, predict_images
from attnsearch.runs.exports.weights import ExportError, Interface
from attnsearch.runs.metrics.masks import confusion, summary
from attnsearch.runs.training.panels import chosen_cases
from attnsearch.runs.training.pictures import (
    ERRORS,
    PANEL_BYTES,
    Case,
    error_map,
    mask_image,
    mask_palette,
    panel,
    panel_bytes,
)
from attnsearch.runs.training.segment import classes_of, enlarged_logits
from attnsearch.runs.training.train import Training
from attnsearch.search.terminal.apply import explain_text, predict_text
from attnsearch.spaces import load_space

SIDE = 24
SPACE = """
name: discs
task: segmentation
data: {{source: {source}, image_size: {side}, splits: [0.5, 0.25, 0.25]{data}}}
network: {{backbone: resnet20, width: 0.5}}
insert: [{{at: layer3, block: gc, params: {{gc: {{ratio: 0.25}}}}}}, {{at: layer2, block: ecrm}}]
train: {{epochs: 3, batch_size: 4, lr: 0.05}}
"""


def write_discs(folder: Path) -> Path:
    """Images of a bright disc on noise, of mixed sizes, and its mask."""
    draws = np.random.RandomState(0)
    for side in ("images", "masks"):
        (folder / side).mkdir(parents=True)
    for number in range(16):
        height, width = draws.randint(26, 44, 2)
        y, x = np.mgrid[:height, :width]
        disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < 60
        picture = draws.randint(0, 90, (height, width, 3)) + 150 * disc[..., None]
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"images/{number:02d}.png")
        Image.fromarray((255 * disc).astype(np.uint8)).save(folder / f"masks/{number:02d}.png")
    return folder


def trained(folder: Path, source: Path, data: str = "", side: int | list[int] = SIDE) -> Training:
    file = folder / "space.yaml"
    file.write_text(SPACE.format(source=source, side=side, data=data))
    config = load_space(file).resolve({})
    training = Training(config, load_data(config["data"], "segmentation"), threads=1)
    while not training.done:
        training.run_epoch()
    return training


def save(training: Training, folder: Path, **options: Any) -> Path:
    data = training.data
    interface = Interface(
        tuple(data.class_names), data.image_size, data.channels, data.mean, data.std
    )
    record = {"metrics": training.result, "seed": 0}
    return save_export(
        folder, training.config, training.result_state(), interface, record, **options
    )


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp("discs"))


@pytest.fixture(scope="module")
def training(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    return trained(tmp_path_factory.mktemp("space"), discs)


@pytest.fixture(scope="module")
def export(training: Training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(training, tmp_path_factory.mktemp("export") / "best")


@pytest.fixture(scope="module")
def tiled(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Training, Path]:
    folder = tmp_path_factory.mktemp("tiled")
    training = trained(folder, discs, ", tile_overlap: 0.25")
    return training, save(training, folder / "best")


@pytest.fixture(scope="module", params=["whole", "tiled"])
def rectangular(
    request: pytest.FixtureRequest, discs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Training, Path]:
    folder = tmp_path_factory.mktemp("rectangular")
    tiles = ", tile_overlap: 0.25" if request.param == "tiled" else ""
    training = trained(folder, discs, tiles, [20, 28])
    return training, save(training, folder / "best")


def dice(network: Any, training: Training) -> float:
    part = training.data.val
    assert part.masks is not None
    images = torch.from_numpy(np.array(part.images))
    found = enlarged_logits(network, part.masks, images, network.preprocess.normalisation)
    counts = [
        confusion(classes_of(scores), part.masks.original(image), 2) for image, scores in found
    ]
    return summary(np.stack(counts), training.data.class_names)["dice"]


def test_an_export_for_rectangles_scores_and_predicts_what_was_recorded(
    rectangular: tuple[Training, Path], discs: Path, tmp_path: Path
) -> None:
    training, export = rectangular
    assert training.data.image_size == (20, 28)
    network = load_export(export)
    assert dice(network, training) == training.result["val_dice"]
    part = training.data.val
    files = [discs / "images" / Path(name).name for name in part.names]
    assert predict_images(export, files, tmp_path / "out").faults == []
    counts = []
    for image, file in enumerate(files):
        written = Image.open(tmp_path / "out" / f"{file.stem}.png")
        assert written.size == Image.open(file).size
        counts.append(confusion(np.asarray(written), part.masks.original(image), 2))
    assert summary(np.stack(counts), ["a", "b"])["dice"] == training.result["val_dice"]
    assert explain_images(export, files, tmp_path / "p").images == len(files)
    assert training.panel(training.evaluate("val")[1])


@pytest.mark.parametrize("kind", ["whole", "tiled"])
def test_an_export_scores_and_predicts_what_was_recorded(
    kind: str, request: pytest.FixtureRequest, discs: Path, tmp_path: Path
) -> None:
    if kind == "whole":
        training, export = (request.getfixturevalue(name) for name in ("training", "export"))
    else:
        training, export = request.getfixturevalue("tiled")
    assert training.result["val_dice"] > 0.5
    network = load_export(export)
    assert dice(network, training) == training.result["val_dice"]
    part = training.data.val
    files = [discs / "images" / Path(name).name for name in part.names]
    done = predict_images(export, files, tmp_path / "out", probabilities=True, overlays=True)
    assert (done.images, done.faults) == (len(files), [])
    counts = []
    for image, file in enumerate(files):
        written = Image.open(tmp_path / "out" / f"{file.stem}.png")
        assert written.mode == "P" and written.size == Image.open(file).size
        mask = np.asarray(written)
        counts.append(confusion(mask, part.masks.original(image), 2))
        stored = np.load(tmp_path / f"out/probabilities/{file.stem}.npz")["probabilities"]
        assert stored.dtype == np.float16 and stored.shape == (2, *mask.shape)
        sure = abs(stored[1].astype(float) - 0.5) > 0.01
        assert ((stored[1] > 0.5) == mask)[sure].all()
        assert Image.open(tmp_path / f"out/overlays/{file.stem}.png").size == written.size
    assert summary(np.stack(counts), ["a", "b"])["dice"] == training.result["val_dice"]
    rows = list(csv.reader((tmp_path / "out/classes.csv").open()))
    assert rows[2] == ["1", "foreground", "128", "0", "0"]


@pytest.mark.slow  # ten seconds of a core in torch.export
def test_a_segmentation_is_written_as_onnx(training: Training, tmp_path: Path) -> None:
    export = save(training, tmp_path / "best", formats=["onnx"])
    readme = (export / "README.md").read_text()
    assert "classes of pixels" in readme and "attnsearch predict" in readme
    assert f"`logits` (N, 2, {SIDE}, {SIDE})" in readme
    assert (export / "model.onnx").stat().st_size > 10_000


def test_what_cannot_be_read_is_named_and_the_others_go_on(
    export: Path, discs: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    (images / "deep").mkdir(parents=True)
    shutil.copy(discs / "images/00.png", images / "a.png")
    Image.open(discs / "images/00.png").convert("RGB").save(images / "a.jpg")
    (images / "broken.png").write_bytes(b"no image")
    Image.fromarray(np.full((9, 9), 3000, np.uint16)).save(images / "deep" / "b.tif")
    (images / ".hidden.png").write_bytes(b"")
    done = predict_images(export, [images], tmp_path / "out")
    assert done.images == 2
    assert [fault.partition(" (")[0] for fault in done.faults] == [
        str(images / "broken.png"),
        str(images / "deep/b.tif"),
    ]
    assert "more than 8 bits" in done.faults[1]
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {"a.png.png", "a.jpg.png", "classes.csv"}


def test_nothing_is_overwritten(export: Path, discs: Path, tmp_path: Path) -> None:
    shutil.copytree(discs / "images", tmp_path / "images")
    before = (tmp_path / "images/00.png").read_bytes()
    with pytest.raises(ExportError, match=r"00\.png.*would be overwritten"):
        predict_images(export, [tmp_path / "images"], tmp_path / "images")
    with pytest.raises(ExportError, match=r"00\.png.*would be overwritten"):
        explain_images(export, [tmp_path / "images"], tmp_path / "images")
    assert (tmp_path / "images/00.png").read_bytes() == before
    with pytest.raises(ExportError, match="no such image or folder"):
        predict_images(export, [tmp_path / "missing.png"], tmp_path / "out")
    both = [tmp_path / "images/00.png", discs / "images/00.png"]
    with pytest.raises(ExportError, match="two images are called 00"):
        predict_images(export, both, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_of_what_is_written(tmp_path: Path) -> None:
    def named(*names: str) -> list[str]:
        return list(output_names([ImageFile(tmp_path / name, name) for name in names]).values())

    assert named("IM0001", "a.b/IM0002", "1.2.840.11", "x.y.JPG") == [
        "IM0001",
        "a.b/IM0002",
        "1.2.840.11",
        "x.y",
    ]
    assert named("a.png", "a.jpg", "b.png") == ["a.png", "a.jpg", "b"]
    begun = time.perf_counter()
    assert len(set(named(*(f"case_{number:06d}.png" for number in range(20_000))))) == 20_000
    assert time.perf_counter() - begun < 5  # seconds; a fraction of one where it is not squared


def test_of_a_data_set_the_images_are_predicted_and_not_the_masks(
    export: Path, discs: Path, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    for part in ("train", "test"):
        for side in ("images", "masks"):
            (root / part / side).mkdir(parents=True)
            shutil.copy(discs / side / "00.png", root / part / side / "0.png")
    shutil.copy(discs / "images/01.png", tmp_path / "IM0001")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    shutil.copytree(discs / "images", tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(root)
    for name in ("first", "second"):  # equal files of a store of content are one file
        (root / f"{name}.png").symlink_to(discs / "images/02.png")
    told, fine = predict_text(
        str(export), [str(root), str(tmp_path / "IM0001")], str(tmp_path / "out")
    )
    made = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")
    }
    assert made == {
        "train/images/0.png",
        "test/images/0.png",
        "first.png",
        "second.png",
        "IM0001.png",
        *(f"linked/{number:02d}.png" for number in range(16)),
    }
    left = ", ".join(str(root / part / "masks") for part in ("test", "train"))
    assert fine and f"Note: left out, masks beside images: {left}" in told.splitlines()
    masks = predict_images(export, [root / "train/masks"], tmp_path / "masks")
    assert (masks.images, masks.notes) == (1, [])


def test_the_truth_of_an_image_needs_no_other_and_no_place_of_its_own(
    export: Path, discs: Path, tmp_path: Path
) -> None:
    shape = np.asarray(Image.open(discs / "masks/00.png")).shape
    truth = np.asarray(Image.open(discs / "masks/00.png")) > 0
    root, store = tmp_path / "set", tmp_path / "store"
    store.mkdir()
    for side in ("images", "masks"):
        (root / side).mkdir(parents=True)
        for number in range(4):
            shutil.copy(discs / side / f"0{number}.png", store / f"{side}{number}")
            (root / side / f"{number}.png").symlink_to(store / f"{side}{number}")
    (root / "masks/1.png").unlink()
    (root / "masks/2.png").unlink()
    (root / "masks/2.png").write_bytes((store / "masks2").read_bytes()[:60])
    shutil.copy(discs / "images/03.png", root / "images/3.jpg")  # one mask, two images
    (tmp_path / "chosen.png").symlink_to(discs / "images/00.png")
    truths = Truths(load_export(export))
    for image in (root / "images/0.png", tmp_path / "chosen.png"):
        found = truths.of(image, shape)
        assert found is not None and (found == truth).all()
    assert truths.notes() == []
    assert truths.of(discs / "images/00.png", (9, 8)) is None
    height, width = shape
    assert f"(is {width}x{height}, 00.png is 8x9)" in truths.notes()[0]

    told, fine = explain_text(str(export), [str(root / "images")], str(tmp_path / "pictures"))
    assert fine
    missing = ", ".join(str(root / "images" / name) for name in ("1.png", "3.jpg", "3.png"))
    assert f"Note: no mask, 3: {missing}" in told.splitlines()
    assert f"Note: masks not used, 1: {root / 'masks/2.png'} (" in told
    widths = [
        Image.open(tmp_path / "pictures" / name).width for name in ("0.png", "1.png", "2.png")
    ]
    assert widths[0] > widths[1] == widths[2]


def test_two_annotators_are_said_where_no_mask_is_drawn(
    export: Path, discs: Path, tmp_path: Path
) -> None:
    shutil.copytree(discs / "images", tmp_path / "images")
    (tmp_path / "masks").mkdir()
    for file in (discs / "masks").iterdir():
        for who in ("ann", "bob"):
            shutil.copy(file, tmp_path / f"masks/{file.stem}_{who}.png")
    done = explain_images(export, [tmp_path / "images/00.png"], tmp_path / "pictures")
    assert (done.images, done.faults) == (1, [])
    assert len(done.notes) == 1 and 'data.mask_name: "{}_ann"' in done.notes[0]


def test_a_picture_of_any_image(export: Path, discs: Path, tmp_path: Path) -> None:
    shutil.copy(discs / "images/03.png", tmp_path / "alone.png")
    images = [discs / "images/03.png", tmp_path / "alone.png"]
    done = explain_images(export, images, tmp_path / "p")
    assert (done.images, done.faults) == (2, [])
    known, unknown = (Image.open(tmp_path / "p" / name) for name in ("03.png", "alone.png"))
    # Image, truth, prediction, error and two maps; without the mask two fewer.
    assert (known.width - unknown.width) == 2 * (256 + 6)
    assert known.width == 6 * (256 + 6) + 6


def test_each_run_has_a_panel_of_worst_and_median_images(
    training: Training, tiled: tuple[Training, Path]
) -> None:
    for one in (training, tiled[0]):
        before = {name: value.clone() for name, value in one.network.state_dict().items()}
        content = one.panel(one.evaluate("val")[1])
        assert len(content) < PANEL_BYTES
        assert Image.open(io.BytesIO(content)).width == 6 * (160 + 6) + 6
        after = one.network.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_chosen_images_are_the_worst_and_the_middle() -> None:
    dice = np.array([0.9, 0.1, np.nan, 0.5, 0.3, 0.2, 0.6, 0.7, 0.8, 0.95, 0.4, 0.85])
    # Ranked: .1 .2 .3 .4 .5 .6 .7 .8 .85 .9 .95; the median is .6.
    assert chosen_cases(dice) == ([1, 5, 4], [3, 6, 7])
    assert chosen_cases(np.array([0.5, 0.2])) == ([1, 0], [])
    worst, median = chosen_cases(np.array([0.4, 0.3, 0.2, 0.1]))
    assert (worst, median) == ([3, 2, 1], [0])


def test_error_maps_and_masks_have_the_promised_colours() -> None:
    truth = np.array([[0, 1, 1, 2, 255]], np.uint8)
    predicted = np.array([[1, 1, 0, 1, 1]], np.uint8)
    names = ["background", "cup", "disc"]
    shown = error_map(predicted, truth, names)[0].tolist()
    kinds = ("found, not there", "right", "missed", "another class", "ignored")
    assert shown == [list(ERRORS[kind]) for kind in kinds]
    assert mask_palette(4) == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
    assert np.array_equal(np.asarray(mask_image(truth)), truth)


def test_a_panel_of_noise_stays_small_and_long_names_fit() -> None:
    draws = np.random.RandomState(0)
    cases = [
        Case(
            "a very long name " * 20,
            draws.randint(0, 255, (200, 300, 3)).astype(np.uint8),
            draws.randint(0, 3, (200, 300)).astype(np.uint8),
            draws.randint(0, 3, (200, 300)).astype(np.uint8),
            {
                "gc@layer4": draws.rand(7, 7).astype(np.float32),
                "even": np.ones((7, 7), np.float32),
            },
        )
        for _ in range(3)
    ]
    assert len(panel_bytes(cases, ["background", "cup", "disc"], "t")) < PANEL_BYTES
    drawn = panel(cases[:1], ["background", "cup", "disc"], "t", 100)
    assert drawn.width == 5 * 106 + 6  # the even map says nothing


def test_a_name_is_no_formula_and_its_bytes_are_kept(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    _write_rows(tmp_path / "t.csv", [["name", "=cmd()"], [odd, -0.5], ["-1.png", "@left"]])
    assert (tmp_path / "t.csv").read_bytes() == (
        b"name,'=cmd()\r\ncaf\xe9.png,-0.5\r\n-1.png,@left\r\n"
    )


def test_a_classification_gets_a_table(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "name: d\ntask: classification\ndata: {source: digits, image_size: 8}\n"
        "network: {backbone: resnet20, width: 0.25}\n"
        "insert: [{at: layer3, block: gc, params: {gc: {ratio: 0.25}}}]\n"
        "train: {epochs: 1, batch_size: 64}\n"
    )
    config = load_space(file).resolve({})
    training = Training(config, load_data(config["data"]), threads=1)
    training.run_epoch()
    export = save(training, tmp_path / "best")
    images = tmp_path / "images"
    images.mkdir()
    for row in range(3):
        Image.fromarray(training.data.val.images[row, ..., 0]).save(images / f"{row}.png")
    predict_images(export, [images], tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out/predictions.csv").open()))
    told = training.evaluate("val")[1]["probabilities"][:3]
    assert [row["label"] for row in rows] == [str(k) for k in told.argmax(1)]
    assert list(rows[0]) == ["name", "label", *map(str, range(10))]
    assert float(rows[2]["7"]) == pytest.approx(told[2, 7], abs=1e-5)
    with pytest.raises(ExportError, match="no mask to lay over"):
        predict_images(export, [images], tmp_path / "more", overlays=True)
    explain_images(export, [images / "0.png"], tmp_path / "pictures")
    assert Image.open(tmp_path / "pictures/0.png").width == 3 * (256 + 6) + 6


def test_the_truth_of_colour_coded_masks_follows_the_palette(tmp_path: Path) -> None:
    mask = np.zeros((8, 8, 3), np.uint8)
    mask[0], mask[1] = (255, 0, 0), (0, 255, 0)
    for side, pixels in (("images", mask[..., 0]), ("masks", mask)):
        (tmp_path / side).mkdir()
        Image.fromarray(pixels).save(tmp_path / side / "0.png")
    palette = {"ignore": [0, 255, 0], "rest": [0, 0, 0], "vessel": [255, 0, 0]}
    config = {"task": "segmentation", "data": {"mask_colors": palette}}
    truths = Truths(SimpleNamespace(config=config, class_names=["rest", "vessel"]))
    truth = truths.of(tmp_path / "images/0.png", (8, 8))
    assert truth is not None and truth[:, 0].tolist() == [1, 255, *[0] * 6]
    config["data"] = {"mask_colors": {key: palette[key] for key in ("rest", "vessel")}}
    truths = Truths(SimpleNamespace(config=config, class_names=["rest", "vessel"]))
    assert truths.of(tmp_path / "images/0.png", (8, 8)) is None
    assert "[0, 255, 0] (8 pixels" in " ".join(truths.notes())


@pytest.mark.parametrize(("rule", "name"), [(None, "{}_mask"), (None, "gt_{}"), ("{}_b", "{}_b")])
def test_a_mask_beside_its_image_is_found(rule: str | None, name: str, tmp_path: Path) -> None:
    """However the folder is called; and one image of it may have none."""
    for number in range(4):
        pixels = np.random.RandomState(number).randint(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"s{number}.jpg")
        mask = np.zeros((8, 8), np.uint8)
        mask[number:] = 255
        if number < 3:
            Image.fromarray(mask).save(tmp_path / f"{name.format(f's{number}')}.png")
    config = {"task": "segmentation", "data": {"classes": 2, "mask_name": rule}}
    truths = Truths(SimpleNamespace(config=config, class_names=["rest", "vessel"]))
    for number in range(3):
        truth = truths.of(tmp_path / f"s{number}.jpg", (8, 8))
        assert truth is not None and (truth == 1).sum() == 8 * (8 - number)
    assert truths.notes() == []
    assert truths.of(tmp_path / "s3.jpg", (8, 8)) is None
    assert truths.notes() == [f"no mask, 1: {tmp_path / 's3.jpg'}"]


def test_images_without_masks_beside_them_are_told_nothing_of_masks(tmp_path: Path) -> None:
    for number in range(4):
        pixels = np.random.RandomState(number).randint(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"s{number}.png")
    config = {"task": "segmentation", "data": {"classes": 2}}
    truths = Truths(SimpleNamespace(config=config, class_names=["rest", "vessel"]))
    assert truths.of(tmp_path / "s0.png", (8, 8)) is None and truths.notes() == []
