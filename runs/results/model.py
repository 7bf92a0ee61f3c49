"""What a report is made of: a study's acts as they were measured, before any word is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from attnsearch.runs.ledger import (
    EXPLORING_ROLES,
    Role,
    StudyRow,
    TrialRow,
)
from attnsearch.runs.statistics import AGAINST_BASELINE, Arm, ArmSummary, Comparison, Course, Plan


@dataclass(frozen=True)
class ArmRun:
    """One run that a plan asks for.

    Attributes:
        fold: Of the plan.
        seed: Of the plan.
        state: ``finished``, ``failed``, ``excluded`` or ``to come``.
        score: The primary metric; None unless it is finished.
        validation: The same metric on the validation data.
        secondary: Other metrics of the same predictions.
        reason: Why it failed or is excluded.
        row: The run in the ledger; None where there is none yet.
    """

    fold: int | None
    seed: int
    state: str
    score: float | None = None
    validation: float | None = None
    secondary: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    row: TrialRow | None = None


@dataclass(frozen=True)
class ArmResult:
    """One arm of a plan, measured.

    Attributes:
        arm: As planned.
        inserted: What is inserted where: ``gc@layer4``, ``plain``.
        runs: One for every fold and seed of the plan.
        summary: Mean, spread and interval; None as long as there is no score.
        costs: Cost -> value: counts are the same in all runs, of measured ones the median.
        comparison: With the arm's reference, where the plan asks for it.
        best: Whether it is the best of its plan, and better than every other arm of it.
        excluded: Why it is out of every comparison; empty where it is not.
    """

    arm: Arm
    inserted: str
    runs: tuple[ArmRun, ...]
    summary: ArmSummary | None
    costs: Mapping[str, float]
    comparison: Comparison | None
    best: bool = False
    excluded: str = ""

    @property
    def label(self) -> str:
        """The arm's, unique in its plan."""
        return self.arm.label

    @property
    def scored(self) -> list[ArmRun]:
        """The runs with a score."""
        return [run for run in self.runs if run.score is not None]

    @property
    def failed(self) -> list[ArmRun]:
        """The runs that failed."""
        return [run for run in self.runs if run.state == "failed"]

    @property
    def split(self) -> int:
        """How many of its runs were out of memory and had their batches split."""
        return sum(run.row is not None and run.row.micro_batches > 1 for run in self.runs)

    @property
    def validation(self) -> float | None:
        """Mean of the validation scores."""
        scores = [run.validation for run in self.runs if run.validation is not None]
        return mean(scores) if scores else None


@dataclass(frozen=True)
class ActResult:
    """One plan, measured.

    Attributes:
        plan: What was planned.
        hash: Of the plan, as stored.
        stored: When it was stored, in words.
        winner: Label of the arm that ranked first on validation data; None for an ablation.
        arms: In the order of the plan.
        comparisons: In the order of the plan's contrasts; empty until every run has ended.
        look: Which opening of the test data its scores are from; None on validation data.
        confirmatory: Whether it was stored before the test data was first opened.
        complete: Whether every run has ended and the scores are there.
        strays: Runs that stand at this plan's places but not in the plan.
        added_seeds: Seeds that were added after looking.
        unlearned: Says that the reference is no better than an answer that looks at no image, if
            so; then there are no verdicts.
        groups: Of how many groups (patients) the compared data is; None if they are unknown.
        cases: Number of images compared.
        courses: How far its contrasts have come, where arms stop before the last seed.
    """

    plan: Plan
    hash: str
    stored: str
    winner: str | None
    arms: tuple[ArmResult, ...]
    comparisons: tuple[Comparison, ...]
    look: int | None
    confirmatory: bool
    complete: bool
    strays: tuple[TrialRow, ...] = ()
    added_seeds: tuple[int, ...] = ()
    unlearned: str | None = None
    groups: int | None = None
    cases: int | None = None
    courses: tuple[Course, ...] = ()

    @property
    def name(self) -> str:
        """The plan's."""
        return self.plan.name

    @property
    def metric(self) -> str:
        """The primary metric with its part: ``test_accuracy``."""
        return f"{self.plan.part}_{self.plan.metric}"

    @property
    def reference(self) -> str | None:
        """Label of the arm that the others are compared with, if it is one."""
        return self.plan.reference

    @property
    def ended(self) -> int:
        """How many of the planned runs have ended, scored on the plan's part or not yet."""
        rows = [run.row for arm in self.trained for run in arm.runs if run.row is not None]
        return sum(row.state.ended for row in rows)

    @property
    def expected(self) -> int:
        """How many runs are planned; arms that are equal are trained once."""
        return sum(len(arm.runs) for arm in self.trained)

    @property
    def analyses(self) -> list[tuple[int, list[str]]]:
        """Seeds of each analysis that was made, and what it has settled, in words."""
        interim, made = self.plan.interim, []
        for number, size in enumerate(interim.sizes if interim else ()):
            if any(c.analysis is not None and c.analysis >= number for c in self.courses):
                own = [c for c in self.courses if c.settled and c.analysis == number]
                made.append((size, [f"{c.contrast.name} ({c.settled})" for c in own]))
        return made

    @property
    def trained(self) -> list[ArmResult]:
        """The arms with runs of their own."""
        return [arm for arm in self.arms if arm.arm.equals is None]

    def find(self, label: str) -> ArmResult:
        """Return the arm of that label."""
        return next(arm for arm in self.arms if arm.label == label)

    def families(self) -> dict[str, list[Comparison]]:
        """Return family -> its comparisons, in the plan's order."""
        families: dict[str, list[Comparison]] = {}
        for comparison in self.comparisons:
            families.setdefault(comparison.family, []).append(comparison)
        return families


@dataclass(frozen=True)
class MeasuredStudy:
    """A study, measured.

    Attributes:
        study: Of the ledger.
        rows: All its runs in their places.
        acts: Confirmation and ablations, in the order they were planned; of plans that were
            changed, the last.
        superseded: How many plans were replaced by later ones.
        explored: Trial number by label of a confirmed candidate.
    """

    study: StudyRow
    rows: tuple[TrialRow, ...]
    acts: tuple[ActResult, ...]
    superseded: int = 0
    explored: Mapping[str, int] = field(default_factory=dict)

    @property
    def confirm(self) -> ActResult | None:
        """The confirmation, if it was planned."""
        return next((act for act in self.acts if act.plan.act == "confirm"), None)

    @property
    def trials(self) -> list[TrialRow]:
        """The search's runs and the baseline's."""
        return [row for row in self.rows if row.role in EXPLORING_ROLES]

    def tuning_of(self, arms: str) -> list[TrialRow]:
        """Return the trials that tuned training settings, of arms whose labels begin so."""
        rows = [row for row in self.rows if row.role == Role.TUNING]
        return [row for row in rows if (row.arm or "").startswith(arms)]

    def setting(self, *path: str) -> Any:
        """Return a value of the space file; None where it is not there."""
        value: Any = self.study.document
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def row_comparison(plan: Plan, label: str, comparisons: list[Comparison]) -> Comparison | None:
    """Return the comparison that stands in an arm's row: with the baseline, or the full winner."""
    for comparison in comparisons:
        if comparison.plus == (label,) and len(comparison.minus) == 1:
            kind = plan.arm(comparison.minus[0]).kind
            if comparison.family == AGAINST_BASELINE or kind == "reference":
                return comparison
    return None
