"""Simulated studies with known truth: do the intervals cover, do the tests keep their level?

    python benchmarks/simulated_studies.py [--studies 20000] [--only patients]

prints the tables of docs/statistics.md, in about five minutes on one core. The studies go through
the functions that `attnsearch report` uses. A share near 5 % has a standard error of 0.15 % at
20,000 studies and of 0.5 % at 2,000.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from attnsearch.runs.statistics.comparison import Comparison, compare
from attnsearch.runs.statistics.families import holm
from attnsearch.runs.statistics.fold_variance import nadeau_bengio_factor
from attnsearch.runs.statistics.measured import Measured
from attnsearch.runs.statistics.paired import paired_t, sign_flip_p
from attnsearch.runs.statistics.patients import case_values, new_patients_interval
from attnsearch.runs.statistics.plan import AGAINST_BASELINE, Arm, Contrast, Plan
from attnsearch.runs.statistics.power import achieved_power, detectable, pair_sd

Floats = NDArray[np.float64]

SPREAD = 0.006  # of an arm's accuracy over seeds
# Gamma shape of a long tail downwards (skewness -2 / sqrt of it; 0: normal), and how much more an
# arm varies than the baseline.
FORMS = {
    "normal": (0.0, 1.0),
    "skewed": (1.0, 1.0),
    "unequal": (0.0, 3.0),
    "both, mild": (4.0, 2.0),
    "both, strong": (1.0, 3.0),
}
SHAPES = tuple(FORMS)

# Two learners on eight features, all of them and the four that carry less.
IMAGES = 120
SHIFT = np.linspace(0.1, 0.6, 8)
MASKS = (np.ones(8), (np.arange(8) < 4).astype(float))


@dataclass(frozen=True)
class Figure:
    """One simulated figure beside what it should be."""

    setting: str
    studies: int
    share: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether it lies where it should."""
        return self.low <= self.share <= self.high


def arm_scores(
    rng: np.random.Generator,
    studies: int,
    arms: int,
    n: int,
    shape: str = "normal",
    correlation: float = 0.0,
) -> Floats:
    """Scores without any true difference: (studies, arms, n), mean 0, spread `SPREAD`.

    Skewed is an exponential's long tail downwards (skewness -2), as seeds that fail to learn make
    it; unequal gives every arm but the first three times the spread; mild is a skewness of -1 and
    twice the spread.
    """
    tail, ratio = FORMS[shape]

    def noise(*size: int) -> Floats:
        if tail:
            return (tail - rng.gamma(tail, size=size)) / np.sqrt(tail)
        return rng.normal(size=size)

    shared = noise(studies, 1, n) * np.sqrt(correlation)
    scores = (shared + noise(studies, arms, n) * np.sqrt(1 - correlation)) * SPREAD
    scores[:, 1:] *= ratio
    return scores


def coverage(
    rng: np.random.Generator, studies: int, n: int, shape: str, correlation: float
) -> Figure:
    """How often the primary interval holds the true difference."""
    scores = arm_scores(rng, studies, 2, n, shape, correlation)
    low, high = paired_t(scores[:, 1] - scores[:, 0]).interval(0.95)
    covered = np.mean((low <= 0) & (high >= 0))
    return Figure(
        f"n {n}, {shape}, correlation {correlation}", studies, float(covered), 0.93, 0.97
    )


def bootstrap_coverage(rng: np.random.Generator, studies: int, n: int) -> Figure:
    """What a percentile bootstrap over seeds would have covered; the reason why there is none."""
    differences = rng.normal(size=(studies, n))
    drawn = rng.integers(0, n, size=(studies, 999, n))
    means = np.take_along_axis(differences[:, None], drawn, axis=2).mean(2)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    covered = np.mean((low <= 0) & (high >= 0))
    return Figure(f"percentile bootstrap, n {n}", studies, float(covered), 0, 1)


