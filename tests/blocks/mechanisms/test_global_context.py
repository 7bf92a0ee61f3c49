"""The global context block: counts, start, warnings, memory layouts."""

import pytest
import torch

from attnsearch.blocks.errors import BlockError
from attnsearch.blocks.mechanisms.global_context import GlobalContext


def test_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in GlobalContext(2048).parameters()) == 528_769


def test_starts_as_the_identity_and_with_mul_as_one_half() -> None:
    x = torch.randn(2, 32, 5, 4)
    assert torch.equal(GlobalContext(32)(x), x)
    torch.testing.assert_close(GlobalContext(32, fusion=("mul",))(x), x / 2)
    torch.testing.assert_close(GlobalContext(32, fusion=["add", "mul"])(x), x / 2)


def test_one_fusion_may_be_given_as_a_word() -> None:
    assert GlobalContext(32, fusion="mul").channel_add_conv is None


def test_a_hidden_width_of_one_warns_with_a_better_ratio() -> None:
    with pytest.warns(UserWarning, match="1 channel of 24.*at least 0.083334"):
        GlobalContext(24)


@pytest.mark.parametrize("channels", [3, 7, 49, 100, 2047])
def test_the_suggested_ratio_is_valid(channels: int) -> None:
    with pytest.raises(BlockError, match="nearest valid value is") as error:
        GlobalContext(channels, ratio=0.5 / channels)
    suggested = float(str(error.value).rsplit(" ", 1)[1])
    with pytest.warns(UserWarning, match="1 channel"):
        GlobalContext(channels, ratio=suggested)


def test_runs_on_slices() -> None:
    block = GlobalContext(16, ratio=0.25)
    x = torch.randn(2, 32, 6, 10)[:, ::2, 1:, ::3]
    torch.testing.assert_close(block(x), block(x.contiguous()))
