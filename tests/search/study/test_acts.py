"""Confirm and ablation: what is trained, what is frozen, and what is opened when.

The trainings cost nothing: a network is its score, which depends on what is inserted where, the
learning rate and the seed.
"""

import itertools
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.blocks.naming import describe
from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.exports.export import export_study
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.search import ablate
from attnsearch.search.plans.seeds import RANGES
from attnsearch.search.propose.proposals import ProposalResult, Proposals
from attnsearch.search.study.alike import ALIKE_MAX
from attnsearch.search.study.outcome import SessionResult
from attnsearch.search.study.records import QueuedRun, Records
from attnsearch.search.study.session import StudyError, run_study
from attnsearch.search.terminal.arms import act_of, arms_text
from attnsearch.search.text import Letters
from attnsearch.search.workers.cluster import Need
from attnsearch.search.workers.job import Evaluation, Job
from attnsearch.search.workers.worker import Worker
from attnsearch.spaces import Space, dump, load_space

ACTS = """
name: tiny
task: classification
data: {source: tiny.npz, image_size: 8}
network: {backbone: resnet20, width: 0.25}
insert:
  - at: layer3
    block: {choice: [none, gc]}
  - at: layer2
    block: {choice: [none, eca], prior: eca}
train: {epochs: 2, batch_size: 16, lr: {choice: [0.05, 0.1]}}
search: {sampler: grid, scheduler: {asha: {grace: 1, reduction: 2}}, trials: 8}
confirm: {top: 2, seeds: 3, controls: [baseline, tuned_baseline]}
ablation: {plans: [loco], seeds: 2}
"""
GAINS = {"gc@layer3": 0.1, "eca@layer2": 0.05}


class Score(nn.Module):
    """A network of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3)) * self.weight


def seed(job: Job) -> int:
    return int(job.config["train"]["seed"])


class Cheap:
    """Trains nothing. Its score after training is in its only weight, and only there."""

    broken: Callable[[Job], bool] = staticmethod(lambda job: False)
    before: Callable[[Job], None] = staticmethod(lambda job: None)

    def __init__(self, job: Job, data: DataSet, device: str, threads: int) -> None:
        self.job, self.data = job, data
        self.network = Score()
        self.history: list[dict[str, float]] = []

    def _score(self) -> float:
        config, draws = self.job.config, np.random.default_rng(seed(self.job))
        said = describe(config)
        gain = sum(value for name, value in GAINS.items() if name in said)
        return float(0.5 + gain - 0.3 * abs(config["train"]["lr"] - 0.1) + 0.02 * draws.normal())

    @property
    def done(self) -> bool:
        return len(self.history) >= self.job.config["train"]["epochs"]

    @property
    def result(self) -> dict[str, float]:
        return self.history[-1]

    def run_epoch(self) -> dict[str, float]:
        type(self).before(self.job)
        if type(self).broken(self.job):
            raise ValueError("it broke")
        part = (len(self.history) + 1) / self.job.config["train"]["epochs"]
        nn.init.constant_(self.network.weight, self._score() * part)
        self.history.append({"val_accuracy": self.network.weight.item(), "val_loss": 1 - part})
        return dict(self.history[-1])

    def costs(self) -> dict[str, float]:
        return {"params": 1.0, "macs": 1.0, "memory_mb": 1.0}

    @property
    def architecture(self) -> str:
        return "cheap"

    def times(self) -> dict[str, float]:
        return {"latency_ms": 1.0}

    def evaluate(self, split: str) -> tuple[dict[str, float], dict[str, Any]]:
        part = getattr(self.data, split)
        score = self.network.weight.item() - 0.01
        said = {
            "names": list(part.names),
            "labels": np.array(part.labels),
            "probabilities": np.full((len(part), 2), score, np.float32),
        }
        return {"accuracy": score}, said

    def result_state(self) -> dict[str, Tensor]:
        return dict(self.network.state_dict())


@pytest.fixture
def trainer(in_process: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trains `Cheap` networks in this process; `jobs` are those that were begun."""
    in_process.make = Cheap
    for name in ("broken", "before"):
        monkeypatch.setattr(Cheap, name, Cheap.__dict__[name])
    return in_process


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "attnsearch.db") as opened:
        yield opened  # type: ignore[misc]


@pytest.fixture
def space(write_space: Callable[..., Path]) -> Callable[..., Space]:
    """The space `ACTS`, with overrides."""
    path = write_space(ACTS)
    return lambda *overrides: load_space(path, overrides)


