"""What a report takes from the stored predictions of runs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.runs.ledger import Ledger, TrialRow
from attnsearch.runs.metrics import (
    choose_threshold,
    constant_classes,
    constant_labels,
    secondary_labels,
    secondary_metrics,
)
from attnsearch.runs.results.model import ArmRun
from attnsearch.runs.statistics import Plan, case_values, mean_case_values

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Facts:
    """What a report needs of a run's stored predictions; the arrays themselves can be large.

    Attributes:
        mark: Hash of the examples' names and labels; empty where none are stored.
        images: How many examples.
        validated: How many of the validation data.
        groups: Their groups' names; None where they are unknown.
        secondary: Metrics that follow from the predictions.
        constant: What the best answer that looks at no image scores in the primary metric.
        cases: (P,) pseudo-values of the primary metric, one a patient (or image).
    """

    mark: bytes = b""
    images: int = 0
    validated: int = 0
    groups: frozenset[str] | None = None
    secondary: Mapping[str, float] = field(default_factory=dict)
    constant: float | None = None
    cases: NDArray[np.float64] | None = None


class Predictions:
    """Stored predictions on a plan's part of the data, each run's read once.

    Args:
        ledger: The ledger.
        plan: The plan.
    """

    def __init__(self, ledger: Ledger, plan: Plan) -> None:
        self._ledger = ledger
        self._plan = plan
        self._facts: dict[int, Facts] = {}

    def of(self, row: TrialRow) -> Facts:
        """Return what is known of a run; nothing where it has no predictions."""
        if row.id not in self._facts:
            stored = self._ledger.predictions(row.id)
            self._facts[row.id] = self._read(
                stored.get(self._plan.part, {}), stored.get("val", {})
            )
        return self._facts[row.id]

    def _read(self, arrays: Arrays, validation: Arrays) -> Facts:
        if "names" not in arrays:
            return Facts()
        mark = hashlib.sha256(arrays["names"].tobytes())
        mark.update(arrays["labels"].tobytes() if "labels" in arrays else b"")
        groups = arrays.get("groups")
        facts = Facts(
            mark.digest(),
            len(arrays["names"]),
            len(validation.get("names", ())),
            None if groups is None else frozenset(groups.tolist()),
        )
        metric = self._plan.metric
        if "probabilities" in arrays:
            labels, classes = arrays["labels"], arrays["probabilities"].shape[1]
            several = labels.ndim == 2
            constant = constant_labels(labels) if several else constant_classes(labels, classes)
            return replace(
                facts,
                secondary=_secondary(arrays, validation),
                constant=_finite(constant.get(metric)),
                cases=case_values(
                    metric,
                    arrays["probabilities"],
                    labels,
                    None if groups is None else groups.tolist(),
                ),
            )
        facts = replace(facts, constant=_finite(arrays.get(f"constant_{metric}")))
        values = arrays.get(metric)
        if values is not None and values.ndim == 1:
            owners = None if groups is None else groups.tolist()
            return replace(facts, cases=mean_case_values(values, owners))
        return facts

    def groups(self, runs: Mapping[str, Sequence[ArmRun]]) -> int | None:
        """Return how many groups the compared examples come from; None if they are unknown."""
        names: set[str] = set()
        for facts in self.by_fold(runs).values():
            if facts.groups is None:
                return None
            names |= facts.groups
        return len(names) or None

    def images(self, runs: Mapping[str, Sequence[ArmRun]]) -> int | None:
        """Return how many examples are compared."""
        return sum(facts.images for facts in self.by_fold(runs).values()) or None

    def by_fold(self, runs: Mapping[str, Sequence[ArmRun]]) -> dict[int | None, Facts]:
        """Return what is known of one run a fold."""
        facts: dict[int | None, Facts] = {}
        for own in runs.values():
            for run in own:
                if run.row is not None and run.score is not None and run.fold not in facts:
                    facts[run.fold] = self.of(run.row)
        return facts


def _finite(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _secondary(arrays: Arrays, validation: Arrays) -> dict[str, float]:
    """Return metrics of some predictions, those at a threshold that validation data fixes too."""
    if arrays["labels"].ndim == 2:
        return secondary_labels(arrays["probabilities"], arrays["labels"])
    threshold = None
    if arrays["probabilities"].shape[1] == 2 and "probabilities" in validation:
        chosen = choose_threshold(validation["probabilities"], validation["labels"])
        threshold = None if np.isnan(chosen) else chosen
    return secondary_metrics(arrays["probabilities"], arrays["labels"], threshold)
