"""Pyramid squeeze attention: counts, order of the branches, bounds of the weights."""

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from attnsearch.blocks.mechanisms.psa import PSA


def test_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in PSA(128).parameters()) == 108_450


def test_the_branches_leave_in_reverse_order_with_bounded_weights() -> None:
    torch.manual_seed(0)
    block = PSA(64)
    with torch.no_grad():
        for i, conv in enumerate((m for m in block.children() if isinstance(m, nn.Conv2d)), 1):
            conv.weight.zero_()
            middle = conv.kernel_size[0] // 2
            conv.weight[:, 0, middle, middle] = i  # the output is i times an input channel
    y = block(torch.ones(1, 64, 4, 4))
    weights = y.view(4, 16, 16).mean((1, 2)) / torch.tensor([4.0, 3.0, 2.0, 1.0])
    assert ((weights > 0.109) & (weights < 0.476)).all()
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0), atol=1e-3, rtol=0)


class Operations(TorchDispatchMode):
    """Counts dispatched operations that are no views."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def test_the_squeeze_runs_once_for_all_branches() -> None:
    block, x = PSA(64), torch.randn(2, 64, 8, 8)
    with torch.no_grad(), Operations() as operations:
        block(x)
    # Four convolutions, means and products; stack, two layers, two activations, softmax, cat.
    assert operations.count <= 19


def test_keeps_channels_last() -> None:
    x = torch.randn(2, 64, 8, 8).to(memory_format=torch.channels_last)
    y = PSA(64).to(memory_format=torch.channels_last)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
