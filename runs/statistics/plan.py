"""What is planned before it is measured: the arms of an act, and the differences to be tested.

A plan is stored in the ledger, with the hash of all that it says, before its first run is trained.
What the report later calls confirmatory is what such a plan held when the test part of the data
was opened for the first time.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from attnsearch.runs.statistics.interim import Interim

ACTS = ("confirm", "ablation")
ARM_KINDS = ("candidate", "baseline", "capacity", "tuned_baseline", "reference", "variant")
NESTINGS = ("none", "development", "nested", "not nested")

AGAINST_BASELINE = "candidates against baseline"
AGAINST_CONTROLS = "candidates against the other controls"


@dataclass(frozen=True)
class Arm:
    """One config, trained once for every seed (and fold) of its plan.

    Attributes:
        label: Unique in its plan, for tables: `gc@layer4`, `baseline`, `without gc@layer4`.
        kind: One of `ARM_KINDS`. A plan's `reference` is what its variants are compared with.
        config: The resolved config; `train.epochs` is the plan's, seed and fold are each run's.
        of: The label of the candidate that a capacity control belongs to.
        equals: The label of an earlier arm with the same config, whose runs these are.
        notes: What a reader should know of it, a phrase each: `params +0.3 %`, `= baseline`.
        changed: What tells it from the reference: decision or part, and its value.
    """

    label: str
    kind: str
    config: Mapping[str, Any]
    of: str | None = None
    equals: str | None = None
    notes: tuple[str, ...] = ()
    changed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contrast:
    """A difference: the sum of some arms' scores less the sum of others', seed by seed.

    Attributes:
        family: Those whose p-values are adjusted together.
        name: Names it in tables: `gc@layer4 - baseline`, `gc x psa`.
        plus: Labels of the arms that are added.
        minus: Labels of those that are subtracted; for an interaction (AB - A) - (B -
            baseline) these are A and B, and AB and the baseline stand in `plus`.
    """

    family: str
    name: str
    plus: tuple[str, ...]
    minus: tuple[str, ...]

    @property
    def is_interaction(self) -> bool:
        """Whether it is a difference of differences."""
        return len(self.plus) > 1


@dataclass(frozen=True)
class Plan:
    """The arms of one act, and everything that decides how they are compared.

    Attributes:
        act: One of `ACTS`.
        name: `confirm`, or the ablation plan's: `loco`, `positions`, ...
        arms: In the order of the table.
        contrasts: What is tested.
        seeds: The same for every arm.
        epochs: Of every run; there is no early stopping.
        metric: The primary metric without its part: `accuracy`.
        direction: `max` or `min`.
        part: The part of the data whose scores are compared: `test` or `val`.
        folds: Each is trained with every seed; (None,) where the data is not folded.
        nesting: One of `NESTINGS`: how exploring kept away from the folds' test parts.
        alpha: The level of every family.
        smallest_effect: The smallest difference that matters, in metric units; None if unsaid.
        margin: The equivalence margin, in metric units; None if unsaid.
        checkpoint: `last` or `best_val`: the epoch whose scores count, for all arms.
        retuned: Whether every arm's training settings were tuned, with equal budgets.
        reuses_confirm: Whether the reference's runs are the confirmation's, on whose seeds it was
            selected.
        interim: The analyses after which arms stop; None where all arms have all seeds.
    """

    act: str
    name: str
    arms: tuple[Arm, ...]
    contrasts: tuple[Contrast, ...]
    seeds: tuple[int, ...]
    epochs: int
    metric: str
    direction: str
    part: str
    folds: tuple[int | None, ...] = (None,)
    nesting: str = "none"
    alpha: float = 0.05
    smallest_effect: float | None = None
    margin: float | None = None
    checkpoint: str = "last"
    retuned: bool = False
    reuses_confirm: bool = False
    interim: Interim | None = None

    @property
    def reference(self) -> str | None:
        """Label of the arm that the others are compared with, if it is one."""
        kind = "baseline" if self.act == "confirm" else "reference"
        return next((arm.label for arm in self.arms if arm.kind == kind), None)

    @property
    def shared_seeds(self) -> tuple[int, ...]:
        """The seeds that every arm has, on which the winner is chosen."""
        return self.seeds if self.interim is None else self.seeds[: self.interim.sizes[0]]

    @property
    def title(self) -> str:
        """The act in words: `confirm`, `ablation loco`."""
        return self.name if self.act == self.name else f"{self.act} {self.name}"

    @property
    def hash(self) -> str:
        """SHA-256 of everything that the plan says, except where the data lies."""
        document = self.to_document()
        for arm in document["arms"]:
            arm["config"].get("data", {}).pop("source", None)
        text = json.dumps(document, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def arm(self, label: str) -> Arm:
        """Return the arm of that label.

        Raises:
            KeyError: There is none.
        """
        for arm in self.arms:
            if arm.label == label:
                return arm
        raise KeyError(label)

    def place(self, label: str) -> tuple[str, str]:
        """Return role and arm under which the runs of an arm stand in the ledger's `study_run`."""
        return self.act, label if self.act == "confirm" else f"{self.name}: {label}"

    def repeats(self) -> list[tuple[int | None, int]]:
        """Return fold and seed of each run of an arm, in the order of their ledger numbers."""
        return [(fold, seed) for fold in self.folds for seed in self.seeds]

    def to_document(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if self.interim is None:
            del document["interim"]  # plans without are as they were before there were any
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Plan":
        """Return the plan that `to_document` wrote."""
        arms = tuple(Arm(**{**arm, "notes": tuple(arm["notes"])}) for arm in document["arms"])
        contrasts = tuple(
            Contrast(**{**item, "plus": tuple(item["plus"]), "minus": tuple(item["minus"])})
            for item in document["contrasts"]
        )
        own: dict[str, Any] = {name: tuple(document[name]) for name in ("seeds", "folds")}
        if (interim := document.get("interim")) is not None:
            own["interim"] = Interim.from_document(interim)
        return cls(**{**document, **own, "arms": arms, "contrasts": contrasts})
