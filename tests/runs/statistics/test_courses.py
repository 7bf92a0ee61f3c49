"""Contrasts that are settled before the last seed, and what is said of them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from attnsearch.runs.statistics.comparison import Comparison, compare
from attnsearch.runs.statistics.courses import follow, seeds_wanted
from attnsearch.runs.statistics.interim import interim_analyses
from attnsearch.runs.statistics.measured import Measured
from attnsearch.runs.statistics.paired import paired_t
from attnsearch.runs.statistics.plan import Plan
from benchmarks import sequential
from benchmarks.simulated_studies import study_plan

GAINS = {"baseline": 0.0, "good": 0.2, "bad": -0.2, "same": 0.0}
SEEDS = 20


def plan(**changes: object) -> Plan:
    made = study_plan([name for name in GAINS if name != "baseline"], SEEDS)
    return replace(made, interim=interim_analyses(5, SEEDS), **changes)  # type: ignore[arg-type]


def scores(counts: Mapping[str, int] | int = SEEDS) -> dict[str, list[Measured]]:
    """Scores of each arm on its first seeds."""
    draws = np.random.default_rng(5).normal(0.7, 0.02, (len(GAINS), SEEDS))
    return {
        label: [
            Measured(None, seed, float(own[seed] + gain))
            for seed in range(counts if isinstance(counts, int) else counts[label])
        ]
        for (label, gain), own in zip(GAINS.items(), draws, strict=True)
    }


def by_arm(comparisons: list[Comparison]) -> dict[str, Comparison]:
    return {c.plus[0]: c for c in comparisons}


def test_arms_are_asked_for_no_more_seeds_than_they_need() -> None:
    wanted, asked = dict.fromkeys(GAINS, 5), []
    while wanted != (asked[-1] if asked else None):
        asked.append(wanted)
        wanted = seeds_wanted(plan(), follow(plan(), scores(wanted)))
    assert asked[0] == dict.fromkeys(GAINS, 5)
    last = asked[-1]
    assert last["good"] == last["bad"] == 5 < last["same"] == last["baseline"] < SEEDS
    # More results than were asked for change nothing.
    few, all_ = (
        [(c.analysis, c.settled) for c in follow(plan(), scores(n))] for n in (last, SEEDS)
    )
    assert few == all_ and None not in {why for _, why in few}


def test_a_settled_contrast_stays_as_its_analysis_left_it() -> None:
    said = by_arm(compare(plan(), scores(), confirmatory=True, look=1))
    assert (said["good"].verdict, said["bad"].verdict) == ("better", "worse")
    assert said["good"].n == 5 and said["good"].analysis == 1 and said["good"].df == 4
    same = said["same"]
    assert same.verdict == "not distinguishable" and same.settled == "futile"
    assert same.reason.startswith(f"given up as futile, {same.n} seeds")
    # Its p counts for all analyses, and its intervals have the level that the analysis spends.
    share = interim_analyses(5, SEEDS).shares[0]
    pairs = paired_t(np.array(said["good"].differences))
    assert said["good"].p == pytest.approx(min(float(pairs.p()) / share, 1))
    assert said["good"].low == pytest.approx(float(pairs.interval(1 - 0.05 * share)[0]))
    simultaneous = pairs.interval(1 - 0.05 / 3 * share)[0]
    assert said["good"].simultaneous_low == pytest.approx(float(simultaneous))
    assert all(c.permutation_p is None for c in said.values())


def test_the_lower_may_be_the_better() -> None:
    said = by_arm(compare(plan(direction="min"), scores(), confirmatory=True, look=1))
    assert (said["good"].settled, said["good"].verdict) == ("worse", "worse")
    assert (said["bad"].settled, said["bad"].verdict) == ("better", "better")


def test_a_failed_run_settles_its_contrast_without_a_verdict() -> None:
    measured = scores()
    measured["same"][2] = Measured(None, 2, None)
    said = by_arm(compare(plan(), measured, confirmatory=True, look=1))
    assert said["same"].settled == "a run failed" and said["same"].verdict == "no verdict"
    assert said["same"].analysis == 1 and said["good"].verdict == "better"


def test_equal_scores_settle_a_contrast() -> None:
    measured = scores()
    measured["same"] = measured["baseline"]
    said = by_arm(compare(plan(), measured, confirmatory=True, look=1))
    assert (said["same"].settled, said["same"].verdict) == ("no variance", "identical")


def test_equivalence_settles_a_contrast() -> None:
    said = by_arm(compare(plan(margin=0.06), scores(), confirmatory=True, look=1))
    assert (said["same"].settled, said["same"].verdict) == ("equivalent", "equivalent")
    assert said["same"].n < SEEDS


def test_plans_without_analyses_say_what_they_said() -> None:
    fixed = replace(plan(), interim=None)
    assert "interim" not in fixed.to_document()
    assert Plan.from_document(plan().to_document()) == plan()
    said = compare(fixed, scores(), confirmatory=True, look=1)
    assert {c.n for c in said} == {SEEDS} and {c.settled for c in said} == {None}


@pytest.mark.parametrize("margin", [None, 0.018])
def test_the_benchmark_decides_as_the_product_does(margin: float | None) -> None:
    drawn, _ = sequential.planted(np.random.default_rng(3), 12, 12)
    planned = study_plan(list(sequential.KINDS), 20, margin=margin, smallest_effect=0.002)
    planned = replace(planned, interim=sequential.GROUPED)
    followed = sequential.follow(drawn, sequential.DESIGNS[1], smallest=0.002, margin=margin)
    for study, own in enumerate(drawn):
        measured = {
            arm.label: [Measured(None, seed, float(row[seed])) for seed in planned.seeds]
            for arm, row in zip(planned.arms, own, strict=True)
        }
        for arm, c in enumerate(compare(planned, measured, confirmatory=True, look=1)):
            assert c.settled == (followed.verdicts[study, arm] or "last analysis")
            assert c.n == followed.seeds[study, arm]
            assert c.low == pytest.approx(followed.low[study, arm], abs=1e-12)


def test_error_rates_are_held_and_runs_are_saved() -> None:
    """A tenth of the studies of `benchmarks/sequential.py`."""
    rng, design = np.random.default_rng(6), sequential.DESIGNS[1]
    saved = []
    for n in (5, 8):
        drawn, effects = sequential.planted(rng, 2_000, n)
        result = sequential.follow(drawn, design)
        good, bad = sequential.found(result)
        assert min(good, bad) >= 0.97
        covered = (result.low <= effects) & (effects <= result.high)
        assert covered.mean() >= 0.95
        saved.append(1 - result.runs.mean() / 80)
    assert sum(saved) / 2 >= 0.4
    for form in ("normal", "skewed", "unequal"):
        null = sequential.arm_scores(rng, 2_000, 5, 20, form)
        verdicts = sequential.follow(null, design).verdicts
        assert np.isin(verdicts, ["better", "worse"]).any(1).mean() < 0.06
        same = sequential.arm_scores(rng, 4_000, 2, 20, form)
        assert np.mean(sequential.follow(same, design).verdicts == "better") <= 0.03
