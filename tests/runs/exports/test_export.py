import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from attnsearch.blocks import build_network
from attnsearch.runs.data.data import load_data
from attnsearch.runs.exports.explain import explain_images
from attnsearch.runs.exports.export import (
    export_study,
    exported_name,
    is_export,
    load_export,
    save_export,
)
from attnsearch.runs.exports.predict import predict_images
from attnsearch.runs.exports.weights import ExportError, Interface, pack_weights
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.requests import Ending, Place, Request
from attnsearch.runs.ledger.states import State
from attnsearch.runs.training.train import Training
from attnsearch.search.workers.worker import interface as worker_interface
from attnsearch.spaces import load_space

SPACE = """
name: tiny
task: classification
data: {{source: digits, image_size: 8}}
network: {{backbone: resnet20, stem: small, width: 0.5}}
insert:
  - {{at: layer2, block: {block}}}
train: {{epochs: 2, batch_size: 64, lr: 0.1, precision: {precision}}}
checkpoint: {checkpoint}
"""
BLOCK = """
from torch import nn

class Scale(nn.Conv2d):
    \"\"\"One weight per channel.\"\"\"

    def __init__(self, channels):
        super().__init__(channels, channels, 1, groups=channels)
"""


def train(
    folder: Path, block: str = "ecrm", precision: str = "fp32", checkpoint: str = "last"
) -> Training:
    path = folder / "space.yaml"
    path.write_text(SPACE.format(block=block, precision=precision, checkpoint=checkpoint))
    config = load_space(path, ["train.seed=3"]).resolve({})
    training = Training(config, load_data(config["data"]), threads=1)
    while not training.done:
        training.run_epoch()
    return training


def interface(training: Training) -> Interface:
    data = training.data
    return Interface(tuple(data.class_names), data.image_size, data.channels, data.mean, data.std)


def save(training: Training, folder: Path, **options: Any) -> Path:
    record = {"metrics": training.result, "costs": {"params": 1}, "seed": training.seed}
    state = training.result_state()
    return save_export(folder, training.config, state, interface(training), record, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Training:
    return train(tmp_path_factory.mktemp("space"))


@pytest.fixture
def export(trained: Training, tmp_path: Path) -> Path:
    return save(trained, tmp_path / "best")


def accuracy(network: Any, training: Training) -> float:
    logits = network(network.preprocess(training.data.val.images))
    return float((logits.argmax(1).numpy() == training.data.val.labels).mean())


@pytest.mark.parametrize(
    ("precision", "checkpoint"), [("fp32", "last"), ("bf16", "last"), ("fp32", "best_val")]
)
def test_a_loaded_export_scores_exactly_what_was_recorded(
    tmp_path: Path, precision: str, checkpoint: str
) -> None:
    training = train(tmp_path, precision=precision, checkpoint=checkpoint)
    network = load_export(save(training, tmp_path / "best"))
    assert not network.training
    assert accuracy(network, training) == training.result["val_accuracy"]
    logits = network(network.preprocess(training.data.val.images))
    told = training.evaluate("val")[1]["probabilities"]
    np.testing.assert_allclose(logits.softmax(1).detach().numpy(), told, atol=1e-5)


def test_an_export_says_what_it_is(export: Path, trained: Training) -> None:
    network = load_export(export)
    assert network.config == trained.config
    assert list(network.class_names) == list(trained.data.class_names)
    recorded = json.loads((export / "metrics.json").read_text())
    assert recorded["metrics"]["val_accuracy"] == trained.result["val_accuracy"]
    readme = (export / "README.md").read_text()
    assert "load_export" in readme
    assert "attnsearch run config.yaml --fresh" in readme
    assert f"{trained.result['val_accuracy']:.4g}" in readme
    assert is_export(export)


def test_the_export_of_a_baseline_says_that_nothing_is_inserted(tmp_path: Path) -> None:
    training = train(tmp_path, block="none")
    readme = (save(training, tmp_path / "best") / "README.md").read_text()
    assert "resnet20 with nothing inserted, trained by attnsearch" in readme


def test_an_exported_config_retrains_to_the_same_bits(export: Path, trained: Training) -> None:
    config = load_space(export / "config.yaml").resolve({})
    again = Training(config, load_data(config["data"]), threads=1)
    while not again.done:
        again.run_epoch()
    for name, tensor in trained.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor)


