"""`train.loss`: focal for labels, and functions of the user's own."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from attnsearch.runs.ledger import inputs, run_key
from attnsearch.runs.training.losses import check_own_loss, classification_loss
from attnsearch.runs.training.mask_losses import mask_loss, pixel_loss
from attnsearch.runs.training.optim import TrainError
from attnsearch.spaces import SpaceError, load_space
from tests.spaces.space.test_opening import DOCUMENT

LOSSES = """
import torch
from torch.nn.functional import cross_entropy


def smooth(logits, targets):
    return cross_entropy(logits, targets, ignore_index=255, label_smoothing=0.2)


def vector(logits, targets):
    return cross_entropy(logits, targets, ignore_index=255, reduction="none")


def detached(logits, targets):
    return smooth(logits.detach(), targets)


def wrong(logits, targets):
    return logits @ targets


def infinite(logits, targets):
    return logits.sum() / 0


def several(logits, targets):
    assert logits.shape == targets.shape  # 0 and 1 of each class
    return torch.nn.functional.multilabel_soft_margin_loss(logits, targets.float())


def counted(logits, targets):
    return (logits.argmax(1) == targets).float().mean()


NUMBER = 3
"""


@pytest.fixture
def own(own_module: Callable[[str, str], Path]) -> Path:
    """A folder with the user's losses, current and importable."""
    return own_module("own_losses", LOSSES)


def loss_of(**train: Any) -> Callable[[Tensor, Tensor], Tensor]:
    settings = {"loss": None, "label_smoothing": 0.0, "class_weights": None, **train}
    labels = SimpleNamespace(labels=np.array([0, 0, 0, 1, 2]))
    data: Any = SimpleNamespace(train=labels, classes=3, class_names=["a", "b", "c"])
    return classification_loss(settings, data, torch.device("cpu"))


LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 4.0]])
def test_focal_is_its_formula_of_labels_and_of_shares(weights: list[float] | None) -> None:
    focal = loss_of(loss="focal", class_weights=weights)
    own = torch.tensor(weights or [1.0] * 3, dtype=torch.float64)
    right = LOGITS.softmax(1)[range(6), LABELS]
    expected = ((1 - right) ** 2 * -right.log() * own[LABELS]).sum() / own[LABELS].sum()
    assert torch.allclose(focal(LOGITS.float(), LABELS), expected.float(), rtol=1e-5)
    shares = one_hot(LABELS, 3).float()
    assert torch.allclose(focal(LOGITS.float(), shares), expected.float(), rtol=1e-5)
    mixed = torch.full((6, 3), 1 / 3)
    assert focal(LOGITS.float(), mixed).isfinite()


def test_focal_of_labels_is_that_of_masks_of_one_pixel() -> None:
    focal = loss_of(loss="focal", label_smoothing=0.1)
    masks = pixel_loss(LOGITS[..., None, None], LABELS[:, None, None], smoothing=0.1, focal=True)
    assert torch.allclose(focal(LOGITS, LABELS), masks)


def test_cross_entropy_is_what_it_was_by_any_name() -> None:
    expected = cross_entropy(LOGITS, LABELS)
    assert loss_of()(LOGITS, LABELS).equal(expected)
    assert loss_of(loss="ce")(LOGITS, LABELS).equal(expected)
    plain, named = (load_space({**DOCUMENT, "train": {"loss": loss}}) for loss in (None, "ce"))
    keys = {run_key(s.resolve(s.defaults()), "data", 0, 2, "cpu", 1) for s in (plain, named)}
    focal = load_space({**DOCUMENT, "train": {"loss": "focal"}})
    other = run_key(focal.resolve(focal.defaults()), "data", 0, 2, "cpu", 1)
    assert len(keys) == 1 and other not in keys


def test_a_function_of_the_users_is_the_loss_of_both_tasks(own: Path) -> None:
    of_labels = loss_of(loss="own_losses:smooth")
    assert of_labels(LOGITS, LABELS).equal(cross_entropy(LOGITS, LABELS, label_smoothing=0.2))
    shown = SimpleNamespace(masks=SimpleNamespace(resized=np.zeros((1, 2, 2), np.uint8)))
    data: Any = SimpleNamespace(train=shown, classes=2, class_names=["a", "b"])
    settings = {"loss": "own_losses:smooth", "class_weights": None}
    of_masks = mask_loss({**settings, "label_smoothing": 0, "boundary_weight": 0}, data, "cpu")  # type: ignore[arg-type]
    logits, masks = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    assert of_masks(logits, masks).equal(cross_entropy(logits, masks, label_smoothing=0.2))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vector", "gave (4,); a loss is one number"),
        ("detached", "failed on logits (4, 3)"),
        ("wrong", "failed on logits (4, 3) and targets (4,): RuntimeError"),
        ("infinite", "gave "),
        ("counted", "failed on logits (4, 3)"),
    ],
)
def test_what_is_no_loss_is_told_before_anything_trains(own: Path, name: str, words: str) -> None:
    with pytest.raises(TrainError) as caught:
        check_own_loss(f"own_losses:{name}", "classification", 3)
    assert str(caught.value).startswith(f"train.loss: own_losses:{name} {words}")


def test_ignored_pixels_reach_a_users_loss_when_it_is_tried(
    own: Path, own_module: Callable[[str, str], Path]
) -> None:
    check_own_loss("own_losses:smooth", "segmentation", 3)
    check_own_loss("own_losses:smooth", "classification", 3)
    check_own_loss("own_losses:several", "multilabel", 3)
    own_module("own_losses", LOSSES.replace(", ignore_index=255", ""))
    with pytest.raises(TrainError, match="255 where a pixel does not count"):
        check_own_loss("own_losses:smooth", "segmentation", 3)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ("dice", "train.loss: dice is no loss of task: classification; it takes ce or focal"),
        (
            "fokal",
            "must be one of ce, focal, dice, ce_dice, bce, or a module:function of your own",
        ),
        ("own_losses:nothing", "function 'own_losses:nothing': "),
        ("no_such_module:loss", "function 'no_such_module:loss' cannot be imported: Module"),
        ("own_losses:NUMBER", "function 'own_losses:NUMBER' is 3, which cannot be called"),
        ({"choice": ["ce", "own_losses:nothing"]}, "function 'own_losses:nothing': "),
    ],
)
def test_mistakes_stand_at_their_key(own: Path, loss: Any, words: str) -> None:
    with pytest.raises(SpaceError) as caught:
        load_space({**DOCUMENT, "train": {"loss": loss}})
    assert words in str(caught.value) and "train.loss" in str(caught.value)


def test_the_source_of_a_loss_is_part_of_the_key(own: Path) -> None:
    space = load_space({**DOCUMENT, "train": {"loss": "own_losses:smooth", "epochs": 2}})
    config = space.resolve(space.defaults())
    before = run_key(config, "data", 0, 2, "cpu", 1)
    assert [*inputs(config)] == [*inputs(space.document)] == ["own_losses:smooth"]
    assert run_key(config, "data", 0, 2, "cpu", 1) == before
    (own / "own_losses.py").write_text(LOSSES.replace("0.2", "0.3"))
    assert run_key(config, "data", 0, 2, "cpu", 1) != before


def test_a_search_over_losses_knows_all_of_them(own: Path) -> None:
    choice = {"choice": ["ce", "focal", "own_losses:smooth"]}
    space = load_space({**DOCUMENT, "train": {"loss": choice}})
    assert "train.loss" in [decision.name for decision in space.decisions]
    assert [*inputs(space.document)] == ["own_losses:smooth"]
