"""Analyses before the last seed: their sizes and levels, and when a contrast is futile."""

import numpy as np
import pytest

from attnsearch.runs.statistics.interim import Interim, expected_seeds, interim_analyses
from attnsearch.runs.statistics.paired import PairedT


@pytest.mark.parametrize(
    ("least", "most", "sizes"),
    [
        (5, 20, (5, 7, 10, 14, 20)),
        (5, 6, (5, 6)),
        (8, 24, (8, 12, 17, 24)),
        (10, 40, (10, 14, 20, 28, 40)),
    ],
)
def test_analyses_go_from_the_least_to_the_most(
    least: int, most: int, sizes: tuple[int, ...]
) -> None:
    interim = interim_analyses(least, most)
    assert interim.sizes == sizes and len(interim.shares) == len(sizes)
    assert min(interim.shares) > 0 and sum(interim.shares) == pytest.approx(1, abs=1e-9)


def result(difference: float, n: int) -> PairedT:
    return PairedT(np.array(difference), np.array(1.0), np.array(n**-0.5), n - 1)


def test_only_what_is_near_no_difference_is_hopeless() -> None:
    interim = interim_analyses(5, 20)

    def hopeless(difference: float, n: int, smallest: float | None = None) -> bool:
        return bool(interim.is_hopeless(result(difference, n), 0.05 / 3, smallest, None))

    assert not hopeless(0.0, 5), "five seeds are too few to give up"
    assert hopeless(0.0, 10) and not hopeless(0.6, 10) and hopeless(0.3, 14)
    assert all(hopeless(d, 10) == hopeless(-d, 10) for d in (0.0, 0.2, 0.4, 0.6))
    # What matters is more than the seeds could find: it would have shown already, or it may show.
    assert not hopeless(0.0, 10, smallest=2.0)
    # Less than they can find is no reason to give up what looks promising.
    assert not hopeless(0.6, 10, smallest=0.01)


def test_what_may_become_equivalent_is_not_given_up() -> None:
    interim = interim_analyses(5, 20)
    found = result(0.05, 10)
    assert interim.is_hopeless(found, 0.05 / 6, None, None)
    assert not interim.is_hopeless(found, 0.05 / 6, None, 1.2)
    assert interim.is_hopeless(found, 0.05 / 6, None, 0.3)


def test_expected_seeds_are_fewer_for_larger_differences() -> None:
    interim = interim_analyses(5, 20)
    none, some, large = (expected_seeds(interim, 0.05 / 3, effect) for effect in (0.0, 0.8, 3.0))
    assert 5 <= large < 7 < none < some < 20
    alone = Interim((12,), (1.0,))
    assert expected_seeds(alone, 0.05, 0.0) == 12
