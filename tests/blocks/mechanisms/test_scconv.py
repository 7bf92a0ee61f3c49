"""Self-calibrated convolution: maps that do not fill the pooling windows."""

import pytest
import torch

from attnsearch.blocks.errors import BlockError
from attnsearch.blocks.mechanisms.scconv import SCConv


def test_a_map_smaller_than_the_window_is_refused_with_the_nearest_rate() -> None:
    with pytest.raises(BlockError, match=r"3x9 map.*pooling_ratio=4.*nearest valid value is 3"):
        SCConv(8)(torch.randn(2, 8, 3, 9))
    SCConv(8, pooling_ratio=3)(torch.randn(2, 8, 3, 9))
    SCConv(8, ceil_mode=True)(torch.randn(2, 8, 3, 9))


def test_incomplete_windows_are_dropped_unless_asked_for() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 8, 7, 7)
    other = x.clone()
    other[:, :, 4:] = 0
    for ceil_mode in (False, True):
        block = SCConv(8, ceil_mode=ceil_mode).eval()
        assert torch.equal(block.k2(x), block.k2(other)) != ceil_mode


def test_interpolation_is_nearest_as_in_the_published_code() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 8, 8)
    nearest, bilinear = SCConv(8).eval(), SCConv(8, mode="bilinear").eval()
    bilinear.load_state_dict(nearest.state_dict())
    assert not torch.allclose(nearest(x), bilinear(x), rtol=1e-3)


def test_a_training_batch_of_one_needs_more_than_one_pooled_position() -> None:
    block = SCConv(8)
    with pytest.raises(BlockError, match=r"7x7 map pooled by 4.*1 image"):
        block(torch.randn(1, 8, 7, 7))
    block(torch.randn(2, 8, 7, 7))
    block(torch.randn(1, 8, 8, 7))
    block.eval()(torch.randn(1, 8, 7, 7))
