"""Studies of which arms stop once their verdict is settled: runs saved, and error rates kept.

    python -m benchmarks.sequential [--studies 20000] [--only coverage]

prints the tables on `confirm.seeds: {min: 5, max: 20}` in docs/statistics.md, in two or three
minutes on one core. Studies are simulated with known truth, as in `simulated_studies.py`.
Analyses, levels and futility are the product's, and tests hold the decisions against its own.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from attnsearch.runs.statistics.interim import Interim, interim_analyses
from attnsearch.runs.statistics.paired import Floats, paired_t
from attnsearch.runs.statistics.power import detectable, pair_sd
from benchmarks.simulated_studies import FORMS, SPREAD, arm_scores

LEAST, MOST, ALPHA = 5, 20, 0.05
GROUPED = interim_analyses(LEAST, MOST)
FIXED = Interim((MOST,), (1.0,))
KINDS = ("good", "bad", "null")
PRIOR = 1.0  # variance of the standardised effect that the anytime-valid test mixes over


@dataclass(frozen=True)
class Design:
    """How a study is followed.

    Attributes:
        name: Of its row.
        interim: When it is analysed, and what of alpha each analysis spends.
        anytime: Whether the test is an e-process, which holds at any number of seeds.
        gives_up: Whether futile arms stop.
    """

    name: str
    interim: Interim
    anytime: bool = False
    gives_up: bool = True


DESIGNS = (
    Design(f"fixed, {MOST} seeds", FIXED),
    Design("grouped", GROUPED),
    Design("grouped, none given up", GROUPED, gives_up=False),
    Design("anytime-valid, every seed", Interim(tuple(range(LEAST, MOST + 1)), ()), anytime=True),
)


@dataclass(frozen=True)
class Followed:
    """Many studies of m candidates and their baseline, followed to their ends.

    Attributes:
        verdicts: (studies, m), `better`, `worse`, `equivalent`, `futile` or empty.
        seeds: (studies, m), of each candidate.
        runs: (studies,), of all arms; the baseline goes on as long as a candidate does.
        difference: (studies, m), at the end.
        low: (studies, m), lower end of its interval at 1 - alpha, not adjusted over the family.
        high: (studies, m), its upper end.
        within: (studies, m), whether the test finds the difference within the margin.
    """

    verdicts: NDArray[np.str_]
    seeds: NDArray[np.int64]
    runs: NDArray[np.int64]
    difference: Floats
    low: Floats
    high: Floats
    within: NDArray[np.bool_]


def follow(
    scores: Floats, design: Design, *, smallest: float | None = None, margin: float | None = None
) -> Followed:
    """Follow studies: arms stop when their contrast with the first arm, the baseline, is settled.

    Args:
        scores: (studies, arms, seeds).
        design: How.
        smallest: The smallest difference that matters.
        margin: Of equivalence, which is then tested in the same family.
    """
    differences = scores[:, 1:] - scores[:, :1]
    shape = differences.shape[:2]
    tests = shape[1] * (1 if margin is None else 2)
    p_values, equal = np.ones(shape), np.ones(shape)
    open_, verdicts = np.ones(shape, bool), np.full(shape, "", "U10")
    seeds = np.zeros(shape, np.int64)
    ends = np.zeros((3, *shape))
    interim = design.interim
    if design.anytime:  # what its last seed asks of t, as a share of the level
        limit = _anytime_limit(interim.sizes[-1], ALPHA / tests)
        share = 2 * stats.t.sf(limit, interim.sizes[-1] - 1) * tests / ALPHA
        interim = replace(interim, shares=(float(share),) * len(interim.sizes))
    for number, n in enumerate(interim.sizes):
        result, share = paired_t(differences[..., :n]), interim.shares[number]
        p = _anytime_p(result.difference / result.error, n) if design.anytime else result.p()
        p_values = np.where(open_, p if design.anytime else np.minimum(p / share, 1), p_values)
        together = p_values
        if margin is not None:
            equal = np.where(open_, np.minimum(result.equivalence_p(margin) / share, 1), equal)
            together = np.concatenate([p_values, equal], axis=1)
        small = _holm(together) <= ALPHA
        said = np.where(result.difference > 0, "better", "worse")
        now = np.where(small[:, : shape[1]], said, "")
        if margin is not None:
            now = np.where((now == "") & small[:, shape[1] :], "equivalent", now)
        if design.gives_up and n < interim.sizes[-1]:
            hopeless = interim.is_hopeless(result, ALPHA / tests, smallest, margin)
            now = np.where((now == "") & hopeless, "futile", now)
        settled = open_ & ((now != "") | (n == interim.sizes[-1]))
        half = stats.t.isf(ALPHA * share / 2, n - 1) * result.error
        if design.anytime:
            half = _anytime_limit(n, ALPHA) * result.error
        for end, value in zip(ends, (0.0, -half, half), strict=True):
            end[settled] = (result.difference + value)[settled]
        verdicts[settled], seeds[settled] = now[settled], n
        open_ &= ~settled
    within = small[:, shape[1] :] if margin is not None else np.zeros(shape, bool)
    return Followed(verdicts, seeds, seeds.sum(1) + seeds.max(1), *ends, within)


def _holm(p_values: Floats) -> Floats:
    """Return Holm's adjustment of families (studies, m)."""
    m = p_values.shape[1]
    order = np.argsort(p_values, axis=1)
    steps = np.take_along_axis(p_values, order, axis=1) * (m - np.arange(m))
    adjusted = np.empty_like(steps)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(steps, axis=1), axis=1)
    return np.minimum(adjusted, 1)