def family_error(
    rng: np.random.Generator,
    studies: int,
    n: int,
    m: int,
    shape: str,
    correlation: float,
    true_effects: int = 0,
    margin: float | None = None,
) -> Figure:
    """How often a family of m candidates against one baseline holds any false finding.

    Args:
        rng: Source of the scores.
        studies: How many.
        n: Seeds.
        m: Candidates.
        shape: One of `SHAPES`.
        correlation: Between arms on the same seed.
        true_effects: How many of the candidates are far better than the baseline.
        margin: Those then are exactly this much better, so that calling them equivalent is false.
    """
    scores = arm_scores(rng, studies, m + 1, n, shape, correlation)
    effects = np.zeros(m)
    effects[:true_effects] = 5 * SPREAD if margin is None else margin
    result = paired_t(scores[:, 1:] - scores[:, :1] + effects[:, None])
    p_values, false = result.p(), effects == 0
    if margin is not None:
        p_values = np.concatenate([p_values, result.equivalence_p(margin)], axis=1)
        false = np.concatenate([false, ~false])
    wrong = 0
    for study in p_values:
        adjusted = np.array(holm(study.tolist()), dtype=np.float64)
        wrong += bool((adjusted[false] <= 0.05).any())
    parts = [f"n {n}, m {m}, {shape}, correlation {correlation}"]
    parts += [f"{true_effects} true effects"] if true_effects else []
    parts += ["with margin"] if margin is not None else []
    return Figure(", ".join(parts), studies, wrong / studies, 0, 0.06)


def study_plan(arms: Sequence[str], n: int, **settings: object) -> Plan:
    """A confirmation of some candidates against a baseline."""
    return Plan(
        act="confirm",
        name="confirm",
        arms=(Arm("baseline", "baseline", {}), *(Arm(name, "candidate", {}) for name in arms)),
        contrasts=tuple(
            Contrast(AGAINST_BASELINE, f"{name} - baseline", (name,), ("baseline",))
            for name in arms
        ),
        seeds=tuple(range(n)),
        epochs=1,
        metric="accuracy",
        direction="max",
        part="test",
        **settings,  # type: ignore[arg-type]
    )


def whole_studies(
    rng: np.random.Generator,
    studies: int,
    n: int,
    effects: dict[str, float],
    shape: str = "normal",
    correlation: float = 0.0,
    **settings: object,
) -> Iterator[list[Comparison]]:
    """Studies as the report sees them, candidates with these true differences."""
    plan = study_plan(list(effects), n, **settings)
    scores = 0.9 + arm_scores(rng, studies, len(effects) + 1, n, shape, correlation)
    scores[:, 1:] += np.array(list(effects.values()))[:, None]
    for study in scores:
        measured = {
            arm.label: [Measured(None, seed, float(row[seed])) for seed in plan.seeds]
            for arm, row in zip(plan.arms, study, strict=True)
        }
        yield compare(plan, measured, confirmatory=True, look=1)


def false_better(
    rng: np.random.Generator, studies: int, n: int, shape: str, correlation: float, most: float
) -> Figure:
    """How often an arm that is no better is called better: with equal variances an A/A arm."""
    scores = arm_scores(rng, studies, 2, n, shape, correlation)
    result = paired_t(scores[:, 1] - scores[:, 0])
    share = float(np.mean((result.p() <= 0.05) & (result.difference > 0)))
    return Figure(f"n {n}, {shape}, correlation {correlation}", studies, share, 0, most)


def planted(rng: np.random.Generator, studies: int, n: int) -> list[Figure]:
    """Verdicts on a good, a bad and a null arm whose differences are detectable with 80 %."""
    effect = detectable(n, pair_sd(SPREAD), m=3)
    counts: Counter[tuple[str, str]] = Counter()
    effects = {"good": effect, "bad": -effect, "null": 0.0}
    for study in whole_studies(rng, studies, n, effects):
        counts.update((comparison.plus[0], comparison.verdict) for comparison in study)
    wanted = [
        ("good", "better", 0.78, 0.92),
        ("good", "worse", 0, 0.002),
        ("bad", "worse", 0.78, 0.92),
        ("bad", "better", 0, 0.002),
        ("null", "not distinguishable", 0.94, 1),
        ("null", "better", 0, 0.03),
    ]
    return [
        Figure(f"n {n}, {arm} arm: {verdict}", studies, counts[arm, verdict] / studies, low, high)
        for arm, verdict, low, high in wanted
    ]


