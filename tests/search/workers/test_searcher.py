"""What Tune is given, and what becomes of what it says."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from attnsearch.runs.ledger.states import State, lost
from attnsearch.search.workers.cluster import ClusterError
from attnsearch.search.workers.job import MACHINE_LOST, Job, Report
from attnsearch.search.workers.losses import crash_place, explain_loss, newest_word
from attnsearch.search.workers.pace import Pace
from attnsearch.search.workers.searcher import NEVER_BEGAN, Feed, RayGone, Watch


def trial(job: Job, status: str = Trial.RUNNING, error_file: str = "/none") -> Any:
    return SimpleNamespace(
        config={"job": job}, status=status, trial_id=f"t{job.id}", error_file=error_file
    )


def watch(source: Any, stop: bool = False, left: str = "") -> Watch:
    return Watch(source, lambda: stop, lambda trial: None, lambda job: left)


def result(job: Job, report: Report) -> dict[str, Any]:
    return {"report": report, "config": {"job": job}, "done": report.state is not None}


def test_no_more_jobs_are_handed_over_than_fit(job_list: Any) -> None:
    jobs = [Job(n, {}) for n in range(3)]
    watcher = watch(job_list(jobs))
    feed = Feed(watcher, lambda: 2)
    watcher.on_step_begin(0, [trial(jobs[0])])
    assert feed.suggest("b") == {"job": jobs[0]}
    watcher.on_step_begin(1, [trial(jobs[0]), trial(jobs[1], Trial.PENDING)])
    assert feed.suggest("c") is None
    watcher.on_step_begin(2, [trial(jobs[0], Trial.TERMINATED), trial(jobs[1])])
    assert feed.suggest("d") == {"job": jobs[1]}
    assert feed.suggest("e") == {"job": jobs[2]}
    assert feed.suggest("f") == Searcher.FINISHED


def test_nothing_is_handed_over_once_the_study_is_being_stopped(job_list: Any) -> None:
    feed = Feed(watch(job_list([Job(0, {})]), stop=True), lambda: 1)
    assert feed.suggest("a") == Searcher.FINISHED


def test_a_source_that_waits_is_asked_again() -> None:
    waiting: Any = SimpleNamespace(next_job=lambda: None, exhausted=lambda: False)
    assert Feed(watch(waiting), lambda: 1).suggest("a") is None


def test_the_first_failure_of_a_source_ends_everything_and_is_kept() -> None:
    def fail() -> None:
        raise OSError("the disk is full")

    watcher = watch(SimpleNamespace(next_job=fail, exhausted=lambda: False))
    feed = Feed(watcher, lambda: 1)
    assert feed.suggest("a") == feed.suggest("b") == Searcher.FINISHED
    assert watcher.stop_all()
    assert str(watcher.failure) == "the disk is full"


def test_weights_do_not_stay_in_what_tune_keeps(job_list: Any) -> None:
    job = Job(0, {})
    source = job_list([job])
    watcher = watch(source)
    weights = np.zeros(10, np.uint8)
    report = Report(1, {"val_accuracy": 0.5}, state="finished", result={"val_accuracy": 0.5})
    report.weights = weights
    said = result(job, report)
    watcher("t0", said)
    assert said == {"done": True}
    watcher.on_trial_complete(0, [], trial(job))
    assert source.outcomes[0].report.weights is weights


def test_a_job_is_stopped_where_its_source_says_so_unless_it_has_ended() -> None:
    job, end = Job(0, {}), Report(2, {"a": 1.0}, state="finished")
    watcher = watch(SimpleNamespace(reported=lambda job, report: True))
    assert watcher("t0", result(job, Report(1, {"a": 1.0})))
    assert not watcher("t0", result(job, end))
    assert not watcher("t0", result(job, Report(state="infeasible")))


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
    job = Job(0, {})
    source = job_list([job])
    watcher = watch(source)
    watcher("t0", result(job, report))
    watcher.on_trial_complete(0, [], trial(job))
    assert source.outcomes[0].state == state
    assert source.outcomes[0].error == report.error


CRASH = """Fatal Python error: Segmentation fault

Thread 0x01 (most recent call first):
  File "/lib/threading.py", line 1 in wait

Current thread 0x02 (most recent call first):
  File "/home/me/mine.py", line 7 in forward
  File "/lib/torch/nn.py", line 9 in call
