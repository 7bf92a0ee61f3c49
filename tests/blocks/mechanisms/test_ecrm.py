"""The memory of ECRM: what enters it, what stays, and what it costs."""

import copy

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attnsearch.blocks.errors import BlockError
from attnsearch.blocks.mechanisms.ecrm import ECRM


def images(batch: int, seed: int = 0, channels: int = 8) -> Tensor:
    return torch.randn(batch, channels, 4, 3, generator=torch.Generator().manual_seed(seed))


def prototypes_of(block: ECRM, x: Tensor) -> Tensor:
    block(x)
    return block.side["prototype"].detach()


def test_has_the_published_number_of_parameters() -> None:
    block = ECRM(512)
    assert sum(p.numel() for p in block.parameters()) == 3_412_993
    assert (block.hidden, block.key, block.bank_size) == (512, 256, 20)


def test_widths_follow_the_channels() -> None:
    assert (ECRM(48).hidden, ECRM(48).key) == (48, 24)
    assert (ECRM(48, hidden=10).hidden, ECRM(48, hidden=10).key) == (10, 5)
    assert ECRM(8, hidden=6, key=3)(images(2)).shape == (2, 8, 4, 3)


def test_the_bank_is_a_ring() -> None:
    block = ECRM(8, bank_size=5)
    first, second = prototypes_of(block, images(3, 1)), prototypes_of(block, images(4, 2))
    assert torch.equal(block.bank[3:5], second[:2])
    assert torch.equal(block.bank[:2], second[2:])
    assert torch.equal(block.bank[2], first[2])
    assert (int(block.bank_ptr), int(block.count)) == (2, 5)


def test_of_a_batch_larger_than_the_bank_the_last_stay() -> None:
    block = ECRM(8, bank_size=3)
    prototypes_of(block, images(2, 1))
    latest = prototypes_of(block, images(8, 2))
    # Written one by one from position 2 on, the last three end up at positions 1, 2 and 0.
    assert torch.equal(block.bank, latest[[7, 5, 6]])
    assert (int(block.bank_ptr), int(block.count)) == (1, 3)


def test_a_full_bank_with_its_pointer_at_zero_survives_saving() -> None:
    block = ECRM(8, bank_size=4)
    block(images(4, 1))
    assert int(block.bank_ptr) == 0
    other = ECRM(8, bank_size=4)
    other.load_state_dict(block.state_dict())
    assert int(other.count) == 4
    with torch.no_grad():
        assert torch.equal(other(images(2, 2)), block(images(2, 2)))


def test_evaluation_reads_the_bank_and_leaves_it() -> None:
    block = ECRM(8, bank_size=6)
    block(images(4, 1))
    before = copy.deepcopy(block.state_dict())
    block.eval()
    with torch.no_grad():
        first = block(images(2, 2))
        block(images(5, 3))
        assert torch.equal(block(images(2, 2)), first)
        block.bank[0] += 1
        assert not torch.equal(block(images(2, 2)), first)
        block.bank[0] -= 1
        block.bank[5] += 1  # not filled: without effect
        assert torch.allclose(block(images(2, 2)), first, atol=1e-6)
    assert all(
        torch.allclose(value, before[name])
        for name, value in block.state_dict().items()
        if name != "bank"
    )


def test_the_slots_not_filled_have_no_effect_in_training() -> None:
    blocks = [ECRM(8, bank_size=6).double() for _ in range(2)]
    blocks[1].load_state_dict(blocks[0].state_dict())
    with torch.no_grad():
        blocks[1].bank.fill_(7.0)
    outputs = [block(images(4, 1).double()) for block in blocks]
    torch.testing.assert_close(outputs[0], outputs[1])


def test_attention_favours_the_slot_that_resembles() -> None:
    torch.manual_seed(0)
    block = ECRM(8, bank_size=2).eval()
    with torch.no_grad():
        block.bank.copy_(torch.rand(2, 8, 1) * 5)
        block.count.fill_(2)
        y = block(images(3))
        block.bank.copy_(block.bank.flip(0))
        torch.testing.assert_close(block(images(3)), y)  # slots have no order


def test_a_first_batch_of_one_uses_the_running_statistics() -> None:
    block = ECRM(8)
    norm = block.phi[1]
    norm.running_mean.fill_(0.25)
    y = block(images(1))
    assert y.isfinite().all()
    assert torch.equal(norm.running_mean, torch.full((4,), 0.25))
    assert int(norm.num_batches_tracked) == 0
    block(images(1, 1))
    assert int(norm.num_batches_tracked) == 1
    assert not torch.equal(norm.running_mean, torch.full((4,), 0.25))
    y.sum().backward()
    assert all(p.grad.isfinite().all() for p in block.parameters() if p.grad is not None)


def test_a_single_value_per_channel_is_refused_with_the_rule() -> None:
    with pytest.raises(BlockError, match=r"at least 2 values per channel.*1x1.*1 image"):
        ECRM(8)(torch.randn(1, 8, 1, 1))
    ECRM(8)(torch.randn(2, 8, 1, 1))


def test_the_region_learns_from_the_side_outputs_alone() -> None:
    block = ECRM(8, prototypes=2, hidden=6)
    y = block(images(3))
    assert block.side["logits"].shape == (3, 2, 4, 3)
    assert block.side["prototype"].shape == (3, 6, 2)
    y.sum().backward()
    assert block.L.weight.grad is None
    block(images(3))
    block.side["prototype"].square().sum().backward()
    assert block.L.weight.grad.abs().sum() > 0


def test_side_outputs_stay_out_of_copies_and_of_evaluation() -> None:
    block = ECRM(8)
    block(images(2))
    assert copy.deepcopy(block).side == {}
    assert block.side
    block.eval()(images(2))
    assert block.side == {}


def test_the_flag_belongs_to_the_published_code() -> None:
    with pytest.raises(BlockError, match="flag='test'"):
        ECRM(8)(images(2), flag="test")
    official = ECRM(8, compat="official")
    official(images(2), flag="test")
    assert int(official.bank_ptr) == 0
    official.eval()(images(2))
    assert int(official.bank_ptr) == 2


def test_official_drops_what_does_not_fit() -> None:
    block = ECRM(8, bank_size=3, compat="official")
    latest = prototypes_of(block, images(8))
    assert torch.equal(block.bank, latest[:3])
    assert (int(block.bank_ptr), int(block.count)) == (0, 3)


class HostReads(TorchDispatchMode):
    """Counts the operations that make the host wait for a device."""

    waiting = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in self.waiting):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("compat", [None, "official"])
def test_no_step_waits_for_the_device(compat: str | None) -> None:
    block = ECRM(8, bank_size=5, compat=compat)
    with HostReads() as reads:
        for step in range(4):
            block(images(2, step)).sum().backward()
        assert reads.seen == []
        int(block.bank_ptr)
    assert reads.seen != []
