"""What the acts of a study share: what they work with, and how runs are named and ranked."""

import math
import statistics
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnsearch.blocks.build import Images, build_network
from attnsearch.runs.data import DataSet, load_data
from attnsearch.runs.ledger import Ledger, RunRow, State, StudyRow, TrialRow
from attnsearch.runs.machine import gpu_names
from attnsearch.runs.results import ranked
from attnsearch.runs.statistics import Plan
from attnsearch.search.plans import check_measurable, most_seeds, plan_folds
from attnsearch.search.propose import Objectives
from attnsearch.search.study.company import Company
from attnsearch.search.study.events import Progress
from attnsearch.search.workers import Cluster, examined
from attnsearch.spaces import Space
from attnsearch.spaces.keys import BUILT_IN, cards_of

if TYPE_CHECKING:
    from attnsearch.runs.mirror import Mirror, MirrorReport


MIRROR_SECONDS = 10.0  # from the first trial's start to MLflow's, if its first epoch takes longer


class LateMirror:
    """A mirror that begins when the first trial has trained an epoch, or some seconds.

    Loading MLflow and opening its store takes seconds of a core, which until then are better
    spent on the workers' start.

    Args:
        mirror: The mirror.
        study_id: The study to show.
    """

    def __init__(self, mirror: "Mirror", study_id: int) -> None:
        self._mirror = mirror
        self._study_id = study_id
        self._lock = threading.Lock()
        self._soon: threading.Timer | None = None
        self._begun = False

    def prepare(self) -> None:
        """Begin to show the study soon, as something trains."""
        if self._soon is None:
            self._soon = threading.Timer(MIRROR_SECONDS, self.begin)
            self._soon.daemon = True
            self._soon.start()

    def begin(self) -> None:
        """Begin to show the study, unless that has begun."""
        with self._lock:
            if not self._begun:
                self._begun = True
                self._mirror.follow(self._study_id)

    def wake(self) -> None:
        """Hear that the ledger has changed."""
        if self._begun:
            self._mirror.wake()

    def close(self, timeout: float) -> "MirrorReport":
        """Write what is left: for so many seconds at most, if anything was trained."""
        if self._soon is None:
            return self._mirror.sync(self._study_id, patience=timeout)
        self._soon.cancel()
        self.begin()
        return self._mirror.close(timeout)


@dataclass
class Stage:
    """What the acts of a study work with.

    Attributes:
        space: The space.
        ledger: The ledger.
        study: The study, open and leased.
        mirror: Learns of every change.
        progress: Hears of every event.
        objectives: Of the study.
        datasets: By name: `data`, which exploring trains on, and `fold 0`, ... where there are
            folds.
        key: Gives the run key of a config with its fold and seed.
        inputs: Gives what a config's result depends on beside the data, see `Session`.
        note: Tells the user something, now and at the end.
        workers: How many jobs run side by side, as far as is known.
        replicas: How many seeds of an arm a process trains in turns.
        company: The other drivers of the study.
        saved: Folders of checkpoints of the runs that were begun and have not ended.
    """

    space: Space
    ledger: Ledger
    study: StudyRow
    mirror: LateMirror
    progress: Progress
    objectives: Objectives
    datasets: Mapping[str, DataSet]
    key: Callable[[Mapping[str, Any]], str]
    inputs: Callable[[Mapping[str, Any]], dict[str, str]]
    note: Callable[[str], None]
    workers: int = 1
    replicas: int = 1
    company: Company = field(init=False)
    saved: set[Path] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.company = Company(self.ledger, self.study.id, self.progress.note)

    def past(self, but: Collection[int] = ()) -> list[TrialRow]:
        """Return the study's runs so far, but for those at some places."""
        return self.ledger.trials(self.study.id, but)

    def ranked(self, rows: Sequence[TrialRow]) -> list[TrialRow]:
        """Return the finished trials among some rows that keep the limits, the best first."""
        return ranked(sorted(rows, key=lambda row: row.number), self.objectives.directions)

    def dataset(self, fold: int | None) -> str:
        """Return the name of the data set of a fold."""
        return dataset_name(self.space.document, fold)

    def images(self) -> Images:
        """Return what networks are built for."""
        data = self.datasets["data"]
        return Images(data.channels, data.image_size, data.classes)

    def loaded_weights(self) -> str:
        """Say what the file of `network.weights` gives to the default network, and what not."""
        images, config = self.images(), self.space.resolve(self.space.defaults())
        network = build_network(config, images.channels, images.classes, images.size)
        return str(network.weights_report)

    def examined(self, running: Cluster) -> Cluster:
        """Return a Ray whose machines can take part."""
        expected, data = self.inputs(self.space.document), self.datasets["data"]
        return examined_for(self.space, data, expected, running, self.progress.note)

    def run_seconds(self, epochs: int) -> float | None:
        """Return how long a run of so many epochs takes, by the finished ones of this study."""
        paces = [
            row.seconds / len(row.epochs)
            for row in self.past()
            if row.state == State.FINISHED and row.epochs and row.reused_from is None
        ]
        return statistics.median(paces) * epochs if paces else None