"""


@pytest.mark.parametrize(
    ("left", "place"),
    [
        (CRASH, "Segmentation fault (mine.py:7 in forward)"),
        ("Fatal Python error: Aborted\n", "Aborted"),
        ("Timeout (0:01:00)!\n" + CRASH, "Segmentation fault (mine.py:7 in forward)"),
        ("", ""),
    ],
)
def test_a_crash_has_a_place(left: str, place: str) -> None:
    assert crash_place(left) == place


def test_a_lost_worker_says_nothing_final_about_its_job(job_list: Any) -> None:
    job, left = Job(0, {}), CRASH
    source = job_list([job])
    watcher = watch(source, left=left)
    watcher.on_trial_start(0, [], trial(job))
    watcher.on_trial_error(0, [], trial(job))
    outcome = source.outcomes[0]
    assert outcome.state == "lost"
    assert outcome.place == "Segmentation fault (mine.py:7 in forward)"
    assert outcome.error == f"the worker process crashed: {outcome.place}"
    assert outcome.traceback == left


def test_a_worker_that_never_began_says_nothing_about_its_job(job_list: Any) -> None:
    job = Job(0, {})
    source = job_list([job])
    watch(source).on_trial_error(0, [], trial(job))
    assert source.outcomes[0].state == "lost"


def test_a_worker_that_died_while_it_had_no_job_says_nothing_about_the_next(
    job_list: Any,
) -> None:
    """As many are kept as there are workers, between two acts for instance."""
    jobs = [Job(n, {}) for n in range(2 * NEVER_BEGAN)]
    source = job_list(jobs)
    watcher = watch(source)
    for job in jobs:
        watcher.takes_over(trial(job))
        watcher.on_trial_error(0, [], trial(job))
    assert {outcome.state for outcome in source.outcomes.values()} == {"interrupted"}
    assert watcher.failure is None


@pytest.mark.parametrize(
    "said",
    [
        "ActorUnavailableError: The actor 6a88b69f5e7ab850ce9275a501000000 is unavailable",
        "ActorDiedError: the actor's node was terminated unexpectedly: health check failed",
    ],
)
def test_a_machine_that_is_gone_is_told_whatever_ray_says_of_the_worker(
    said: str, job_list: Any, tmp_path: Path
) -> None:
    (tmp_path / "error.txt").write_text(said)
    jobs = [Job(n, {}) for n in range(2 * NEVER_BEGAN)]
    source = job_list(jobs)
    watcher = Watch(
        source, lambda: False, lambda t: None, lambda job: "", gone=lambda words: words == said
    )
    for job in jobs:  # as many as were beginning there
        watcher.on_trial_error(0, [], trial(job, error_file=str(tmp_path / "error.txt")))
    assert {outcome.error for outcome in source.outcomes.values()} == {MACHINE_LOST}
    assert watcher.failure is None, "the machine is not to be given up, nor the study"


def test_a_worker_that_crashed_on_a_machine_that_is_there_is_to_blame_itself(
    job_list: Any, tmp_path: Path
) -> None:
    asked: list[str] = []
    source = job_list([Job(0, {})])
    watcher = Watch(source, lambda: False, lambda t: None, lambda job: CRASH, gone=asked.append)
    watcher.on_trial_start(0, [], trial(Job(0, {})))
    watcher.on_trial_error(0, [], trial(Job(0, {})))
    assert source.outcomes[0].place and not asked


def test_a_job_that_is_begun_anew_ends_once_more() -> None:
    outcomes: list[str] = []
    source = SimpleNamespace(
        reported=lambda job, report: False,
        ended=lambda job, outcome: outcomes.append(outcome.state),
    )
    watcher, job = watch(source), Job(0, {})
    watcher.on_trial_error(0, [], trial(job))
    again = trial(job)
    again.trial_id = "again"
    watcher("again", result(job, Report(1, {"a": 1.0}, state=State.FINISHED)))
    watcher.on_trial_complete(0, [], again)
    watcher.on_trial_complete(0, [], again)
    assert outcomes == ["lost", "finished"]


@pytest.mark.parametrize("kills", [0, 1])
def test_a_worker_that_the_system_killed_for_its_memory_says_so(kills: int, job_list: Any) -> None:
    jobs = [Job(n, {}) for n in range(2)]
    source, count = job_list(jobs), [5]
    watcher = Watch(
        source, lambda: False, lambda t: None, lambda job: "", memory_kills=lambda: count[0]
    )
    for job in jobs:
        watcher.on_trial_start(0, [], trial(job))
    count[0] += kills
    for job in jobs:
        watcher.on_trial_error(0, [], trial(job))
    told = [source.outcomes[n] for n in range(2)]
    assert [outcome.out_of_memory for outcome in told] == [bool(kills), False], "one kill, one job"
    assert ("out of memory: the system ended the worker" in str(told[0].error)) == bool(kills)
    assert "without a word" in str(told[1].error)
    assert {outcome.state for outcome in told} == {"lost"}


def test_a_worker_that_ray_killed_for_memory_says_so(job_list: Any, tmp_path: Path) -> None:
    source = job_list([Job(0, {})])
    watcher = watch(source)
    (tmp_path / "error.txt").write_text("ray.exceptions.OutOfMemoryError: Task was killed due to")
    watcher.on_trial_start(0, [], trial(Job(0, {})))
    watcher.on_trial_error(0, [], trial(Job(0, {}), error_file=str(tmp_path / "error.txt")))
    assert source.outcomes[0].out_of_memory and source.outcomes[0].state == "lost"
    # Before its worker had begun, what filled the memory was no batch of its own.
    source = job_list([Job(0, {})])
    watch(source).on_trial_error(0, [], trial(Job(0, {}), error_file=str(tmp_path / "error.txt")))
    assert not source.outcomes[0].out_of_memory and source.outcomes[0].state == "lost"


def test_a_machine_that_went_away_says_nothing_about_its_jobs(
    job_list: Any, tmp_path: Path
) -> None:
    job = Job(0, {})
    source = job_list([job])
    watcher = watch(source)
    gone = trial(job, error_file=str(tmp_path / "error.txt"))
    (tmp_path / "error.txt").write_text("The actor is dead because its node died.")
    watcher.on_trial_start(0, [], gone)
    watcher.on_trial_error(0, [], gone)
    assert source.outcomes[0].state == "lost"
    assert source.outcomes[0].error == "the machine that trained it was lost"


def test_what_ends_while_the_study_is_stopped_was_interrupted(job_list: Any) -> None:
    jobs = [Job(n, {}) for n in range(2)]
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


@pytest.mark.parametrize("error", ["OutOfMemoryError", "its node died", "died unexpectedly"])
@pytest.mark.parametrize("left", ["", CRASH])
def test_the_ledger_knows_a_loss_by_its_words(error: str, left: str) -> None:
    run = SimpleNamespace(state=State.FAILED, attempt=1, error=explain_loss(error, left))
    assert lost(run)
    run.error = explain_loss("died unexpectedly", "", killed=True)
    assert lost(run)


def test_a_ray_that_is_gone_ends_everything_at_once(job_list: Any) -> None:
    def gone() -> None:
        raise ClusterError("raylet is gone")

    job = Job(0, {})
    source = job_list([job])
    watcher = Watch(source, lambda: False, lambda trial: None, lambda job: "", check=gone)
    with pytest.raises(RayGone):
        watcher.on_step_begin(0, [trial(job)])
    watcher.interrupt()
    assert str(watcher.failure) == "raylet is gone"
    assert source.outcomes[0].state == "interrupted"


HUNG = """Timeout (0:01:00)!
Thread 0x01 (most recent call first):
  File "/lib/threading.py", line 1 in wait

