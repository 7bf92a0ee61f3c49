"""One training as it travels: a job to a worker, its reports back, its outcome to the records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from attnsearch.blocks import BLOCKS
from attnsearch.runs.ledger import State
from attnsearch.spaces.keys import own_names

OURS = frozenset({"none", *BLOCKS})
LOST = "lost"
"""The outcome of a job whose worker process was lost; of no run."""

MACHINE_LOST = "the machine that trained it was lost"
"""Why it was, where the machine went away: no job is to blame."""


def has_user_code(config: Mapping[str, Any]) -> bool:
    """Return whether a network or a block of it is not ours, or what trains it is a user's."""
    return any(own_names(config)) or any(
        entry["block"] not in OURS for entry in config.get("insert", ())
    )


@dataclass(frozen=True)
class Evaluation:
    """A trained network that is to be applied to a part of the data.

    Attributes:
        run_id: The run's number in the ledger.
        config: Its resolved config.
        dataset: Which of the data sets given to `execute` it was trained on.
        weights: Its weights file.
        split: The part.
        checksum: Of that file; None where none was noted.
        inputs: What else determines its result, see `attnsearch.runs.ledger.inputs`.
    """

    run_id: int
    config: dict[str, Any]
    dataset: str
    weights: str
    split: str = "test"
    checksum: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One training to be done, or several trained networks to be evaluated.

    Attributes:
        id: Unique within one `execute`, for instance the run's number in the ledger.
        config: The resolved config, seed and epochs of the full schedule in its `train`.
        dataset: Which of the data sets given to `execute` it trains on.
        limits: Cost name to its upper limit, checked on the built network before it trains.
        predictions: The splits whose predictions come back when it has finished.
        act: The act that it belongs to, as watchers are told; empty for exploring.
        evaluations: What to evaluate, one a step; nothing is trained then.
        inputs: What determines its result beside config and data, as it was when its run was
            claimed: sources of the user's blocks, weights to start from, versions of packages.
        checkpoints: The folder of its checkpoints; empty where none are kept.
        checkpoint: The newest of them, where the workers do not see the driver's disk; what
            `ray.get` takes.
        micro_batches: Into how many each batch is split, since memory ran out before.
        packed: The weights files of `evaluations`, in their order, where the workers do not see
            the driver's disk; anything that `ray.get` takes.
        group: Jobs of one group differ in their seed alone; empty where it stands alone.
        replicas: The jobs of a group that one process trains in turns, itself the first of them;
            empty where it trains alone.
    """

    id: int
    config: dict[str, Any]
    dataset: str = "data"
    limits: Mapping[str, float] = field(default_factory=dict)
    predictions: tuple[str, ...] = ()
    act: str = ""
    evaluations: tuple[Evaluation, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    checkpoints: str = ""
    checkpoint: Any = field(default=None, repr=False)
    micro_batches: int = 1
    packed: tuple[Any, ...] = field(default=(), repr=False)
    group: str = ""
    replicas: tuple["Job", ...] = field(default=(), repr=False)

    @property
    def members(self) -> tuple["Job", ...]:
        """The jobs that it consists of."""
        return self.replicas or (self,)

    @property
    def runs_user_code(self) -> bool:
        """Whether it runs code that is not ours, which may leave its process in any state."""
        configs = [task.config for task in self.evaluations] or [self.config]
        return any(has_user_code(config) for config in configs)


@dataclass
class Report:
    """What a worker says after each step of a job.

    Attributes:
        epoch: Epochs done.
        metrics: Of this epoch.
        earlier: Of the epochs before it, in the first report of a training that goes on: a worker
            that nobody heard any more may have saved it later than the driver knows.
        costs: As far as they are measured.
        state: None while it goes on, else `State.FINISHED`, `FAILED` or `INFEASIBLE`.
        result: The metrics that count; set when it has finished.
        error: Why it failed or is infeasible.
        traceback: Where it failed.
        violations: Constraint name to relative excess, positive where it is violated; of an
            infeasible one.
        predictions: Split to arrays, see `Job.predictions`.
        weights: The bytes of the weights file, as an array: Ray hands arrays over without a copy,
            and their repr is short (Tune formats every result for its debug log).
        panel: The bytes of a PNG that shows what the network does; of a finished segmentation.
        seconds: Time spent on the job so far.
        evaluated: The run that this step evaluated.
        changed: Where the worker found other inputs than `Job.inputs`, which they are: the job
            ends as interrupted then, since nothing is known of the run that was claimed.
        checkpoint: A `Checkpoint` that the driver is to write, from another machine.
        trouble: Why the last checkpoint could not be written.
        out_of_memory: Whether it failed since memory ran out while it trained.
        job: Whose report it is, of several replicas.
    """

    epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    earlier: Sequence[Mapping[str, float]] = ()
    costs: dict[str, float] = field(default_factory=dict)
    state: State | None = None
    result: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    traceback: str | None = None
    violations: dict[str, float] = field(default_factory=dict)
    predictions: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    weights: np.ndarray | None = field(default=None, repr=False)
    panel: np.ndarray | None = field(default=None, repr=False)
    seconds: float = 0.0
    evaluated: int | None = None
    changed: str | None = None
    checkpoint: Any = field(default=None, repr=False)
    trouble: str | None = None
    out_of_memory: bool = False
    job: int | None = None

    @property
    def epochs(self) -> dict[int, Mapping[str, float]]:
        """The metrics that it brings, by epoch."""
        return {**dict(enumerate(self.earlier, 1)), self.epoch: self.metrics}


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        state: A `State`, or `LOST`, which says nothing about the job.
        metrics: Those that count, of a finished job; the last epoch's of a stopped one.
        report: The last report of its worker; an empty one where none came.
        error: Why it failed or is infeasible.
        traceback: Where it failed.
        place: Where native code crashed; empty where a lost worker left no word.
        out_of_memory: Whether it failed, or was lost, since memory ran out.
    """

    state: str
    metrics: Mapping[str, float]
    report: Report
    error: str | None = None
    traceback: str | None = None
    place: str = ""
    out_of_memory: bool = False


class Jobs(Protocol):
    """Where jobs come from and their outcomes go; called from the driver's thread only."""

    def next_job(self) -> Job | None:
        """Return the next job; None where there is none now, see `exhausted`."""

    def exhausted(self) -> bool:
        """Return whether no job will come any more, whatever those still running bring."""

    def started(self, job: Job) -> None:
        """Note that a worker begins with it."""

    def reported(self, job: Job, report: Report) -> bool:
        """Take in what an epoch brought; return whether the job is to be stopped early."""

    def ended(self, job: Job, outcome: Outcome) -> None:
        """Take in how it ended, once for every job that `next_job` gave."""
