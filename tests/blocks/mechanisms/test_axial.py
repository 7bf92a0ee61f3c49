"""Axial attention: spans, gates, strides and what the published initialisation is."""

import pytest
import torch

from attnsearch.blocks.errors import BlockError
from attnsearch.blocks.mechanisms.axial import Axial, AxialAttention


def test_another_length_is_an_error_that_names_both() -> None:
    block = AxialAttention(8, 16, heads=2, span=6)
    with pytest.raises(BlockError, match=r"height is 5.*span=6.*interpolate=True"):
        block(torch.randn(2, 8, 5, 6))
    block(torch.randn(2, 8, 6, 3))  # the other axis may have any length


def test_without_position_terms_any_length_fits() -> None:
    block = AxialAttention(8, 16, heads=2, span=6, position=False)
    assert block(torch.randn(2, 8, 5, 9)).shape == (2, 16, 5, 9)
    assert not any("relative" in name for name in block.state_dict())


def test_the_interpolated_table_keeps_ends_and_middle() -> None:
    block = AxialAttention(8, 16, heads=2, span=5, interpolate=True)
    with torch.no_grad():
        block.relative.copy_(torch.arange(-4.0, 5.0).expand_as(block.relative))
    table = block._table(9)  # distances -8..8 on a table that is linear in the distance
    distances = torch.arange(9.0)[:, None] - torch.arange(9.0)
    torch.testing.assert_close(table, (distances / 2).expand_as(table))
    assert torch.equal(block._table(5)[0], torch.arange(5.0)[:, None] - torch.arange(5.0))


def test_the_builder_supplies_the_size_and_other_sizes_run() -> None:
    block = Axial(16, heads=4, size=(6, 9))
    assert (block.hight_block.span, block.width_block.span) == (6, 9)
    assert block(torch.randn(2, 16, 6, 9)).shape == (2, 16, 6, 9)
    assert block(torch.randn(2, 16, 13, 4)).shape == (2, 16, 13, 4)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 3)])
@pytest.mark.parametrize("stride", [2, 3])
def test_a_stride_rounds_up_as_the_replaced_convolution_does(size, stride: int) -> None:
    x = torch.randn(2, 16, *size)
    expected = torch.nn.Conv2d(16, 32, 3, stride, padding=1)(x).shape
    assert Axial(16, 32, stride, heads=2, size=size)(x).shape == expected


def test_every_position_reaches_every_other() -> None:
    block = Axial(16, heads=2, size=(5, 4)).eval()
    x = torch.randn(1, 16, 5, 4, requires_grad=True)
    block(x)[0, :, 0, 0].sum().backward()
    assert (x.grad.abs().sum(1) > 0).all()


def test_gates_start_as_published_and_can_be_frozen() -> None:
    gates = ("f_qr", "f_kr", "f_sve", "f_sv")
    block = AxialAttention(8, 16, heads=2, span=4, gated=True)
    assert [getattr(block, n).item() for n in gates] == pytest.approx([0.1, 0.1, 0.1, 1.0])
    assert all(getattr(block, n).requires_grad for n in gates)
    frozen = AxialAttention(8, 16, heads=2, span=4, gated=True, learn_gates=False)
    assert not any(getattr(frozen, n).requires_grad for n in gates)


def test_only_gates_after_the_normalisation_keep_their_size() -> None:
    def change(gate_position: str) -> float:
        torch.manual_seed(0)
        block = AxialAttention(
            16, 16, heads=2, span=12, gated=True, gate_position=gate_position
        ).double()
        x = torch.randn(4, 16, 12, 12, dtype=torch.float64)
        outputs = []
        for value in (1.0, 0.1):
            with torch.no_grad():
                for gate in (block.f_qr, block.f_kr):
                    gate.fill_(value)
                outputs.append(block(x))
        return float((outputs[1] - outputs[0]).norm() / outputs[0].norm())

    assert change("pre_bn") < 0.01
    assert change("post_bn") > 0.1