def planted_margin(rng: np.random.Generator, studies: int, n: int) -> list[Figure]:
    """Verdicts on arms within, on and beyond an equivalence margin."""
    margin = 5 * SPREAD
    effects = {"no difference": 0.0, "on the margin": margin, "far better": 3 * margin}
    counts: Counter[tuple[str, str]] = Counter()
    for study in whole_studies(rng, studies, n, effects, margin=margin):
        counts.update((comparison.plus[0], comparison.verdict) for comparison in study)
    wanted = [
        ("no difference", "equivalent", 0.8, 1),
        ("no difference", "better", 0, 0.03),
        ("on the margin", "better, but negligible", 0, 0.03),
        ("far better", "better", 0.99, 1),
    ]
    return [
        Figure(f"n {n}, {arm}: {verdict}", studies, counts[arm, verdict] / studies, low, high)
        for arm, verdict, low, high in wanted
    ]


def power_stated(rng: np.random.Generator, studies: int, n: int, m: int) -> Figure:
    """How often a test at alpha / m finds the difference that is called detectable."""
    scores = arm_scores(rng, studies, 2, n, correlation=0.5)
    sd = pair_sd(SPREAD, 0.5)
    effect = detectable(n, sd, m)
    found = np.mean(paired_t(scores[:, 1] - scores[:, 0] + effect).p() <= 0.05 / m)
    stated = achieved_power(n, effect, sd, m)
    return Figure(f"n {n}, m {m}", studies, float(found), stated - 0.015, stated + 0.015)


def sign_flips(rng: np.random.Generator, studies: int, n: int) -> Figure:
    """How often the sensitivity check rejects without a difference, arms skewed alike."""
    scores = arm_scores(rng, studies, 2, n, "skewed")
    rejected = [sign_flip_p(b - a) <= 0.05 for a, b in scores]
    return Figure(f"sign flips, n {n}, skewed", studies, float(np.mean(rejected)), 0, 0.06)


