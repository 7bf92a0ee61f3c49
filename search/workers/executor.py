"""Executes jobs side by side on Ray Tune, whatever decides which jobs those are."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune import PlacementGroupFactory
from ray.tune.error import TuneError
from ray.tune.experiment import Trial

from attnsearch.runs.data import DataSet
from attnsearch.runs.machine import environment
from attnsearch.runs.store import store_value
from attnsearch.search.workers.cluster import Cluster, ClusterError, Need
from attnsearch.search.workers.job import Job, Jobs
from attnsearch.search.workers.losses import fault_file
from attnsearch.search.workers.nodes import Head, Room, all_folders, machine_gone
from attnsearch.search.workers.pace import Pace
from attnsearch.search.workers.ray_private import kill_worker, lean_tune
from attnsearch.search.workers.replicas import stop_file
from attnsearch.search.workers.searcher import Feed, RayGone, Watch
from attnsearch.search.workers.turns import Times, write_times
from attnsearch.search.workers.worker import (
    HANG_SECONDS,
    PAUSE,
    MakeTraining,
    Worker,
    make_training,
)

IDLE_SECONDS = 10.0
"""How long workers without a trial are kept in a Ray that others may use, about as long as a start
takes."""


def execute(
    source: Jobs,
    cluster: Cluster,
    datasets: Mapping[str, DataSet],
    *,
    need: Need | None = None,
    workers: int | None = None,
    folders: Sequence[str] = (),
    times: Mapping[str, Times] | None = None,
    longest: float = 0.0,
    timeout: float | None = None,
    replicas: int = 1,
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda text: None,
    make: MakeTraining = make_training,
) -> None:
    """Train the jobs of a source until it has no more, or until told to stop.

    Every job that the source gave has ended when this returns or raises.

    Args:
        source: Gives the jobs and takes their outcomes.
        cluster: The Ray to run on.
        datasets: What the jobs train on; copied once to each machine.
        need: What each job takes, as `cluster` was told; by default one CPU.
        workers: How many jobs run side by side; by default as many as the cluster has room for,
            machines that join or go away meanwhile counted.
        folders: Where modules of the user's own blocks lie; installed modules win over theirs.
        times: Of the architectures that were measured before, on this machine.
        longest: Seconds that an epoch took in earlier sessions; jobs that take many times as long
            are ended as failed.
        timeout: Seconds that an epoch may take, in place of a limit learnt from those before.
        replicas: How many jobs of one group a process trains in turns.
        stop: Asked about ten times a second; once True, running jobs are saved and
            interrupted.
        tell: Shows a person a sentence.
        make: Builds the training of a job, in the worker.

    Raises:
        ClusterError: If Ray is lost; the jobs that ran have ended as interrupted.
    """
    head = Head(ray.get_runtime_context().gcs_address) if cluster.joined else None
    room, need = Room(cluster, tell, head=head), need or Need()
    several = need.ranks > 1
    faults = cluster.folder / "faults"
    faults.mkdir(exist_ok=True)
    pause = faults / PAUSE
    pause.unlink(missing_ok=True)
    if times:
        write_times(faults, times)

    watch = Watch(
        source,
        stop,
        kill_worker,
        lambda job: _read(fault_file(faults, job)),
        pace=Pace(longest, timeout=timeout),
        check=head.check if head else cluster.check,
        ship=cluster.joined,  # a machine may join that does not see this one's disk
        gone=machine_gone if cluster.joined else lambda said: False,
        pause=pause.touch,
        tell=tell,
        replicas=replicas,
        leave=lambda job: stop_file(faults, job).touch(),
    )
    trainable = tune.with_parameters(
        Worker,
        # What is put once, a trial's other processes get too.
        datasets={name: ray.put(data) if several else data for name, data in datasets.items()},
        need=need,
        folders=all_folders(folders),
        faults=faults,
        hang_seconds=min(HANG_SECONDS, (timeout or HANG_SECONDS) / 2),
        make=make,
        store=store_value(),
    )
    # The first workers start side by side; Tune's default is one after the other.
    pending = str(workers or max(cluster.workers, cluster.most))
    idle = IDLE_SECONDS if cluster.joined else math.inf
    lean = lean_tune(_can_be_reused, idle, watch.takes_over)
    with environment({"TUNE_MAX_PENDING_TRIALS_PG": pending}), lean:
        try:
            tune.run(
                trainable,
                name="study",
                search_alg=Feed(watch, (lambda: workers) if workers else room),
                stop=watch,
                num_samples=-1,
                # On one machine, where its processes find each other.
                resources_per_trial=PlacementGroupFactory(
                    [dict(cluster.bundle)] * need.ranks, "STRICT_PACK" if several else "PACK"
                ),
                storage_path=str(cluster.folder),
                reuse_actors=True,
                max_failures=0,
                callbacks=[watch],
                verbose=0,  # watchers are told by `attnsearch.search.study.events`
                raise_on_failed_trial=False,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            )
        except RayGone:
            pass  # a failure, which follows
        except (TuneError, RayError) as error:
            raise ClusterError(
                f"Ray stopped in the midst of the study: {error}\nWhat has finished is recorded; "
                f"the same command goes on from there"
            ) from error
        finally:
            watch.interrupt()
    if watch.failure is not None:
        raise watch.failure


def _can_be_reused(trial: Trial) -> bool:
    """Return whether a worker may go on after its trial."""
    job: Job = trial.config["job"]
    return not job.runs_user_code


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _trial_name(trial: Trial) -> str:
    return f"job-{trial.config['job'].id}-{trial.trial_id}"
