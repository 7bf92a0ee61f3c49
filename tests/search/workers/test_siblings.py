"""Trials that two processes train together, with gloo: each gets a CPU, as it would get a card."""

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from torch import multiprocessing

from attnsearch.search.workers.cluster import Need, running_cluster
from attnsearch.search.workers.executor import execute
from attnsearch.search.workers.job import Job, Outcome, Report
from tests.runs.training.test_train import TIMES, make_config, make_data, trained
from tests.search.conftest import JobList

# A Ray of its own, and processes that each trial starts: a minute on two idle cores.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NEED = Need(2, 0, ranks=2)
IMAGES = 47


def config(epochs: int = 2, block: str | None = None, **train: Any) -> dict[str, Any]:
    insert = [("layer2", block)] if block else []
    return make_config(*insert, epochs=epochs, lr=0.02, **train)


def processes(name: str) -> list[psutil.Process]:
    """The actors of a class that descend from this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(f"ray::{name}"):
                found.append(process)
    return found


class Killing(JobList):
    """Kills an actor of the class that a job names, in the second epoch of the job."""

    def __init__(self, jobs: list[Job]) -> None:
        super().__init__(jobs)
        self.killed: dict[int, float] = {}

    def reported(self, job: Job, report: Report) -> bool:
        if job.config.get("victim") and report.epoch == 2:
            (process,) = processes(job.config["victim"])
            self.killed[job.id] = time.monotonic()
            os.kill(process.pid, signal.SIGKILL)
        return super().reported(job, report)

    def ended(self, job: Job, outcome: Outcome) -> None:
        if job.id in self.killed:
            assert time.monotonic() - self.killed[job.id] < 60, "nothing waits for the dead"
        super().ended(job, outcome)


Ends = dict[int, tuple[str, str | None, dict[str, float]]]


@contextlib.contextmanager
def by_two() -> Iterator[Callable[..., Ends]]:
    """A Ray of its own, on which jobs are done that two processes each train."""
    with running_cluster(NEED, 1) as running:
        assert dict(running.bundle) == {"CPU": 1, "GPU": 0}

        def done(source: JobList, **options: Any) -> Ends:
            data = {"data": make_data(IMAGES)}
            execute(source, running, data, need=NEED, **options)
            deadline = time.monotonic() + 30
            while processes("Sibling") and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not processes("Sibling")
            return {
                job: (str(outcome.state), outcome.error, dict(outcome.metrics))
                for job, outcome in source.outcomes.items()
            }

        yield done


def train(jobs: list[Job]) -> Ends:
    with by_two() as done:
        return done(Killing(jobs))


def train_with_a_pause(job: Job) -> tuple[Ends, int, Ends, Ends]:
    """Stops the study in an epoch of the job, goes on with it; and does it without an end."""
    stopped: list[int] = []

    class Pausing(JobList):
        def reported(self, job: Job, report: Report) -> bool:
            stopped.append(report.epoch)
            return super().reported(job, report)

    with by_two() as done:
        early = Pausing([job])
        first = done(early, stop=lambda: bool(stopped))
        again = JobList([job])
        gone_on = done(again)
        # The epoch before the pause is told again; one that began anew would take all of them.
        taken = {report.metrics["epoch_s"] for report in again.epochs[job.id]}
        begun = len(taken & {report.metrics["epoch_s"] for report in early.epochs[job.id]})
        whole = done(JobList([dataclasses.replace(job, checkpoints="")]))
    return first, begun, gone_on, whole


@pytest.fixture
def apart() -> Iterator[Callable[..., Any]]:
    """Calls a function in a process of its own, which no other Ray has been started in."""
    context = multiprocessing.get_context("spawn")

    def call(work: Callable[..., Any], *given: Any) -> Any:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_answer, args=(there, work, given))
        process.start()
        there.close()
        try:
            return here.recv()
        finally:
            process.join(60)

    yield call


def _answer(end: Any, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    end.send(work(*given))


BROKEN = '''
import torch.distributed
from torch import nn

class {name}(nn.Module):
    """Fails in the second step, in every process but the first."""

    def __init__(self, channels):
        super().__init__()
        self.steps = 0
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        if self.training and torch.distributed.is_initialized():
            self.steps += 1
            if self.steps == 2 and torch.distributed.get_rank() == 1:
                raise {error}
        return x * self.weight
'''


def test_where_one_is_killed_the_trial_is_lost_and_none_is_left(apart: Callable[..., Any]) -> None:
    configs = [config(500) | {"victim": victim} for victim in ("Sibling", "Worker")]
    synced = config(sync_batch_norm=True)
    ended = apart(train, [Job(number, given) for number, given in enumerate([*configs, synced])])
    assert [ended[number][0] for number in range(3)] == ["lost", "lost", "finished"]
    assert "trained with it on another card ended without a word" in ended[0][1]
    assert "the worker process died without a word" in ended[1][1]
    # What comes after them has the scores of one process.
    alone = trained(synced, make_data(IMAGES), threads=1)
    while not alone.done:
        alone.run_epoch()
    for name, value in alone.result.items():
        if name not in TIMES:
            assert ended[2][2][name] == pytest.approx(value, rel=1e-3), name


def test_what_another_process_raises_is_why_the_trial_failed(
    apart: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name, error in (("Wrong", "ValueError('no such thing')"), ("Full", "MemoryError")):
        text = BROKEN.format(name=name, error=error)
        (tmp_path / f"broken_{name.lower()}.py").write_text(text)
    blocks = ("broken_wrong:Wrong", "broken_full:Full", "ecrm")
    jobs = [Job(number, config(block=block)) for number, block in enumerate(blocks)]
    ended = apart(train, jobs)
    assert [ended[number][0] for number in range(3)] == ["failed", "failed", "finished"]
    assert ended[0][1] == "ValueError: no such thing (broken_wrong.py:17)"
    assert ended[1][1].startswith("out of memory: MemoryError")


def test_a_trial_that_was_paused_goes_on_bit_for_bit(
    apart: Callable[..., Any], tmp_path: Path
) -> None:
    job = Job(0, config(epochs=30), checkpoints=str(tmp_path / "checkpoints"))
    first, begun, gone_on, whole = apart(train_with_a_pause, job)
    assert first[0][0] == "interrupted"
    assert begun, "it began anew"
    assert gone_on[0][0] == whole[0][0] == "finished"
    for name, value in whole[0][2].items():
        if name not in (*TIMES, "checkpoint_s"):
            assert gone_on[0][2][name] == value, name