def _anytime_p(t: Floats, n: int) -> Floats:
    """Return 1 / e of the t-test's e-process (Hendriksen, de Heide and Gruenwald, 2021).

    A Bayes factor with a normal prior on the standardised effect and the right Haar prior on the
    standard deviation.
    """
    df, grown = n - 1, 1 + n * PRIOR
    log_e = (np.log1p(t**2 / df) - np.log1p(t**2 / (df * grown))) * n / 2 - math.log(grown) / 2
    return np.asarray(np.minimum(np.exp(-log_e), 1))


def _anytime_limit(n: int, level: float) -> float:
    """Return the |t| at which `_anytime_p` is `level`; infinite where no t reaches it."""
    df, grown = n - 1, 1 + n * PRIOR
    ratio = (math.sqrt(grown) / level) ** (2 / n)
    return math.sqrt(df * (ratio - 1) / (1 - ratio / grown)) if ratio < grown else math.inf


def planted(
    rng: np.random.Generator, studies: int, n: int, correlation: float = 0.0
) -> tuple[Floats, Floats]:
    """Return scores of a baseline, a good, a bad and a null arm, and the true differences.

    Those are what n seeds find with 80 % power, as in the table of planted arms in
    docs/statistics.md.
    """
    effect = detectable(n, pair_sd(SPREAD, correlation), m=len(KINDS))
    effects = np.array([effect, -effect, 0.0])
    scores = arm_scores(rng, studies, 1 + len(KINDS), MOST, correlation=correlation)
    scores[:, 1:] += effects[:, None]
    return scores, effects


def found(followed: Followed) -> tuple[float, float]:
    """Return how often the good arm is `better` and the bad one `worse`."""
    good, bad, _ = followed.verdicts.T
    return float(np.mean(good == "better")), float(np.mean(bad == "worse"))


def as_strong(scores: Floats, power: float) -> int:
    """Return the seeds of a fixed plan that finds the good arm that often, to half a point."""
    for n in range(3, MOST):
        fixed = Design("", Interim((n,), (1.0,)))
        if found(follow(scores[..., :n], fixed))[0] >= power - 0.005:
            return n
    return MOST