Thread 0x02 (most recent call first):
  File "/home/me/mine.py", line 7 in forward
  File "/lib/torch/nn.py", line 9 in call
"""


def test_a_hang_is_told_by_where_it_stood_last(job_list: Any) -> None:
    source = job_list([Job(0, {})])
    before = HUNG.replace("mine.py", "building.py")
    pace = Pace(timeout=20.0)
    watcher = Watch(source, lambda: False, lambda t: None, lambda job: before + HUNG, pace=pace)
    watcher.on_trial_start(0, [], trial(Job(0, {})))
    pace._now += 21
    watcher.on_step_begin(0, [trial(Job(0, {}))])
    watcher.on_trial_error(0, [], trial(Job(0, {})))
    assert "(mine.py:7 in forward)" in str(source.outcomes[0].error)
    assert source.outcomes[0].traceback == HUNG
    assert newest_word(HUNG + CRASH) == CRASH and newest_word("") == ""


def test_a_job_without_an_epoch_in_the_timeout_has_failed(job_list: Any) -> None:
    source = job_list([Job(0, {})])
    pace = Pace(timeout=20.0)
    watcher = Watch(source, lambda: False, lambda t: None, lambda job: HUNG, pace=pace)
    watcher.on_trial_start(0, [], trial(Job(0, {})))
    pace._now += 21
    watcher.on_step_begin(0, [trial(Job(0, {}))])
    watcher.on_trial_error(0, [], trial(Job(0, {})))
    error = "no epoch in 20 s (resources.timeout): it hangs (mine.py:7 in forward)"
    assert (source.outcomes[0].state, source.outcomes[0].error) == ("failed", error)


def test_a_job_that_hangs_is_killed_and_has_failed(job_list: Any) -> None:
    job, other = Job(0, {}), Job(1, {})
    source = job_list([job, other])
    killed: list[str] = []
    pace = Pace(longest=1.0)
    watcher = Watch(
        source, lambda: False, lambda t: killed.append(t.trial_id), lambda job: HUNG, pace=pace
    )
    for started in (job, other):
        watcher.on_trial_start(0, [], trial(started))
    pace.late = lambda: ["t0"]  # type: ignore[method-assign]
    watcher.on_step_begin(0, [trial(job), trial(other)])
    assert killed == ["t0"]
    watcher.on_trial_error(0, [], trial(job))
    watcher.on_trial_error(0, [], trial(other))
    assert {n: outcome.state for n, outcome in source.outcomes.items()} == {0: "failed", 1: "lost"}
    assert source.outcomes[0].error == (
        "no epoch in 3 min 0 s, where the longest so far took 1.0 s: it hangs "
        "(mine.py:7 in forward)"
    )
    assert source.outcomes[0].traceback == HUNG


@pytest.mark.parametrize(("block", "name"), [("gc", "gc@layer3"), ("none", "baseline")])
def test_a_first_epoch_that_does_not_come_is_told_once(
    block: str, name: str, job_list: Any
) -> None:
    config = {"insert": [{"at": "layer3", "block": block, "params": {}}]}
    job, told = Job(0, config), []
    watcher = Watch(
        job_list([job]), lambda: False, lambda t: None, lambda job: HUNG, tell=told.append
    )
    watcher.on_trial_start(0, [], trial(job))
    for _ in range(120):
        watcher._pace._now += 2
        watcher.on_step_begin(0, [trial(job)])
    (sentence,) = told
    assert sentence.startswith(f"{name}: no epoch in 3 min 0 s")
    assert "(mine.py:7 in forward); Ctrl-C ends the study" in sentence


def test_many_losses_of_jobs_that_had_begun_are_not_the_machines(job_list: Any) -> None:
    jobs = [Job(n, {}) for n in range(5)]
    source = job_list(jobs)
    watcher = watch(source)
    for job in jobs:
        watcher.on_trial_start(0, [], trial(job))
        watcher.on_trial_error(0, [], trial(job))
    assert watcher.failure is None and len(source.outcomes) == 5


def seed_of(number: int, group: str = "confirm/gc") -> Job:
    return Job(number, {"train": {"seed": number}, "insert": []}, group=group)


def side_by_side(source: Any, **options: Any) -> Watch:
    return Watch(source, lambda: False, lambda trial: None, lambda job: "", replicas=3, **options)


def said(watcher: Watch, bundle: Job, job: Job, report: Report) -> bool:
    report.job = job.id
    return watcher("t0", result(bundle, report))


def test_seeds_of_an_arm_that_come_one_after_the_other_go_to_one_process(job_list: Any) -> None:
    jobs = [seed_of(n) for n in range(4)]
    jobs += [seed_of(4, "confirm/se"), seed_of(5, ""), seed_of(6, "")]
    watcher = side_by_side(job_list(jobs))
    given = []
    while not watcher.exhausted():
        job = watcher.next_job()
        assert job is not None
        given.append([member.id for member in job.members])
    assert given == [[0, 1, 2], [3], [4], [5], [6]]
    assert watcher.next_job() is None
    split = [replace(seed_of(0), micro_batches=2), seed_of(1), seed_of(2)]
    watcher = side_by_side(job_list(split))
    assert watcher.next_job() == split[0], "what has no room for its batch trains alone"
    plain = watch(job_list([seed_of(n) for n in range(2)]))
    assert plain.next_job() == seed_of(0), "never unless it was measured to win"


def test_each_replica_begins_is_heard_and_ends_as_if_alone(job_list: Any) -> None:
    jobs, left = [seed_of(n) for n in range(3)], []
    source = job_list(list(jobs))
    watcher = side_by_side(source, leave=left.append)
    source.reported = lambda job, report: job.id == 1 and report.epoch == 2
    bundle = watcher.next_job()
    assert bundle is not None
    watcher.on_trial_start(0, [], trial(bundle))
    assert source.events == [("started", 0), ("started", 1), ("started", 2)]
    for job in jobs:
        assert not said(watcher, bundle, job, Report(1, {"a": 1.0}))
    assert not said(watcher, bundle, jobs[1], Report(2, {"a": 1.0}))
    assert left == [jobs[1]], "stopped early by itself"
    assert source.outcomes[1].state == "stopped"
    assert not said(watcher, bundle, jobs[2], Report(state="failed", error="nan"))
    assert (source.outcomes[2].state, source.outcomes[2].error) == ("failed", "nan")
    done = Report(2, {"a": 1.0}, state="finished", result={"a": 1.0})
    assert said(watcher, bundle, jobs[0], done)
    assert source.outcomes[0].state == "finished"
    watcher.on_trial_complete(0, [], trial(bundle))
    assert [event for event in source.events if event[0] == "ended"] == [
        ("ended", 1),
        ("ended", 2),
        ("ended", 0),
    ]


class Again:
    """A source that begins anew what was interrupted."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs, self.outcomes = list(jobs), []

    def next_job(self) -> Job | None:
        return self.jobs.pop(0) if self.jobs else None

    def exhausted(self) -> bool:
        return not self.jobs

    def started(self, job: Job) -> None:
        """Nothing."""

    def reported(self, job: Job, report: Report) -> bool:
        return False

    def ended(self, job: Job, outcome: Any) -> None:
        self.outcomes.append((job.id, outcome.state))
        if outcome.state == State.INTERRUPTED:
            self.jobs.append(job)


