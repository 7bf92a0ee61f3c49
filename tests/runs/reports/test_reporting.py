"""The report: its figures are the ledger's, its rules hold, its files are safe to open."""

import json
import math
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from attnsearch.runs import report
from attnsearch.runs.ledger.ledger import Ledger
from attnsearch.runs.ledger.requests import Ending, Place, Request
from attnsearch.runs.reports.markdown import markdown_report
from attnsearch.runs.reports.pages import make_report
from attnsearch.runs.reports.reporting import (
    ReportError,
    verdict_lines,
    write_report,
    write_result,
)
from attnsearch.runs.results import collect
from attnsearch.runs.results.collect import collect_study
from attnsearch.runs.results.frames import study_frames
from attnsearch.runs.statistics.plan import Arm, Contrast, Plan
from attnsearch.search.cli import call
from tests.killed import killed_in
from tests.runs import made_studies as made


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger of a whole study, and its report beside it."""
    folder = tmp_path_factory.mktemp("whole")
    with Ledger(folder / "attnsearch.db") as ledger:
        study = made.whole_study(ledger)
        write_report(ledger, study.id, folder / "report")
    return folder


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "attnsearch.db")


def small_plan(**changes: Any) -> Plan:
    """One candidate against baseline, the capacity control and the tuned baseline."""
    plan = made.confirm_plan()
    arms = tuple(arm for arm in plan.arms if "se@layer3" not in arm.label)
    contrasts = tuple(c for c in plan.contrasts if c.plus == ("gc@layer4",))
    return replace(plan, arms=arms, contrasts=contrasts, **changes)


def told(ledger: Ledger, study_id: int) -> tuple[str, dict[str, pd.DataFrame]]:
    """The report as Markdown, without its escapes, and its tables."""
    result = collect_study(ledger, study_id)
    return markdown_report(make_report(result)).replace("\\", ""), study_frames(result)


# ---- an independent recomputation: sqlite3, numpy and scipy alone ----


def holm(p: list[float]) -> list[float]:
    order = np.argsort(p)
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = highest
    return adjusted


def recompute(database: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Plan and contrast -> its numbers, from the tables of the ledger."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    with sqlite3.connect(database) as connection:
        plans = [json.loads(row[0]) for row in connection.execute("select document from plan")]
        query = """select study_run.role, study_run.arm, run.seed, run.metrics
                   from study_run join run on run.id = study_run.run_id"""
        scores = {
            (role, arm, seed): json.loads(metrics)
            for role, arm, seed, metrics in connection.execute(query)
        }
    for plan in plans:
        prefix = "" if plan["act"] == "confirm" else f"{plan['name']}: "
        key = f"{plan['part']}_{plan['metric']}"
        arms = {
            arm["label"]: np.array(
                [scores[plan["act"], prefix + arm["label"], seed][key] for seed in plan["seeds"]]
            )
            for arm in plan["arms"]
        }
        for label, values in arms.items():
            n = len(values)
            half = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
            found[plan["name"], label] = {
                "mean": values.mean(),
                "sd": values.std(ddof=1),
                "mean_low": values.mean() - half,
                "mean_high": values.mean() + half,
            }
        families: dict[str, list[str]] = {}
        for contrast in plan["contrasts"]:
            pairs = sum(arms[label] for label in contrast["plus"])
            pairs = pairs - sum(arms[label] for label in contrast["minus"])
            n = len(pairs)
            error = pairs.std(ddof=1) / math.sqrt(n)
            half = stats.t.ppf(0.975, n - 1) * error
            found[plan["name"], contrast["name"]] = {
                "difference": pairs.mean(),
                "low": pairs.mean() - half,
                "high": pairs.mean() + half,
                "p": 2 * stats.t.sf(abs(pairs.mean() / error), n - 1),
                "error": error,
            }
            families.setdefault(contrast["family"], []).append(contrast["name"])
        for names in families.values():
            members = [found[plan["name"], name] for name in names]
            adjusted = holm([member["p"] for member in members])
            for member, p in zip(members, adjusted, strict=True):
                half = stats.t.ppf(1 - 0.025 / len(names), n - 1) * member.pop("error")
                member |= {
                    "p_adjusted": p,
                    "simultaneous_low": member["difference"] - half,
                    "simultaneous_high": member["difference"] + half,
                }
    return found


def test_the_figures_are_those_of_an_independent_recomputation(finished: Path) -> None:
    expected = recompute(finished / "attnsearch.db")
    arms = pd.read_csv(finished / "report" / "report-arms.csv")
    contrasts = pd.read_csv(finished / "report" / "report-contrasts.csv")
    assert len(arms) + len(contrasts) == len(expected) == 27
    for row in arms.to_dict("records"):
        for name, value in expected[row["plan"], row["arm"]].items():
            assert row[name] == pytest.approx(value, rel=1e-9, abs=1e-12), (row["arm"], name)
    for row in contrasts.to_dict("records"):
        for name, value in expected[row["plan"], row["contrast"]].items():
            assert row[name] == pytest.approx(value, rel=1e-9, abs=1e-12), (row["contrast"], name)

    # What a person reads is the same, rounded.
    page = (finished / "report" / "report.md").read_text().replace("\\", "")
    first = expected["confirm", "gc@layer4 - baseline"]
    line = next(line for line in page.splitlines() if line.startswith("| **gc@layer4**"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == f"{100 * expected['confirm', 'gc@layer4']['mean']:.2f}"
    assert cells[4] == f"+{100 * first['difference']:.2f}"
    assert cells[5] == f"[+{100 * first['low']:.2f}, +{100 * first['high']:.2f}]"
    assert cells[8] == "better"


@pytest.mark.parametrize(("number", "earlier"), [(2, False), (6, True)])  # LaTeX, HTML
def test_killed_in_a_file_all_are_whole(
    finished: Path, tmp_path: Path, number: int, earlier: bool
) -> None:
    expected = {file.name: file.read_bytes() for file in (finished / "report").iterdir()}
    with Ledger(finished / "attnsearch.db", create=False) as ledger:
        result = collect_study(ledger, ledger.find_study("made").id)
    before = dict.fromkeys(expected, b"an earlier one") if earlier else {}
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    killed_in(str(tmp_path), number, lambda: write_result(result, tmp_path))
    begun = {file.name: file.read_bytes() for file in tmp_path.glob("report*")}
    done = {name for name in begun if begun[name] == expected[name]}
    assert len(done) == number - 1 and begun == before | {name: expected[name] for name in done}
    write_result(result, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == expected


def test_every_run_is_a_row_of_the_raw_file(finished: Path) -> None:
    raw = pd.read_csv(finished / "report" / "report.csv")
    sizes = {"ablation": 40, "confirm": 30, "explore": 4, "tuning": 2}
    assert raw.groupby("act").size().to_dict() == sizes
    counted = raw[raw["counts"]]
    assert len(counted) == 70
    assert set(counted["seed"]) == {*made.CONFIRM_SEEDS, *made.ABLATION_SEEDS}
    assert "mlflow_run_id" in raw
    one = counted[(counted["arm"] == "baseline") & (counted["act"] == "confirm")]
    assert one["test_nll"].notna().all()


def test_the_report_says_what_was_found_and_how(finished: Path) -> None:
    page = (finished / "report" / "report.md").read_text().replace("\\", "")
    findings = [line for line in page.splitlines() if line.startswith("- ")]
    assert findings[0].startswith("- gc@layer4 helps: better than the baseline")
    assert "pairwise (interactions, 5 seeds, validation data): less than the sum" in page
    protocol = page.split("## Experimental protocol")[1]
    for said in (
        "4 trials (3 of the full schedule, 1 stopped early; 20 epochs in all",
        "after 2 trials (2 of the full schedule; 2 epochs) for its training settings alone",
        "on the same 5 seeds (seeds 1100000001 to 1100000005)",
        "frozen before any test score was computed",
        "before the test data was first opened; this is look 1",
        "two-sided paired t over seeds (n = 5, df = 4)",
        "candidates against baseline (m = 2) and candidates against the other controls (m = 4)",
        "not adjusted for multiplicity",
        "their scope is this test set",
        "not retuned",
        "not significant is not equivalent",
        "Patient identity is unknown; leakage between the parts cannot be excluded.",
        "All 30 planned runs of the confirmation finished; none was excluded.",
        "power of 80 %",
        "Some CPU & Co (8 cores), 16 GiB memory",
        "torch 2.11.0",
    ):
        assert said in protocol, said


def test_frames_come_by_the_studys_name(finished: Path) -> None:
    tables = report("made", finished / "attnsearch.db")
    assert tables["arms"].query("winner")["arm"].tolist() == ["gc@layer4"]
    assert tables["families"]["tests"].tolist() == [2, 4, 3, 1, 3]
    assert tables["leaderboard"]["name"].iloc[0].startswith("001 gc@layer4")


# ---- rules ----


def edited(base: Path, folder: Path, *statements: str) -> Ledger:
    """A copy of a ledger that somebody wrote into."""
    path = folder / "attnsearch.db"
    shutil.copy(base, path)
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    return Ledger(path)


def runs_of(arm: str) -> str:
    """A condition on `run`: an arm's."""
    return f"id in (select run_id from study_run where arm = '{arm}')"


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger of a study that was confirmed with one candidate."""
    path = tmp_path_factory.mktemp("confirmed") / "attnsearch.db"
    with Ledger(path) as ledger:
        made.run_plan(ledger, made.open_study(ledger), small_plan(), made.MEANS, "gc@layer4")
    return path


def test_an_arm_of_another_budget_is_excluded_with_what_differs(
    confirmed: Path, tmp_path: Path
) -> None:
    ledger = edited(
        confirmed, tmp_path, f"update run set epochs = 4 where {runs_of('tuned baseline')}"
    )
    page, tables = told(ledger, 1)
    assert "tuned baseline is excluded: trained for 4 epochs, the plan says 6" in page
    assert page.splitlines()[4].startswith("- No verdict on gc@layer4")
    frame = tables["contrasts"].set_index("minus")
    assert frame.loc["tuned baseline", "verdict"] == "no verdict"
    assert pd.isna(frame.loc["tuned baseline", "difference"])
    assert frame.loc["baseline", "verdict"] == "better"
    assert "5 runs were excluded" in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            """update run set config = replace(config, '"image_size": 16', '"image_size": 32')
               where {}""",
            "data.image_size 32, the plan says 16",
        ),
        (
            """update prediction set data =
               (select data from prediction where split = 'val' limit 1)
               where split = 'test' and run_{}""",
            "its test examples or labels are not those of the other runs",
        ),
    ],
)
def test_other_data_is_not_compared(
    confirmed: Path, tmp_path: Path, change: str, said: str
) -> None:
    ledger = edited(confirmed, tmp_path, change.format(runs_of("baseline")))
    page, tables = told(ledger, 1)
    assert said in page
    frame = tables["contrasts"].set_index("minus")
    assert frame.loc["baseline", "verdict"] == "no verdict"
    assert frame.loc["tuned baseline", "verdict"] == "better"


def test_there_is_no_verdict_where_the_baseline_has_not_learned(
    confirmed: Path, tmp_path: Path
) -> None:
    ledger = edited(
        confirmed,
        tmp_path,
        f"""update run set metrics =
            json_set(metrics, '$.test_accuracy', 0.01 + 0.001 * (seed % 10))
            where {runs_of("baseline")}""",
    )
    page, tables = told(ledger, 1)
    first = page.splitlines()[4]
    assert first.startswith("- No verdict: the baseline has not learned: an answer that looks at")
    assert "train.epochs" in first
    assert set(tables["contrasts"]["verdict"]) == {"no verdict"}
    assert all("has not learned" in reason for reason in tables["contrasts"]["reason"])
    assert "gc@layer4 helps" not in page


def test_a_failed_seed_stays_in_the_denominator(confirmed: Path, tmp_path: Path) -> None:
    ledger = edited(
        confirmed,
        tmp_path,
        f"""update run set state = 'failed', metrics = '{{}}', error = 'the loss is nan'
            where seed = 1100000003 and {runs_of("baseline")}""",
    )
    page, tables = told(ledger, 1)
    assert "| 4 of 5 |" in page
    assert "1 failed" in page and "the loss is nan" in page
    assert "1 run failed and is not replaced (baseline seed 1100000003)" in page
    assert page.splitlines()[4].startswith("- No verdict on gc@layer4")
    frame = tables["contrasts"].set_index("minus")
    assert frame.loc["baseline", "verdict"] == "no verdict"


def test_runs_whose_batches_were_split_are_compared_and_told(
    confirmed: Path, tmp_path: Path
) -> None:
    ledger = edited(
        confirmed,
        tmp_path,
        f"""insert into epoch (run_id, attempt, epoch, metrics, recorded)
            select id, attempt, 99, '{{"micro_batches": 2.0}}', 0 from run
            where seed < 1100000003 and {runs_of("gc@layer4")}""",
    )
    page, tables = told(ledger, 1)
    (row,) = (line for line in page.splitlines() if "2 in micro-batches" in line)
    assert "gc@layer4" in row
    assert "For 2 runs of the confirmation memory did not hold a batch" in page
    assert set(tables["contrasts"]["verdict"]) == {"better"}
    whole, _ = told(edited(confirmed, tmp_path), 1)
    assert "micro-batches" not in whole


def test_a_second_look_is_exploratory(confirmed: Path, tmp_path: Path) -> None:
    ledger = edited(confirmed, tmp_path)
    study = made.open_study(ledger, "second")
    made.run_plan(ledger, study, small_plan(alpha=0.04), made.MEANS, "gc@layer4")
    page, tables = told(ledger, study.id)
    assert "exploratory (look 2)" in page and "this is look 2 at it" in page
    assert not page.splitlines()[4].startswith("- gc@layer4 helps:")
    assert set(tables["contrasts"]["verdict"]) == {"suggestive"}


def test_seeds_added_after_a_look_void_the_verdicts(confirmed: Path, tmp_path: Path) -> None:
    ledger = edited(confirmed, tmp_path)
    study = ledger.study(1)
    plan = small_plan(seeds=(*made.CONFIRM_SEEDS, 1100000006))
    made.run_plan(ledger, study, plan, made.MEANS, "gc@layer4")
    page, tables = told(ledger, study.id)
    assert "Seed 1100000006 added after looking" in page
    assert set(tables["contrasts"]["verdict"]) == {"no verdict"}


def test_an_edited_plans_runs_are_shown_as_not_used(confirmed: Path, tmp_path: Path) -> None:
    ledger, plan = edited(confirmed, tmp_path), small_plan()
    fewer = replace(plan, arms=plan.arms[:2], contrasts=plan.contrasts[:1])
    ledger.store_plan(1, fewer)
    page, tables = told(ledger, 1)
    assert "Not used here: 10 runs of an earlier plan of the confirmation." in page
    raw = tables["runs"]
    assert raw.groupby("counts").size().to_dict() == {True: 10, False: 10}


def test_nothing_is_compared_before_all_is_there(ledger: Ledger, tmp_path: Path) -> None:
    study, plan = made.open_study(ledger), small_plan()
    made.explore(ledger, study)
    (sentence,) = verdict_lines(ledger, study.id)
    assert sentence.startswith("No result yet: exploring alone.") and "on one seed" in sentence
    page, _ = told(ledger, study.id)
    assert "Luck of the draw" in page and "One seed each cannot tell how much" in page

    ledger.store_plan(study.id, plan)
    made.run_arm(ledger, study, plan, "gc@layer4", made.spread("gc@layer4", 5, 0.86))
    (sentence,) = verdict_lines(ledger, study.id)
    assert "5 of 20 runs have ended, the test data is not opened yet" in sentence
    write_report(ledger, study.id, tmp_path / "out")
    assert report("made", ledger)["contrasts"].empty

    empty = made.open_study(ledger, "empty")
    assert verdict_lines(ledger, empty.id) == [
        "No result: no trial has ended its full schedule yet."
    ]
    write_report(ledger, empty.id, tmp_path / "empty")


def test_best_is_marked_only_where_it_beats_every_other_arm(
    confirmed: Path, finished: Path, tmp_path: Path
) -> None:
    ledger = edited(confirmed, tmp_path)
    (act,) = collect_study(ledger, 1).acts
    assert [arm.label for arm in act.arms if arm.best] == ["gc@layer4"]

    with Ledger(finished / "attnsearch.db") as ledger:  # two candidates, never compared
        assert not any(arm.best for arm in collect_study(ledger, 1).acts[0].arms)


def test_the_validation_score_of_a_best_checkpoint_is_no_result(
    ledger: Ledger, tmp_path: Path
) -> None:
    study, plan = made.open_study(ledger), small_plan(checkpoint="best_val")
    arms = tuple(
        replace(arm, config={**arm.config, "checkpoint": "best_val"}) for arm in plan.arms
    )
    made.run_plan(ledger, study, replace(plan, arms=arms), made.MEANS, "gc@layer4")
    page, tables = told(ledger, study.id)
    assert "| Validation |" not in page and "validation score is not reported" in page
    assert tables["arms"]["validation_mean"].isna().all()


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        ({"channels_last": True}, "are in the memory layout channels_last."),
        ({"compile": True}, "are compiled by torch.compile."),
        (
            {"channels_last": True, "compile": True},
            "are in the memory layout channels_last and compiled by torch.compile.",
        ),
        ({"channels_last": False}, ""),
    ],
)
def test_the_protocol_tells_the_arithmetic_of_all_runs(
    ledger: Ledger, train: dict[str, bool], sentence: str
) -> None:
    study = made.open_study(ledger, train=train)
    made.run_plan(ledger, study, small_plan(), made.MEANS, "gc@layer4")
    page = told(ledger, study.id)[0]
    assert (f"Training steps of all runs {sentence}" in page) == bool(sentence)
    assert ("Training steps of all runs" in page) == bool(sentence)


def test_equal_arms_keep_their_rows(ledger: Ledger, tmp_path: Path) -> None:
    study, plan = made.open_study(ledger), small_plan()
    arms = [
        Arm("capacity of gc@layer4", "capacity", made.config(), of="gc@layer4", equals="baseline")
        if arm.kind == "capacity"
        else arm
        for arm in sorted(plan.arms, key=lambda arm: arm.kind == "capacity")
    ]
    plan = replace(plan, arms=tuple(arms))
    made.run_plan(ledger, study, plan, made.MEANS, "gc@layer4")
    for row in ledger.trials(study.id):  # the same runs, at the places of the equal arm
        if row.arm == "baseline":
            place = {"role": "confirm", "arm": "capacity of gc@layer4", "number": row.number}
            ledger.attach(study.id, row.id, Place(**place))
    page, tables = told(ledger, study.id)
    assert "the runs of baseline" in page and "Not used here" not in page
    frame = tables["arms"].set_index("arm")
    assert frame.loc["baseline", "mean"] == frame.loc["capacity of gc@layer4", "mean"]
    assert tables["runs"]["counts"].all() and len(tables["runs"]) == 20
    assert "All 15 planned runs" in page


def test_folds_are_averaged_over_seeds(ledger: Ledger, tmp_path: Path) -> None:
    folds = (0, 1, 2, 3, 4)
    seeds = made.CONFIRM_SEEDS[:2]
    plan = small_plan(seeds=seeds, folds=folds, nesting="development")
    data = {"source": "x", "image_size": 16, "folds": 5, "groups": "p.csv"}
    study = made.open_study(ledger, data=data)
    plan = replace(plan, arms=plan.arms[:2], contrasts=plan.contrasts[:1])
    row = ledger.store_plan(study.id, plan)
    for arm in plan.arms:
        scores = made.spread(arm.label, 10, made.MEANS[arm.label])
        groups = np.array([f"p{i // 3}" for i in range(made.IMAGES)])
        made.run_arm(ledger, study, plan, arm.label, scores, more={"groups": groups})
    ledger.open_test("test1", row.id)
    (act,) = collect_study(ledger, study.id).acts
    first = act.find("gc@layer4")
    by_fold = np.array([run.score for run in first.runs], float).reshape(5, 2).mean(1)
    assert first.summary is not None and first.summary.n == 5
    assert first.summary.mean == pytest.approx(by_fold.mean())
    assert first.summary.sd == pytest.approx(by_fold.std(ddof=1))
    page = told(ledger, study.id)[0]
    assert "Nadeau and Bengio" in page and "80 groups (patients)" in page
    assert "Images of one group never stand in two parts of the data." in page


def test_the_dice_of_each_image_widens_the_scope_to_new_patients(ledger: Ledger) -> None:
    """Three images a patient: with as many each, a patient's value is the mean of its images."""
    plan = small_plan(seeds=made.CONFIRM_SEEDS[:3], metric="dice")
    plan = replace(plan, arms=plan.arms[:2], contrasts=plan.contrasts[:1])
    study = made.open_study(ledger, task="segmentation")
    row = ledger.store_plan(study.id, plan)
    draws = np.random.default_rng(0)
    names = np.array([f"test/{i:02d}.png" for i in range(60)])
    groups = np.array([f"p{i // 3:02d}" for i in range(60)])
    patient = draws.normal(0, 0.05, 20).repeat(3)  # how much each gains by the block
    dice = {}
    for arm in plan.arms:
        role, name = plan.place(arm.label)
        gain = 0.03 + patient if arm.label == "gc@layer4" else 0
        for number, seed in enumerate(plan.seeds):
            said = (0.7 + gain + draws.normal(0, 0.02, 60)).clip(0, 1)
            dice[arm.label, seed] = said
            claimed = ledger.claim(
                Request(
                    f"{name} {seed}",
                    config=arm.config,
                    seed=seed,
                    epochs=plan.epochs,
                    study_id=study.id,
                )
            )
            ledger.attach(study.id, claimed.run_id, Place(number=number, role=role, arm=name))
            arrays = {"names": names, "dice": said, "groups": groups}
            ledger.finish(
                claimed.run_id,
                Ending("finished", metrics={"val_dice": float(said.mean())}),
                predictions={"val": arrays},
            )
            ledger.add_test(claimed.run_id, {"test_dice": float(said.mean())}, arrays)
    ledger.freeze_winner(row.id, "gc@layer4", [("gc@layer4", 0.73)])
    ledger.open_test("test1", row.id)
    ledger.set_plan_state(row.id, "finished")
    page, tables = told(ledger, study.id)
    (contrast,) = tables["contrasts"].to_dict("records")
    gains = np.array([dice["gc@layer4", seed] - dice["baseline", seed] for seed in plan.seeds])
    gains = gains.reshape(3, 20, 3).mean(2)
    means = gains.mean(1)
    assert contrast["difference"] == pytest.approx(means.mean())
    seeds, patients = 20 * means.var(ddof=1), 3 * gains.mean(0).var(ddof=1)
    rest = gains - means[:, None] - gains.mean(0) + gains.mean()
    rest = (rest**2).sum() / (2 * 19)
    spread = math.sqrt((seeds + patients - rest) / 60)
    half = stats.t.ppf(0.975, contrast["new_patients_df"]) * spread
    assert contrast["new_patients_cases"] == 20
    assert contrast["new_patients_low"] == pytest.approx(means.mean() - half)
    assert contrast["new_patients_high"] == pytest.approx(means.mean() + half)
    assert half > (contrast["high"] - contrast["low"]) / 2
    assert "Dice" in page and "For new patients (20 here) and other seeds" in page
    assert "Masks are compared at the images' own size." in page


