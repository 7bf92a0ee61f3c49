"""Confirm with `seeds: {min, max}`: arms stop once their comparisons are settled.

The trainings cost nothing: a network is its score, which depends on what is inserted and the seed.
"""

import itertools
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnsearch.blocks.naming import describe
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.records import PlanRow
from attnsearch.runs.reports.reporting import write_report
from attnsearch.search.study import acts, company, queue
from attnsearch.search.study.session import run_study
from attnsearch.search.terminal.arms import act_of, arm_fields, arms_text
from attnsearch.search.text import Letters
from attnsearch.search.workers.job import Job
from attnsearch.spaces import Space, load_space
from tests.search.study.test_acts import Cheap, seed

SPACE = """
name: tiny
task: classification
data: {source: tiny.npz, image_size: 8}
network: {backbone: resnet20, width: 0.25}
insert:
  - at: layer3
    block: {choice: [none, gc, se, eca]}
train: {epochs: 1, batch_size: 16, lr: 0.05}
search: {sampler: grid, scheduler: none, trials: 4}
confirm: {top: 3, seeds: {min: 5, max: 20}, controls: [baseline]}
"""
# An arm that is far better than the baseline, one that is far worse, one that is neither.
GAINS = {"gc@layer3": 0.2, "se@layer3": -0.2, "eca@layer3": 0.001}


class Planted(Cheap):
    """Its score is planted: what its network gains, and noise of its seed."""

    def _score(self) -> float:
        said = describe(self.job.config)
        noise = np.random.default_rng([seed(self.job), zlib.crc32(said.encode())]).normal(0, 0.02)
        return float(0.6 + GAINS.get(said, 0.0) + noise)


@pytest.fixture
def trainer(in_process: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    in_process.make = Planted
    monkeypatch.setattr(Planted, "before", Cheap.__dict__["before"], raising=False)
    return in_process


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "attnsearch.db") as opened:
        yield opened  # type: ignore[misc]


@pytest.fixture
def space(write_space: Callable[..., Path]) -> Callable[..., Space]:
    path = write_space(SPACE)
    return lambda *overrides: load_space(path, overrides)


def confirm_of(ledger: Ledger) -> PlanRow:
    """The confirm plan that counts."""
    (row,) = ledger.plans(ledger.studies()[-1].id, superseded=False)
    return row


def seeds_of(ledger: Ledger) -> dict[str, int]:
    """How many seeds each arm was trained with."""
    runs = ledger.arm_runs(confirm_of(ledger))
    return {label: sum(run is not None for run in own) for label, own in runs.items()}


def decisions(ledger: Ledger) -> list[tuple[Any, ...]]:
    """What the analyses of a study have settled."""
    row = confirm_of(ledger)
    return [(a.number, a.size, a.settled, a.seeds) for a in row.analyses]


def test_arms_stop_once_they_are_settled(
    space: Callable[..., Space], ledger: Ledger, recorder: Any, trainer: Any, tmp_path: Path
) -> None:
    opened: list[tuple[int, int]] = []

    def before(job: Job) -> None:
        if job.act == "confirm":
            opened.append((len(ledger.looks()), len(confirm_of(ledger).analyses)))

    Planted.before = before  # type: ignore[method-assign, assignment]
    result = run_study(space(), ledger=ledger, progress=recorder)
    assert (result.state, result.winner) == ("finished", "gc@layer3"), result.message
    row = confirm_of(ledger)
    assert row.state == "finished" and row.plan.interim is not None
    assert row.plan.interim.sizes == (5, 7, 10, 14, 20) and len(row.plan.seeds) == 20

    # What is far better or far worse stops at the first analysis, what is neither goes on.
    first, *others = row.analyses
    assert first.settled == {"gc@layer3 - baseline": "better", "se@layer3 - baseline": "worse"}
    seeds = seeds_of(ledger)
    assert seeds["gc@layer3"] == seeds["se@layer3"] == 5 < seeds["eca@layer3"] < 20
    assert seeds["baseline"] == seeds["eca@layer3"] == others[-1].size
    assert others[-1].settled == {"eca@layer3 - baseline": "futile"}
    assert sum(seeds.values()) < 80 * 0.6

    # The winner was frozen by the first seeds, and the test part opened once, after that.
    (look,) = ledger.looks()
    assert row.frozen is not None and row.frozen <= look.opened and ledger.confirmatory(row)
    assert {analyses for looks, analyses in opened if looks == 0} == {0}
    assert sum(looks == 0 for looks, _ in opened) == 20
    assert row.ranking[0][1] == pytest.approx(0.8, abs=0.03)

    # It is told as it happens, and by show.
    notes = " ".join(text for (text,) in recorder.of("note"))
    assert "confirm, analysis 1 of 5 at 5 seeds: gc@layer3 - baseline: better; " in notes
    assert "2 arms of 4 go on to 7 seeds" in notes and "all arms stop" in notes
    rows = ledger.trials(row.study_id)
    assert act_of(rows, [row]) == "done"
    shown = arms_text(row, rows, Letters(()))
    assert "at 5 seeds: gc@layer3 - baseline: better; se@layer3 - baseline: worse" in shown
    assert "test_accuracy" in shown and "/20" not in shown
    assert arm_fields(row, rows)["analyses"][0]["seeds"]["gc@layer3"] == 5

    # Nothing is left to do for another session, and a report says what was planned and done.
    trainer.jobs.clear()
    again = run_study(space(), ledger=ledger)
    assert again.state == "finished" and not trainer.jobs and decisions(ledger)[0][0] == 1
    text = write_report(ledger, row.study_id, tmp_path / "report").folder / "report.md"
    for words in ("group-sequential", "5, 7, 10, 14 and 20 seeds", "repeated confidence"):
        assert words in text.read_text(), words