def trained(trainer: Any, act: str | None = None) -> list[Job]:
    """The jobs that trained, without those that only evaluated."""
    return [
        job
        for job in trainer.jobs
        if not job.evaluations and (act is None or job.act.startswith(act))
    ]


class Stopped(BaseException):
    """Ends the driver, whose process is the worker's here."""


EVALUATE = Cheap.evaluate


def picture(result: SessionResult) -> list[tuple[Any, ...]]:
    """All that a study says of its runs, without times and numbers of rows."""
    return sorted(
        (str(row.role), str(row.arm), row.number, row.seed, row.state, repr(scores))
        for row in result.trials
        # What the machine was like is no result.
        if (scores := {k: v for k, v in row.metrics.items() if not k.startswith("system/")})
        is not None
    )


def test_the_acts_follow_one_another(
    space: Callable[..., Space], ledger: Ledger, recorder: Any, trainer: Any
) -> None:
    looks: list[tuple[str, int, bool]] = []

    def before(job: Job) -> None:
        plans = {row.plan.name for row in ledger.plans(1)}
        looks.append((job.act, len(ledger.looks()), "loco" in plans))

    Cheap.before = before  # type: ignore[method-assign, assignment]
    controls = "confirm.controls=[baseline, capacity, tuned_baseline]"
    result = run_study(space(controls), ledger=ledger, progress=recorder)
    assert (result.state, result.winner) == ("finished", "gc@layer3 eca@layer2"), result.message
    acts = [act.name for (act,) in recorder.of("act_started")]
    assert acts == ["tuning", "confirm", "test", "ablation loco"]
    confirm, loco = result.plans

    # Until the winner was frozen and the ablation planned, nobody had seen the test part.
    assert {count for act, count, _ in looks if not act.startswith("ablation")} == {0}
    (look,) = ledger.looks()
    assert (look.number, look.plan_id) == (1, confirm.id)
    assert confirm.frozen and confirm.frozen <= loco.created <= look.opened
    assert ledger.confirmatory(confirm) and ledger.confirmatory(loco)
    assert ledger.look_of(confirm) == 1 and ledger.look_of(loco) is None

    # Every arm has the same fresh seeds; exploring, tuning, confirm and ablation share none.
    seeds = {
        role: {row.seed for row in result.trials if row.role == role}
        for role in ("trial", "plain", "tuning", "confirm", "ablation")
    }
    assert seeds["trial"] == seeds["plain"] == {0}
    for role in ("tuning", "confirm", "ablation"):
        assert all(RANGES[role] <= seed < RANGES[role] + 10**8 for seed in seeds[role])  # type: ignore[index]
    runs = ledger.arm_runs(confirm)
    for arm in confirm.plan.arms:
        rows = runs[arm.label]
        assert [row.seed for row in rows if row] == list(confirm.plan.seeds)
        assert len(seeds["confirm"]) == 3

    # The test scores are those of the stored weights, beside the validation scores.
    for rows in runs.values():
        for row in rows:
            assert row is not None and row.state == "finished" and len(row.epochs) == 2
            score = row.metrics["val_accuracy"]
            assert row.metrics["test_accuracy"] == pytest.approx(score - 0.01, abs=1e-12)
            said = ledger.predictions(row.id)
            assert set(said) == {"val", "test"}
            assert next(iter(said["test"]["names"])).startswith("test/")
    assert all(
        "test_accuracy" not in row.metrics for row in result.trials if row.role != "confirm"
    )

    # The ranking is by validation means, and equal arms were trained once.
    means = {label: mean for label, mean in confirm.ranking if mean is not None}
    best = [row.metrics["val_accuracy"] for row in runs["gc@layer3 eca@layer2"] if row]
    assert means["gc@layer3 eca@layer2"] == pytest.approx(np.mean(best)) == max(means.values())
    equal = [arm for arm in confirm.plan.arms if arm.equals]
    assert equal
    for arm in equal:
        assert [row.id for row in runs[arm.label] if row] == [
            row.id for row in runs[str(arm.equals)] if row
        ]
        here = [row for row in result.trials if row.arm == arm.label]
        assert [row.id for row in here] == [row.id for row in runs[arm.label] if row]
    keys = [
        (seed(job), str(job.config["insert"]), job.config["train"]["lr"])
        for job in trained(trainer)
    ]
    assert len(keys) == len(set(keys)), "something was trained twice"

    said = arms_text(confirm, result.trials, Letters(()))
    winning = next(line for line in said.splitlines() if line.endswith("winner"))
    assert winning.split()[:2] == ["gc@layer3", "eca@layer2"] and f"{np.mean(best):.4f}" in winning
    assert act_of(result.trials, result.plans) == "done"
    begun = [row for row in result.trials if row.role != "ablation"]
    assert act_of(begun, result.plans) == "ablation loco 0/6"
    assert act_of([row for row in begun if row.arm is None], []) == "explore"

    # Of confirm, only the winner's weights are kept.
    kept = {row.arm for row in result.trials if row.weights_path and row.role == "confirm"}
    assert kept == {"gc@layer3 eca@layer2"}

    # The same again does nothing.
    trainer.jobs.clear()
    again = run_study(space(controls), ledger=ledger)
    assert picture(again) == picture(result) and not trainer.jobs
    assert len(ledger.looks()) == 1 and again.state == "finished"


