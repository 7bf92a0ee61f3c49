"""Several data sets in one report: what it says, and that hostile names stay names."""

import csv
import html
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from attnsearch.runs.figures.combined import critical_difference, effect_forest
from attnsearch.runs.reports.combining import (
    combined_fields,
    combined_text,
    findings,
    write_combined,
)
from attnsearch.runs.reports.reporting import ReportError
from attnsearch.runs.results.combined import Combined, combine_studies
from attnsearch.runs.statistics.plan import Plan
from tests.runs import made_studies as made

HOSTILE = '=cmd|"<script>alert(1)</script>" {50%} $x_1$ &'


def combined(sets: int = 5, first: str = "set0", plan: Plan | None = None) -> Combined:
    """Studies whose best arm is the same on all data sets, by 4 to 8 points."""
    studies = []
    for number in range(sets):
        means = {"gc@layer4": 0.84 + 0.01 * number, "se@layer3": 0.80, "baseline": 0.80}
        means |= {"capacity of gc@layer4": 0.79, "capacity of se@layer3": 0.79 - 0.02 * number}
        name = first if number == 0 else f"set{number}"
        studies.append(made.measured_study(name, plan or made.confirm_plan(), means=means))
    return combine_studies(studies)


def test_the_claim_comes_first_and_needs_all_three_controls() -> None:
    said = findings(combined())
    assert said[0].startswith("gc@layer4 helps: better than the baseline, ")
    assert said[1].startswith("It is not shown that se@layer3 helps")
    assert "gc@layer4 - baseline: better over 5 data sets; +" in said[2]
    assert "better on 5 of 5" in said[2] and "Between data sets: tau" in said[2]
    assert said[-1].startswith("Mean ranks: gc@layer4 1.00")
    few = findings(combined(3))
    assert few[0].startswith("gc@layer4 may help") and "3 data sets only" in few[0]
    assert "3 data sets, and 5 are the least" in few[-1]


def test_a_control_whose_differences_cannot_be_pooled_was_compared_all_the_same() -> None:
    of = combined(plan=replace(made.confirm_plan(), seeds=made.confirm_plan().seeds[:2]))
    assert "no pooled difference to the baseline" in findings(of)[0]
    assert any("(runs failed, or too few seeds)" in note for note in of.notes)


def test_figures_show_every_arm_and_every_data_set() -> None:
    of = combined()
    figure = critical_difference(of)
    assert figure is not None
    texts = re.findall(r"<text[^>]*>(.*?)</text>", str(figure.svg()))
    assert {arm.label for arm in of.arms} <= set(map(html.unescape, texts))
    assert figure.words.startswith("gc@layer4: ")
    forest = effect_forest(of, of.effects[0])
    assert forest is not None
    assert all(name in str(forest.svg()) for name in (*of.sets, "All data sets"))
    assert "I²" in forest.caption and forest.png().startswith(b"\x89PNG")
    assert critical_difference(combined(3)) is None


def test_files_hold_hostile_names_as_names(tmp_path: Path) -> None:
    small = made.candidates_plan()
    written = write_combined(combined(5, HOSTILE, small), tmp_path / "out")
    files = {path.name: path for path in written}
    assert {"combined.md", "combined.tex", "combined.html", "critical-difference.png"} <= set(
        files
    )
    assert sum(name.startswith("effect-") for name in files) == 2
    page = files["combined.html"].read_text(encoding="utf-8")
    assert "<script>alert" not in page and html.escape("<script>alert(1)") in page
    assert page.count("<svg") == 2 * 3
    latex = files["combined.tex"].read_text(encoding="utf-8")
    assert r"\$x\_1\$" in latex and "<script>" not in latex
    assert "<script>" not in files["combined.md"].read_text(encoding="utf-8").replace("\\<", "")
    with files["combined-scores.csv"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 5 and {row["data_set"] for row in rows} >= {f"'{HOSTILE}", "set1"}
    with files["combined-effects.csv"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["n"] for row in rows if row["data_set"] == "all"] == ["5"] * 2
    (tmp_path / "file").touch()
    with pytest.raises(ReportError, match="cannot be written"):
        write_combined(combined(2, plan=small), tmp_path / "file")


def test_json_is_json_and_holds_the_report() -> None:
    of = combined()
    fields = json.loads(json.dumps(combined_fields(of), allow_nan=False))
    assert fields["data_sets"] == list(of.sets) and len(fields["scores"]) == 30
    assert fields["findings"] == findings(of)
    ranking = fields["ranking"]
    assert ranking["wins"]["gc@layer4"] == 5 and ranking["critical_difference"] > 0
    assert sum(ranking["mean_ranks"].values()) == pytest.approx(21)
    every = [row for row in fields["effects"] if row["data_set"] == "all"]
    assert every[0]["verdict"] == "better" and every[0]["next_low"] is not None


def test_the_protocol_names_the_tests_that_were_made() -> None:
    of = combined()
    protocol = " ".join(combined_text(of).protocol)
    assert f"compared by {of.ranking.test}" in protocol and "Hartung and Knapp" in protocol
    looked = [replace(s, acts=(replace(s.acts[0], confirmatory=False),)) for s in of.studies]
    again = combine_studies(looked)
    assert again.effects[0].pooled.verdict == "suggestive"
    assert "exploratory" in again.effects[0].pooled.reason
