"""Plans and looks in the ledger: kept for good, superseded, counted."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import inspect, update

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.patience import LedgerError
from attnsearch.runs.ledger.requests import Ending, Place, Request
from attnsearch.runs.ledger.schema import Base, LookRecord, PlanRecord, Schema
from attnsearch.runs.ledger.studies import study_digest
from attnsearch.runs.statistics.plan import AGAINST_BASELINE, Arm, Contrast, Plan

GC, PLAIN = {"insert": ["gc"]}, {"insert": []}
PLAN = Plan(
    act="confirm",
    name="confirm",
    arms=(
        Arm("gc", "candidate", GC),
        Arm("baseline", "baseline", PLAIN),
        Arm("tuned", "tuned_baseline", PLAIN, equals="baseline", notes=("= baseline",)),
    ),
    contrasts=(Contrast(AGAINST_BASELINE, "gc - baseline", ("gc",), ("baseline",)),),
    seeds=(11, 12),
    epochs=2,
    metric="accuracy",
    direction="max",
    part="test",
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "attnsearch.db") as opened:
        yield opened  # type: ignore[misc]


def study(ledger: Ledger, name: str = "digits") -> int:
    return ledger.open_study(name, "", {"name": name}, "data", {}).id


def run(ledger: Ledger, study_id: int, plan: Plan, label: str, number: int, key: str) -> int:
    """A finished run in its place."""
    fold, seed = plan.repeats()[number]
    config = dict(plan.arm(label).config)
    claim = ledger.claim(
        Request(key, config=config, seed=seed, epochs=plan.epochs, fold=fold, study_id=study_id)
    )
    role, arm = plan.place(label)
    name = f"arm {arm} {number}"
    ledger.attach(study_id, claim.run_id, Place(number=number, role=role, arm=arm, name=name))
    if claim.outcome == "claimed":
        ledger.finish(claim.run_id, Ending("finished", metrics={"val_accuracy": 0.5}))
    return claim.run_id


def test_a_plan_is_stored_once_and_an_edited_one_supersedes_it(ledger: Ledger) -> None:
    here = study(ledger)
    first = ledger.store_plan(here, PLAN)
    assert (first.plan, first.hash, first.state) == (PLAN, PLAN.hash, "planned")
    assert ledger.store_plan(here, PLAN) == first
    wider = replace(PLAN, seeds=(11, 12, 13))
    second = ledger.store_plan(here, wider)
    loco = ledger.store_plan(here, replace(PLAN, act="ablation", name="loco"))
    assert [row.id for row in ledger.plans(here)] == [first.id, second.id, loco.id]
    assert [row.id for row in ledger.plans(here, superseded=False)] == [second.id, loco.id]
    # Going back to the first one makes it the current one again, as old as it is.
    back = ledger.store_plan(here, PLAN)
    assert back == first
    assert [row.current for row in ledger.plans(here)] == [True, False, True]
    # The same plan of another study is another plan.
    assert ledger.store_plan(study(ledger, "other"), PLAN).id not in (first.id, second.id)


def test_the_winner_is_frozen_for_good(ledger: Ledger) -> None:
    row = ledger.store_plan(study(ledger), PLAN)
    ranking = [("gc", 0.75), ("psa", None)]
    frozen = ledger.freeze_winner(row.id, "gc", ranking)
    assert (frozen.winner, frozen.ranking) == ("gc", tuple(ranking)) and frozen.frozen
    assert ledger.freeze_winner(row.id, "gc", [("gc", 0.1)]) == frozen
    with pytest.raises(LedgerError, match="frozen as 'gc' and cannot become 'psa'"):
        ledger.freeze_winner(row.id, "psa", ranking)
    with pytest.raises(ValueError, match="'won' is not a valid PlanState"):
        ledger.set_plan_state(row.id, "won")


def test_every_look_counts_and_only_plans_before_the_first_are_confirmatory(
    ledger: Ledger,
) -> None:
    one, other = study(ledger), study(ledger, "other")
    confirm = ledger.store_plan(one, PLAN)
    planned = ledger.store_plan(one, replace(PLAN, act="ablation", name="loco"))
    assert ledger.look_of(confirm) is None
    assert ledger.open_test("print", confirm.id).number == 1
    assert ledger.open_test("print", confirm.id).number == 1  # an interrupted study goes on
    late = ledger.store_plan(other, PLAN)
    assert ledger.open_test("print", late.id).number == 2
    assert ledger.open_test("print", planned.id).number == 3
    assert ledger.open_test("another", late.id).number == 1
    assert [look.number for look in ledger.looks("print")] == [1, 2, 3]
    assert [look.study_id for look in ledger.looks("print")] == [one, other, one]
    rows = (confirm, planned, late)
    assert [ledger.look_of(row) for row in rows] == [1, 3, 2]
    assert [ledger.confirmatory(row) for row in rows] == [True, True, False]


def test_seeds_that_are_added_after_a_look_are_known(ledger: Ledger) -> None:
    here = study(ledger)
    first = ledger.store_plan(here, PLAN)
    wider = replace(PLAN, seeds=(11, 12, 13, 14))
    before = ledger.store_plan(here, wider)
    assert ledger.added_seeds(before) == ()  # nobody had looked
    ledger.open_test("print", first.id)
    assert ledger.added_seeds(before) == (13, 14)
    others = replace(wider, arms=(Arm("psa", "candidate", {"insert": ["psa"]}),))
    assert ledger.added_seeds(ledger.store_plan(here, others)) == ()  # no arm in common
    # On validation data, a finished plan has been looked at.
    loco = replace(PLAN, act="ablation", name="loco", part="val")
    done = ledger.store_plan(here, loco)
    more = replace(loco, seeds=(11, 12, 13))
    assert ledger.added_seeds(ledger.store_plan(here, more)) == ()
    ledger.set_plan_state(done.id, "finished")
    assert ledger.added_seeds(ledger.store_plan(here, more)) == (13,)


def test_superseded_plans_keep_their_runs(ledger: Ledger) -> None:
    here = study(ledger)
    old = ledger.store_plan(here, PLAN)
    runs = {
        label: [run(ledger, here, PLAN, label, n, f"{label} {n}") for n in (0, 1)]
        for label in ("gc", "baseline")
    }
    changed = replace(
        PLAN, arms=(Arm("gc", "candidate", {"insert": ["gc"], "lr": 1}), *PLAN.arms[1:])
    )
    new = ledger.store_plan(here, changed)
    newer = run(ledger, here, changed, "gc", 0, "other gc")

    def ids(row: Any) -> dict[str, list[int | None]]:
        return {
            label: [None if found is None else found.id for found in rows]
            for label, rows in ledger.arm_runs(row).items()
        }

    rows = {row.id: row for row in ledger.plans(here)}
    assert ids(rows[old.id]) == {**runs, "tuned": runs["baseline"]}
    # The baseline is the same in both; the other arm's places are its own now.
    assert ids(rows[new.id]) == {
        "gc": [newer, None],
        "baseline": runs["baseline"],
        "tuned": runs["baseline"],
    }
    arms = {found.arm for found in ledger.trials(here)}
    assert arms == {"gc", "baseline", f"gc (plan {old.id})"}


def test_test_scores_are_added_beside_what_stands_there(ledger: Ledger) -> None:
    here = study(ledger)
    ledger.store_plan(here, PLAN)
    run_id = run(ledger, here, PLAN, "gc", 0, "gc 0")
    said = {"names": ["a", "b"], "labels": np.array([0, 1]), "groups": ["p", "q"]}
    before = ledger.run(run_id)
    ledger.add_test(run_id, {"test_accuracy": 0.4}, said)
    ledger.add_test(run_id, {"test_accuracy": 0.25}, said)  # an interrupted evaluation goes on
    after = ledger.run(run_id)
    assert after.metrics == {"val_accuracy": 0.5, "test_accuracy": 0.25}
    assert after.state == before.state == "finished"
    assert list(ledger.predictions(run_id)["test"]["groups"]) == ["p", "q"]
    with pytest.raises(ValueError, match="'val_accuracy' is no score on the test part"):
        ledger.add_test(run_id, {"val_accuracy": 1.0}, said)


def test_a_ledger_of_the_first_version_gets_the_new_tables(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with Ledger(path) as ledger:
        here = study(ledger)  # type: ignore[arg-type]
        with ledger.database.write() as connection:
            new = [LookRecord.__table__, PlanRecord.__table__]
            Base.metadata.drop_all(connection, tables=new)  # type: ignore[arg-type]
            connection.execute(update(Schema).values(version=1))
    with Ledger(path) as ledger:
        assert [row.id for row in ledger.studies()] == [here]
        assert ledger.store_plan(here, PLAN).plan == PLAN
        with ledger.database.read() as connection:
            assert inspect(connection).has_table("look")


def test_how_scores_are_compared_is_not_what_exploring_depends_on() -> None:
    document = {"train": {"lr": 0.1}, "search": {"trials": 3}, "data": {"source": "x"}}
    digest = study_digest(document, "data")
    for key, value in {
        "confirm": {"top": 3},
        "ablation": {"plans": ["loco"]},
        "primary_metric": "auroc",
        "alpha": 0.01,
        "smallest_effect": 0.02,
        "margin": 0.01,
        "resources": {"gpus": 1},
        "published": {"params": 1},
    }.items():
        assert study_digest({**document, key: value}, "data") == digest, key
    assert study_digest({**document, "later": None}, "data") == digest
    assert study_digest({**document, "checkpoint": "best_val"}, "data") != digest