def test_the_tuned_baseline_has_the_budget_of_the_search(
    space: Callable[..., Space], ledger: Ledger, trainer: Any
) -> None:
    result = run_study(space("confirm.seeds=1"), ledger=ledger, until="confirm")
    tuning = [row for row in result.trials if row.role == "tuning"]
    # The plain network has two settings, both of which are tried; early stopping works as in
    # the search.
    assert sorted(row.values["train.lr"] for row in tuning) == [0.05, 0.1]
    assert {row.arm for row in tuning} == {"tuned_baseline"}
    assert all(describe(row.config) == "plain" for row in tuning)
    (confirm,) = [row for row in result.plans if row.plan.act == "confirm"]
    tuned = next(arm for arm in confirm.plan.arms if arm.kind == "tuned_baseline")
    assert tuned.config["train"]["lr"] == 0.1  # the best setting, as `Cheap` scores

    # Without decisions about training there is nothing to tune: it is the baseline.
    trainer.jobs.clear()
    fixed = space("train.lr=0.1", "name=fixed", "search.trials=4", "confirm.seeds=1")
    result = run_study(fixed, ledger=ledger, until="confirm")
    assert not [row for row in result.trials if row.role == "tuning"]
    tuned = next(arm for arm in result.plans[0].plan.arms if arm.kind == "tuned_baseline")
    assert tuned.equals == "baseline" and any("= baseline" in note for note in tuned.notes)


def test_stopped_in_every_act_nothing_is_repeated(
    space: Callable[..., Space], tmp_path: Path, trainer: Any
) -> None:
    """Five sessions, of which all but the last end in the midst of a training or an evaluation."""
    with Ledger(tmp_path / "straight.db") as other:
        wanted = picture(run_study(space(), ledger=other))  # type: ignore[arg-type]
    begun = 0
    for act in ("tuning", "confirm", "test", "ablation", "never"):
        calls = []

        def stop(job: Job, act: str = act, calls: list[Job] = calls) -> None:
            if job.act.startswith(act):
                calls.append(job)
                if len(calls) == 3:
                    raise Stopped

        def evaluate(self: Cheap, split: str, stop: Callable[[Job], None] = stop) -> Any:
            if split == "test":
                stop(self.job)
            return EVALUATE(self, split)

        trainer.jobs.clear()
        with Ledger(tmp_path / "attnsearch.db") as ledger, pytest.MonkeyPatch.context() as patch:
            rows = [row for study in ledger.studies() for row in ledger.trials(study.id)]
            patch.setattr(Cheap, "before", staticmethod(stop))
            patch.setattr(Cheap, "evaluate", evaluate)
            if act == "never":
                result = run_study(space(), ledger=ledger)  # type: ignore[arg-type]
            else:
                with pytest.raises(Stopped):
                    run_study(space(), ledger=ledger)  # type: ignore[arg-type]
                assert ledger.studies()[0].state == "interrupted" and len(calls) == 3
            looks = ledger.looks()
        begun += len(trained(trainer))
        ended = {row.id for row in rows if row.state not in ("running", "interrupted")}
        assert not {job.id for job in trained(trainer)} & ended, "a run was trained again"
        evaluated = {task.run_id for job in trainer.jobs for task in job.evaluations}
        tested = {row.id for row in rows if "test_accuracy" in row.metrics}
        assert not evaluated & tested and (act != "ablation" or tested)
    assert picture(result) == wanted and [look.number for look in looks] == [1]
    # Three trainings were interrupted and begun anew; nothing else was trained twice.
    assert begun == len({row.id for row in result.trials}) + 3


