"""Networks applied to the test part: which share a job, and what is left of a job that failed."""

from attnsearch.search.study.events import Progress, TrialInfo
from attnsearch.search.study.queue import Fate
from attnsearch.search.study.test_runs import TestRuns
from attnsearch.search.workers.job import Evaluation, Job, Outcome, Report


def runs(*blocks: str) -> TestRuns:
    networks = [
        (
            Evaluation(n, {"insert": [{"block": block}]}, "data", "w"),
            TrialInfo(n, block, {}, 1, ""),
        )
        for n, block in enumerate(blocks, 1)
    ]
    return TestRuns("test", networks, lambda *_: None, Progress())


def evaluated(entry: TestRuns, job: Job, state: str = "finished", most: int = 99) -> Fate:
    for task in job.evaluations[:most]:
        entry.reported(
            Report(1, {"test_accuracy": 1.0}, evaluated=task.run_id, predictions={"test": {}})
        )
    return entry.ended(Outcome(state, {}, Report()))


def test_networks_with_a_users_block_come_last_and_alone() -> None:
    entry = runs("mine:A", "se", "mine:B", "none")
    jobs = []
    fate = Fate.AGAIN
    while fate is Fate.AGAIN:
        jobs.append(entry.begin())
        fate = evaluated(entry, jobs[-1])
    assert [[task.run_id for task in job.evaluations] for job in jobs] == [[2, 4], [1], [3]]
    assert not entry.failed and not entry.networks


def test_what_a_lost_or_failed_job_leaves_is_tried_in_another() -> None:
    entry = runs("se", "eca", "gc")
    assert evaluated(entry, entry.begin(), "interrupted", most=1) is Fate.AGAIN
    job = entry.begin()
    assert [task.run_id for task in job.evaluations] == [2, 3]
    assert evaluated(entry, job, "failed", most=0) is Fate.AGAIN
    assert entry.failed == [2]
    assert evaluated(entry, entry.begin()) is Fate.OVER


def test_losses_are_counted_for_each_network() -> None:
    entry = runs("se", "eca")
    entry.losses += ["", ""]
    evaluated(entry, entry.begin(), "interrupted", most=1)
    assert entry.losses == []