# ---- command line ----


def test_the_command_writes_and_tells(
    confirmed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ATTNSEARCH_LEDGER", str(confirmed))
    monkeypatch.chdir(tmp_path)
    assert call(["report", "made", "--format", "md,csv", "--to", "here/there"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("- gc@layer4 helps: better than the baseline")
    files = {path.name for path in (tmp_path / "here" / "there").iterdir()}
    assert files == {"report.md", "report.csv", "report-arms.csv", "report-contrasts.csv"}

    assert call(["report", "made", "--format", "pdf"]) == 2
    assert "'pdf'" in capsys.readouterr().err
    assert call(["report", "nothing"]) == 2
    with Ledger(confirmed) as ledger, pytest.raises(ReportError, match="written"):
        write_report(ledger, 1, confirmed / "x", ["md"])


def test_one_contrast_by_hand(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A direction of ``min`` keeps the sign and turns the verdict."""
    monkeypatch.setattr(collect, "has_learned", lambda *_, **__: True)  # its accuracies are high
    plan = small_plan()
    plan = replace(
        plan,
        arms=(plan.arms[0], plan.arms[1]),
        contrasts=(Contrast("family", "one", ("gc@layer4",), ("baseline",)),),
        direction="min",
    )
    study = made.open_study(ledger)
    made.run_plan(ledger, study, plan, made.MEANS, "gc@layer4")
    (row,) = report("made", ledger)["contrasts"].to_dict("records")
    assert row["difference"] > 0 and row["verdict"] == "worse"


def test_tables_by_name_are_those_of_the_whole(finished: Path) -> None:
    with Ledger(finished / "attnsearch.db") as ledger:
        result = collect_study(ledger, 1)
    every, some = study_frames(result), study_frames(result, "arms", "runs")
    assert list(some) == ["arms", "runs"] and len(every) == 7
    for name, frame in some.items():
        pd.testing.assert_frame_equal(frame, every[name])
