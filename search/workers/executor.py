"""Executes jobs side by side on Ray Tune, whatever decides which jobs those are."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import PlacementGroupFactory
from ray.tune.error import TuneError
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import ProgressReporter
from ray.tune.schedulers import TrialScheduler
from ray.tune.stopper import Stopper

from attnsearch.runs.data import DataSet
from attnsearch.search.workers.cluster import Cluster, ClusterError, Need
from attnsearch.search.workers.job import LOST, Job, Jobs, Outcome, Report
from attnsearch.search.workers.searcher import Feed, Watch
from attnsearch.search.workers.worker import MakeTraining, Worker, fault_file, make_training

LOST_IN_A_ROW = 3  # jobs whose workers never began, until it is taken for a fault of the machine


def execute(
    source: Jobs,
    cluster: Cluster,
    datasets: Mapping[str, DataSet],
    *,
    need: Need | None = None,
    workers: int | None = None,
    scheduler: TrialScheduler | None = None,
    folders: Sequence[str] = (),
    stop: Callable[[], bool] = lambda: False,
    make: MakeTraining = make_training,
) -> None:
    """Train the jobs of a source until it has no more, or until told to stop.

    Every job that the source gave has ended when this returns or raises.

    Args:
        source: Gives the jobs and takes their outcomes.
        cluster: The Ray to run on.
        datasets: What the jobs train on; copied once to each machine.
        need: What each job takes, as `cluster` was told; by default one CPU.
        workers: How many jobs run side by side; by default as many as the cluster has room for.
        scheduler: Stops weak jobs early; None stops none.
        folders: Where modules of the user's own blocks lie.
        stop: Asked about ten times a second; once True, running jobs are interrupted.
        make: Builds the training of a job, in the worker.

    Raises:
        ClusterError: If Ray is lost; the jobs that ran have ended as interrupted.
    """
    need = need or Need()
    workers = workers or cluster.workers
    faults = cluster.folder / "faults"
    faults.mkdir(exist_ok=True)
    guarded = _Guarded(source, stop, ship=cluster.nodes > 1)
    watch = Watch(guarded, guarded.stop, _kill, lambda job: _read(fault_file(faults, job)))
    feed = Feed(guarded, watch.active, watch.paused, workers, guarded.stop)
    trainable = tune.with_parameters(
        Worker,
        datasets=dict(datasets),
        need=need,
        folders=tuple(folders),
        faults=faults,
        make=make,
    )
    with _many_pending(workers), _plain_workers(), _no_usage_tags():
        try:
            tune.run(
                trainable,
                name="study",
                search_alg=feed,
                scheduler=scheduler,
                stop=_StopAll(watch.stopped),
                num_samples=-1,
                resources_per_trial=PlacementGroupFactory([dict(cluster.bundle)]),
                storage_path=str(cluster.folder),
                reuse_actors=True,
                max_failures=0,
                callbacks=[watch],
                verbose=0,
                progress_reporter=_NoReporter(),
                raise_on_failed_trial=False,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            )
        except (TuneError, ray.exceptions.RayError) as error:
            raise ClusterError(
                f"Ray stopped in the midst of the study: {error}\nWhat has finished is recorded; "
                f"the same command goes on from there"
            ) from error
        finally:
            watch.interrupt()
    if guarded.failure is not None:
        raise guarded.failure


class _Guarded:
    """A source whose first failure stops the execution and is kept; Tune would wrap it in its own.

    Args:
        source: The source.
        stop: Whether to stop for another reason.
        ship: Whether jobs carry the weights files that they need, since other machines do not see
            this one's disk.
    """

    def __init__(self, source: Jobs, stop: Callable[[], bool], *, ship: bool) -> None:
        self._source = source
        self._stop = stop
        self._ship = ship
        self._lost = 0
        self.failure: Exception | None = None

    def stop(self) -> bool:
        return self.failure is not None or self._stop()

    def next_job(self) -> Job | None:
        with self._kept():
            job = self._source.next_job()
            if job is None or not job.evaluations or not self._ship:
                return job
            packed = (ray.put(Path(task.weights).read_bytes()) for task in job.evaluations)
            return replace(job, packed=tuple(packed))
        return None

    def exhausted(self) -> bool:
        return self.failure is not None or self._source.exhausted()

    def started(self, job: Job) -> None:
        with self._kept():
            self._source.started(job)

    def reported(self, job: Job, report: Report) -> None:
        with self._kept():
            self._source.reported(job, report)

    def ended(self, job: Job, outcome: Outcome) -> None:
        self._lost = self._lost + 1 if outcome.state == LOST else 0
        with self._kept():
            self._source.ended(job, outcome)
            if self._lost >= LOST_IN_A_ROW:
                raise ClusterError(
                    f"worker processes cannot be started or kept: {outcome.error}\nWhat has "
                    f"finished is recorded; the same command goes on from there"
                )

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error


class _StopAll(Stopper):  # type: ignore[misc]
    """Stops everything once asked to.

    Tune pickles it into snapshots for its own resuming, which is not used: a copy stops nothing.
    """

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop

    def __reduce__(self) -> tuple[Any, ...]:
        return _StopAll, (bool,)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._stop()


class _NoReporter(ProgressReporter):  # type: ignore[misc]
    """Prints nothing; `attnsearch.search.study.events` tells what happens."""

    def should_report(self, trials: list[Trial], done: bool = False) -> bool:
        return False

    def report(self, trials: list[Trial], done: bool, *sys_info: str) -> None:
        return None


@contextlib.contextmanager
def _plain_workers() -> Iterator[None]:
    """Keep Tune from giving its actors environment variables of their own.

    With them Ray starts each actor in a new process, by way of a further one, though those that
    it holds ready have imported torch already: ten seconds of two cores for two workers. On one
    machine the workers inherit the variables in question; on a cluster they have its own.
    """
    none: dict[str, Any] = {"DEFAULT_ENV_VARS": {}, "ENV_VARS_TO_PROPAGATE": set()}
    try:
        from ray.tune.execution import class_cache
    except ImportError:
        class_cache = None
    # Where a Ray names them otherwise, all that is lost is the time.
    before = {name: getattr(class_cache, name) for name in none if hasattr(class_cache, name)}
    for name in before:
        setattr(class_cache, name, none[name])
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(class_cache, name, value)


@contextlib.contextmanager
def _no_usage_tags() -> Iterator[None]:
    """Keep Tune from counting callbacks for its usage statistics, which are off.

    To name them it imports MLflow, for a second or two in which the workers wait.
    """
    try:
        from ray.air._internal import usage
    except ImportError:
        usage = None
    if not hasattr(usage, "tag_callbacks"):
        yield
        return
    before, usage.tag_callbacks = usage.tag_callbacks, lambda callbacks: False
    try:
        yield
    finally:
        usage.tag_callbacks = before


def _kill(trial: Trial) -> None:
    actor = trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _trial_name(trial: Trial) -> str:
    return f"job-{trial.config['job'].id}-{trial.trial_id}"


@contextlib.contextmanager
def _many_pending(workers: int) -> Iterator[None]:
    """Let the first workers start side by side; Tune's default is one after the other."""
    name = "TUNE_MAX_PENDING_TRIALS_PG"
    before = os.environ.get(name)
    os.environ[name] = str(workers)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
