"""An export is scored on data that it has not seen, and on its study's own."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from attnsearch.blocks import build_network
from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.exports.evaluate import evaluate_export
from attnsearch.runs.exports.explain import explain_images
from attnsearch.runs.exports.export import load_export, save_export
from attnsearch.runs.exports.predict import predict_images
from attnsearch.runs.exports.pyfunc import Predictor
from attnsearch.runs.exports.weights import ExportError
from attnsearch.runs.metrics import secondary_labels
from attnsearch.runs.readers.source import DataError
from attnsearch.runs.training.train import Training
from attnsearch.search.terminal.apply import evaluate_text
from attnsearch.search.workers.worker import interface
from attnsearch.spaces import load_space

SPACE = """
name: tiny
task: {task}
data: {{source: {source}, image_size: 8{data}}}
network: {{backbone: resnet20, width: 0.5}}
train: {{seed: 1{own}}}
"""


def untrained(
    folder: Path,
    source: object = "digits",
    data: str = "",
    task: str = "classification",
    own: str = "",
) -> tuple[Path, DataSet]:
    """Export a network as it was initialised, made for some data."""
    task = task if "masks" not in data else "segmentation"
    data = data.replace("masks", "")
    file = folder / "space.yaml"
    file.write_text(
        SPACE.format(task=task, source=source, data=data, own=own and f", metrics: [{own}]")
    )
    config = load_space(file).resolve({})
    held = load_data(config["data"], task)
    network: Any = build_network(config, held.channels, held.classes, held.image_size, seed=1)
    record = {"metrics": {}, "seed": 1, "data_fingerprint": held.fingerprint}
    state = network.state_dict()
    return save_export(folder / "best", config, state, interface(held), record), held


def right(export: Path, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    network: Any = load_export(export)
    return float((network(network.preprocess(images)).argmax(1).numpy() == labels).mean())


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DataSet]:
    return untrained(tmp_path_factory.mktemp("digits"))


def test_of_the_studys_own_data_its_test_part_counts(digits: tuple[Path, DataSet]) -> None:
    export, data = digits
    done = evaluate_export(export, "digits")
    assert (done.part, done.images) == ("test", len(data.test))
    assert done.metrics["accuracy"].value == right(export, data.test.images, data.test.labels)
    assert done.notes == ["this is the data of its study; the test part is split off as there"]
    assert sum(score.images for score in done.classes.values()) == done.images
    asked = evaluate_export(export, "digits", part="all")
    assert asked.images == sum(map(len, (data.train, data.val, data.test)))
    assert "trained on" in asked.notes[0]
    assert "chosen by" in evaluate_export(export, "digits", part="val").notes[0]


def test_data_that_is_not_the_studys_counts_whole(
    digits: tuple[Path, DataSet], tmp_path: Path
) -> None:
    export, data = digits
    recorded = json.loads((export / "metrics.json").read_text())
    assert recorded["data_fingerprint"] == data.fingerprint
    folder = tmp_path / "new"
    for number, (image, label) in enumerate(zip(data.val.images, data.val.labels, strict=True)):
        if label in (3, 7):
            (folder / str(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(folder / f"{label}/{number % 12:02d}_{number}.png")
    done = evaluate_export(export, folder, groups="^([0-9]+)_")
    rows = np.isin(data.val.labels, (3, 7))
    assert (done.part, done.images, done.groups) == ("all", rows.sum(), 12)
    assert done.metrics["accuracy"].value == right(
        export, data.val.images[rows], data.val.labels[rows]
    )
    assert set(done.classes) == {"3", "7"}
    (note,) = (note for note in done.notes if "no images" in note)
    assert note == "no images of class 0, 1, 2, 4, 5 and 3 more"
    assert np.isnan(evaluate_export(export, folder).metrics["auroc"].value) is np.False_
    text = evaluate_text(str(export), str(folder), part=None, groups="^([0-9]+)_")
    assert f"new: all {rows.sum()} images of 12 patients" in text and "recall" in text
    assert (
        json.loads(evaluate_text(str(export), str(folder), part=None, groups=None, as_json=True))[
            "images"
        ]
        == rows.sum()
    )


@pytest.mark.parametrize("keys", [("test_images", "test_labels"), ("images", "labels")])
@pytest.mark.parametrize("depth", [1, 1 / 255])
def test_arrays_without_a_training_part_are_scored_and_predicted(
    digits: tuple[Path, DataSet], tmp_path: Path, keys: tuple[str, str], depth: float
) -> None:
    export, data = digits
    images, labels = data.test.images[..., 0], data.test.labels
    stored = images if depth == 1 else images * depth
    np.savez(tmp_path / "new.npz", **{keys[0]: stored, keys[1]: labels[:, None]})
    done = evaluate_export(export, tmp_path / "new.npz")
    assert (done.part, done.images) == ("test" if "test" in keys[0] else "all", len(labels))
    assert done.metrics["accuracy"].value == right(export, data.test.images, labels)
    np.savez(tmp_path / "bare.npz", **{keys[0]: stored})  # what is predicted needs no labels
    told = predict_images(export, [tmp_path / "bare.npz"], tmp_path / "out")
    assert told.images == len(labels) and not told.faults
    rows = (tmp_path / "out/predictions.csv").read_text().splitlines()[1:]
    assert rows[0].startswith("bare/test/000000," if "test" in keys[0] else "bare/000000,")
    predicted = [row.split(",")[1] for row in rows]
    assert np.mean(np.array(predicted, int) == labels) == done.metrics["accuracy"].value


def test_labels_of_few_classes_are_not_taken_for_counted_from_one(
    digits: tuple[Path, DataSet], tmp_path: Path
) -> None:
    export, data = digits
    rows = np.isin(data.test.labels, (1, 2))
    labels = data.test.labels[rows]
    np.savez(tmp_path / "two.npz", images=data.test.images[rows], labels=labels)
    done = evaluate_export(export, tmp_path / "two.npz")
    assert set(done.classes) == {"1", "2"}
    assert done.metrics["accuracy"].value == right(export, data.test.images[rows], labels)
    named = {"class_names": np.array(["2", "1"])}
    np.savez(tmp_path / "named.npz", images=data.test.images[rows], labels=2 - labels, **named)
    assert evaluate_export(export, tmp_path / "named.npz").metrics == done.metrics


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((3, 8, 8), np.uint8)}, "images but no all_labels|no labels"),
        ({"labels": np.zeros(3, int)}, "no images"),
        (
            {"images": np.zeros((3, 8, 8), np.uint8), "labels": np.array([0, 1, 12])},
            "label 12 is none of the network's 10 classes",
        ),
        (
            {
                "images": np.zeros((3, 8, 8), np.uint8),
                "labels": np.array([0, 1, 1]),
                "class_names": np.array(["cat", "3"]),
            },
            "the classes cat are none of the network's",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    digits: tuple[Path, DataSet], tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=message):
        evaluate_export(digits[0], tmp_path / "bad.npz")


def test_folders_and_parts_that_do_not_fit_are_refused(
    digits: tuple[Path, DataSet], tmp_path: Path
) -> None:
    export, data = digits
    for name in ("cat", "dog"):
        (tmp_path / "new" / name).mkdir(parents=True)
        Image.fromarray(data.val.images[0, ..., 0]).save(tmp_path / f"new/{name}/1.png")
    with pytest.raises(DataError, match=r"classes are 0, 1, .* the folders are cat, dog; name"):
        evaluate_export(export, tmp_path / "new")
    (tmp_path / "new/cat").rename(tmp_path / "new/3")
    with pytest.raises(ExportError, match="no images of a test part; there is all"):
        evaluate_export(export, tmp_path / "new", part="test")
    (tmp_path / "new/dog").rename(tmp_path / "new/7 ")
    with pytest.raises(DataError, match="the folders are 7 ; name the folders as the classes"):
        evaluate_export(export, tmp_path / "new")


def test_deep_arrays_are_not_predicted_by_a_guess(
    digits: tuple[Path, DataSet], tmp_path: Path
) -> None:
    np.savez(tmp_path / "deep.npz", images=np.full((3, 8, 8), 900, np.uint16))
    with pytest.raises(DataError, match="more than 8 bits a pixel"):
        predict_images(digits[0], [tmp_path / "deep.npz"], tmp_path / "out")


@pytest.mark.parametrize("tiles", ["", ", tile_overlap: 0.25"])
def test_masks_are_scored_at_the_images_own_size(tmp_path: Path, tiles: str) -> None:
    draws = np.random.RandomState(0)
    for side in ("images", "masks"):
        (tmp_path / "set" / side).mkdir(parents=True)
    for number in range(24):
        mask = (draws.rand(*draws.randint(9, 20, 2)) < 0.4).astype(np.uint8) * 255
        Image.fromarray(mask // 2).save(tmp_path / f"set/images/p{number % 12:02d}_{number}.png")
        Image.fromarray(mask).save(tmp_path / f"set/masks/p{number % 12:02d}_{number}.png")
    export, data = untrained(
        tmp_path, tmp_path / "set", f"masks{tiles}, groups: '^(p[0-9]+)_', splits: [0.4, 0.3, 0.3]"
    )
    config = load_export(export).config
    assert isinstance(config, dict)
    training = Training(config, data, threads=1)
    training.network.load_state_dict(load_export(export).state_dict())
    expected = training.evaluate("test")[0]
    done = evaluate_export(export, tmp_path / "set")
    assert (done.part, done.images, done.groups) == (
        "test",
        len(data.test),
        len({*(data.test.groups or ())}),
    )
    for name in ("dice", "iou_pooled", "hd95", "loss"):
        assert done.metrics[name].value == pytest.approx(expected[name]), name
    whole = evaluate_export(export, tmp_path / "set", part="all")
    assert whole.groups == 12 and whole.metrics["dice"].images == 24
    dice = whole.metrics["dice"]
    assert dice.interval and dice.interval[0] < dice.value < dice.interval[1]


def test_what_is_evaluated_on_a_crop_is_scored_on_a_crop(tmp_path: Path) -> None:
    export, data = untrained(tmp_path, data=", eval_size: 12, eval_crop: 16")
    done = evaluate_export(export, "digits")
    assert (done.part, done.images) == ("test", len(data.test))
    network: Any = load_export(export)
    shown = network.preprocess.normalisation(torch.from_numpy(np.array(data.test.images)))
    told = network(shown).argmax(1).numpy()
    assert done.metrics["accuracy"].value == (told == data.test.labels).mean()
    assert done.notes == ["this is the data of its study; the test part is split off as there"]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """An export of three classes of which an image shows any number, and its arrays."""
    folder = tmp_path_factory.mktemp("several")
    draws = np.random.default_rng(0)
    arrays: dict[str, Any] = {"class_names": np.array(["edema", "mass", "hernia"])}
    for part, count in (("train", 12), ("val", 9), ("test", 20)):
        arrays[f"{part}_images"] = draws.integers(0, 255, (count, 8, 8), dtype=np.uint8)
        arrays[f"{part}_labels"] = draws.integers(0, 2, (count, 3), dtype=np.uint8)
    np.savez(folder / "scans.npz", **arrays)
    export, _ = untrained(folder, folder / "scans.npz", task="multilabel")
    return export, folder / "scans.npz", arrays


def test_any_number_of_classes_an_image_are_scored(
    several: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    export, source, arrays = several
    network: Any = load_export(export)
    shares = network(network.preprocess(arrays["test_images"])).sigmoid().detach().numpy()
    labels = arrays["test_labels"].astype(int)
    done = evaluate_export(export, source)
    assert (done.part, done.images) == ("test", 20)
    wanted = secondary_labels(shares, labels)
    assert {name: score.value for name, score in done.metrics.items()} == pytest.approx(wanted)
    assert done.metrics["exact_match"].interval is not None
    for k, name in enumerate(("edema", "mass", "hernia")):
        precision = average_precision_score(labels[:, k], shares[:, k])
        assert done.classes[name].value == pytest.approx(precision)
    assert "a class counts as said from a probability of 0.5" in done.notes[-1]
    text = evaluate_text(str(export), str(source), part=None, groups=None)
    assert "average precision" in text and "exact match" in text
    # The same, with its columns in another order and a class that no image shows.
    turned = {"images": arrays["test_images"], "labels": labels[:, ::-1] * [0, 1, 1]}
    names = arrays["class_names"][::-1]
    np.savez(tmp_path / "turned.npz", class_names=names, **turned)
    other = evaluate_export(export, tmp_path / "turned.npz")
    assert other.classes["mass"].value == done.classes["mass"].value
    assert {*other.classes} == {"edema", "mass"}
    assert "no images of class hernia" in other.notes
    assert np.isfinite(other.metrics["map"].value)
    np.savez(
        tmp_path / "few.npz", class_names=names[:2], images=turned["images"], labels=labels[:, :2]
    )
    # As a folder with a table, in which no image shows the last class.
    lines = ["name,labels"]
    for number in range(20):
        Image.fromarray(arrays["test_images"][number]).save(tmp_path / f"{number:02d}.png")
        own = [n for n, yes in zip(("edema", "mass"), labels[number], strict=False) if yes]
        lines.append(f"{number:02d},{'|'.join(own)}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    folder = evaluate_export(export, tmp_path)
    assert folder.classes["mass"].value == pytest.approx(done.classes["mass"].value)
    assert folder.metrics["map"].value == pytest.approx(other.metrics["map"].value)
    with pytest.raises(DataError, match=r"of 2 classes, hernia, mass; needed is .* network's 3"):
        evaluate_export(export, tmp_path / "few.npz")


def test_any_number_of_classes_an_image_are_predicted_and_explained(
    several: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    export, source, arrays = several
    done = predict_images(export, [source], tmp_path / "said")
    with (tmp_path / "said/predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 41 and "at least 0.5" in done.notes[-1]
    shares = Predictor(export).predict(arrays["test_images"][..., None])
    names = ["edema", "mass", "hernia"]
    for row, share in zip([r for r in rows if "/test/" in r["name"]], shares, strict=True):
        assert [float(row[name]) for name in names] == pytest.approx(share.tolist(), abs=1e-5)
        said = [name for name, value in zip(names, share, strict=True) if value >= 0.5]
        assert row["labels"] == ";".join(said)
    Image.fromarray(arrays["test_images"][0]).save(tmp_path / "one.png")
    explain_images(export, [tmp_path / "one.png"], tmp_path / "where")
    assert (tmp_path / "where/one.png").is_file()
    assert "logits.sigmoid() >= 0.5" in (export / "README.md").read_text()


def test_metrics_of_ones_own_go_with_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "def likeliest(probabilities, labels):\n    return probabilities.max(1).mean()\n"
    (tmp_path / "own_chances.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    export, data = untrained(tmp_path, own="own_chances:likeliest")
    assert (export / "own_chances.py").read_text() == code
    done = evaluate_export(export, "digits")
    network: Any = load_export(export)
    chances = network(network.preprocess(data.test.images)).detach().softmax(1)
    assert done.metrics["likeliest"].value == pytest.approx(float(chances.max(1).values.mean()))
    assert done.metrics["likeliest"].interval is None
    assert "likeliest" in evaluate_text(str(export), "digits", part=None, groups=None)
