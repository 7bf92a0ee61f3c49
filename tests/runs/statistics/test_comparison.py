import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from attnsearch.runs.statistics.comparison import Comparison, compare
from attnsearch.runs.statistics.measured import Measured, summarise
from attnsearch.runs.statistics.plan import Arm, Contrast, Plan
from attnsearch.runs.statistics.power import detectable
from attnsearch.runs.statistics.verdicts import verdict_text

NOISE = np.array([0.004, -0.006, 0.001, 0.005, -0.004, 0.003, -0.002, -0.001])


def plan(n: int, others: Sequence[str] = (), **settings: Any) -> Plan:
    """Candidate `gc`, and others, against `baseline` on n seeds."""
    names = ("gc", *others)
    return Plan(
        act="confirm",
        name="confirm",
        arms=(Arm("baseline", "baseline", {}), *(Arm(name, "candidate", {}) for name in names)),
        contrasts=tuple(
            Contrast("family", f"{name} - baseline", (name,), ("baseline",)) for name in names
        ),
        seeds=tuple(range(100, 100 + n)),
        **{
            "epochs": 6,
            "metric": "accuracy",
            "direction": "max",
            "part": "test",
            **settings,
        },
    )


def runs(scores: Sequence[float | None]) -> list[Measured]:
    return [
        Measured(None, 100 + i, None if score is None else float(score))
        for i, score in enumerate(scores)
    ]


def one(n: int, gain: float, noise: float = 1.0, **settings: Any) -> Comparison:
    """A study of one candidate that is better by `gain` on n seeds."""
    told = {name: settings.pop(name) for name in ("confirmatory", "look") if name in settings}
    told = {"confirmatory": True, "look": 1, **told}
    steady = 0.9 + NOISE[::-1][:n]
    scores = {"baseline": runs(steady), "gc": runs(steady + gain + noise * NOISE[:n])}
    return compare(plan(n, **settings), scores, **told)[0]