def test_exported_weights_carry_the_host_s_own_names(export: Path, trained: Training) -> None:
    names = load_file(export / "weights.safetensors").keys()
    assert names == trained.network.state_dict().keys()
    assert "layer1.0.conv1.weight" in names


def test_an_export_loads_where_its_pretrained_weights_are_not(
    export: Path, trained: Training
) -> None:
    config = {
        **trained.config,
        "network": {**trained.config["network"], "weights": "/no/such.pth"},
    }
    save_export(export, config, trained.result_state(), interface(trained), {})
    loaded = load_export(export)
    assert loaded.config["network"]["weights"] == "/no/such.pth"
    assert accuracy(loaded, trained) == trained.result["val_accuracy"]


def test_an_export_loads_where_what_its_loop_needs_is_not(
    export: Path, trained: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "gone_loop.py").write_text("def loop(run): ...\n")
    config = {**trained.config, "train": {**trained.config["train"], "loop": "gone_loop:loop"}}
    save_export(export, config, trained.result_state(), interface(trained), {})
    for file in (tmp_path / "gone_loop.py", export / "gone_loop.py"):
        file.write_text("import no_such_package\n")
    sys.modules.pop("gone_loop")
    assert load_export(export).config["train"]["loop"] == "gone_loop:loop"  # type: ignore[index]


def test_an_export_loads_alone_in_another_process_with_a_user_s_block(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "scale_block.py").write_text(BLOCK)
    export = save(train(source, block="'scale_block:Scale'"), tmp_path / "best")
    shutil.rmtree(source)
    code = (
        "import sys; from attnsearch.runs.exports.export import load_export; import numpy as np\n"
        "net = load_export(sys.argv[1])\n"
        "print(tuple(net(net.preprocess(np.zeros((2, 8, 8), np.uint8))).shape))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(export)], capture_output=True, text=True, cwd="/"
    )
    assert told.stdout.strip() == "(2, 10)", told.stderr


class TestPreprocess:
    def test_images_become_what_training_saw(self, export: Path, trained: Training) -> None:
        network = load_export(export)
        images = trained.data.val.images[:5]
        expected = trained.normalisation(torch.from_numpy(np.array(images)))
        pictures = [Image.fromarray(image[..., 0]) for image in images]
        colour = [picture.convert("RGB") for picture in pictures]
        clear = [picture.convert("RGBA") for picture in pictures]
        for given in (images, images[..., 0], pictures, colour, clear, list(images)):
            assert torch.equal(network.preprocess(given), expected)

    def test_other_sizes_are_resized(self, export: Path) -> None:
        network = load_export(export)
        large = [Image.new("L", (30, 20), 255), Image.new("RGB", (8, 9))]
        ready = network.preprocess(large)
        assert ready.shape == (2, 1, 8, 8)
        assert network(ready).shape == (2, 10)

    def test_transparency_is_black(self, export: Path) -> None:
        preprocess = load_export(export).preprocess
        clear = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
        assert torch.equal(preprocess([clear]), preprocess([Image.new("L", (8, 8), 0)]))

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (np.zeros((2, 8, 8), np.float32), "of uint8, not .* of float32"),
            (np.zeros((2, 8, 8, 4), np.uint8), r"\(H, W, 1 or 3\)"),
            ([Image.new("I;16", (8, 8))], "more than 8 bits"),
            (Image.new("L", (8, 8)), "a list of images"),
            ([], "a list of images"),
        ],
    )
    def test_what_is_no_image_is_refused(self, export: Path, images: Any, message: str) -> None:
        with pytest.raises(ExportError, match=message):
            load_export(export).preprocess(images)