def test_ctrl_c_in_confirm_is_an_interrupted_study(
    space: Callable[..., Space], ledger: Ledger, trainer: Any, recorder: Any
) -> None:
    asked: list[Job] = []

    def stop(job: Job) -> None:
        if job.act == "confirm" and not asked:
            asked.append(job)
            signal.raise_signal(signal.SIGINT)  # a second one would end the process

    Cheap.before = stop  # type: ignore[method-assign, assignment]
    result = run_study(space(), ledger=ledger, progress=recorder)
    assert result.state == "interrupted" and "1 run of confirm" in result.message
    assert not ledger.looks()
    Cheap.before = lambda job: None  # type: ignore[method-assign, assignment, misc]
    assert run_study(space(), ledger=ledger).state == "finished"


def test_a_failed_seed_stays_failed(
    space: Callable[..., Space], ledger: Ledger, trainer: Any
) -> None:
    """The best candidate loses a seed: it is not repeated, replaced, or the winner."""

    def broken(job: Job) -> bool:
        best = describe(job.config) == "gc@layer3 eca@layer2"
        return job.act == "confirm" and best and seed(job) == RANGES["confirm"] + 1

    Cheap.broken = broken  # type: ignore[method-assign, assignment]
    result = run_study(space(), ledger=ledger)
    assert (result.state, result.winner) == ("finished", "gc@layer3")
    confirm = result.plans[0]
    rows = ledger.arm_runs(confirm)["gc@layer3 eca@layer2"]
    assert [row.state for row in rows if row] == ["finished", "failed", "finished"]
    assert rows[1] is not None and "it broke" in str(rows[1].error)
    assert dict(confirm.ranking)["gc@layer3 eca@layer2"] is None

    trainer.jobs.clear()
    Cheap.broken = lambda job: False  # type: ignore[method-assign, assignment, misc]
    again = run_study(space(), ledger=ledger)
    assert not trainer.jobs and picture(again) == picture(result)


@pytest.mark.parametrize("act", ["", "tuning", "confirm", "ablation loco"])
def test_what_a_lost_worker_failed_is_trained_when_the_study_is_run_again(
    space: Callable[..., Space], ledger: Ledger, trainer: Any, act: str
) -> None:
    """So an earlier version recorded it, and so does this one after a few attempts."""

    class Lost(AttnsearchError):
        """Recorded as it stands, as the loss of a worker is."""

    def before(job: Job) -> None:
        if job.act == act and job.config["train"]["lr"] == 0.1:
            raise Lost("the worker process died without a word: it was killed")

    whole = {"ledger": ledger, "fresh": True}
    expected = picture(run_study(space(), **whole))
    Cheap.before = before  # type: ignore[method-assign, assignment]
    broken = run_study(space(), **whole)
    assert any(row.state == "failed" for row in broken.trials)
    Cheap.before = lambda job: None  # type: ignore[method-assign, assignment, misc]
    again = run_study(space(), ledger=ledger)
    assert again.study.id == broken.study.id and again.state == "finished" and again.winner
    assert {row.state for row in again.trials} <= {"finished", "stopped"}
    if act in ("confirm", "ablation loco"):
        assert picture(again) == expected


def test_a_search_whose_trials_all_fail_alike_ends_early(
    space: Callable[..., Space], ledger: Ledger, trainer: Any, recorder: Any
) -> None:
    """The network with nothing inserted trains; it says nothing of the blocks."""
    Cheap.broken = lambda job: bool(job.config["insert"])  # type: ignore[method-assign, assignment, misc]
    forbid = "forbid=[{layer3.block: none, layer2.block: none}]"
    result = run_study(space("search.trials=6", forbid), ledger=ledger, progress=recorder)
    trials = [row for row in result.trials if row.arm is None]
    assert [row.state for row in trials] == ["failed"] * ALIKE_MAX
    assert result.state == "failed" and "5 failed alike" in result.message
    assert "ValueError: it broke" in result.message and not ledger.looks()
    notes = "\n".join(text for (text,) in recorder.of("note"))
    assert "in run_epoch" in notes and 'raise ValueError("it broke")' in notes

    Cheap.broken = lambda job: False  # type: ignore[method-assign, assignment, misc]
    again = run_study(space("search.trials=6", forbid), ledger=ledger)
    assert again.state == "finished" and again.winner


