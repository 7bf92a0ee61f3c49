"""The report of a confirmation whose arms stop at planned analyses."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.mirror.arms import arm_tags
from attnsearch.runs.reports.reporting import report, write_report
from attnsearch.runs.results.collect import collect_study
from attnsearch.runs.statistics.courses import seeds_wanted
from attnsearch.runs.statistics.interim import interim_analyses
from tests.runs import made_studies as made

SEEDS = tuple(range(1_100_000_001, 1_100_000_021))
MEANS = {**made.MEANS, "se@layer3": 0.80}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger of a study in which one candidate helps and one does not, and its report."""
    folder = tmp_path_factory.mktemp("stopped")
    with Ledger(folder / "attnsearch.db") as ledger:
        study = made.open_study(ledger)
        plan = made.confirm_plan(seeds=SEEDS, interim=interim_analyses(5, 20))
        scores = {arm.label: made.spread(arm.label, 20, MEANS[arm.label]) for arm in plan.arms}
        row = ledger.store_plan(study.id, plan)
        wanted = dict.fromkeys(scores, 5)
        while True:
            for label, count in wanted.items():
                made.run_arm(ledger, study, plan, label, scores[label][:count])
            (act,) = collect_study(ledger, study.id).acts
            if act.complete:
                break
            wanted = seeds_wanted(plan, act.courses)
        ledger.freeze_winner(row.id, "gc@layer4", [("gc@layer4", 0.86)])
        ledger.open_test("test1", row.id)
        ledger.set_plan_state(row.id, "finished")
        write_report(ledger, study.id, folder / "report")
    return folder


def test_every_arm_has_the_seeds_that_it_needed(written: Path) -> None:
    with Ledger(written / "attnsearch.db") as ledger:
        (act,) = collect_study(ledger, 1).acts
    seeds = {arm.label: len(arm.runs) for arm in act.arms}
    assert seeds["gc@layer4"] == seeds["capacity of gc@layer4"] == 5
    assert 5 < seeds["se@layer3"] == seeds["baseline"] <= 20
    assert act.expected == act.ended == sum(seeds.values()) < 120 and not act.strays
    assert act.winner == "gc@layer4" and act.find("gc@layer4").best is False
    assert arm_tags(act, act.find("gc@layer4"))["attnsearch.seeds"] == str(list(SEEDS[:5]))
    assert {c.n for c in act.comparisons if c.plus == ("gc@layer4",)} == {5}


def test_a_reviewer_finds_design_boundaries_and_what_was_settled(written: Path) -> None:
    text = (written / "report" / "report.md").read_text().replace("\\", "")
    for words in (
        "followed a group-sequential design, fixed in the plan before its first run: analyses at "
        "5, 7, 10, 14 and 20 seeds spend 12.5 %, 8.21 %, 14.65 %, 23.21 % and 41.43 % of",
        "neither stopping nor going on raises the family-wise error",
        "a conditional power below 20 % of finding a difference by the last analysis",
        "Analyses made: ",
        "at 5 seeds gc@layer4 - baseline (better)",
        "in place of the 120 of a fixed plan",
        "repeated confidence intervals (Jennison and Turnbull), and p-values repeated p-values",
        "on the 5 seeds of the first analysis, frozen before any test score was computed",
        "the same 5 to 20 seeds",
        "### Confirmation, analyses",
        "| Seeds | Share of alpha | Level | Boundary of |t| | Settled |",
        "95 % repeated interval",
    ):
        assert words in text, words
    # The boundaries are Student's, of the level that the analysis spends: 0.05 * 0.125 = 0.00625.
    smallest, largest = (stats.t.isf(0.00625 / m / 2, 4) for m in (4, 1))
    assert f"| 5 | 12.5 % | 0.006 | {smallest:.2f} to {largest:.2f} | gc@layer4" in text
    for name in ("report.tex", "report.html"):
        assert "group-sequential" in (written / "report" / name).read_text(), name


def test_the_numbers_stand_in_files(written: Path) -> None:
    with (written / "report" / "report-analyses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["seeds"] for row in rows] == ["5", "7", "10", "14", "20"]
    assert float(rows[0]["level"]) == pytest.approx(0.00625) and rows[0]["made"] == "True"
    assert "gc@layer4 - baseline (better)" in rows[0]["settled"]
    with Ledger(written / "attnsearch.db") as ledger:
        contrasts = report("made", ledger)["contrasts"].set_index("contrast")
    assert contrasts.loc["gc@layer4 - baseline", "analysis"] == 1
    assert contrasts.loc["se@layer3 - baseline", "settled"] in ("futile", "last analysis")


def test_a_plan_that_goes_on_compares_nothing_yet(tmp_path: Path) -> None:
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        study = made.open_study(ledger)
        plan = made.confirm_plan(seeds=SEEDS, interim=interim_analyses(5, 20))
        ledger.store_plan(study.id, plan)
        for arm in plan.arms:
            made.run_arm(ledger, study, plan, arm.label, made.spread(arm.label, 5, 0.8))
        (act,) = collect_study(ledger, study.id).acts
        assert not act.complete and not act.comparisons and act.expected > act.ended == 30


def test_fixed_plans_say_nothing_of_analyses(tmp_path: Path) -> None:
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        study = made.open_study(ledger)
        made.run_plan(ledger, study, made.confirm_plan(), made.MEANS, "gc@layer4")
        folder = write_report(ledger, study.id, tmp_path / "report", ["md", "csv"]).folder
        assert "settled" not in report("made", ledger)["contrasts"]
    assert not (folder / "report-analyses.csv").exists()
    text = (folder / "report.md").read_text()
    assert not any(word in text for word in ("sequential", "repeated", "futile"))


def test_seeds_of_an_analysis_are_kept_as_first_written(tmp_path: Path) -> None:
    with Ledger(tmp_path / "attnsearch.db") as ledger:
        study = made.open_study(ledger)
        plan = replace(made.confirm_plan(seeds=SEEDS), interim=interim_analyses(5, 20))
        row = ledger.store_plan(study.id, plan)
        assert row.seeds_of("gc@layer4") == 5 and row.plan == plan
        seeds = {arm.label: 7 for arm in plan.arms}
        ledger.add_analysis(row, 1, {"gc@layer4 - baseline": "better"}, {**seeds, "gc@layer4": 5})
        ledger.add_analysis(row, 1, {}, seeds)
        row = ledger.plans(study.id)[0]
        (analysis,) = row.analyses
        assert (analysis.number, analysis.size) == (1, 5)
        assert analysis.settled == {"gc@layer4 - baseline": "better"}
        assert row.seeds_of("gc@layer4") == 5 and row.seeds_of("baseline") == 7
        assert np.isfinite(analysis.made.timestamp())
