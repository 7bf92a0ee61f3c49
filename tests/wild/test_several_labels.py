"""Any number of classes an image, from a folder with a table to predictions."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from attnsearch.runs.ledger import Ledger
from attnsearch.search.check import forecast as forecast_module
from attnsearch.search.cli import call
from attnsearch.search.exit import DONE
from attnsearch.search.terminal import budget
from tests.wild.test_whole_way import make_tiny

CLASSES = ["edema", "lung mass", "rare"]


def write_scans(folder: Path) -> None:
    """Grey images with a bright quarter for each class that they show; a third show none."""
    draws = np.random.default_rng(0)
    lines = ["image,labels"]
    (folder / "images").mkdir(parents=True)
    for number in range(90):
        shown = [k for k in range(3) if draws.random() < (0.4, 0.3, 0.15)[k]]
        pixels = draws.integers(0, 80, (20, 20))
        for k in shown:
            pixels[10 * (k // 2) :, 10 * (k % 2) :][:10, :10] += 150
        name = f"p{number // 2:02d}_{number % 2}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / name)
        lines.append(f"{name},{'|'.join(CLASSES[k] for k in shown) or 'No Finding'}")
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.slow  # a whole study and its export
def test_a_table_of_labels_goes_the_whole_way(
    tmp_path: Path,
    in_process: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATTNSEARCH_LEDGER", raising=False)
    monkeypatch.setattr(forecast_module, "seconds_per_epoch", lambda *_: 0.1)
    monkeypatch.setattr(budget, "seconds_per_epoch", lambda *_: 0.1)
    write_scans(tmp_path / "scans")
    groups = ["--groups", r"^(p\d+)_"]
    assert call(["init", "scans", "--to", "space.yaml", *groups]) == DONE
    make_tiny(tmp_path / "space.yaml")
    document = yaml.safe_load((tmp_path / "space.yaml").read_text(encoding="utf-8"))
    assert document["task"] == "multilabel"
    document["train"] |= {"class_weights": "balanced", "label_smoothing": 0.05}
    document["data"]["augment"] = {"mixup": 0.2}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    for words in (
        ["check", "space.yaml"],
        ["run", "space.yaml"],
        ["report", "scans", "--format", "md", "--to", "paper"],
        ["export", "scans", "--to", "best", "--source"],
    ):
        assert call(words) == DONE, (words, capsys.readouterr())
    report = (tmp_path / "paper/report.md").read_text(encoding="utf-8")
    for text in ("test mAP", r"| lung\_mass |", "Exact match", "from a probability of 0.5 on"):
        assert text in report
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        (study,) = ledger.studies()
        rows = [row for row in ledger.trials(study.id) if "test_map" in row.metrics]
    assert len(rows) == 4
    assert {"test_ap_lung_mass", "test_auroc_edema", "val_micro_f1"} <= rows[0].metrics.keys()
    capsys.readouterr()
    assert call(["evaluate", "best", "scans", "--json"]) == DONE
    told = json.loads(capsys.readouterr().out)
    scores = [row.metrics["test_map"] for row in rows]
    assert any(told["metrics"]["map"]["value"] == pytest.approx(score) for score in scores)
    assert told["groups"] and {*told["classes"]} <= {*CLASSES}
    assert call(["predict", "best", "scans/images", "--to", "said"]) == DONE
    with (tmp_path / "said/predictions.csv").open(encoding="utf-8", newline="") as stream:
        head, *said = csv.reader(stream)
    assert head == ["name", "labels", *sorted(CLASSES)]
    assert len(said) == 90
