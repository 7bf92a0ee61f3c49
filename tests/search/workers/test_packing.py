"""How many trials share a card: the decision on figures, the measurement with real processes."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from typing import Any

import pytest
import torch

from attnsearch.search.workers.cluster import Cluster
from attnsearch.search.workers.packing import (
    Figures,
    Packing,
    RayCard,
    Tryout,
    chosen,
    next_trials,
    pack,
    share_of_card,
)
from tests.runs.training.test_train import make_config, make_data


class Sheet:
    """A card whose figures are known: throughput by number of trials."""

    def __init__(
        self,
        throughput: Mapping[int, float],
        trial_mb: float = 1.0,
        card_mb: float = 1e6,
        together: float | None = None,
    ) -> None:
        self._throughput, self._memory = throughput, (trial_mb, card_mb)
        self._together = together
        self.asked: list[int] = []
        self.asked_together: list[tuple[int, int]] = []

    def memory_mb(self) -> tuple[float, float]:
        return self._memory

    def throughput(self, trials: int, replicas: int = 1) -> float:
        if replicas > 1:
            self.asked_together.append((trials, replicas))
            if self._together is None:
                raise RuntimeError("CUDA out of memory")
            return self._together
        self.asked.append(trials)
        return self._throughput[trials]


def packed(sheet: Sheet, most: int = 16, seeds: int = 1) -> Packing:
    return pack(sheet, "NVIDIA H200", most, seeds)


@pytest.mark.parametrize(
    ("throughput", "trials", "asked"),
    [
        pytest.param({2: 1.9, 4: 3.2, 8: 2.8, 6: 3.1, 5: 3.2}, 4, [2, 4, 8, 6, 5], id="falls"),
        pytest.param({2: 1.9, 4: 3.2, 8: 3.3, 6: 4.0, 7: 3.9}, 6, [2, 4, 8, 6, 7], id="between"),
        pytest.param({2: 0.7}, 1, [2], id="one only"),
        pytest.param({2: 1.04}, 1, [2], id="noise is no gain"),
        pytest.param({2: 1.9, 4: 1.92, 3: 1.95}, 2, [2, 4, 3], id="noise on top"),
        pytest.param({2: 2.0, 4: 4.0, 8: 8.0, 16: 15.0}, 16, [2, 4, 8, 16], id="never falls"),
    ],
)
def test_trials_are_added_until_all_together_train_no_faster(
    throughput: dict[int, float], trials: int, asked: list[int]
) -> None:
    sheet = Sheet(throughput)
    packing = packed(sheet)
    assert sheet.asked == asked
    assert packing.trials == trials
    assert packing.gpus == share_of_card(trials)
    words = f"{trials} trials side by side" if trials > 1 else "one trial at a time"
    assert f"a card takes {words}" in str(packing)


def test_memory_with_a_margin_bounds_them_whatever_the_pace() -> None:
    fast = {trials: float(trials) for trials in range(1, 17)}
    sheet = Sheet(fast, trial_mb=10_000, card_mb=80_000)
    packing = packed(sheet)
    assert sheet.asked == [2, 4, 6]  # 6 x 10,000 x 1.25 MB fit, 7 do not
    assert packing.trials == 6
    assert "one holds 10,000 of 80,000 MB; memory has no room for more than 6" in str(packing)
    too_large = Sheet({}, trial_mb=60_000, card_mb=80_000)
    assert packed(too_large).trials == 1
    assert too_large.asked == []
    assert packed(Sheet({}, trial_mb=90_000, card_mb=80_000)).trials == 1


def test_no_more_are_tried_than_there_are_or_cpus_feed() -> None:
    sheet = Sheet({2: 2.0, 3: 3.0})
    assert packed(sheet, most=3).trials == 3
    alone = packed(Sheet({}), most=1)
    assert (alone.trials, alone.memory_mb) == (1, 0.0)
    assert "no CPUs, or no runs" in str(alone)


@pytest.mark.parametrize(
    ("together", "replicas"),
    [
        pytest.param(3.0, 5, id="wins"),
        pytest.param(1.9, 1, id="as fast as processes"),
        pytest.param(1.93, 1, id="noise"),
        pytest.param(0.8, 1, id="loses"),
        pytest.param(None, 1, id="no room"),
    ],
)
def test_seeds_of_an_arm_share_a_process_only_where_that_wins(
    together: float | None, replicas: int
) -> None:
    sheet = Sheet({2: 1.9, 4: 1.8, 3: 1.8}, together=together)
    packing = packed(sheet, seeds=5)
    assert sheet.asked_together == [(2, 5)]
    assert sheet.asked[3:] == ([2] if together else [])  # once more without them
    assert (packing.trials, packing.replicas) == (2, replicas)
    told = str(packing)
    assert ("with 5 seeds of an arm in each process: 3.00x" in told) == (replicas > 1)
    assert ("5 seeds in a process could not be tried" in told) == (together is None)


def test_a_machine_that_got_faster_meanwhile_is_no_gain() -> None:
    class Busy(Sheet):
        def throughput(self, trials: int, replicas: int = 1) -> float:
            told = super().throughput(trials, replicas)
            return told if not self.asked_together else 2.0 * told

    assert packed(Busy({2: 1.9, 4: 1.8, 3: 1.8}, together=1.9), seeds=5).replicas == 1


def test_as_many_seeds_share_a_process_as_its_share_of_the_card_holds() -> None:
    sheet = Sheet({2: 1.9, 4: 1.8, 3: 1.8}, trial_mb=10_000, card_mb=80_000, together=9.0)
    assert packed(sheet, seeds=5).replicas == 3  # of six trials' room, two processes
    alone = Sheet({1: 1.0}, together=4.0)
    packing = packed(alone, most=1, seeds=20)  # one CPU feeds one process
    assert alone.asked_together == [(1, 8)]
    assert (packing.trials, packing.replicas) == (1, 8)
    assert packed(Sheet({2: 1.0}, together=9.0)).replicas == 1  # no arms are compared


def test_what_cannot_be_tried_leaves_what_was() -> None:
    packing = packed(Sheet({2: 1.8}))  # at four a process dies
    assert packing.trials == 2
    assert "4 could not be tried: KeyError" in str(packing)

    class Broken(Sheet):
        def memory_mb(self) -> tuple[float, float]:
            raise OSError("nvidia-smi does not tell how full the card is")

    packing = packed(Broken({}))
    assert packing.trials == 1
    assert "not measured: nvidia-smi does not tell" in str(packing)


def test_shares_are_as_many_as_ray_counts() -> None:
    for trials in range(1, 17):
        gpus = share_of_card(trials)
        assert round(gpus * 10_000) * trials <= 10_000
        assert Packing(gpus, "card").trials == trials


def test_the_most_trials_are_those_up_to_which_each_step_gains() -> None:
    figures = [Figures(1, 1.0), Figures(8, 3.0), Figures(2, 1.9), Figures(4, 3.3)]
    assert chosen(figures) == Figures(4, 3.3)
    assert next_trials(figures, 16) == 6
    assert next_trials([Figures(1, 1.0)], 1) is None


def test_a_process_measures_what_its_networks_hold_and_how_fast_they_are() -> None:
    threads = torch.get_num_threads()
    bad = make_config(("nowhere", "gc"))
    tryout = Tryout([make_config(), bad, make_config(("layer2", "gc"))], make_data(), "cpu", 1, [])
    tryout.begin(2)  # the third of the configs
    assert tryout.rate(0.05) > 0
    tryout.begin(0, replicas=2)
    assert len(tryout._replicas) == 2
    assert tryout.rate(0.05) > 0
    with pytest.raises(Exception, match="nowhere"):
        tryout.begin(1)
    nothing = Tryout([bad], make_data(), "cpu", 1, [])
    with pytest.raises(Exception, match="no network of the study"):
        nothing.memory_mb()
    torch.set_num_threads(threads)


def test_what_a_process_holds_is_measured_with_the_last_batch_of_an_epoch_too() -> None:
    seen = set()
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda _, inputs: seen.add(len(inputs[0]))
    )
    tryout = Tryout([make_config()], make_data(40), "cpu", 1, [])
    tryout.begin(0)
    hook.remove()
    tryout._replicas.close()
    assert seen == {16, 8}


@pytest.mark.slow  # a second process that imports torch
def test_real_processes_are_tried_side_by_side_and_ended(ray_cluster: Cluster) -> None:
    """On the CPU, as on a card but for the card."""
    configs = [make_config(), make_config(("layer2", "gc"))]
    with closing(RayCard(configs, make_data(), "cpu", 1, {"CPU": 1}, 2, 100)) as card:
        packing = pack(card, "cpu", 2)
        assert packing.memory_mb > 0
        assert [trials for trials, _ in packing.tried] == [1, 2]
        assert packing.tried[1][1] > 0
        assert packing.trials in (1, 2)
        assert len(card._processes) == 2
        assert card.throughput(1, 2) > 0
        assert card.throughput(2) > 0
        assert card._held == {0: 1, 1: 1}
    assert Packing(**asdict(packing)) == packing


@pytest.mark.gpu
def test_a_card_takes_as_many_small_trials_as_train_faster_together() -> None:
    from attnsearch.runs.machine import available_cpus
    from attnsearch.search.workers.cluster import Need, running_cluster

    most = min(8, available_cpus())
    configs: list[dict[str, Any]] = [make_config(), make_config(("layer2", "gc"))]
    with running_cluster(Need(1, 1 / 16), most) as running:
        steps = 1e6
        with closing(
            RayCard(configs, make_data(), "cuda", 1, running.bundle, most, steps)
        ) as card:
            packing = pack(card, "cuda", most)
    assert 0 < packing.memory_mb * packing.trials < packing.card_mb
    assert packing.trials > 1, f"networks this small leave a card idle: {packing}"