Row = tuple[str, ...]
Table = Callable[[np.random.Generator, int], list[Row]]


def runs_saved(rng: np.random.Generator, studies: int) -> list[Row]:
    """Compare designs on planted arms; the mixture is the effects of n = 5 and 8 alike."""
    rows = []
    whole = (1 + len(KINDS)) * MOST
    sets = {n: planted(rng, studies, n) for n in (5, 8, MOST)}
    for design in DESIGNS:
        for n, (scores, _) in sets.items():
            result = follow(scores, design)
            good, bad = found(result)
            null = float(np.isin(result.verdicts[:, 2], ["better", "worse"]).mean())
            saved = 1 - result.runs.mean() / whole
            equal = as_strong(scores[: min(studies, 4000)], good)
            rows.append(
                (
                    design.name,
                    f"n = {n}",
                    f"{saved:.1%}",
                    " / ".join(f"{mean:.1f}" for mean in result.seeds.mean(0)),
                    *(f"{share:.1%}" for share in (good, bad, null)),
                    f"{equal}",
                )
            )
    return rows


def with_margin(rng: np.random.Generator, studies: int) -> list[Row]:
    """Compare designs where equivalence is tested; a margin of 5 spreads is that of the docs."""
    rows = []
    for spreads in (5, 2):
        margin = spreads * SPREAD
        scores = arm_scores(rng, studies, 4, MOST)
        scores[:, 1:] += np.array([0.0, margin, 3 * margin])[:, None]
        for design in DESIGNS[:3]:
            result = follow(scores, design, margin=margin)
            none, _, far = result.verdicts.T
            shares = (none == "equivalent", result.within[:, 1], far == "better")
            rows.append(
                (
                    design.name,
                    f"{spreads} spreads",
                    f"{1 - result.runs.mean() / (4 * MOST):.1%}",
                    *(f"{share.mean():.1%}" for share in shares),
                )
            )
    return rows


def family_error(rng: np.random.Generator, studies: int) -> list[Row]:
    """Give any false finding in a family of four candidates that are no better."""
    rows = []
    for form in FORMS:
        for correlation in (0.0, 0.5):
            scores = arm_scores(rng, studies, 5, MOST, form, correlation)
            results = [follow(scores, design) for design in DESIGNS]
            wrong = [np.isin(r.verdicts, ["better", "worse"]).any(1).mean() for r in results]
            rows.append((f"{form}, {correlation}", *(f"{share:.1%}" for share in wrong)))
    for true in (1, 2, 3):
        scores = arm_scores(rng, studies, 5, MOST)
        scores[:, 1 : 1 + true] += 5 * SPREAD
        results = [follow(scores, design) for design in DESIGNS]
        wrong = [np.isin(r.verdicts[:, true:], ["better", "worse"]).any(1).mean() for r in results]
        rows.append((f"{true} of four truly better", *(f"{share:.1%}" for share in wrong)))
    return rows


def coverage(rng: np.random.Generator, studies: int) -> list[Row]:
    """Give how often the interval at the end of an arm holds the truth, planted or none."""
    rows = []
    for form in FORMS:
        for correlation in (0.0, 0.5):
            cells = []
            for design in (DESIGNS[0], DESIGNS[1], DESIGNS[3]):
                scores = arm_scores(rng, studies, 4, MOST, form, correlation)
                effect = detectable(8, pair_sd(SPREAD, correlation), m=3)
                effects = np.array([effect, -effect, 0.0])
                result = follow(scores + np.array([0.0, *effects])[:, None], design)
                held = (result.low <= effects) & (effects <= result.high)
                cells.append(" / ".join(f"{share:.1%}" for share in held.mean(0)))
            rows.append((f"{form}, {correlation}", *cells))
    return rows


