"""Which images of a batch each of several processes takes."""

import pytest
import torch
from torch import nn

from attnsearch.blocks import ranks
from attnsearch.blocks.ranks import LEAST, Ranks, own_rows, synchronise


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("pieces", [[16], [17], [8, 8, 9], [12, 5], [9, 2]])
def test_ranks_take_each_image_once_and_in_order(count: int, pieces: list[int]) -> None:
    shares = [Ranks(rank, count).share(pieces) for rank in range(count)]
    first = 0
    for number, size in enumerate(pieces):
        taken = [torch.split(share.rows, share.own)[number].tolist() for share in shares]
        rows = list(range(first, first + size))
        if size < LEAST * count:
            assert taken == [rows] * count
        else:
            assert [row for part in taken for row in part] == rows
            assert max(map(len, taken)) - min(map(len, taken)) <= 1
            assert min(map(len, taken)) >= LEAST
        first += size


def test_one_process_takes_all() -> None:
    order = torch.randperm(11)
    shares = [Ranks().share([4, 3]), Ranks().share([4])]
    rows, sizes = own_rows(order, shares)
    assert torch.equal(rows, order) and sizes == [7, 4]
    with Ranks().working(7):
        assert ranks.alone()
    value = torch.rand(3)
    assert ranks.totals(value)[0] is value
    assert ranks.gathered(value) is value


def test_micro_batches_are_cut_alike_on_all() -> None:
    with Ranks(1, 2).working(9):  # 5 and 4 images
        assert ranks.smallest_part(4) == 4
        parts = [len(part) for part in torch.arange(5).tensor_split(2)]
        for number, size in enumerate(parts):
            with ranks.micro_batch(number, 2):
                assert ranks._piece is not None
                assert ranks._piece.parts == (size, 2)
    assert ranks.alone()


def test_a_normalisation_that_is_synchronised_stays_what_it_was() -> None:
    class Own(nn.BatchNorm1d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), Own(8))
    images = torch.rand(3, 1, 2, 2)
    with torch.no_grad():
        before = network(images)
        synchronise(network)
        assert isinstance(network[1], nn.BatchNorm2d)
        assert type(network[3]) is Own
        assert torch.equal(network(images), before)
        network.eval()
        network(images)
    assert set(network.state_dict()) == set(
        nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), Own(8)).state_dict()
    )