class TestBrokenExports:
    def test_a_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match="no such folder"):
            load_export(tmp_path / "nowhere")

    @pytest.mark.parametrize("name", ["config.yaml", "weights.safetensors"])
    def test_a_missing_file(self, export: Path, name: str) -> None:
        (export / name).unlink()
        with pytest.raises(ExportError, match=f"no export, {name} missing"):
            load_export(export)

    def test_damaged_weights(self, export: Path) -> None:
        file = export / "weights.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(ExportError, match="not a readable safetensors file"):
            load_export(export)

    def test_changed_weights(self, export: Path) -> None:
        file = export / "weights.safetensors"
        sound = file.read_bytes()
        for start in range(len(sound) // 2, len(sound), len(sound) // 7):
            wrong = bytes(byte ^ 1 for byte in sound[start : start + 200])
            file.write_bytes(sound[:start] + wrong + sound[start + 200 :])
            with pytest.raises(ExportError, match="does not hold what was stored"):
                load_export(export)

    def test_weights_of_somebody_else(self, export: Path) -> None:
        save_file({"a": torch.zeros(1)}, export / "weights.safetensors")
        with pytest.raises(ExportError, match="only weights that attnsearch wrote"):
            load_export(export)

    def test_weights_of_another_network(self, export: Path, trained: Training) -> None:
        other = build_network({**trained.config, "insert": []}, 1, 10, 8)
        packed = pack_weights(other.state_dict(), interface(trained))
        (export / "weights.safetensors").write_bytes(packed)
        with pytest.raises(ExportError, match="does not hold what was stored"):
            load_export(export)
        (export / "metrics.json").unlink()  # and the checksum with it
        with pytest.raises(ExportError, match=r"weights.safetensors does not fit config.yaml"):
            load_export(export)


class TestFolder:
    def test_an_export_is_overwritten(self, export: Path, trained: Training) -> None:
        (export / "notes.txt").write_text("mine")
        (export / "model.onnx").write_text("of the export before")
        record = {"metrics": {"val_accuracy": 0.5}}
        save_export(export, trained.config, trained.result_state(), interface(trained), record)
        assert json.loads((export / "metrics.json").read_text())["metrics"]["val_accuracy"] == 0.5
        assert (export / "notes.txt").read_text() == "mine"
        assert not (export / "model.onnx").exists()

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_anything_else_is_not(self, tmp_path: Path, trained: Training, kind: str) -> None:
        target = tmp_path / "thesis"
        kept = target if kind == "file" else target / "config.yaml"
        kept.parent.mkdir(exist_ok=True)
        kept.write_text("my own")
        with pytest.raises(ExportError, match="holds something that is no export"):
            save(trained, target)
        assert kept.read_text() == "my own"

    def test_a_failed_export_leaves_the_one_before(
        self, export: Path, trained: Training, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = {file.name: file.read_bytes() for file in export.iterdir()}

        def fail(*_: Any, **__: Any) -> None:
            raise OSError("disk full")

        monkeypatch.setattr("attnsearch.runs.exports.export._readme", fail)
        with pytest.raises(ExportError, match="disk full"):
            save(trained, export)
        assert {file.name: file.read_bytes() for file in export.iterdir()} == before
        assert not list(export.parent.glob(".best*"))

    def test_what_json_cannot_hold_becomes_null(self, export: Path, trained: Training) -> None:
        record = {"metrics": {"val_auroc": math.nan}, "epochs": ({"lr": np.float64(0.1)},)}
        save_export(export, trained.config, trained.result_state(), interface(trained), record)
        text = (export / "metrics.json").read_text()
        found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
        assert found["metrics"]["val_auroc"] is None
        assert found["epochs"] == [{"lr": 0.1}]


class TestStudy:
    @pytest.fixture
    def ledger(self, tmp_path: Path, trained: Training) -> Ledger:
        """A study of five trials: one lost its weights, one was stopped, one is over a limit."""
        ledger = Ledger(tmp_path / "attnsearch.db")
        document = {"name": "digits", "search": {"objectives": {"val_loss": "min"}}}
        study = ledger.open_study("digits", "name: digits", document, "f" * 64, {"python": "3"})
        weights = tmp_path / "weights.safetensors"
        weights.write_bytes(pack_weights(trained.result_state(), interface(trained)))
        config = {**trained.config, "search": {"trials": 5}, "limits": {"params": 1e9}}
        outcomes = [
            (0.5, "finished", -0.1),
            (0.2, "finished", 0.0),
            (0.3, "finished", -0.1),
            (0.1, "stopped", -0.1),
            (0.1, "finished", 0.2),
        ]
        for number, (loss, state, excess) in enumerate(outcomes):
            claim = ledger.claim(
                Request(f"{number:064d}", config=config, seed=40 + number, epochs=2)
            )
            ledger.attach(study.id, claim.run_id, Place(role="trial", number=number, values={}))
            ledger.finish(
                claim.run_id,
                Ending(
                    state,
                    metrics={"val_loss": loss, "val_accuracy": loss},
                    costs={"params": 10 - number},
                    violations={"limits.latency_ms": excess},
                    weights_path=str(weights) if number != 2 else None,
                ),
            )
        return ledger

    def test_the_best_finished_trial_leaves(self, ledger: Ledger, tmp_path: Path) -> None:
        pytest.importorskip("onnxscript")
        folder = export_study(ledger, "digits", tmp_path / "out" / "best", formats=["onnx"])
        assert (folder / "model.onnx").stat().st_size > 1e5
        assert "`model.onnx` is the same network" in (folder / "README.md").read_text()
        recorded = json.loads((folder / "metrics.json").read_text())
        assert (recorded["trial"], recorded["seed"]) == (1, 41)
        config = load_space(folder / "config.yaml").resolve({})
        assert config["name"] == "digits-best"
        assert config["train"]["seed"] == 41
        written = (folder / "config.yaml").read_text()
        assert not any(key in written for key in ("search", "limits", "confirm", "ablation"))
        assert load_export(folder).config == config

    def test_weights_that_changed_do_not_leave(self, ledger: Ledger, tmp_path: Path) -> None:
        weights = tmp_path / "weights.safetensors"
        sound = weights.read_bytes()
        ledger.write_file(weights, sound)
        wrong = bytes(byte ^ 1 for byte in sound[-4000:-3800])
        weights.write_bytes(sound[:-4000] + wrong + sound[-3800:])
        with pytest.raises(ExportError, match="does not hold what was stored"):
            export_study(ledger, "digits", tmp_path / "best")
        assert not (tmp_path / "best").exists()
        weights.write_bytes(sound)
        assert load_export(export_study(ledger, "digits", tmp_path / "best"))

    def test_where_every_finished_trial_is_above_a_limit_none_leaves_unasked(
        self, tmp_path: Path
    ) -> None:
        document = {"limits": {"latency_ms": 10}}
        with Ledger(tmp_path / "attnsearch.db") as ledger:
            study = ledger.open_study("slow", "", document, "data", {})
            request = Request("key", config={}, seed=0, epochs=1, study_id=study.id)
            claim = ledger.claim(request)
            ledger.attach(study.id, claim.run_id, Place(0, name="000 gc"))
            costs = {"latency_ms": 11}
            ending = Ending(State.FINISHED, metrics={"val_accuracy": 0.9}, costs=costs)
            ledger.finish(claim.run_id, ending)
            with pytest.raises(ExportError, match="trial 0 is over limits"):
                export_study(ledger, "slow", tmp_path / "out")

    def test_another_trial_leaves_when_asked(self, ledger: Ledger, tmp_path: Path) -> None:
        folder = export_study(ledger, "digits/1", tmp_path / "other", trial=0)
        assert json.loads((folder / "metrics.json").read_text())["trial"] == 0
        assert load_space(folder / "config.yaml").name == "digits-000"

    @pytest.mark.parametrize(
        ("trial", "message"),
        [
            (2, "weights of trial 2 of study digits/1 were not kept"),
            (3, "trial 3 of study digits/1 is stopped; finished are trials 0, 1, 2, 4"),
            (9, "trial 9 of study digits/1 does not exist"),
        ],
    )
    def test_what_cannot_leave_is_told(
        self, ledger: Ledger, tmp_path: Path, trial: int, message: str
    ) -> None:
        with pytest.raises(ExportError, match=message):
            export_study(ledger, "digits", tmp_path / "out", trial=trial)
        assert not (tmp_path / "out").exists()

    def test_deleted_weights_are_told(self, ledger: Ledger, tmp_path: Path) -> None:
        (tmp_path / "weights.safetensors").unlink()
        with pytest.raises(ExportError, match=r"are gone; put the file back, or train anew"):
            export_study(ledger, "digits", tmp_path / "out")

    def test_a_study_without_finished_trials(self, ledger: Ledger, tmp_path: Path) -> None:
        ledger.open_study("empty", "name: empty", {"name": "empty"}, "f" * 64, {})
        with pytest.raises(ExportError, match="no finished trial to export"):
            export_study(ledger, "empty", tmp_path / "out")


def test_a_network_is_an_ordinary_module(export: Path) -> None:
    network = load_export(export)
    assert isinstance(network, nn.Module)
    assert "preprocess" not in network.state_dict()


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (8, 8, 1)])
def test_one_image_is_not_taken_for_its_rows(export: Path, shape: tuple[int, ...]) -> None:
    network = load_export(export)
    image = np.zeros(shape, np.uint8)
    with pytest.raises(ExportError, match=r"looks like one image.*\[image\]"):
        network.preprocess(image)
    for given in ([image], image[None], np.zeros((2, 8, 8), np.uint8)):
        assert network.preprocess(given).shape[1:] == (1, 8, 8)


