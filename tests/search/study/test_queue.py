"""The queue of a study's jobs: in what order they come, and what becomes of lost ones."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from attnsearch.search.study import queue as module
from attnsearch.search.study.queue import ALL_ENDED, Fate, Queue, Queued
from attnsearch.search.workers.job import Job, Outcome, Report


@dataclass
class Step(Queued):
    """An entry that remembers what it heard."""

    number: int
    held: int = 0  # times that another driver has it
    known: bool = False
    states: list[str] = field(default_factory=list)

    def begin(self) -> Job | Fate:
        if self.held:
            self.held -= 1
            return Fate.ELSEWHERE
        return Fate.OVER if self.known else Job(self.number, {})

    def started(self) -> None:
        self.states.append("started")

    def reported(self, report: Report) -> bool:
        self.states.append("reported")
        return report.epoch > 1

    def ended(self, outcome: Outcome) -> Fate:
        self.states.append(outcome.state)
        return Fate.AGAIN if outcome.state == "interrupted" else Fate.OVER


def end(
    queue: Queue, job: Job | None, state: str = "finished", place: str = "", error: str = ""
) -> None:
    assert job is not None
    queue.ended(job, Outcome(state, {}, Report(), error or None, place=place))


def test_an_act_begins_when_all_of_the_one_before_has_ended() -> None:
    planned = []

    def acts() -> Iterator[Queued | None]:
        yield Step(1)
        yield Step(2, known=True)
        yield Step(3)
        yield ALL_ENDED
        planned.append("second act")
        yield Step(4)
        yield ALL_ENDED

    queue = Queue(acts())
    first, second = queue.next_job(), queue.next_job()
    assert first and second and (first.id, second.id) == (1, 3)
    assert queue.next_job() is None and not queue.exhausted()
    end(queue, first)
    assert queue.next_job() is None and not planned
    end(queue, second)
    third = queue.next_job()
    assert third and third.id == 4 and planned
    assert queue.next_job() is None and not queue.exhausted()
    end(queue, third)
    assert queue.next_job() is None and queue.exhausted()


def test_what_was_lost_is_begun_anew_until_it_counts_as_failed() -> None:
    lost, other = Step(1), Step(2)
    queue = Queue(iter([lost, other]))
    for _ in range(module.LOST_MAX + 1):
        job = queue.next_job()
        assert job and job.id == 1
        queue.started(job)
        end(queue, job, "lost")
    assert lost.states == ["started", "interrupted"] * module.LOST_MAX + ["started", "failed"]
    job = queue.next_job()
    assert job and job.id == 2


@pytest.mark.parametrize(
    ("places", "states"),
    [
        (["a", "a"], ["interrupted", "failed"]),  # native code that does it every time
        (["a", "", "a"], ["interrupted", "interrupted", "failed"]),
        (["a", "b", "c"], ["interrupted", "interrupted", "failed"]),
        (["", "", ""], ["interrupted", "interrupted", "failed"]),
    ],
)
def test_a_crash_at_the_same_place_is_tried_no_further(
    places: list[str], states: list[str]
) -> None:
    entry = Step(1)
    queue = Queue(iter([entry]))
    for place in places:
        end(queue, queue.next_job(), "lost", place)
    assert entry.states == states
    assert queue.next_job() is None and queue.exhausted()


def test_lost_machines_are_no_losses_of_a_run() -> None:
    entry = Step(1)
    queue = Queue(iter([entry]))
    for _ in range(module.MACHINES_MAX):
        end(queue, queue.next_job(), "lost", error=module.MACHINE_LOST)
    for _ in range(module.LOST_MAX):
        end(queue, queue.next_job(), "lost")
    assert set(entry.states) == {"interrupted"}
    end(queue, queue.next_job(), "lost", error=module.MACHINE_LOST)
    assert entry.states[-1] == "failed"
    assert queue.next_job() is None and queue.exhausted()


@dataclass
class Splits(Step):
    """One whose batches can be split."""

    most_micro_batches: int = 6  # type: ignore[assignment]


@pytest.mark.parametrize("state", ["failed", "lost"])
def test_what_is_out_of_memory_is_begun_anew_in_smaller_pieces(state: str) -> None:
    entry = Splits(1)
    queue = Queue(iter([entry, Step(2)]))
    told = []

    def ended(outcome: Outcome) -> Fate:
        told.append((entry.micro_batches, outcome.error))
        return Step.ended(entry, outcome)

    entry.ended = ended  # type: ignore[method-assign]
    for _ in range(4):
        job = queue.next_job()
        assert job and job.id == 1
        queue.ended(job, Outcome(state, {}, Report(), "out of memory", out_of_memory=True))
    assert entry.states == ["interrupted"] * 3 + ["failed"]
    assert told == [
        (2, "out of memory; it goes on with each batch in 2 micro-batches"),
        (4, "out of memory (with 2 micro-batches a batch); "
            "it goes on with each batch in 4 micro-batches"),
        (6, "out of memory (with 4 micro-batches a batch); "
            "it goes on with each batch in 6 micro-batches"),
        (6, "out of memory (with 6 micro-batches a batch)"),
    ]  # fmt: skip
    assert entry.losses == []
    job = queue.next_job()
    assert job and job.id == 2


def test_what_trains_nothing_is_lost_or_fails_as_before_when_memory_runs_out() -> None:
    entry = Step(1)
    queue = Queue(iter([entry]))
    for state in ("lost", "lost", "failed"):
        job = queue.next_job()
        assert job
        queue.ended(job, Outcome(state, {}, Report(), "out of memory", out_of_memory=True))
    assert entry.states == ["interrupted", "interrupted", "failed"]


def test_what_another_driver_has_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)
    queue = Queue(iter([Step(1, held=3), Step(2), ALL_ENDED, Step(3)]))
    numbers = set()
    while len(numbers) < 2:
        job = queue.next_job()
        assert not queue.exhausted()
        numbers |= {job.id} if job else set()
    assert numbers == {1, 2}
    assert queue.next_job() is None and not queue.exhausted()


def test_a_job_that_nobody_asked_for_is_let_go() -> None:
    entry = Step(1)
    queue = Queue(iter([entry]))
    assert queue.anything_to_train()
    queue.close()
    assert entry.states == ["interrupted"]
    assert not Queue(iter([Step(1, known=True)])).anything_to_train()
