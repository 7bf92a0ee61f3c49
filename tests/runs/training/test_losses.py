from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attnsearch.blocks import build_network
from attnsearch.blocks.build.network import build_plain, side_outputs
from attnsearch.runs.training.losses import auxiliary_loss


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