def device_kind(gpus: float, running: Cluster | None = None) -> str:
    """Return what computes, as the run key names it: `cpu`, or the GPUs of a trial.

    Args:
        gpus: Of a trial.
        running: Asked for the names where it was joined: this machine may have no GPU.
    """
    if not gpus:
        return "cpu"
    cards = running.cards if running is not None and running.joined else gpu_names()
    names = {name.partition(",")[0] for name in cards}
    kind = " and ".join(sorted(names)) or "cuda"
    # Each takes its statistics from a part of a batch, and draws what it drops for itself.
    return kind if cards_of(gpus) == 1 else f"{cards_of(gpus)} x {kind}"


def examined_for(
    space: Space,
    data: DataSet,
    expected: Mapping[str, str],
    running: Cluster,
    tell: Callable[[str], None],
) -> Cluster:
    """Return a Ray whose machines can take part in a study, with the names of their cards.

    Args:
        space: The space.
        data: What exploring trains on.
        expected: What results depend on beside it, see `ledger.inputs`.
        running: The Ray.
        tell: Shows a person a sentence.

    Raises:
        ClusterError: A machine lacks what the study needs.
    """
    source = space.document["data"]["source"]
    read = data.kept is not None and data.kept.how != "memory" and source not in BUILT_IN
    return examined(
        running,
        space.document,
        expected,
        [str(space.path.absolute().parent)],
        [source] if read else [],
        tell,
    )


def most_jobs(document: Mapping[str, Any], trials: int, plans: bool) -> int:
    """Return how many jobs there may be side by side, as far as the file tells.

    Args:
        document: The space file.
        trials: Of exploring.
        plans: Whether confirm and ablations follow.
    """
    asked = [document.get(key) for key in ("confirm", "ablation")] if plans else []
    most = max(trials, *(4 * most_seeds(section["seeds"]) for section in asked if section), 0)
    return min(most, document["resources"]["workers"] or most)


def load_datasets(space: Space, *, explore: bool, plans: bool) -> dict[str, DataSet]:
    """Return the data sets of a study by name; what the data can measure is checked and noted.

    Args:
        space: The space.
        explore: Whether trials are trained.
        plans: Whether arms are compared, where the space says so.

    Raises:
        DataError: The data cannot be used, or cannot give a metric that is asked for.
    """
    document = space.document
    datasets = {"data": load_data(document["data"], space.task)}
    if plans and (document.get("confirm") or document.get("ablation")):
        for fold in plan_folds(document)[0]:
            name = dataset_name(document, fold)
            if name not in datasets:
                datasets[name] = load_data({**document["data"], "fold": fold}, space.task)
    datasets["data"].notes.extend(
        check_measurable(
            document,
            lambda fold: datasets[dataset_name(document, fold)],
            explore=explore,
            plans=plans,
        )
    )
    return datasets


def dataset_name(document: Mapping[str, Any], fold: int | None) -> str:
    """Return under which name the data of a fold is given to the workers."""
    return "data" if fold is None or fold == document["data"].get("fold") else f"fold {fold}"


def rank_candidates(
    plan: Plan, runs: Mapping[str, Sequence[TrialRow | None]]
) -> list[tuple[str, float | None]]:
    """Return candidates by their means on validation, the best first, then those with failed runs.

    Where arms stop early, the means are over the seeds that all of them have.

    Args:
        plan: Of confirm.
        runs: As `Ledger.arm_runs` gives them.
    """
    sign = -1 if plan.direction == "max" else 1
    means = []
    first = len(plan.shared_seeds) * len(plan.folds)
    for place, arm in enumerate(plan.arms):
        if arm.kind == "candidate":
            scores = [_score(run, f"val_{plan.metric}") for run in runs[arm.label][:first]]
            whole = [score for score in scores if score is not None]
            mean = statistics.fmean(whole) if len(whole) == len(scores) else None
            means.append((arm.label, mean, place))
    means.sort(key=lambda item: (item[1] is None, sign * (item[1] or 0.0), item[2]))
    return [(label, mean) for label, mean, _ in means]


def _score(run: TrialRow | None, metric: str) -> float | None:
    value = run.metrics.get(metric) if run is not None and run.state == State.FINISHED else None
    return float(value) if value is not None and math.isfinite(value) else None


def tested(run: RunRow) -> bool:
    """Return whether a run has been scored on the test part."""
    return any(name.startswith("test_") for name in run.metrics)


def usable(ledger: Ledger, plan: Plan, run: RunRow) -> bool:
    """Return whether a finished run can still be scored on the part that a plan compares."""
    if plan.part != "test" or tested(run):
        return True
    return ledger.intact(run.weights_path)
