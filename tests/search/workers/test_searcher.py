"""What Tune is given, and what becomes of what it says."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from attnsearch.search.workers.job import Job, Report
from attnsearch.search.workers.searcher import Feed, Watch, explain_loss


def trial(job: Job, status: str = Trial.RUNNING) -> Any:
    return SimpleNamespace(
        config={"job": job},
        status=status,
        trial_id=f"t{job.id}",
        get_error=lambda: "The actor died unexpectedly before finishing this task.",
    )


def watch(source: Any, stop: bool = False, left: str = "") -> Watch:
    return Watch(source, lambda: stop, lambda trial: None, lambda job: left)


def test_no_more_jobs_are_handed_over_than_fit(job_list: Any) -> None:
    active = 0
    source, paused = job_list([Job(0, {}, 0, 1), Job(1, {}, 0, 1)]), 0
    feed = Feed(source, lambda: active, lambda: paused, 1, lambda: False)
    first = feed.suggest("a")
    assert isinstance(first, dict) and first["job"].id == 0
    active = 1
    assert feed.suggest("b") is None
    active = 0
    assert isinstance(feed.suggest("c"), dict)
    paused = 1
    assert feed.suggest("d") is None
    paused = 0
    assert feed.suggest("e") == Searcher.FINISHED


def test_nothing_is_handed_over_once_the_study_is_being_stopped(job_list: Any) -> None:
    feed = Feed(job_list([Job(0, {}, 0, 1)]), lambda: 0, lambda: 0, 1, lambda: True)
    assert feed.suggest("a") == Searcher.FINISHED


def test_a_source_that_waits_is_asked_again() -> None:
    waiting: Any = SimpleNamespace(next_job=lambda: None, exhausted=lambda: False)
    assert Feed(waiting, lambda: 0, lambda: 0, 1, lambda: False).suggest("a") is None


def test_paused_trials_leave_room_for_others(job_list: Any) -> None:
    watcher = watch(job_list([]))
    jobs = [Job(n, {}, 0, 1) for n in range(3)]
    states = (Trial.PAUSED, Trial.RUNNING, Trial.PENDING)
    trials = [trial(j, s) for j, s in zip(jobs, states, strict=True)]
    watcher.on_step_begin(0, trials)
    assert watcher.active() == 2


def test_weights_do_not_stay_in_what_tune_keeps(job_list: Any) -> None:
    job = Job(0, {}, 0, 1)
    source = job_list([job])
    watcher = watch(source)
    weights = np.zeros(10, np.uint8)
    report = Report(1, {"val_accuracy": 0.5}, state="finished", result={"val_accuracy": 0.5})
    report.weights = weights
    result = {"report": report, "config": {}, "done": True}
    watcher.on_trial_result(0, [], trial(job), result)
    assert result == {"done": True}
    watcher.on_trial_complete(0, [], trial(job))
    assert source.outcomes[0].report.weights is weights


@pytest.mark.parametrize(
    ("report", "state"),
    [
        (Report(2, {"a": 1.0}), "stopped"),
        (Report(2, {"a": 1.0}, state="finished"), "finished"),
        (Report(state="failed", error="because"), "failed"),
        (Report(state="infeasible", error="too big"), "infeasible"),
    ],
)
def test_an_outcome_is_what_the_worker_said_last(
    job_list: Any, report: Report, state: str
) -> None:
    job = Job(0, {}, 0, 1)
    source = job_list([job])
    watcher = watch(source)
    watcher.on_trial_result(0, [], trial(job), {"report": report})
    watcher.on_trial_complete(0, [], trial(job))
    assert source.outcomes[0].state == state
    assert source.outcomes[0].error == report.error


def test_a_lost_worker_is_a_failed_job(job_list: Any) -> None:
    job = Job(0, {}, 0, 1)
    source = job_list([job])
    left = "Fatal Python error: Segmentation fault\n\n  File x"
    watcher = watch(source, left=left)
    watcher.on_trial_start(0, [], trial(job))
    watcher.on_trial_error(0, [], trial(job))
    outcome = source.outcomes[0]
    assert outcome.state == "failed"
    assert outcome.error == "the worker process crashed: Segmentation fault"
    assert outcome.traceback == left


def test_a_worker_that_never_began_says_nothing_about_its_job(job_list: Any) -> None:
    job = Job(0, {}, 0, 1)
    source = job_list([job])
    watch(source).on_trial_error(0, [], trial(job))
    assert source.outcomes[0].state == "lost"


def test_a_machine_that_went_away_says_nothing_about_its_jobs(job_list: Any) -> None:
    job = Job(0, {}, 0, 1)
    source = job_list([job])
    watcher = watch(source)
    gone = trial(job)
    gone.get_error = lambda: "The actor is dead because its node died."
    watcher.on_trial_start(0, [], gone)
    watcher.on_trial_error(0, [], gone)
    assert source.outcomes[0].state == "lost"


def test_what_ends_while_the_study_is_stopped_was_interrupted(job_list: Any) -> None:
    jobs = [Job(n, {}, 0, 1) for n in range(2)]
    source = job_list(jobs)
    watcher = watch(source, stop=True)
    watcher.on_step_begin(0, [trial(job) for job in jobs])
    watcher.on_trial_error(0, [], trial(jobs[0]))
    watcher.interrupt()
    assert {n: o.state for n, o in source.outcomes.items()} == {0: "interrupted", 1: "interrupted"}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("ray.exceptions.OutOfMemoryError: Task was killed due to the node ...", "out of memory"),
        ("The actor is dead because its node died.", "machine"),
        ("The actor died unexpectedly.", "without a word"),
    ],
)
def test_a_loss_is_explained(error: str, words: str) -> None:
    assert words in explain_loss(error, "")