def test_a_comparison_says_what_scipy_says() -> None:
    a = np.array([0.91, 0.93, 0.92, 0.95, 0.90])
    b = np.array([0.90, 0.90, 0.91, 0.92, 0.89])
    c = np.array([0.90, 0.89, 0.92, 0.91, 0.93])
    scores = {"gc": runs(a), "psa": runs(c), "baseline": runs(b)}
    found, other = compare(plan(5, ["psa"]), scores, confirmatory=True, look=1)
    test = stats.ttest_rel(a, b)
    assert found.p == pytest.approx(test.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert (found.simultaneous_low, found.simultaneous_high) == pytest.approx(
        tuple(test.confidence_interval(0.975))
    )
    assert found.p_adjusted == pytest.approx(2 * test.pvalue)
    assert other.p_adjusted == pytest.approx(stats.ttest_rel(c, b).pvalue)
    assert found.differences == pytest.approx(tuple(a - b))
    assert found.difference == pytest.approx((a - b).mean())
    assert found.sd == pytest.approx((a - b).std(ddof=1))
    assert found.correlation == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert found.detectable == pytest.approx(detectable(5, (a - b).std(ddof=1), m=2))
    assert (found.n, found.df, found.tests, found.against) == (5, 4, 2, "baseline")
    assert found.permutation_p is None  # 2^-4 > 0.05 / 2
    assert (found.verdict, other.verdict) == ("better", "not distinguishable")


@pytest.mark.parametrize(
    ("n", "gain", "settings", "verdict"),
    [
        (8, 0.02, {}, "better"),
        (8, -0.02, {}, "worse"),
        (8, -0.02, {"direction": "min"}, "better"),
        (8, 0.02, {"direction": "min"}, "worse"),
        (8, 0.0, {}, "not distinguishable"),
        (8, 0.0, {"margin": 0.02}, "equivalent"),
        (8, 0.0, {"margin": 0.001}, "not distinguishable"),
        (8, 0.02, {"margin": 0.05}, "better, but negligible"),
        (8, 0.02, {"smallest_effect": 0.05}, "better, but negligible"),
        (8, 0.02, {"smallest_effect": 0.01}, "better"),
        (8, 0.0, {"smallest_effect": 0.05}, "not distinguishable"),
        (8, -0.02, {"margin": 0.05}, "worse"),
        (5, 0.02, {}, "better"),
        (4, 0.05, {}, "suggestive"),
        (4, 0.0, {"margin": 0.05}, "not distinguishable"),
        (3, 0.05, {}, "suggestive"),
        (3, 0.0, {}, "not distinguishable"),
        (2, 0.05, {}, "descriptive"),
        (1, 0.05, {}, "no verdict"),
        (8, 0.02, {"confirmatory": False, "look": 3}, "suggestive"),
        (8, -0.02, {"confirmatory": False, "look": 3}, "suggestive"),
        (8, 0.0, {"confirmatory": False, "look": 3, "margin": 0.02}, "not distinguishable"),
    ],
)
def test_verdicts(n: int, gain: float, settings: dict[str, Any], verdict: str) -> None:
    found = one(n, gain, **settings)
    assert found.verdict == verdict
    assert found.reason


def test_what_stands_beside_a_verdict() -> None:
    assert one(8, 0.02, confirmatory=False, look=3).reason == "better, but exploratory (look 3)"
    assert one(3, -0.05).reason == "worse, but 3 seeds only"
    assert one(3, -0.05).favours == "worse"
    assert one(8, 0.0).favours is None
    assert verdict_text("equivalent", "1.0 points") == "equivalent within ±1.0 points"
    assert verdict_text("better", "1.0 points") == "better"


@pytest.mark.parametrize(("n", "interval"), [(1, False), (2, False), (3, True)])
def test_below_three_pairs_there_is_no_test(n: int, interval: bool) -> None:
    found = one(n, 0.05)
    tested = (found.low, found.p, found.p_adjusted, found.simultaneous_low, found.detectable)
    assert [value is not None for value in tested] == [interval] * 5
    assert found.difference is not None
    assert (found.sd is None) == (n == 1)


def test_pairs_without_variance_get_no_test() -> None:
    same = one(5, 0.0, noise=0.0)
    assert (same.verdict, same.p, same.difference) == ("identical", None, 0.0)
    assert (same.low, same.high) == (0.0, 0.0)
    shifted = one(5, 0.1, noise=0.0)  # every pair differs by a tenth, but for rounding
    assert (shifted.verdict, shifted.p) == ("no verdict", None)
    assert "same amount" in shifted.reason


def test_sign_flips_where_they_can_reach_the_level() -> None:
    found = one(8, 0.02)
    assert found.permutation_p == 2**-7
    assert one(5, 0.02).permutation_p is None


def test_a_failed_run_stays_in_the_denominator() -> None:
    steady = 0.9 + NOISE[:6]
    gains = [*(steady[:5] + 0.02 + NOISE[2:7]), None]
    fine = steady + 0.02 - NOISE[2:8]
    scores = {"baseline": runs(steady), "gc": runs(gains), "psa": runs(fine)}
    failed, other = compare(plan(6, ["psa"]), scores, confirmatory=True, look=1)
    assert (failed.verdict, failed.failed, failed.n, failed.p) == ("no verdict", 1, 5, None)
    assert failed.difference == pytest.approx(np.mean(0.02 + NOISE[2:7]))
    assert failed.reason == "1 run failed or missing"
    assert other.p is not None
    assert other.p_adjusted == pytest.approx(2 * other.p)  # the family keeps its size
    nothing = compare(plan(6), {"baseline": runs(steady)}, confirmatory=True)[0]
    assert (nothing.verdict, nothing.failed, nothing.n) == ("no verdict", 6, 0)
    assert nothing.difference is None


def test_seeds_added_after_looking_void_every_verdict() -> None:
    steady = 0.9 + NOISE
    scores = {"baseline": runs(steady), "gc": runs(steady + 0.02 + NOISE[::-1])}
    found = compare(plan(8), scores, confirmatory=True, look=1, added_seeds=True)[0]
    assert (found.verdict, found.p) == ("no verdict", None)
    assert found.reason == "seeds were added after looking"


def test_an_arm_that_equals_another_uses_its_runs() -> None:
    arms = (Arm("baseline", "baseline", {}), Arm("gc", "candidate", {}))
    capacity = Arm("capacity", "capacity", {}, of="gc", equals="baseline")
    against = (Contrast("controls", "gc - capacity", ("gc",), ("capacity",)),)
    both = dataclasses.replace(
        plan(5), arms=(*arms, capacity), contrasts=plan(5).contrasts + against
    )
    scores = {"baseline": runs(0.9 + NOISE[:5]), "gc": runs(0.95 - NOISE[:5])}
    first, second = compare(both, scores, confirmatory=True, look=1)
    assert second.against == "capacity"
    assert (second.p, second.difference) == (first.p, first.difference)


def test_an_interaction_is_a_difference_of_differences() -> None:
    random = np.random.default_rng(0)
    values = {name: random.normal(0.9, 0.01, 5) for name in ("AB", "A", "B", "nothing")}
    kinds = {"AB": "reference"}
    crossed = dataclasses.replace(
        plan(5),
        arms=tuple(Arm(name, kinds.get(name, "variant"), {}) for name in values),
        contrasts=(Contrast("interactions", "A x B", ("AB", "nothing"), ("A", "B")),),
    )
    scores = {name: runs(row) for name, row in values.items()}
    found = compare(crossed, scores, confirmatory=True)[0]
    gain_of_a_with_b = values["AB"] - values["B"]
    gain_of_a_alone = values["A"] - values["nothing"]
    assert found.p == pytest.approx(stats.ttest_rel(gain_of_a_with_b, gain_of_a_alone).pvalue)
    assert found.against == "interaction"


def test_with_a_margin_both_kinds_of_test_share_a_family() -> None:
    found = one(8, 0.0, margin=0.02)
    assert found.tests == 2
    assert found.p is not None and found.equivalence_p is not None
    assert found.equivalence_p_adjusted == pytest.approx(2 * found.equivalence_p)
    assert found.p_adjusted == pytest.approx(found.p)


def folded(values: np.ndarray, secondary: float | None = None) -> list[Measured]:
    """(folds, seeds) scores as runs."""
    return [
        Measured(
            j, 100 + s, float(score), secondary={} if secondary is None else {"nll": secondary}
        )
        for j, row in enumerate(values)
        for s, score in enumerate(row)
    ]


def test_folds_average_their_seeds_and_widen_the_interval() -> None:
    random = np.random.default_rng(3)
    a, b = random.normal(0.9, 0.01, (2, 5, 2))
    crossed = plan(2, folds=(0, 1, 2, 3, 4), nesting="nested")
    scores = {"gc": folded(a + 0.03), "baseline": folded(b)}
    found = compare(crossed, scores, confirmatory=True, look=1, test_to_train=1 / 3)[0]
    d = a.mean(1) + 0.03 - b.mean(1)
    error = np.sqrt((1 / 5 + 1 / 3) * d.var(ddof=1))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(d.mean() / error), 4))
    assert (found.n, found.df, found.scope) == (5, 4, "new data of this size")
    assert found.permutation_p is None
    arm = summarise(crossed, "gc", scores["gc"], test_to_train=1 / 3)
    assert (arm.n, arm.mean) == (5, pytest.approx((a + 0.03).mean()))
    with pytest.raises(ValueError, match="n_test / n_train"):
        compare(crossed, scores, confirmatory=True)


