"""Which trials are stopped early, which never are, and that an interruption changes nothing."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from attnsearch.runs.data.data import DataSet
from attnsearch.search.workers import stopping
from attnsearch.search.workers.cluster import Cluster
from attnsearch.search.workers.executor import execute
from attnsearch.search.workers.job import Job
from attnsearch.search.workers.stopping import TrialCurve, should_stop
from attnsearch.spaces.keys.search import Asha, Hyperband, Median, Patient, Scheduler


def curve(score: float, epochs: int = 6, end: int | None = None) -> dict[int, float]:
    return {n: score * n / epochs for n in range(1, (end or epochs) + 1)}


def stops(spec: Any, number: int, curves: Mapping[int, TrialCurve], epochs: int = 6) -> bool:
    return should_stop(spec, number, curves, goal="max", epochs=epochs)


def ends(
    spec: Any,
    scores: Sequence[float],
    epochs: int = 6,
    curves: dict[int, dict[int, float]] | None = None,
) -> list[int]:
    """Run trials one after the other; return the epochs that they ended after."""
    curves = {} if curves is None else curves
    for number, score in enumerate(scores, start=len(curves)):
        curves[number] = {}
        for epoch in range(1, epochs + 1):
            curves[number][epoch] = score * epoch / epochs
            if epoch < epochs and stops(spec, number, curves, epochs):
                break
    return [max(curve) for curve in curves.values()]


@pytest.mark.parametrize(
    ("spec", "grace"),
    [
        ("asha", 2),  # a third of six epochs
        ("median", 2),
        ({"asha": {"grace": 1}}, 1),
        ({"asha": {"grace": 2, "reduction": 2}}, 2),
        ({"median": {"grace": 3}}, 3),
        ("patient", 2),
        ({"patient": {"grace": 3}}, 3),
        ({"asha": {"grace": None, "reduction": 3}, "median": None}, 2),  # as a space resolves it
    ],
)
def test_weak_trials_stop_early_and_good_ones_do_not(spec: Any, grace: int) -> None:
    assert ends(spec, [0.5, 0.51, 0.52, 0.53, 0.1, 0.9]) == [6, 6, 6, 6, grace, 6]


def test_where_less_is_better_the_high_ones_stop() -> None:
    curves = {number: {1: 0.5, 2: 0.4} for number in range(4)} | {4: {1: 0.9, 2: 0.8}}
    assert should_stop("asha", 4, curves, goal="min", epochs=6)
    assert not should_stop("asha", 4, curves, goal="max", epochs=6)


def test_none_stops_nothing() -> None:
    assert ends("none", [0.9, 0.8, 0.01]) == [6, 6, 6]


@pytest.mark.parametrize(
    "spec", ["asha", "median", "patient", "hyperband", {"asha": {"grace": 1, "reduction": 2}}]
)
def test_after_an_interruption_decisions_are_the_same(spec: Any) -> None:
    """Only the curves go from one session to the next."""
    scores = [0.5, 0.6, 0.2, 0.7, 0.4, 0.65, 0.1, 0.62, 0.61, 0.8, 0.3, 0.66]
    straight = ends(spec, scores)
    assert len(set(straight)) > 1
    for cut in (3, 8):
        ledger = {n: curve(scores[n], end=straight[n]) for n in range(cut)}
        assert ends(spec, scores[cut:], curves=ledger) == straight


@pytest.mark.parametrize("spec", ["asha", "median", "patient", "hyperband", "none"])
def test_a_trial_without_the_metric_does_no_harm(spec: Any) -> None:
    """A trial that failed or is infeasible has no curve; an epoch may have measured nothing."""
    curves = {n: curve(0.5) for n in range(4)} | {4: {}, 5: {2: math.nan}, 6: {}}
    assert not stops(spec, 6, curves)
    assert not stops(spec, 5, curves)
    assert not stops(spec, 7, curves | {7: curve(0.9, end=2)})


def test_asha_compares_at_its_rungs_with_those_that_have_been_there() -> None:
    """Trials 0 and 1 have not come to the rung yet, so one of two goes on."""
    curves = {0: {1: 0.9}, 1: {1: 0.8}, 2: {1: 0.1, 2: 0.5}, 3: {1: 0.2, 2: 0.4}}
    halves = {"asha": {"grace": 2, "reduction": 2}}
    assert stops(halves, 3, curves)
    assert not stops(halves, 2, curves)
    assert not stops(halves, 0, curves)  # between rungs nothing is decided


def test_the_median_is_of_the_means_since_the_grace() -> None:
    late = {n: {1: 0.0, 2: 0.4, 3: 0.6} for n in range(3)}
    rule = {"median": {"grace": 2, "min_samples": 3}}
    assert stops(rule, 3, late | {3: {1: 0.1, 2: 0.2, 3: 0.49}})
    assert not stops(rule, 3, late | {3: {1: 0.1, 2: 0.2, 3: 0.5}})
    assert not stops(rule, 3, late | {3: {1: 0.5, 2: 0.2, 3: 0.1}})  # its best counts
    assert not stops({"median": {"min_samples": 4}}, 3, late | {3: {1: 0.1, 2: 0.1, 3: 0.1}})


def test_the_patient_median_is_of_the_means_since_the_first_epoch() -> None:
    """A trial that is a little behind in one epoch goes on; one that long was does not."""
    others = {n: {1: 0.1, 2: 0.4, 3: 0.6} for n in range(3)}  # means 0.1, 0.25, 0.367
    behind, weak = {1: 0.1, 2: 0.3}, {1: 0.1, 2: 0.24}
    assert stops("median", 3, others | {3: behind})
    assert not stops("patient", 3, others | {3: behind})
    assert stops("patient", 3, others | {3: weak})
    assert stops("patient", 3, others | {3: {**behind, 3: 0.36}})
    assert not stops({"patient": {"min_samples": 4}}, 3, others | {3: weak})


@pytest.mark.parametrize("epochs", [2, 3, 5])
def test_patience_takes_two_epochs_also_in_short_schedules(epochs: int) -> None:
    """The mean of a single epoch does not lag: half of all trials are below its median."""
    others = {n: {1: 0.5, 2: 0.6} for n in range(3)}
    assert stops("median", 3, others | {3: {1: 0.4}}, epochs)
    assert not stops("patient", 3, others | {3: {1: 0.4}}, epochs)
    assert stops({"patient": {"grace": 1}}, 3, others | {3: {1: 0.4}}, epochs)


def test_hyperband_compares_within_brackets_that_stop_early_late_and_never() -> None:
    """Of nine epochs: trials 0-8 after 1 and 3, trials 9-13 after 3, trials 14-16 never."""
    strong = {n: {e: 0.9 for e in range(1, 10)} for n in range(17)}

    def weak(number: int) -> list[int]:
        return [
            epoch
            for epoch in range(1, 9)
            if stops(
                "hyperband",
                number,
                strong | {number: {e: 0.1 for e in range(1, epoch + 1)}},
                epochs=9,
            )
        ]

    assert [weak(n) for n in (0, 8)] == [[1, 3]] * 2
    assert [weak(n) for n in (9, 13)] == [[3]] * 2
    assert [weak(n) for n in (14, 16)] == [[]] * 2
    assert weak(17) == [1, 3]  # the next round

    alone = {n: {e: 0.9 for e in range(1, 10)} for n in range(9)} | {9: {1: 0.1, 2: 0.1, 3: 0.1}}
    assert not stops("hyperband", 9, alone, epochs=9)  # nobody of its bracket to compare with


def test_every_scheduler_of_a_space_file_takes_its_settings() -> None:
    settings = {"asha": Asha(), "hyperband": Hyperband(), "median": Median(), "patient": Patient()}
    assert {*settings, "none"} == {*Scheduler.model_fields, "none"} == set(stopping.SCHEDULERS)
    for name, values in settings.items():
        assert not stops({name: values.model_dump()}, 0, {0: curve(0.5, end=2)})


def test_a_new_scheduler_is_a_function_and_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def floor(
        number: int, curves: Mapping[int, TrialCurve], epochs: int, *, least: float = 0.5
    ) -> bool:
        return max(curves[number].values()) < least

    monkeypatch.setitem(stopping.SCHEDULERS, "floor", floor)
    assert ends("floor", [0.2, 5.0]) == [1, 6]
    assert ends({"floor": {"least": 0.0}}, [0.2, 5.0]) == [6, 6]


def test_stopped_jobs_end_and_others_train_every_epoch_once(
    ray_cluster: Cluster, dots: DataSet, fake_training: Any, job_list: Any
) -> None:
    """On Ray, one trial at a time; one crashes, and one is weak but protected."""
    scores = [0.01] + [0.9 - 0.05 * n for n in range(9)]
    jobs = [
        Job(n, {"score": score, "fault": "raise" if n == 7 else None, "train": {"epochs": 9}})
        for n, score in enumerate(scores)
    ]
    source = job_list(jobs, scheduler="hyperband", protected={0})
    execute(source, ray_cluster, {"data": dots}, workers=1, make=fake_training)
    states = {n: outcome.state for n, outcome in source.outcomes.items()}
    assert states == {
        **dict.fromkeys((0, 1, 2, 9), "finished"),
        **dict.fromkeys((3, 4, 5, 6, 8), "stopped"),
        7: "failed",
    }
    for number, state in states.items():
        epochs = [report.epoch for report in source.epochs[number]]
        last = {"finished": 9, "stopped": 1, "failed": 0}[state]
        assert epochs == list(range(1, last + 1))