def same_arm(rng: np.random.Generator, studies: int) -> list[Row]:
    """Give how often the baseline under other initial streams is called better."""
    rows = []
    for form in FORMS:
        for correlation in (0.0, 0.5):
            scores = arm_scores(rng, studies, 2, MOST, form, correlation)
            shares = [np.mean(follow(scores, d).verdicts == "better") for d in DESIGNS]
            rows.append((f"{form}, {correlation}", *(f"{share:.1%}" for share in shares)))
    return rows


def bias(rng: np.random.Generator, studies: int) -> list[Row]:
    """Give by how much the difference at the end is off, as a share of the true one."""
    rows = []
    for n in (5, 8, MOST):
        scores, effects = planted(rng, studies, n)
        for design in DESIGNS[:2]:
            result = follow(scores, design)
            good, n_good = result.difference[:, 0] / effects[0] - 1, result.seeds[:, 0]
            better = result.verdicts[:, 0] == "better"
            early = better & (n_good < MOST)
            rows.append(
                (
                    design.name,
                    f"n = {n}",
                    f"{good.mean():+.1%}",
                    f"{np.median(good):+.1%}",
                    f"{good[better].mean():+.1%}",
                    f"{good[early].mean():+.1%}" if early.any() else "",
                    f"{result.difference[:, 2].mean() / effects[0]:+.1%}",
                )
            )
    return rows


def other_ranges(rng: np.random.Generator, studies: int) -> list[Row]:
    """Give the same of other least and most seeds, on effects that the most find at 80 %."""
    rows = []
    for least, most in ((5, 8), (5, 10), (8, 24), (5, 40)):
        interim = interim_analyses(least, most)
        for power_of in (least, most):
            effect = detectable(power_of, pair_sd(SPREAD), m=len(KINDS))
            scores = arm_scores(rng, studies, 4, most)
            scores[:, 1:] += np.array([effect, -effect, 0.0])[:, None]
            result = follow(scores, Design("", interim))
            fixed = follow(scores, Design("", Interim((most,), (1.0,))))
            rows.append(
                (
                    f"{least} to {most}",
                    ", ".join(map(str, interim.sizes)),
                    f"n = {power_of}",
                    f"{1 - result.runs.mean() / fixed.runs.mean():.1%}",
                    f"{found(result)[0]:.1%}, {found(fixed)[0]:.1%}",
                )
            )
    return rows


NAMES = tuple(design.name for design in DESIGNS)
TABLES: dict[str, tuple[tuple[str, ...], Table]] = {
    "Runs saved on planted arms": (
        (
            *("design", "effect found by", "saved", "seeds: good / bad / null"),
            *("better", "worse", "null called different", "fixed n as strong"),
        ),
        runs_saved,
    ),
    "With a margin": (
        (
            *("design", "margin", "saved", "no difference: equivalent", "on it: within it"),
            "far: better",
        ),
        with_margin,
    ),
    "Family-wise error, four candidates": (("scores, correlation", *NAMES), family_error),
    "Coverage at the end: good / bad / null": (
        ("scores, correlation", NAMES[0], NAMES[1], NAMES[3]),
        coverage,
    ),
    "A/A arm called better": (("scores, correlation", *NAMES), same_arm),
    "Bias of the good arm's difference": (
        (
            *("design", "effect found by", "mean", "median", "if better", "if better early"),
            "null, of the effect",
        ),
        bias,
    ),
    "Other ranges": (("seeds", "analyses", "effect found by", "saved", "power"), other_ranges),
}


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--only", default="", help="tables with this in their title")
    asked = parser.parse_args()
    print(f"Analyses at {GROUPED.sizes} seeds; shares of alpha {GROUPED.shares}")
    for number, (title, (headers, table)) in enumerate(TABLES.items()):
        if asked.only.lower() in title.lower():
            print(f"\n### {title}\n\n{_line(headers)}\n{_line(['---'] * len(headers))}")
            for row in table(np.random.default_rng([20261129, number]), asked.studies):
                print(_line(row), flush=True)


if __name__ == "__main__":
    main()