def test_folds_that_exploring_has_seen_get_no_verdict() -> None:
    values = np.random.default_rng(3).normal(0.9, 0.01, (5, 1))
    seen = plan(1, folds=(0, 1, 2, 3, 4), nesting="not nested")
    scores = {"gc": folded(values + 0.1), "baseline": folded(values[::-1])}
    found = compare(seen, scores, confirmatory=True, look=1, test_to_train=0.25)[0]
    assert (found.verdict, found.p) == ("no verdict", None)
    assert found.reason.startswith("not nested")


def test_both_scopes_and_the_secondary_metrics() -> None:
    random = np.random.default_rng(5)
    right = {"gc": random.random((5, 60)) < 0.9, "baseline": random.random((5, 60)) < 0.7}
    scores = {
        name: [
            Measured(
                None, 100 + s, float(row.mean()), row.astype(float), {"nll": 0.1 * s * factor}
            )
            for s, row in enumerate(rows)
        ]
        for factor, (name, rows) in enumerate(right.items(), start=1)
    }
    found = compare(plan(5), scores, confirmatory=True, look=1)[0]
    assert found.scope == "this test set"
    assert found.new_patients is not None
    assert found.new_patients.value == pytest.approx(found.difference)
    assert found.new_patients.cases == 60
    nll = found.secondary["nll"]
    expected = stats.ttest_1samp([-0.1 * s for s in range(5)], 0).confidence_interval(0.95)
    assert (nll.low, nll.high) == pytest.approx((expected.low, expected.high))
    scores["gc"][0] = dataclasses.replace(scores["gc"][0], cases=np.ones(59))
    with pytest.raises(ValueError, match="same patients"):
        compare(plan(5), scores, confirmatory=True, look=1)


def test_an_arm_by_itself() -> None:
    values = 0.9 + NOISE[:5]
    found = summarise(plan(6), "gc", runs([*values, None]))
    assert (found.n, found.failed) == (5, 1)
    assert (found.mean, found.sd) == pytest.approx((values.mean(), values.std(ddof=1)))
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(expected))
    assert summarise(plan(2), "gc", runs([0.9, 0.8])).interval is None
    assert summarise(plan(2), "gc", []).mean is None