@pytest.mark.parametrize("kind", ["one trains", "other errors"])
def test_a_search_goes_on_where_its_trials_do_not_all_fail_alike(
    space: Callable[..., Space], ledger: Ledger, trainer: Any, kind: str
) -> None:
    count = itertools.count()

    class Odd(AttnsearchError):
        """An error as it stands."""

    def before(job: Job) -> None:
        if kind == "other errors":
            raise Odd("abcdefgh"[next(count) % 8])
        if describe(job.config) != "gc@layer3":
            raise Odd("it broke")

    Cheap.before = before  # type: ignore[method-assign, assignment]
    result = run_study(space("search.scheduler=none"), ledger=ledger, until="explore")
    assert len([row for row in result.trials if row.arm is None]) == 8


@pytest.mark.parametrize("act", ["confirm", "ablation loco"])
def test_an_act_whose_runs_all_fail_alike_ends_early(
    space: Callable[..., Space], ledger: Ledger, trainer: Any, recorder: Any, act: str
) -> None:
    """What has nothing inserted trains; no winner is frozen and no plan counts as measured."""
    Cheap.broken = lambda job: job.act == act and bool(job.config["insert"])  # type: ignore[method-assign, assignment, misc]
    result = run_study(space(), ledger=ledger, progress=recorder)
    failed = [row for row in result.trials if row.state == "failed"]
    assert len({row.id for row in failed}) == ALIKE_MAX
    assert result.state == "failed" and f"{act} ended early, since 5 of" in result.message
    assert "ValueError: it broke" in result.message
    assert (result.winner is None) == (act == "confirm")
    plan = next(row for row in result.plans if row.plan.title == act)
    assert plan.state == "planned"
    notes = "\n".join(text for (text,) in recorder.of("note"))
    assert 'raise ValueError("it broke")' in notes


def test_without_a_whole_candidate_the_test_part_stays_closed(
    space: Callable[..., Space], ledger: Ledger, trainer: Any
) -> None:
    Cheap.broken = lambda job: job.act == "confirm" and bool(job.config["insert"])  # type: ignore[method-assign, assignment, misc]
    result = run_study(space(), ledger=ledger)
    assert result.state == "failed" and "the test part stays closed" in result.message
    assert not ledger.looks() and result.winner is None


@pytest.mark.slow  # two studies with all acts
def test_an_edited_plan_is_kept_beside_the_new_one(
    space: Callable[..., Space], ledger: Ledger, trainer: Any
) -> None:
    first = run_study(space("ablation=null"), ledger=ledger)
    (old,) = first.plans
    trainer.jobs.clear()
    second = run_study(space("ablation=null", "confirm.seeds=5"), ledger=ledger)
    assert second.study.id == first.study.id
    assert not trained(trainer, "tuning") and {job.act for job in trained(trainer)} == {"confirm"}
    # Seeds that were there are not trained again.
    assert {seed(job) for job in trained(trainer)} == set(second.plans[0].plan.seeds[3:])
    before, now = ledger.plans(first.study.id)
    assert (before.id, before.current, now.current) == (old.id, False, True)
    assert before.plan == old.plan
    assert ledger.added_seeds(now) == now.plan.seeds[3:] and not ledger.added_seeds(before)
    assert [look.number for look in ledger.looks()] == [1, 2]
    assert ledger.confirmatory(before) and not ledger.confirmatory(now)
    runs = ledger.arm_runs(before)
    assert all(row is not None for rows in runs.values() for row in rows)

    # Other epochs take the places of the runs; those of the first plan are still to be found.
    third = run_study(space("ablation=null", "confirm.epochs=3"), ledger=ledger)
    assert third.state == "finished" and third.plans[0].plan.epochs == 3
    assert {row.schedule_epochs for row in third.trials if row.role == "confirm"} == {2, 3}
    before = ledger.plans(first.study.id)[0]
    assert [[row.id for row in rows if row] for rows in ledger.arm_runs(before).values()] == [
        [row.id for row in rows if row] for rows in runs.values()
    ]


def test_acts_that_are_added_later_go_on_from_exploring(
    space: Callable[..., Space], ledger: Ledger, trainer: Any
) -> None:
    explored = run_study(space("confirm=null", "ablation=null"), ledger=ledger)
    assert explored.state == "finished" and not explored.plans
    stopped = run_study(space(), ledger=ledger, until="explore")
    assert stopped.state == "finished" and not stopped.plans
    trainer.jobs.clear()
    confirmed = run_study(space(), ledger=ledger, until="confirm")
    assert not [job for job in trained(trainer) if job.act == ""], "exploring was repeated"
    # The ablation is planned before the test part is opened, and trained when it is asked for.
    assert [row.state for row in confirmed.plans] == ["finished", "planned"]
    assert not trained(trainer, "ablation")
    settings = ["alpha=0.01", "margin=0.01", "smallest_effect=0.02"]
    other = run_study(space(*settings), ledger=ledger)
    assert other.study.id == explored.study.id
    assert trained(trainer, "ablation") and other.state == "finished"


