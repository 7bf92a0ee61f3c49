"""A study of masks from its space file to masks of other images."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnsearch.runs.data.data import load_data
from attnsearch.runs.exports.export import export_study, load_export
from attnsearch.runs.ledger.files import panel_file, weights_folder
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.metrics.masks import OF_MASK, confusion, summary
from attnsearch.runs.training.segment import classes_of, enlarged_logits
from attnsearch.search.cli import DONE, FAILED, WRONG_INPUT, call
from attnsearch.search.propose.objectives import Objectives
from attnsearch.search.study.session import run_study
from attnsearch.search.workers.job import Job
from attnsearch.search.workers.worker import Worker
from attnsearch.spaces import load_space

SPACE = """
name: boxes
task: segmentation
data: {source: boxes, image_size: 16, splits: [0.5, 0.25, 0.25]}
network: {backbone: resnet20, width: 0.25}
insert:
  - {at: layer3, block: {choice: [none, ecrm]}}
train: {epochs: 2, batch_size: 4, lr: 0.05}
search: {sampler: grid, scheduler: none, trials: 2}
confirm: {top: 1, seeds: 2, controls: [baseline]}
"""


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    draws = np.random.RandomState(0)
    for side in ("images", "masks"):
        (tmp_path / "boxes" / side).mkdir(parents=True)
    for number in range(16):
        mask = np.zeros((20, 24), np.uint8)
        top, left = draws.randint(2, 10, 2)
        mask[top : top + 7, left : left + 9] = 255
        picture = draws.randint(0, 120, (20, 24, 3)) + mask[..., None] // 2
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / f"boxes/images/{number}.png")
        Image.fromarray(mask).save(tmp_path / f"boxes/masks/{number}_mask.png")
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)
    return file


@pytest.mark.slow  # a whole study of masks
def test_the_scores_of_a_run_are_computed_once_and_in_one_place(
    space_file: Path, tmp_path: Path, in_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of an image where it is predicted, those of a run where its training ends."""
    masks, runs = Counter[bytes](), Counter[float]()
    measure, judge = OF_MASK["hd95"], Objectives.scores

    def measured(predicted: Any, truth: Any, names: Any) -> float:
        masks[truth.tobytes()] += 1
        return measure(predicted, truth, names)

    def judged(self: Objectives, metrics: Any, costs: Any) -> tuple[float, ...] | None:
        runs[metrics["val_loss"]] += 1
        return judge(self, metrics, costs)

    monkeypatch.setitem(OF_MASK, "hd95", measured)
    monkeypatch.setattr(Objectives, "scores", judged)
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        space = load_space(space_file, ["confirm=null"])
        trained = run_study(space, ledger=ledger).trials
    assert [row.state for row in trained] == ["finished"] * 2
    assert len(masks) == 4 and set(masks.values()) == {len(trained)}
    assert runs == {row.metrics["val_loss"]: 1 for row in trained}


def test_a_study_of_masks_from_end_to_end(
    space_file: Path,
    tmp_path: Path,
    in_process: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    # What the networks cost is told elsewhere, and takes longer to measure than these to train.
    monkeypatch.setattr("attnsearch.runs.training.train.costs", lambda *_, **__: {"params": 1.0})
    space = load_space(space_file)
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        result = run_study(space, ledger=ledger)
        assert result.state == "finished"
        rows = ledger.trials(result.study.id)
        assert {row.state for row in rows} == {"finished"}
        assert {row.role for row in rows} >= {"plain", "trial", "confirm"}
        for row in rows:
            assert {"val_dice", "val_iou", "val_hd95", "val_precision"} <= set(row.metrics)
            panel = panel_file(weights_folder(ledger), row.key)
            assert Image.open(panel).format == "PNG"
        confirmed = next(row for row in rows if row.role == "confirm")
        assert {"test_dice", "test_hd95"} <= set(confirmed.metrics)
        stored = ledger.predictions(confirmed.run_id)
        assert stored["test"]["dice"].mean() == pytest.approx(confirmed.metrics["test_dice"])
        export_study(ledger, "boxes", tmp_path / "best", trial=1)
        recorded = next(row for row in rows if row.number == 1 and row.arm is None)

    data = load_data(space.document["data"], "segmentation")
    assert data.val.masks is not None
    network: Any = load_export(tmp_path / "best")
    images = torch.from_numpy(np.array(data.val.images))
    found = enlarged_logits(network, data.val.masks, images, network.preprocess.normalisation)
    counts = [
        confusion(classes_of(scores), data.val.masks.original(image), 2) for image, scores in found
    ]
    dice = summary(np.stack(counts), data.class_names)["dice"]
    assert dice == recorded.metrics["val_dice"]

    images_folder = tmp_path / "boxes/images"
    assert call(["predict", "best", str(images_folder), "--to", "out", "--overlays"]) == DONE
    said = capsys.readouterr().out
    assert "Wrote NAME.png, overlays/NAME.png, classes.csv of 16 images to out." in said
    assert len(list((tmp_path / "out/overlays").iterdir())) == 16
    assert call(["predict", "best", str(images_folder), "--to", "out"]) == WRONG_INPUT
    assert "overwritten" in capsys.readouterr().err
    assert call(["explain", "best", str(images_folder / "3.png"), "--to", "pictures"]) == DONE
    (images_folder / "3.png").write_bytes(b"broken")
    one, other = str(images_folder / "3.png"), str(images_folder / "4.png")
    assert call(["predict", "best", one, other, "--to", "more"]) == FAILED
    said = capsys.readouterr().out
    assert "of 1 image to more" in said and "3.png" in said
    assert (tmp_path / "more/4.png").exists()


def test_a_picture_that_fails_fails_no_run(
    space_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> bytes:
        raise RuntimeError("no font")

    monkeypatch.setattr("attnsearch.runs.training.panels.validation_panel", fails)
    space = load_space(space_file)
    config = space.resolve(space.defaults())
    config["train"]["epochs"] = 1
    worker = Worker.__new__(Worker)
    datasets = {"data": load_data(config["data"], "segmentation")}
    worker.setup({"job": Job(1, config)}, datasets=datasets)
    with pytest.warns(UserWarning, match="no font"):
        report = worker.step()["report"]
    assert (report.state, report.panel) == ("finished", None)
    assert report.weights is not None
