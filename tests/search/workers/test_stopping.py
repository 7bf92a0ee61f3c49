"""Which trials are stopped early, which never are, and that an interruption changes nothing."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

from attnsearch.runs.data.data import DataSet
from attnsearch.search.workers.cluster import Cluster
from attnsearch.search.workers.executor import execute
from attnsearch.search.workers.job import Job
from attnsearch.search.workers.stopping import make_scheduler


class Standin:
    """What a scheduler sees of a trial."""

    def __init__(self, number: int, protected: bool = False) -> None:
        self.trial_id = str(number)
        self.status = Trial.RUNNING
        self.config = {"job": SimpleNamespace(protected=protected)}


def curve(score: float, epochs: int = 6) -> list[dict[str, Any]]:
    return [{"epoch": n, "val_accuracy": score * n / epochs} for n in range(1, epochs + 1)]


def scheduler(spec: Any, epochs: int = 6) -> Any:
    return make_scheduler(spec, "val_accuracy", "max", epochs, lambda: False)


def run(scheduler: Any, number: int, score: float, protected: bool = False) -> int:
    """Runs a trial by itself; returns the epoch that it ended after."""
    trial = Standin(number, protected)
    scheduler.on_trial_add(None, trial)
    results = curve(score)
    for result in results[:-1]:
        if scheduler.on_trial_result(None, trial, result) == "STOP":
            scheduler.on_trial_complete(None, trial, result)
            return int(result["epoch"])
    scheduler.on_trial_complete(None, trial, results[-1])
    return 6


@pytest.mark.parametrize(
    ("spec", "grace"),
    [
        ("asha", 2),  # a third of six epochs
        ("median", 2),
        ({"asha": {"grace": 1}}, 1),
        ({"asha": {"grace": 2, "reduction": 2}}, 2),
        ({"median": {"grace": 3}}, 3),
    ],
)
def test_weak_trials_stop_early_and_good_ones_do_not(spec: Any, grace: int) -> None:
    judge = scheduler(spec)
    assert [run(judge, n, 0.5 + n / 100) for n in range(4)] == [6, 6, 6, 6]
    assert run(judge, 4, 0.1) == grace
    assert run(judge, 5, 0.9) == 6


@pytest.mark.parametrize("spec", ["asha", "median"])
def test_the_plain_network_is_never_stopped(spec: str) -> None:
    judge = scheduler(spec)
    for number in range(4):
        run(judge, number, 0.5)
    assert run(judge, 4, 0.01, protected=True) == 6
    assert run(judge, 5, 0.01) < 6


def test_none_stops_nothing() -> None:
    judge = scheduler("none")
    assert [run(judge, n, score) for n, score in enumerate((0.9, 0.8, 0.01))] == [6, 6, 6]


@pytest.mark.parametrize("spec", ["asha", "median", {"asha": {"grace": 1, "reduction": 2}}])
def test_after_an_interruption_decisions_are_the_same(spec: Any) -> None:
    scores = [0.5, 0.6, 0.2, 0.7, 0.4, 0.65, 0.1, 0.62, 0.61, 0.8, 0.3, 0.66]
    straight = scheduler(spec)
    ends = [run(straight, n, score, n == 2) for n, score in enumerate(scores)]
    assert len(set(ends)) > 1
    for cut in (3, 8):
        resumed = scheduler(spec)
        for score, end in zip(scores[:cut], ends[:cut], strict=True):
            resumed.learn(curve(score)[:end], end == 6)
        rest = [run(resumed, n + cut, score) for n, score in enumerate(scores[cut:])]
        assert rest == ends[cut:]


@pytest.mark.parametrize("spec", ["asha", "median", "none"])
def test_a_result_without_the_metric_does_no_harm(spec: str) -> None:
    """A trial that failed or is infeasible reports no metric."""
    judge = scheduler(spec)
    for number in range(4):
        run(judge, number, 0.5)
    broken = Standin(9)
    judge.on_trial_add(None, broken)
    judge.on_trial_complete(None, broken, {"done": True})
    assert run(judge, 10, 0.9) == 6


def test_hyperband_halves_full_brackets_and_all_trials_end(
    ray_cluster: Cluster, dots: DataSet, fake_training: Any, job_list: Any
) -> None:
    """One trial at a time, one that crashes, and fewer trials than the brackets have room for."""
    scores = [0.01] + [0.1 + 0.05 * n for n in range(13)]
    jobs = [
        Job(n, {"score": score, "fault": "raise" if n == 7 else None}, 0, 9, protected=n == 0)
        for n, score in enumerate(scores)
    ]
    source = job_list(jobs)
    judge = make_scheduler("hyperband", "val_accuracy", "max", 9, lambda: not source.exhausted())
    execute(
        source,
        ray_cluster,
        {"data": dots},
        workers=1,
        scheduler=judge,
        make=fake_training,
    )
    states = {n: outcome.state for n, outcome in source.outcomes.items()}
    assert len(states) == len(jobs)
    assert states[0] == "finished"
    assert states[7] == "failed"
    stopped = [n for n, state in states.items() if state == "stopped"]
    finished = [n for n, state in states.items() if state == "finished"]
    assert len(stopped) >= 3
    assert set(stopped) | set(finished) == set(states) - {7}
    # A paused trial goes on where it was: every epoch is trained once.
    for number in finished:
        assert [report.epoch for report in source.epochs[number]] == list(range(1, 10))
    for number in stopped:
        assert 0 < len(source.epochs[number]) < 9
    # Within the bracket that starts with three epochs (the second, of five trials) the best stay.
    second = [n for n in range(4, 9) if n != 7]
    assert max(second, key=lambda n: scores[n]) in finished