@pytest.mark.parametrize(
    ("length", "suffix"), [(6, "best"), (195, "best"), (198, "best"), (200, "012")]
)
def test_a_long_name_exports_a_config_that_loads(length: int, suffix: str, tmp_path: Path) -> None:
    name = exported_name("n" * length, suffix)
    assert name.endswith(f"-{suffix}") and len(name) == min(length + 1 + len(suffix), 200)
    text = SPACE.format(block="none", precision="fp32", checkpoint="last")
    (tmp_path / "config.yaml").write_text(text.replace("tiny", name))
    assert load_space(tmp_path / "config.yaml").name == name


def test_a_network_for_rectangles_leaves_whole(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.format(block="gc", precision="fp32", checkpoint="last"))
    config = load_space(path, ["data.image_size=[8, 12]"]).resolve({})
    training = Training(config, load_data(config["data"]), threads=1)
    assert training.data.image_size == (8, 12)
    training.run_epoch()
    training.run_epoch()
    export = save(training, tmp_path / "best")
    network = load_export(export)
    assert accuracy(network, training) == training.result["val_accuracy"]
    assert network.interface.image_size == (8, 12)
    assert "8 x 12" in (export / "README.md").read_text()
    # Upright images are brought to height and width, not to width and height.
    large = np.zeros((40, 60, 1), np.uint8)
    large[:20] = 255
    (ready,) = network.preprocess([large])
    assert ready.shape == (1, 8, 12)
    assert ready[0, :3].min() > ready[0, 5:].max()


