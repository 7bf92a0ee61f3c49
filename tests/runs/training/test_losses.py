from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnsearch.blocks import build_network
from attnsearch.blocks.build.network import build_plain, side_outputs
from attnsearch.runs.training.losses import auxiliary_loss, classification_loss, label_loss
from attnsearch.runs.training.optim import TrainError


def config(*insert: tuple[str, str]) -> dict[str, Any]:
    entries = [{"at": at, "name": at, "block": block, "params": {}} for at, block in insert]
    network = {"backbone": "resnet20", "stem": "small", "width": 1.0, "weights": None}
    return {"task": "classification", "network": network, "insert": entries}


def test_side_losses_are_weighted_and_train_the_blocks() -> None:
    settings = config(("layer1", "se"), ("layer1", "ecrm"), ("layer2.1.residual", "ecrm"))
    network = build_network(settings, classes=7, image_size=8).train()
    sides, targets = side_outputs(network), torch.tensor([0, 3, 6])
    network(torch.randn(3, 3, 8, 8))

    def by_hand(site: str, index: int, block: Any) -> Tensor:
        head = network.get_submodule(f"auxiliary.{site.replace('.', '_')}.{index}")
        return F.cross_entropy(head(block.side["prototype"].flatten(1)), targets)

    one, other = (by_hand(*side) for side in sides)
    loss = auxiliary_loss(network, targets, F.cross_entropy, {"ecrm": 0.3})
    torch.testing.assert_close(loss, 0.3 * one + 0.3 * other)
    default = auxiliary_loss(network, targets, F.cross_entropy, {})
    torch.testing.assert_close(default, 0.4 * one + 0.4 * other)
    assert auxiliary_loss(network, targets, F.cross_entropy, {"ecrm": 0}) is None
    assert loss is not None
    torch.autograd.backward(loss)
    for _, _, block in sides:
        assert block.L.weight.grad.abs().sum() > 0  # type: ignore[operator,union-attr]
    first = network.get_submodule("layer1.0.conv1")
    assert first.weight.grad.abs().sum() > 0  # type: ignore[operator,union-attr]
    network.eval()(torch.randn(3, 3, 8, 8))
    assert auxiliary_loss(network, targets, F.cross_entropy, {"ecrm": 0.3}) is None
    plain = build_plain(settings, image_size=8)
    assert auxiliary_loss(plain, targets, F.cross_entropy, {"ecrm": 0.3}) is None


def test_a_side_loss_in_place_of_a_convolution() -> None:
    network = build_network(config(("layer2.1.conv2", "ecrm")), image_size=8).train()
    ((site, index, block),) = side_outputs(network)
    assert (site, index) == ("layer2.1.conv2", 0)
    assert block is network.get_submodule("layer2.1.conv2")
    network(torch.randn(3, 3, 8, 8))
    loss = auxiliary_loss(network, torch.zeros(3, dtype=torch.long), F.cross_entropy, {})
    assert loss is not None


LOGITS = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 0.0, 1.0]])
TRUTH = torch.tensor([[1, 0, 1], [0, 1, 1]])


def several(**train: Any) -> Tensor:
    labels = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]])
    data: Any = SimpleNamespace(
        train=SimpleNamespace(labels=labels), classes=3, class_names=["a", "b", "c"]
    )
    settings = {"loss": None, "label_smoothing": 0.0, "class_weights": None} | train
    loss = label_loss(settings, data, torch.device("cpu"))
    return loss(LOGITS, settings.get("truth", TRUTH))


@pytest.mark.parametrize(
    ("train", "weights", "smoothing", "focus"),
    [
        ({}, [1, 1, 1], 0, 0),
        ({"loss": "bce", "class_weights": [2.0, 1.0, 3.0]}, [2, 1, 3], 0, 0),
        ({"class_weights": "balanced"}, [1 / 3, 3, 3], 0, 0),
        ({"label_smoothing": 0.2}, [1, 1, 1], 0.2, 0),
        ({"loss": "focal", "class_weights": [2.0, 1.0, 3.0]}, [2, 1, 3], 0, 2),
        ({"truth": torch.tensor([[0.7, 0.0, 1.0], [0.0, 0.3, 1.0]])}, [1, 1, 1], 0, 0),
    ],
)
def test_the_loss_of_several_classes_an_image(
    train: dict[str, Any], weights: list[float], smoothing: float, focus: int
) -> None:
    terms = []
    for row, truths in zip(LOGITS.tolist(), train.get("truth", TRUTH).tolist(), strict=True):
        for logit, truth, weight in zip(row, truths, weights, strict=True):
            p = 1 / (1 + np.exp(-logit))
            target = truth * (1 - smoothing) + smoothing / 2
            term = -weight * target * np.log(p) - (1 - target) * np.log(1 - p)
            terms.append(term * (1 - p * truth - (1 - p) * (1 - truth)) ** focus)
    assert float(several(**train)) == pytest.approx(np.mean(terms))


def test_one_weight_for_each_of_several_classes() -> None:
    with pytest.raises(TrainError, match="2 weights for 3 classes"):
        several(class_weights=[1.0, 2.0])


class OnCard(Tensor):
    """Says that it is on a card, and is not."""

    is_cpu = False  # type: ignore[assignment]


def test_the_mean_by_weights_of_smoothed_labels_makes_no_card_wait() -> None:
    """Seen in what torch calls: under a dispatch mode, and on the meta device, it calls others."""
    train = {"loss": None, "class_weights": [1.0, 5.0, 2.0], "label_smoothing": 0.1}
    data: Any = SimpleNamespace(classes=3, train=SimpleNamespace(labels=None))
    loss = classification_loss(train, data, torch.device("cpu"))
    logits, labels = torch.randn(8, 3), torch.arange(8) % 3
    with torch.autograd.profiler.profile() as profile:
        told = loss(logits.as_subclass(OnCard), labels)
    called = {event.name for event in profile.function_events}
    assert "aten::cross_entropy_loss" in called
    assert not called & {"aten::masked_select", "aten::nonzero", "aten::item"}
    torch.testing.assert_close(told.as_subclass(Tensor), loss(logits, labels))
