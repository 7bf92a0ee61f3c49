import time

import torch

from attnsearch.search.outlook.estimate import _fastest


def test_long_steps_are_timed_less_often_than_short_ones() -> None:
    for seconds, most, expected in [(0.0, 4, 4), (0.3, 4, 2), (0.6, 4, 2), (0.0, 2, 2)]:
        calls: list[float] = []

        def step(seconds: float = seconds, calls: list[float] = calls) -> None:
            calls.append(seconds)
            time.sleep(seconds if len(calls) > 1 else 2 * seconds)

        assert seconds <= _fastest(step, torch.device("cpu"), most) < seconds + 0.25
        assert len(calls) == expected