def folds_of_learners(
    rng: np.random.Generator, studies: int, folds: int, corrected: bool, seeds: int = 2
) -> Figure:
    """Coverage of the folds' interval for two real learners on data that is drawn anew.

    Nearest-mean classifiers, on all eight features and on the four that carry less, with a random
    perturbation that stands for the seed. The truth is the expected difference at this number of
    training images.
    """
    truth = _learners_truth(IMAGES - IMAGES // folds)
    x, y = _learners_data(rng, studies, IMAGES)
    fold = (np.arange(IMAGES) // 2) % folds
    differences = np.zeros((studies, folds))
    for j in range(folds):
        inside = fold == j
        means = _class_means(x[:, ~inside], y[~inside])
        for _ in range(seeds):
            for sign, mask in zip((1, -1), MASKS, strict=True):
                w, b = _learned(rng, *means, mask)
                right = (np.einsum("sif,sf->si", x[:, inside], w) > b[:, None]) == y[inside]
                differences[:, j] += sign * right.mean(-1) / seeds
    factor = nadeau_bengio_factor(folds, 1 / (folds - 1)) if corrected else None
    low, high = paired_t(differences, factor).interval(0.95)
    covered = float(np.mean((low <= truth) & (truth <= high)))
    name = "Nadeau-Bengio" if corrected else "plain t over folds"
    bounds = (0.93, 0.99) if corrected else (0, 1)
    return Figure(f"{name}, {folds} folds of {IMAGES} images", studies, covered, *bounds)


def _learners_data(
    rng: np.random.Generator, count: int, images: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Images (count, images, 8) and their labels (images,), both classes equally often."""
    y = np.arange(images) % 2 == 1
    return rng.normal(size=(count, images, len(SHIFT))) + np.where(y, 0.5, -0.5)[
        :, None
    ] * SHIFT, y


def _class_means(x: Floats, y: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    return x[:, y].mean(1), x[:, ~y].mean(1)


def _learned(
    rng: np.random.Generator, upper: Floats, lower: Floats, mask: Floats
) -> tuple[Floats, Floats]:
    """Direction (count, 8) and threshold (count,) of a learner, with its seed's perturbation."""
    w = (upper - lower + 0.2 * rng.normal(size=upper.shape)) * mask
    return w, ((upper + lower) / 2 * w).sum(-1)


@lru_cache
def _learners_truth(train: int) -> float:
    """Expected difference of the learners' accuracies, over 20,000 training sets."""
    rng = np.random.default_rng(0)
    expected = []
    for _ in range(20):
        means = _class_means(*_learners_data(rng, 1000, train))
        for sign, mask in zip((1, -1), MASKS, strict=True):
            w, b = _learned(rng, *means, mask)
            signal, length = (w * SHIFT / 2).sum(-1), np.linalg.norm(w, axis=-1)
            right = stats.norm.cdf((signal - b) / length) + stats.norm.cdf((signal + b) / length)
            expected.append(sign * right.mean() / 2)
    return float(sum(expected) / 20)


def patients_components(
    rng: np.random.Generator,
    studies: int,
    n: int,
    patients: int,
    spreads: tuple[float, float, float],
) -> Figure:
    """Coverage of the patients' interval for known components: seeds, patients, the rest."""
    seed, patient, rest = spreads
    covered = 0
    for part in np.array_split(np.arange(studies), max(1, studies // 1000)):
        count = len(part)
        differences = (
            seed * rng.normal(size=(count, n, 1))
            + patient * rng.normal(size=(count, 1, patients))
            + rest * rng.normal(size=(count, n, patients))
        )
        _, low, high, _ = new_patients_interval(differences, 0.95)
        covered += int(((low <= 0) & (high >= 0)).sum())
    setting = f"n {n}, {patients} patients, spreads {seed}, {patient}, {rest}"
    return Figure(setting, studies, covered / studies, 0.92, 0.985)


def patients_accuracy(
    rng: np.random.Generator, studies: int, n: int, patients: int, scope: str = "new patients"
) -> Figure:
    """Coverage for accuracy with one to five images a patient, by a probit model."""
    levels, own, arm_own, seed = (0.9, 0.7), 0.7, 0.5, 0.1
    total = np.sqrt(1 + own**2 + arm_own**2 + seed**2)
    truth = stats.norm.cdf(levels[0] / total) - stats.norm.cdf(levels[1] / total)
    covered = 0
    for _ in range(studies):
        owner = np.repeat(np.arange(patients), rng.integers(1, 6, patients))
        labels = np.zeros(len(owner), dtype=np.int64)
        ease = own * rng.normal(size=patients)
        values = np.zeros((2, n, patients))
        for arm in range(2):
            mine = levels[arm] + ease + arm_own * rng.normal(size=patients)
            for s in range(n):
                latent = mine[owner] + seed * rng.normal() + rng.normal(size=len(owner))
                right = np.stack([latent > 0, latent <= 0], axis=1).astype(float)
                found = case_values("accuracy", right, labels, owner)
                assert found is not None
                values[arm, s] = found
        covered += _covers(values[0] - values[1], float(truth), scope)
    setting = f"accuracy, n {n}, {patients} patients of 1-5 images, scope {scope}"
    bounds = (0.92, 0.98) if scope == "new patients" else (0, 1)
    return Figure(setting, studies, covered / studies, *bounds)


def patients_auroc(
    rng: np.random.Generator, studies: int, n: int, patients: int, scope: str = "new patients"
) -> Figure:
    """Coverage for AUROC, one image a patient, by a binormal model."""
    levels, seed, own, arm_own, rest = (1.5, 1.2), 0.1, 0.7, 0.5, 0.5
    each = own**2 + arm_own**2 + rest**2
    truth = np.subtract(*(stats.norm.cdf(mu / np.sqrt(2 * each + seed**2)) for mu in levels))
    labels = np.arange(patients) % 2
    covered = 0
    for _ in range(studies):
        ease = own * rng.normal(size=patients)
        values = np.zeros((2, n, patients))
        for arm in range(2):
            mine = ease + arm_own * rng.normal(size=patients)
            for s in range(n):
                signal = (levels[arm] + seed * rng.normal()) * labels
                latent = signal + mine + rest * rng.normal(size=patients)
                chance = stats.norm.cdf(latent - 0.7)
                found = case_values("auroc", np.stack([1 - chance, chance], axis=1), labels)
                assert found is not None
                values[arm, s] = found
        covered += _covers(values[0] - values[1], float(truth), scope)
    setting = f"AUROC, n {n}, {patients} patients, scope {scope}"
    bounds = (0.92, 0.98) if scope == "new patients" else (0, 1)
    return Figure(setting, studies, covered / studies, *bounds)


def _covers(differences: Floats, truth: float, scope: str) -> bool:
    if scope == "new patients":
        _, low, high, _ = new_patients_interval(differences, 0.95)
    else:
        low, high = paired_t(differences.mean(-1)).interval(0.95)
    return bool(low <= truth <= high)


Table = Callable[[np.random.Generator, int], list[Figure]]

GRID = [(n, shape, rho) for shape in SHAPES for rho in (0.0, 0.5) for n in (3, 5, 8)]
COMPONENTS = [(1.0, 0.0, 5.0), (1.0, 5.0, 5.0), (0.3, 5.0, 5.0), (0.0, 5.0, 5.0)]


def _families(rng: np.random.Generator, studies: int) -> list[Figure]:
    figures = [family_error(rng, studies, n, 4, shape, rho) for n, shape, rho in GRID]
    figures += [family_error(rng, studies, n, 8, "normal", 0.5) for n in (3, 5, 8)]
    figures += [family_error(rng, studies, 5, 4, "normal", 0.0, k) for k in (1, 2, 3)]
    for n in (5, 8):
        for rho in (0.0, 0.5):
            figures.append(family_error(rng, studies, n, 4, "normal", rho, 2, 9 * SPREAD))
    return figures


# Tables by title; those that go study by study through the whole of `compare` draw a tenth.
TABLES: dict[str, Table] = {
    "Coverage of the primary 95 % interval (wanted: 93-97 %)": lambda rng, studies: [
        coverage(rng, studies, *cell) for cell in GRID
    ],
    "Coverage of what is not used": lambda rng, studies: [
        bootstrap_coverage(rng, studies // 10, n) for n in (3, 5, 10)
    ],
    "Family-wise error after Holm (wanted: below 6 %)": _families,
    "A/A arm falsely better (wanted: at most 3 %)": lambda rng, studies: [
        false_better(rng, studies, n, shape, rho, 0.03)
        for n in (5, 8)
        for shape in ("normal", "skewed")
        for rho in (0.0, 0.5)
    ],
    "An arm no better that varies more, falsely better (nothing promised)": lambda rng, studies: [
        false_better(rng, studies, 5, shape, 0.0, 1)
        for shape in ("unequal", "both, mild", "both, strong")
    ],
    "Verdicts on planted arms, effect detectable at 80 %, m = 3": lambda rng, studies: [
        figure for n in (5, 8) for figure in planted(rng, studies // 10, n)
    ],
    "Verdicts with a margin of 5 spreads": lambda rng, studies: [
        figure for n in (5, 8) for figure in planted_margin(rng, studies // 10, n)
    ],
    "Power found where 80 % is stated": lambda rng, studies: [
        power_stated(rng, studies, n, m) for n in (3, 5, 8) for m in (1, 4)
    ],
    "Sign-flip sensitivity check at 5 % (wanted: below 6 %)": lambda rng, studies: [
        sign_flips(rng, studies // 10, n) for n in (6, 8)
    ],
    "Folds: coverage for two learners on data drawn anew": lambda rng, studies: [
        folds_of_learners(rng, studies // 4, j, c) for j in (5, 10) for c in (True, False)
    ],
    "New patients: coverage for known components of variance": lambda rng, studies: [
        patients_components(rng, studies // 4, n, p, spreads)
        for n in (3, 5, 8)
        for p in (30, 100, 400)
        for spreads in COMPONENTS
    ],
    "New patients: coverage for accuracy and AUROC": lambda rng, studies: [
        simulate(rng, studies // 20, n, 80, scope)
        for simulate in (patients_accuracy, patients_auroc)
        for n in (3, 5, 8)
        for scope in ("new patients", "this test set")
    ],
}


def main() -> None:
    """Print every table, and where a figure is not as wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--only", default="", help="tables with this in their title")
    asked = parser.parse_args()
    missed = 0
    for number, (title, table) in enumerate(TABLES.items()):
        if asked.only.lower() not in title.lower():
            continue
        print(f"\n### {title}\n\n| setting | studies | share | |\n| --- | ---: | ---: | --- |")
        for figure in table(np.random.default_rng([20261121, number]), asked.studies):
            bounds = f"wanted {figure.low:.1%}-{figure.high:.1%}"
            note = "" if figure.holds else f"**missed** ({bounds})"
            missed += not figure.holds
            row = f"| {figure.setting} | {figure.studies} | {figure.share:.1%} | {note} |"
            print(row, flush=True)
    print(f"\n{missed} figures missed what is wanted of them.")


if __name__ == "__main__":
    main()
