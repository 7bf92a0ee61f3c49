"""`train.metrics`: measured in every epoch and on the test part, and objectives if asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attnsearch.runs.data import load_data
from attnsearch.runs.ledger import inputs, run_key
from attnsearch.runs.training import Training
from attnsearch.runs.training.losses import check_own_metric
from attnsearch.runs.training.optim import TrainError
from attnsearch.search.plans.arms import statistics_of
from attnsearch.spaces import SpaceError, load_space
from tests.spaces.space.test_opening import DOCUMENT

UNET = {"backbone": "resnet20", "width": 0.25, "decoder": "fcn"}
METRICS = """
import numpy as np


def top2(probabilities, labels):
    best = np.argsort(-probabilities, 1)[:, :2]
    return (best == labels[:, None]).any(1).mean()


def cost(probabilities, labels):
    return np.abs(probabilities.argmax(1) - labels).mean()


def words(probabilities, labels):
    return "good"


def nothing(probabilities, labels):
    return float("nan")


def accuracy(probabilities, labels):
    return 0.0


def groups(probabilities, labels):
    return 0.0


def covered(probabilities, mask):
    # The area that is found by the area that is there.
    assert probabilities.shape[1:] == mask.shape
    return (probabilities.argmax(0) == 1).sum() / (mask == 1).sum()


def ranked(probabilities, labels):
    # Share of the images of which the likeliest class is shown: needs labels (N, K).
    rows = np.arange(len(labels))
    return labels[rows, probabilities.argmax(1)].mean()
"""


@pytest.fixture
def own(own_module: Callable[[str, str], Path]) -> Path:
    """A folder with the user's metrics, current and importable."""
    return own_module("own_metrics", METRICS)


def document(*metrics: str, **more: Any) -> dict[str, Any]:
    names = [f"own_metrics:{name}" for name in metrics]
    return {**DOCUMENT, "train": {"epochs": 1, "metrics": names}, **more}


def test_they_are_measured_in_every_epoch_and_of_the_test_part(own: Path) -> None:
    space = load_space(document("top2", "cost", insert=[]))
    config = space.resolve({})
    training = Training(config, load_data(config["data"]))
    metrics = training.run_epoch()
    assert metrics["val_accuracy"] <= metrics["val_top2"] <= 1
    scores, kept = training.evaluate("test")
    miss = np.abs(kept["probabilities"].argmax(1) - kept["labels"]).mean()
    assert scores["cost"] == pytest.approx(miss)


def test_they_can_be_objectives_and_primary_in_the_direction_that_is_asked_for(own: Path) -> None:
    search = {"objectives": {"val_cost": "min"}, "trials": 2}
    space = load_space(document("top2", "cost", search=search, confirm={"seeds": 2}))
    assert space.document["primary_metric"] == "cost"
    assert statistics_of(space.document)["direction"] == "min"
    primary = load_space(document("top2", primary_metric="top2"))
    assert statistics_of(primary.document)["direction"] == "max"
    with pytest.raises(SpaceError, match="'val_cost' is no metric of classification"):
        load_space(document("top2", search=search))


def test_without_any_a_document_has_no_such_key(own: Path) -> None:
    assert "metrics" not in load_space(DOCUMENT).document["train"]
    config = load_space(document("top2", insert=[])).resolve({})
    assert config["train"]["metrics"] == ["own_metrics:top2"]
    before = run_key(config, "data", 0, 1, "cpu", 1)
    assert [*inputs(config)] == ["own_metrics:top2"]
    (own / "own_metrics.py").write_text(METRICS + "\n\nMORE = 1\n")
    assert run_key(config, "data", 0, 1, "cpu", 1) != before


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["accuracy"], "train.metrics.0: one of ours is called accuracy; rename the function"),
        (["groups"], "train.metrics.0: one of ours is called groups"),
        (["top2", "top2"], "train.metrics.1: two are called top2"),
        (["missing"], "train.metrics: function 'own_metrics:missing': "),
    ],
)
def test_mistakes_stand_at_their_key(own: Path, names: list[str], words: str) -> None:
    with pytest.raises(SpaceError) as caught:
        load_space(document(*names))
    assert words in str(caught.value)


def test_masks_have_them_of_each_image(own: Path, tmp_path: Path) -> None:
    draws = np.random.RandomState(0)
    for side in ("images", "masks"):
        (tmp_path / "set" / side).mkdir(parents=True)
    for number in range(8):
        disc = np.hypot(*np.mgrid[-12:12, -14:14]) < 4 + number
        picture = draws.randint(0, 90, (*disc.shape, 3)) + 150 * disc[..., None]
        for side, pixels in (("images", picture), ("masks", 255 * disc)):
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(tmp_path / f"set/{side}/{number}.png")
    data = {"source": str(tmp_path / "set"), "image_size": 16, "splits": [0.5, 0.25, 0.25]}
    asked = {"objectives": {"val_covered": "min"}}
    settings = {"task": "segmentation", "data": data, "insert": [], "search": asked}
    space = load_space(document("covered", network=UNET, **settings))
    assert statistics_of(space.document)["direction"] == "min"
    config = space.resolve({})
    held = load_data(config["data"], "segmentation")
    training = Training(config, held, threads=1)
    epoch = training.run_epoch()
    metrics, kept = training.evaluate("val")
    assert epoch["val_covered"] == metrics["covered"] == kept["covered"].mean()
    assert kept["covered"].shape == (2,) == kept["dice"].shape
    # What it is given: probabilities of every class at the image's own size, and its mask.
    both = kept["dice"] * (kept["covered"] + 1) / 2  # Dice = 2 TP / (P + T)
    assert (both <= np.minimum(kept["covered"], 1) + 1e-9).all()
    check_own_metric("own_metrics:covered", "segmentation", 3)
    with pytest.raises(TrainError, match=r"probabilities \(3, 24, 8\) and a mask \(24, 8\)"):
        check_own_metric("own_metrics:words", "segmentation", 3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("words", "failed on probabilities (12, 3) and labels (12,); it is to return a number"),
        ("nothing", "gave nan on predictions with every class"),
    ],
)
def test_what_is_no_metric_is_told_before_anything_trains(
    own: Path, name: str, words: str
) -> None:
    check_own_metric("own_metrics:top2", "classification", 3)
    check_own_metric("own_metrics:ranked", "multilabel", 3)
    with pytest.raises(TrainError) as caught:
        check_own_metric(f"own_metrics:{name}", "classification", 3)
    assert str(caught.value).startswith(f"train.metrics: own_metrics:{name} {words}")