CROPPED = """
name: cropped
task: classification
data:
  source: {source}
  image_size: 8
  eval_size: [12, 10]
  eval_crop: 16
  splits: [0.6, 0.2, 0.2]
network: {{backbone: resnet20, stem: small, width: 0.25}}
insert: [{{at: layer2, block: cbam, params: {{cbam: {{reduction: 4}}}}}}]
train: {{epochs: 1, batch_size: 16}}
"""


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Training, Path]:
    """Trained on 8 pixels of whole images, evaluated on the middle 12 x 10; and its source."""
    folder = tmp_path_factory.mktemp("cropped")
    draws = np.random.default_rng(0)
    for number in range(40):
        pixels = draws.integers(0, 256, (20 + number, 31, 3), dtype=np.uint8)
        path = folder / "set" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    file = folder / "space.yaml"
    file.write_text(CROPPED.format(source=folder / "set"))
    config = load_space(file).resolve({})
    training = Training(config, load_data(config["data"]), threads=1)
    training.run_epoch()
    return training, folder / "set"


def test_an_export_crops_a_users_images_as_validation_was_cropped(
    cropped: tuple[Training, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, source = cropped
    shapes = []
    monkeypatch.setattr(
        "attnsearch.runs.exports.formats.export_onnx", lambda *given: shapes.append(given[2])
    )
    record = {"metrics": training.result, "costs": {}, "seed": 0}
    said = worker_interface(training.data)
    folder = save_export(
        tmp_path / "best", training.config, training.result_state(), said, record, formats=["onnx"]
    )
    assert shapes == [(3, 12, 10)]
    readme = (folder / "README.md").read_text()
    assert "just covers 19 x 16 pixels, with its ratio kept" in readme
    assert "12 x 10 pixels, cut from the middle" in readme

    network: Any = load_export(folder)
    val = training.data.val
    pictures = [Image.open(source / name) for name in val.names]
    shown = network.preprocess.normalisation(torch.from_numpy(np.array(val.images)))
    assert torch.equal(network.preprocess(pictures), shown)
    told = training.evaluate("val")[1]["probabilities"]
    predict_images(folder, [source / name for name in val.names], tmp_path / "told")
    rows = list(csv.DictReader((tmp_path / "told" / "predictions.csv").open()))
    table = [[float(row["a"]), float(row["b"])] for row in rows]
    np.testing.assert_allclose(table, told, atol=1e-5)

    explain_images(folder, [source / val.names[0]], tmp_path / "maps")
    case = next(iter((tmp_path / "maps").iterdir()))
    assert Image.open(case).size[0] > 2 * 256


def test_a_whole_image_says_nothing_of_crops_in_its_weights(trained: Training) -> None:
    packed = pack_weights({}, worker_interface(trained.data))
    assert b"crop" not in packed