@pytest.mark.slow  # three studies with all acts
def test_looks_at_one_test_part_count_in_all_studies(
    space: Callable[..., Space], ledger: Ledger, trainer: Any
) -> None:
    run_study(space("ablation=null"), ledger=ledger)
    trainer.jobs.clear()
    other = run_study(space("name=other", "ablation=null"), ledger=ledger)
    # Its runs are the other study's, evaluated before; the look counts all the same. Only what
    # was stopped early in exploring is not known.
    assert {job.act for job in trainer.jobs} <= {"", "tuning"} and other.state == "finished"
    assert [(look.number, look.study_id) for look in ledger.looks()] == [(1, 1), (2, 2)]
    assert not ledger.confirmatory(other.plans[0])


@pytest.mark.slow  # a study that trains twice
def test_runs_whose_weights_are_gone_are_trained_again_for_the_test_part(
    space: Callable[..., Space], ledger: Ledger, trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "open_test", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_study(space("ablation=null"), ledger=ledger)
    lost = next(row for row in ledger.trials(1) if row.role == "confirm")
    Path(str(lost.weights_path)).unlink()
    trainer.jobs.clear()
    result = run_study(space("ablation=null"), ledger=ledger)
    assert result.state == "finished"
    assert [(seed(job), job.config["insert"]) for job in trained(trainer)] == [
        (lost.seed, lost.config["insert"])
    ]


def test_weights_that_could_not_be_kept_cost_a_run_not_the_study(
    space: Callable[..., Space], ledger: Ledger, trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, lost = Records._write_weights, []

    def full_disk(self: Records, entry: QueuedRun, *others: Any) -> Any:
        if entry.place.role == "confirm" and not lost:
            lost.append(entry.config["train"]["seed"])
            return None, False
        return keep(self, entry, *others)

    with monkeypatch.context() as patch:
        patch.setattr(Records, "_write_weights", full_disk)
        first = run_study(space("ablation=null"), ledger=ledger)
    assert first.state == "failed" and "1 network could not be scored" in first.message
    trainer.jobs.clear()
    again = run_study(space("ablation=null"), ledger=ledger)
    assert (again.state, again.winner) == ("finished", first.winner)
    assert [(seed(job), job.act) for job in trained(trainer)] == [(lost[0], "confirm")]
    assert len(ledger.looks()) == 1


def test_the_export_is_the_winners_run_that_validates_best(
    space: Callable[..., Space], ledger: Ledger, trainer: Any, tmp_path: Path
) -> None:
    result = run_study(space("ablation=null"), ledger=ledger)
    folder = export_study(ledger, result.study, tmp_path / "best")
    record = json.loads((folder / "metrics.json").read_text())
    runs = [row for row in result.trials if row.arm == result.winner]
    best = max(runs, key=lambda row: row.metrics["val_accuracy"])
    assert (record["seed"], record["trial_name"]) == (best.seed, best.name)
    assert record["confirm"]["winner"] == result.winner and len(record["confirm"]["runs"]) == 3
    assert "won confirm" in (folder / "README.md").read_text()
    exported = load_space(folder / "config.yaml")
    assert not exported.decisions and exported.document["confirm"] is None

    # Its run is known: it is not trained again.
    trainer.jobs.clear()
    assert run_study(exported, ledger=ledger).state == "finished" and not trainer.jobs

    # And it can be ablated.
    done = ablate(folder, plans=["pairwise"], seeds=2, ledger=ledger)
    assert (done.study.name, done.state) == ("tiny-best", "finished")
    assert {job.act for job in trained(trainer)} == {"ablation pairwise"}
    labels = [arm.label for arm in done.plans[0].plan.arms]
    assert "nothing" in labels and len(labels) == 4


def test_given_configs_are_confirmed_without_exploring(
    space: Callable[..., Space], ledger: Ledger, trainer: Any, tmp_path: Path
) -> None:
    files = []
    for block in ("gc", "none"):
        path = tmp_path / f"{block}.yaml"
        values = {"layer3.block": block, "layer2.block": "eca", "train.lr": 0.1}
        config = space("confirm=null", "ablation=null").resolve(values)
        path.write_text(dump({key: value for key, value in config.items() if key != "search"}))
        files.append(str(path))
    result = run_study(space(f"confirm.configs={json.dumps(files)}"), ledger=ledger)
    assert (result.state, result.winner) == ("finished", "gc@layer3 eca@layer2"), result.message
    assert not [row for row in result.trials if row.arm is None]
    candidates = [arm.label for arm in result.plans[0].plan.arms if arm.kind == "candidate"]
    assert candidates == ["gc@layer3 eca@layer2", "eca@layer2"]
    assert {job.act for job in trained(trainer)} == {"tuning", "confirm", "ablation loco"}


def test_ablations_of_a_study_are_around_its_winner(
    space: Callable[..., Space], ledger: Ledger, trainer: Any
) -> None:
    result = run_study(space("ablation=null"), ledger=ledger)
    trainer.jobs.clear()
    done = ablate(
        "tiny", plans=["loco"], seeds=3, overrides=["ablation.reuse=confirm"], ledger=ledger
    )
    assert done.study.id == result.study.id and done.winner == result.winner
    confirm, loco = done.plans
    assert loco.plan.arms[0].label == result.winner and loco.plan.reuses_confirm
    # The reference's runs are the confirmation's.
    assert [row.id for row in ledger.arm_runs(loco)[str(result.winner)] if row] == [
        row.id for row in ledger.arm_runs(confirm)[str(result.winner)] if row
    ]
    # So are those of the arm that was the other candidate there.
    assert len(trained(trainer)) == 3 and done.study.space_text == result.study.space_text
    with pytest.raises(StudyError, match="what the trials of tiny/1 depend on"):
        ablate("tiny", overrides=["train.epochs=7"], ledger=ledger)
    with pytest.raises(StudyError, match="no file, no exported folder and no study"):
        ablate("nosuch", ledger=ledger)


def test_retuned_arms_have_settings_of_their_own(
    space: Callable[..., Space], ledger: Ledger, trainer: Any
) -> None:
    settings = ["confirm=null", "ablation.retune=true", "ablation.seeds=1"]
    result = run_study(space(*settings), ledger=ledger)
    (loco,) = result.plans
    assert loco.plan.retuned and result.state == "finished"
    tuned = {row.arm for row in result.trials if row.role == "tuning"}
    assert tuned == {f"loco: {arm.label}" for arm in loco.plan.arms}
    assert {arm.config["train"]["lr"] for arm in loco.plan.arms} == {0.1}


def test_every_fold_has_its_own_test_part(
    write_space: Callable[..., Path], ledger: Ledger, trainer: Any
) -> None:
    path = write_space(ACTS)
    settings = ["data.folds=3", "data.development=0.3", "confirm.seeds=2"]
    result = run_study(load_space(path, settings), ledger=ledger)
    assert result.state == "finished", result.message
    confirm = result.plans[0]
    assert confirm.plan.folds == (0, 1, 2) and confirm.plan.nesting == "development"
    looks = ledger.looks()
    assert len({look.fingerprint for look in looks}) == 3
    assert {look.number for look in looks} == {1} and {look.plan_id for look in looks} == {
        confirm.id
    }
    parts: dict[int | None, set[str]] = {}
    for row in ledger.arm_runs(confirm)[str(result.winner)]:
        assert row is not None
        names = set(map(str, ledger.predictions(row.id)["test"]["names"]))
        assert parts.setdefault(row.fold, names) == names
    assert len(parts) == 3 and not parts[0] & parts[1] and not parts[1] & parts[2]


def test_an_evaluation_says_what_the_training_said(
    write_space: Callable[..., Path], in_process: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """A network that was built anew and given its stored weights, to the last bit."""
    space = load_space(write_space())
    config = space.resolve({"layer3.block": "se"})
    data = load_data(config["data"])
    worker = Worker.__new__(Worker)
    parts = ("val", "test")
    job = Job(1, config, predictions=parts)
    config["train"]["epochs"] = 1
    worker.setup({"job": job}, datasets={"data": data}, need=Need())
    trained = worker.step()["report"]
    assert trained.state == "finished", trained.error
    path = tmp_path / "weights.safetensors"
    path.write_bytes(trained.weights.tobytes())
    wanted = tuple(Evaluation(1, config, "data", str(path), part) for part in parts)
    monkeypatch.setattr("attnsearch.search.workers.worker.ray.get", lambda data: data)
    # From the driver's disk, and as another machine gets them.
    for packed in ((), (path.read_bytes(),) * 2):
        job = Job(-1, config, evaluations=wanted, packed=packed)
        worker.reset_config({"job": job})
        for part, state in zip(parts, (None, "finished"), strict=True):
            report = worker.step()["report"]
            assert (report.evaluated, report.state) == (1, state)
            for name, values in trained.predictions[part].items():
                np.testing.assert_array_equal(report.predictions[part][name], values)
            if part == "val":
                assert report.metrics["val_accuracy"] == trained.result["val_accuracy"]
                assert report.metrics["val_loss"] == trained.result["val_loss"]


def test_a_network_that_cannot_be_evaluated_is_told_and_tried_again(
    space: Callable[..., Space],
    ledger: Ledger,
    trainer: Any,
    recorder: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluate, calls = Cheap.evaluate, iter(range(1000))

    def fails_once(self: Cheap, split: str) -> Any:
        if split == "test" and next(calls) == 1:
            raise MemoryError
        return evaluate(self, split)

    with monkeypatch.context() as patch:
        patch.setattr(Cheap, "evaluate", fails_once)
        first = run_study(space("ablation=null"), ledger=ledger, progress=recorder)
    assert first.state == "failed" and "1 network could not be scored" in first.message
    ends = [end for info, end in recorder.of("trial_ended") if info.act == "test"]
    assert [end.state for end in ends].count("failed") == 1
    assert first.plans[0].state == "measured"
    trainer.jobs.clear()
    again = run_study(space("ablation=null"), ledger=ledger)
    assert again.state == "finished" and again.plans[0].state == "finished"
    assert [len(job.evaluations) for job in trainer.jobs] == [1] and len(ledger.looks()) == 1


def _interrupt(*_: Any) -> Any:
    raise KeyboardInterrupt


def test_a_trial_above_a_limit_once_trained_is_neither_best_nor_confirmed(
    space: Callable[..., Space],
    ledger: Ledger,
    trainer: Any,
    recorder: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before training every network is small enough; afterwards those with `gc` are not."""

    def costs(self: Cheap) -> dict[str, float]:
        large = self.done and "gc@layer3" in describe(self.job.config)
        return {"params": 1.0, "macs": 1.0, "memory_mb": 15.0 if large else 5.0}

    heard: list[ProposalResult] = []
    tell = Proposals.tell

    def listen(self: Proposals, number: int, told: ProposalResult) -> None:
        heard.append(told)
        tell(self, number, told)

    monkeypatch.setattr(Cheap, "costs", costs)
    monkeypatch.setattr(Proposals, "tell", listen)
    limited = space("limits.memory_mb=10", "search.scheduler=none", "ablation=null")
    result = run_study(limited, ledger=ledger, progress=recorder)

    explored = [row for row in result.trials if row.role in ("trial", "plain")]
    large = {row.number for row in explored if "gc@layer3" in describe(row.config)}
    assert large and {row.state for row in explored} == {"finished"}
    assert {row.number for row in explored if row.over} == large
    assert all(row.violations == {"limits.memory_mb": 0.5} for row in explored if row.over)
    assert result.best not in large and not set(result.front) & large
    assert not [row for row in explored if row.number in large and row.weights_path]
    ends = {info.number: end for info, end in recorder.of("trial_ended") if info.role == "trial"}
    assert not any(ends[number].best for number in large)
    assert all("limits.memory_mb by 50.0%" in str(ends[number].reason) for number in large)
    assert result.winner == "eca@layer2"
    assert not any("gc" in arm.label for arm in result.plans[0].plan.arms)
    above = [told for told in heard if told.constraints.get("limits.memory_mb", 0) > 0]
    assert len(above) == len(large) and {told.state for told in above} == {"finished"}


def test_where_no_finished_trial_keeps_the_limits_there_is_no_best(
    space: Callable[..., Space], ledger: Ledger, trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def costs(self: Cheap) -> dict[str, float]:
        return {"params": 1.0, "macs": 1.0, "memory_mb": 15.0 if self.done else 5.0}

    monkeypatch.setattr(Cheap, "costs", costs)
    result = run_study(space("limits.memory_mb=10", "search.scheduler=none"), ledger=ledger)
    assert (result.state, result.best, result.plans) == ("failed", None, [])
    assert result.message.startswith("no trial that finished keeps the limits")