@pytest.mark.slow  # two drivers that wait for each other
def test_two_drivers_come_to_the_same_analyses(
    space: Callable[..., Space], tmp_path: Path, trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(company, "LOOK_SECONDS", 0.05)
    made: list[tuple[Any, ...]] = []
    write = Ledger.add_analysis

    def add_analysis(ledger: Any, row: PlanRow, *found: Any) -> None:
        made.append(found)
        write(ledger, row, *found)

    monkeypatch.setattr(Ledger, "add_analysis", add_analysis)

    def drive(address: Path) -> Any:
        with Ledger(address) as ledger:
            return run_study(space(), ledger=ledger)  # type: ignore[arg-type]

    alone = drive(tmp_path / "alone.db")
    made_alone, made[:] = made[:], []
    trainer.jobs.clear()
    with ThreadPoolExecutor(2) as pool:
        drivers = [pool.submit(drive, tmp_path / "shared.db") for _ in range(2)]
        both = [driver.result(timeout=240) for driver in drivers]

    # Whoever makes an analysis, and when, finds what one driver finds.
    assert len(made_alone) > 1 and all(analysis in made_alone for analysis in made)
    with Ledger(tmp_path / "alone.db") as first, Ledger(tmp_path / "shared.db") as second:
        assert decisions(second) == decisions(first)  # type: ignore[arg-type]
        assert seeds_of(second) == seeds_of(first)  # type: ignore[arg-type]
        (row,) = second.studies()
        assert row.state == confirm_of(second).state == "finished"  # type: ignore[arg-type]
        assert len(second.looks()) == 1
    for result in both:
        assert (result.state, result.winner) == ("finished", alone.winner)
        assert result.verdicts == alone.verdicts
    # Nothing was done twice.
    trained = Counter(job.id for job in trainer.jobs if not job.evaluations)
    tested = Counter(task.run_id for job in trainer.jobs for task in job.evaluations)
    assert set(trained.values()) == set(tested.values()) == {1}


class Stopped(BaseException):
    """Ends the driver, whose process is the worker's here."""


EVALUATE = Planted.evaluate


@pytest.mark.slow  # a study for each place
def test_a_study_killed_anywhere_stops_the_same_arms(
    space: Callable[..., Space], tmp_path: Path, trainer: Any
) -> None:
    with Ledger(tmp_path / "straight.db") as straight:
        run_study(space(), ledger=straight)
        wanted, seeds = decisions(straight), seeds_of(straight)
    faults = ["confirm", "test", "analysis", "nothing"]
    for fault in faults:
        with Ledger(tmp_path / "attnsearch.db") as ledger, pytest.MonkeyPatch.context() as patch:
            made = len(confirm_of(ledger).analyses) if ledger.studies() else 0

            calls: Iterator[int] = itertools.count()

            def stop(job: Job, own: Any = (fault, ledger, calls)) -> None:
                if job.act == own[0] and confirm_of(own[1]).analyses and next(own[2]) == 2:
                    raise Stopped

            def evaluate(self: Planted, split: str, stop: Any = stop) -> Any:
                if split == "test":
                    stop(self.job)
                return EVALUATE(self, split)

            def analyse(*_: Any) -> bool:
                raise Stopped

            patch.setattr(Planted, "before", staticmethod(stop))
            patch.setattr(Planted, "evaluate", evaluate)
            if fault == "analysis":  # all is scored, and what it settles is not yet written
                patch.setattr(acts, "analyse", analyse)
            if fault == "nothing":
                run_study(space(), ledger=ledger)
                assert decisions(ledger) == wanted and seeds_of(ledger) == seeds
                continue
            with pytest.raises(Stopped):
                run_study(space(), ledger=ledger)
            assert 1 <= len(confirm_of(ledger).analyses) < len(wanted) and made <= 1


@pytest.mark.slow  # two whole studies
def test_decisions_do_not_depend_on_the_order_in_which_runs_end(
    space: Callable[..., Space], tmp_path: Path, trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnsearch.search.study.plan_runs import PlanRuns

    with Ledger(tmp_path / "one.db") as ledger:
        run_study(space(), ledger=ledger)
        wanted = decisions(ledger)
    every = PlanRuns._all
    monkeypatch.setattr(PlanRuns, "_all", lambda self: reversed(list(every(self))))
    with Ledger(tmp_path / "other.db") as ledger:
        run_study(space(), ledger=ledger)
        assert decisions(ledger) == wanted


def test_seeds_added_after_looking_void_the_verdicts(
    space: Callable[..., Space], ledger: Ledger, trainer: Any
) -> None:
    run_study(space(), ledger=ledger)
    assert ledger.added_seeds(confirm_of(ledger)) == ()
    run_study(space("confirm.seeds={min: 5, max: 10}"), ledger=ledger)
    assert len(ledger.added_seeds(confirm_of(ledger))) == 5
    run_study(space("confirm.seeds=9"), ledger=ledger)
    assert len(ledger.added_seeds(confirm_of(ledger))) == 4


def test_a_failed_run_stops_its_arm_without_a_verdict(
    space: Callable[..., Space], ledger: Ledger, trainer: Any
) -> None:
    def before(job: Job) -> None:
        seed = int(job.config["train"]["seed"])
        if job.act == "confirm" and describe(job.config) == "eca@layer3" and seed % 1000 == 2:
            raise ValueError("it broke")

    Planted.before = before  # type: ignore[method-assign, assignment]
    result = run_study(space(), ledger=ledger)
    assert result.winner == "gc@layer3"
    (analysis,) = confirm_of(ledger).analyses
    assert analysis.settled["eca@layer3 - baseline"] == "a run failed"
    assert set(seeds_of(ledger).values()) == {5}