@pytest.mark.parametrize("hangs", [False, True])
def test_who_takes_the_process_down_is_found_alone(hangs: bool) -> None:
    """A crash, a kill or a hang: the others are not to blame, and none of them has failed."""
    source = Again([seed_of(n) for n in range(3)])
    watcher = side_by_side(source)
    bundle = watcher.next_job()
    assert bundle is not None
    watcher.on_trial_start(0, [], trial(bundle))
    said(watcher, bundle, seed_of(0), Report(2, {"a": 1.0}, state="finished", result={"a": 1.0}))
    if hangs:
        watcher._late["t0"] = "it hangs"
    watcher.on_trial_error(0, [], trial(bundle))
    assert source.outcomes == [(0, "finished"), (1, "interrupted"), (2, "interrupted")]
    assert watcher.next_job() == seed_of(1)
    alone = watcher.next_job()
    assert alone == seed_of(2)
    watcher._late = {"t2": "it hangs"} if hangs else {}
    watcher.on_trial_start(0, [], trial(alone))
    watcher.on_trial_error(0, [], trial(alone))
    assert source.outcomes[-1] == (2, "failed" if hangs else "lost")


def test_what_has_no_room_beside_others_goes_on_alone() -> None:
    source = Again([seed_of(n) for n in range(2)])
    watcher = side_by_side(source)
    bundle = watcher.next_job()
    assert bundle is not None
    full = Report(state="failed", error="out of memory", out_of_memory=True)
    assert not said(watcher, bundle, seed_of(1), full)
    assert source.outcomes == [(1, "interrupted")]
    alone = watcher.next_job()
    assert alone == seed_of(1)
    watcher("t1", result(alone, Report(state="failed", error="e", out_of_memory=True)))
    watcher.on_trial_complete(0, [], trial(alone))
    assert source.outcomes[-1] == (1, "failed")


def test_a_bundle_whose_worker_never_began_counts_once() -> None:
    source = Again([seed_of(n) for n in range(3)])
    watcher = side_by_side(source)
    bundle = watcher.next_job()
    assert bundle is not None
    watcher.on_trial_error(0, [], trial(bundle))
    assert watcher.failure is None
    assert [state for _, state in source.outcomes] == ["lost"] * 3


def test_what_was_taken_and_not_given_ends_as_interrupted(job_list: Any) -> None:
    source = job_list([seed_of(0), seed_of(1, "confirm/se")])
    watcher = side_by_side(source)
    assert watcher.next_job() == seed_of(0)
    assert not watcher.exhausted()
    watcher.interrupt()
    assert source.outcomes[1].state == "interrupted"
