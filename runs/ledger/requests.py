"""What is asked of the ledger about runs, and what it answers to a claim."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attnsearch.runs.ledger.records import RunRow
from attnsearch.runs.ledger.states import Role, State


@dataclass(frozen=True)
class Request:
    """A run that is asked for.

    Args:
        key: The run key.
        config: The resolved config.
        seed: Of the run.
        epochs: Of the full schedule.
        fold: The fold left out, if the data is folded.
        study_id: The study that needs it.
    """

    key: str
    config: Mapping[str, Any]
    seed: int
    epochs: int
    fold: int | None = None
    study_id: int | None = None


@dataclass(frozen=True)
class Place:
    """Where a run stands in a study.

    Args:
        number: The trial's number in the study, or the run's in its arm.
        role: What it is in the study for.
        arm: The arm's label; None for a trial. Role, arm and number name the place.
        name: A name a person can read, unique in the study; without it
            ``012 ecrm@layer4 psa@layer3`` for a trial, ``arm gc@layer4 seed 2`` for an arm.
        values: The decisions: name -> value.
        proposal: What the proposer wants to remember about it.
    """

    number: int
    role: Role = Role.TRIAL
    arm: str | None = None
    name: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    proposal: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Args:
        state: An interrupted run can be taken up again.
        metrics: Its scores.
        costs: Its costs.
        violations: Limit -> amount; positive means violated.
        error: Why it failed, in a sentence.
        traceback: Where.
        weights_path: Where its trained weights lie.
    """

    state: State
    metrics: Mapping[str, Any] = field(default_factory=dict)
    costs: Mapping[str, Any] = field(default_factory=dict)
    violations: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    traceback: str | None = None
    weights_path: str | None = None


@dataclass(frozen=True)
class Claim:
    """The answer to a claim on a key.

    Args:
        outcome: ``claimed``: train it and call `Ledger.finish`. ``finished``: its result is
            known and stands in `run`. ``busy``: another process trains it now. ``ended``: another
            driver of the study began it at its place, and it ended without a full schedule.
            ``taken``: another driver of the study has proposed another config at its place.
        run: The run of the key, or of the place that is taken.
        holder: Who trains it, if it is busy.
    """

    outcome: str
    run: RunRow
    holder: str | None = None

    @property
    def run_id(self) -> int:
        """The run's number in the ledger."""
        return self.run.id
