"""The words that the ledger stores for how something stands and what a run is there for."""

from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How a run or a study stands; in the order in which they are listed."""

    FINISHED = "finished"  # a run of its full schedule; a study that did all it was asked to
    STOPPED = "stopped"  # a run that was ended early
    FAILED = "failed"  # a run that broke off, or a study in which nothing came out
    INFEASIBLE = "infeasible"  # a run whose network may or can not be trained
    INTERRUPTED = "interrupted"  # to be taken up again; also what ran when its driver died
    RUNNING = "running"  # a living driver works on it

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self not in (State.RUNNING, State.INTERRUPTED)


class PlanState(StrEnum):
    """How far a plan has come."""

    PLANNED = "planned"  # its runs are trained
    MEASURED = "measured"  # all runs ended, and the test part is still to be evaluated
    FINISHED = "finished"  # nothing is left to do


class Role(StrEnum):
    """What a run is in its study for."""

    TRIAL = "trial"  # the search chose its config
    BASELINE_TRIAL = "plain"  # the baseline as trial 0, where the search can choose it
    BASELINE = "baseline"  # the baseline beside a search that cannot choose it
    TUNING = "tuning"  # only its training settings were searched
    CONFIRM = "confirm"  # one seed of an arm of the confirm plan
    ABLATION = "ablation"  # one seed of an arm of an ablation plan


SEARCH_ROLES = frozenset({Role.TRIAL, Role.BASELINE_TRIAL})
"""What the search chooses among."""

BASELINE_ROLES = frozenset({Role.BASELINE_TRIAL, Role.BASELINE})
"""The network with nothing inserted, while exploring."""

EXPLORING_ROLES = SEARCH_ROLES | BASELINE_ROLES
"""All that exploring trains."""

PLAN_ROLES = frozenset({Role.CONFIRM, Role.ABLATION})
"""What a plan asks for."""

ARM_ROLES = PLAN_ROLES | {Role.TUNING}
"""What stands below its arm rather than among the trials."""

LOSSES = (
    "the worker process died",
    "the worker process crashed",
    "the machine that trained it was lost",
    "out of memory: Ray ended the worker",
    "out of memory: the system ended the worker",
)
"""How the error begins of a failed run that the machine ended; it says nothing about the run."""

LOST_ATTEMPTS = 6
"""So many times a run is begun before a loss counts as its own doing, sessions together."""

STUDY_STATES = frozenset({State.FINISHED, State.FAILED, State.INTERRUPTED, State.RUNNING})
"""A study is never stopped early or infeasible."""


def lost(run: Any) -> bool:
    """Return whether a run failed because the machine ended it, and is to be begun anew."""
    ours = run.state == State.FAILED and run.attempt < LOST_ATTEMPTS
    return ours and str(run.error).startswith(LOSSES)
