"""The worker: trains one job after the other in a process that stays warm.

Each step is one epoch. Whatever a training raises becomes one failed result, and the process goes
on with the next job; only a kill or a native crash takes the process with it, and then Ray Tune
starts a new one for the next job.
"""

import contextlib
import faulthandler
import gc
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import ray
import torch
from ray.tune import Trainable

from attnsearch.blocks.errors import BlockError, SiteError
from attnsearch.blocks.measure import count_macs, count_params
from attnsearch.runs.addresses import without_secrets
from attnsearch.runs.data import DataSet
from attnsearch.runs.exports import Interface, pack_weights, read_weights, unpack_weights
from attnsearch.runs.ledger import (
    WEIGHTS_INPUT,
    State,
    changed_inputs,
    inputs,
    package_inputs,
)
from attnsearch.runs.loops import training_of
from attnsearch.runs.machine import Load
from attnsearch.runs.store import VARIABLE
from attnsearch.runs.training import Training, free_memory, out_of_memory
from attnsearch.search.workers.cluster import Need
from attnsearch.search.workers.job import Job, Report
from attnsearch.search.workers.keeper import Keeper, Paused
from attnsearch.search.workers.losses import failure_text, fault_file
from attnsearch.search.workers.replicas import Replica, Replicas, stop_file
from attnsearch.search.workers.siblings import Siblings
from attnsearch.search.workers.turns import Turns
from attnsearch.search.workers.watchdog import watched
from attnsearch.spaces.keys import COUNTED, SEGMENTATION, excess

PAUSE = "pause"  # the file that asks all trainings of a machine to be saved, and to end
HANG_SECONDS = 60.0  # of a step, until it is written where it stands; see `Worker.setup`

MakeTraining = Callable[[Job, DataSet, str, int], Training]


def make_training(job: Job, data: DataSet, device: str, threads: int) -> Training:
    """Return the training that a job asks for."""
    return training_of(job.config, data, device, threads)


class Worker(Trainable):  # type: ignore[misc]
    """Trains jobs for Ray Tune, whose config is `{"job": Job}`."""

    # Where a new process finds it: through the package's face, a shorter import.
    __module__ = "attnsearch.search.workers"

    def setup(
        self,
        config: dict[str, Any],
        datasets: Mapping[str, Any] | None = None,
        need: Need | None = None,
        folders: Sequence[str] = (),
        faults: Path | None = None,
        hang_seconds: float = HANG_SECONDS,
        make: MakeTraining = make_training,
        store: str = "",
    ) -> None:
        """Prepare the process, once.

        Args:
            config: The first job's.
            datasets: Data sets by the name that `Job.dataset` gives, or what `ray.get` takes;
                their arrays lie in Ray's shared memory, once for all workers of a machine.
            need: What each job takes: so many CPUs, so many threads; a share of a card is one of
                its memory too.
            folders: The driver's `sys.path`, and where modules of the user's own blocks lie.
            faults: Where to leave a word when the process crashes, see `fault_file`.
            hang_seconds: After so many of a step it is written there where it stands, again and
                again.
            make: Builds the training of a job.
            store: Where all machines write, see `runs.store`.
        """
        self._training: Training | None = None
        self._given = datasets or {}
        self._datasets: dict[str, DataSet] = {
            name: ray.get(given) if isinstance(given, ray.ObjectRef) else given
            for name, given in self._given.items()
        }
        need = need or Need()
        self._threads, self._device = need.threads, "cuda" if need.gpus else "cpu"
        self._make, self._faults, self._hang_seconds = make, faults, hang_seconds
        self._load = Load()
        self._sources: dict[str, str] = {}  # of the user's blocks that were imported
        self._fault_stream: TextIO | None = None
        self._used = False
        self._need, self._folders = need, folders
        self._replicas: Replicas | None = None
        self._siblings: Siblings | None = None  # that train on the other cards of the trial
        self.give_way: Callable[[], None] = lambda: None  # after each step, to other replicas
        # On another machine than the driver's its folder is missing.
        self._shared = faults if faults is not None and faults.is_dir() else None
        os.environ.update({VARIABLE: store} if store else {})
        self._saves = bool(store) or self._shared is not None
        self._turns = Turns(self._shared)
        # In the driver's order; on another machine, what is installed may lie elsewhere.
        sys.path[:] = dict.fromkeys([*folders, *sys.path])
        torch.set_num_threads(self._threads)
        # Without what was imported a collection takes milliseconds, not a third of a second.
        if not gc.get_freeze_count():
            gc.freeze()
        if 0 < need.gpus < 1:
            torch.cuda.set_per_process_memory_fraction(need.gpus)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Drop the last job and take the next; nothing is built before the first step.

        Not after code of a user, which may have left threads, flags of torch, patched modules or
        anything else: Tune then ends this process, and the next job gets a fresh one.
        """
        if self._used:
            return False
        self._job: Job = new_config["job"]
        self._used = self._job.runs_user_code
        self.cleanup()
        self._watch_for_crash()
        if self._job.replicas:
            self._replicas = Replicas({job.id: self._replica(job) for job in self._job.replicas})
        self._costs: dict[str, float] = {}
        self._seconds, self._evaluated = 0.0, 0
        return True

    def step(self) -> dict[str, Any]:
        """Return one epoch, or the first and last result of a job that fails or is infeasible.

        Of several replicas, the epoch of the next one that comes so far.
        """
        if self._replicas is not None:
            return self._replica_step(self._replicas)
        start = time.perf_counter()
        begins = self._training is None
        try:
            with self._watched():
                report = self._evaluate() if self._job.evaluations else self._epoch()
        except Paused:
            report = Report(state=State.INTERRUPTED, costs=self._costs)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            report = Report(
                state=State.FAILED,
                error=failure_text(error),
                traceback=without_secrets("".join(traceback.format_exception(error))),
                costs=self._costs,
                out_of_memory=self._training is not None and out_of_memory(error),
            )
        # After the first step, by which all is imported and read; also where that failed.
        if begins and (changed := self._changed_inputs()):
            report = Report(state=State.INTERRUPTED, changed=changed)
        if report.state:
            self._training = None
        self._seconds += time.perf_counter() - start
        report.seconds = self._seconds
        return {"report": report, "done": report.state is not None}

    def _replica(self, job: Job) -> Replica:
        """Return what trains one of several replicas: a worker as for a job that is alone."""
        inner = Worker.__new__(Worker)
        inner.setup(
            {"job": job}, self._datasets, self._need, self._folders, self._shared, make=self._make
        )
        if self._shared is not None:
            stop_file(self._shared, job).unlink(missing_ok=True)  # of an earlier attempt
        replica = Replica(inner.step, torch.device(self._device))
        inner.give_way = replica.give_way
        return replica

    def _replica_step(self, replicas: Replicas) -> dict[str, Any]:
        """Return the next epoch of any replica; those that the driver has ended take no more."""
        for job in self._job.replicas:
            if self._shared is not None and stop_file(self._shared, job).exists():
                replicas.leave(job.id)
        name, result = replicas.next()
        report: Report = result["report"]
        report.job = name
        if result["done"]:
            replicas.leave(name)
        return {"report": report, "done": len(replicas) == 0}

    def _changed_inputs(self) -> str:
        """Return which inputs of the job are others here than when it was claimed, if any are.

        What was imported once stays in this process, so a block's source counts as it was then.
        """
        job, task = self._job, None
        if job.evaluations:
            task = job.evaluations[self._evaluated - 1]
        config, expected = (task.config, task.inputs) if task else (job.config, job.inputs)
        if not expected:
            return ""
        settings = config["network"] if WEIGHTS_INPUT in expected else {"weights": None}
        try:
            now = inputs({**config, "network": settings})
        except (BlockError, OSError) as error:
            return f"{error}; it was read before"
        for name in now.keys() - {WEIGHTS_INPUT}:
            now[name] = self._sources.setdefault(name, now[name])
        return "; ".join(changed_inputs(expected, {**now, **package_inputs()}))

    def _watch_for_crash(self) -> None:
        """Has Python write the place of a native crash where the driver looks for it.

        On another machine than the driver's the folder is missing, and nothing is written.
        """
        if self._faults is not None:
            with contextlib.suppress(OSError):
                stream = fault_file(self._faults, self._job).open("w")
                faulthandler.enable(stream)
                self._fault_stream = stream  # keeps it open; the last one closes only now

    def _watched(self) -> AbstractContextManager[None]:
        """Has it written where a step stands that takes long."""
        stream = self._fault_stream
        return nullcontext() if stream is None else watched(stream, self._hang_seconds)

    def _epoch(self) -> Report:
        if self._training is None:
            try:
                self._training = self._build(self._job)
            except (BlockError, SiteError) as error:
                return Report(state=State.INFEASIBLE, error=str(error), violations={"fit": 1.0})
            violations = self._violations(self._training)
            above = [name for name, amount in violations.items() if amount > 0]
            if above:
                costs, limits = self._costs, self._job.limits
                words = [
                    f"{name} {costs[name]:,.6g} is above limits.{name} {limits[name]:,.6g}"
                    for name in (name.removeprefix("limits.") for name in above)
                ]
                return Report(
                    state=State.INFEASIBLE,
                    error="; ".join(words),
                    violations=violations,
                    costs=costs,
                )
            self._training = self._kept(self._training)
            if self._training.history:
                # Nobody may have heard of its last epoch, or have acted on it.
                report = self._epoch_report(self._training)
                report.earlier = self._training.history[:-1]
                return report
        training = self._training
        if self._need.ranks > 1 and self._siblings is None:
            data, crash = self._given[self._job.dataset], self._fault_stream
            ours = self._job, data, self._need, self._folders, self._make
            self._siblings = Siblings(training, *ours, crash)
        (self._siblings or training).run_epoch()
        report = self._epoch_report(training)
        if training.done:
            self._finish(training, report)
        return report

    def _kept(self, training: Training) -> Training:
        """Return the training as its newest checkpoint left it, to be saved from now on."""
        pause = None if self._shared is None else self._shared / PAUSE
        self._keeper = keeper = Keeper(self._job, self._saves, pause)
        for checkpoint in keeper.sound():
            try:
                training.load_state(checkpoint.state())
                break
            except Exception:  # then from the one before, or from the start
                training = self._build(self._job)

        def between() -> None:
            keeper.between(training)
            self.give_way()

        training.between = between
        self._seconds += sum(float(metrics["epoch_s"]) for metrics in training.history)
        return training

    def _epoch_report(self, training: Training) -> Report:
        said = self._keeper.after_epoch(training)
        metrics = training.history[-1] | {"checkpoint_s": said.pop("checkpoint_s")} | self._load()
        if self._device == "cuda":
            metrics["system/worker_gpu_memory_mb"] = torch.cuda.memory_reserved() / 2**20
            metrics["system/worker_gpu_peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
            torch.cuda.reset_peak_memory_stats()  # the next job may be of a smaller network
        return Report(len(training.history), metrics, costs=self._costs, **said)

    def _evaluate(self) -> Report:
        """Return the next of the networks to be evaluated."""
        place = self._evaluated
        self._evaluated += 1
        task = self._job.evaluations[place]
        if self._job.packed:
            state = unpack_weights(ray.get(self._job.packed[place]))
        else:
            state, _ = read_weights(Path(task.weights), task.checksum)
        # The stored weights replace those that the training started from.
        settings = {**task.config["network"], "weights": None}
        config = {**task.config, "network": settings}
        trained = self._build(replace(self._job, config=config, dataset=task.dataset))
        trained.network.load_state_dict(state)
        scores, predictions = trained.evaluate(task.split)
        done = self._evaluated == len(self._job.evaluations)
        return Report(
            epoch=self._evaluated,
            metrics={f"{task.split}_{name}": value for name, value in scores.items()},
            state=State.FINISHED if done else None,
            predictions={task.split: predictions},
            evaluated=task.run_id,
        )

    def _build(self, job: Job) -> Training:
        training = self._make(job, self._datasets[job.dataset], self._device, self._threads)
        training.turn = self._turns.working
        if job.micro_batches > 1:
            training.split(job.micro_batches)
        return training

    def _measure(self, training: Training) -> dict[str, float]:
        """Return a network's costs, its times among them, which equal networks share."""
        times = self._turns.measured(training.architecture, training.times)
        return training.costs() | dict(times)

    def _violations(self, training: Training) -> dict[str, float]:
        """Return by how much the network exceeds its limits, measuring the cheap costs first."""
        limits = self._job.limits
        data = self._datasets[self._job.dataset]
        self._costs = {
            "params": count_params(training.network),
            "macs": count_macs(training.network, (data.channels, *data.image_size)),
        }
        violations = excess(self._costs, limits)
        if max(violations.values(), default=0) <= 0 and set(limits) - set(COUNTED):
            self._costs = self._measure(training)
            violations = excess(self._costs, limits)
        return violations

    def _finish(self, training: Training, report: Report) -> None:
        self._costs = report.costs = self._measure(training)
        report.state = State.FINISHED
        data = self._datasets[self._job.dataset]
        masked = data.task == SEGMENTATION
        evaluated = {
            split: training.evaluate(split)
            for split in dict.fromkeys((*self._job.predictions, *(["val"] if masked else [])))
        }
        report.predictions = {split: evaluated[split][1] for split in self._job.predictions}
        report.result = dict(training.result)
        # What takes too long for every epoch comes to what the epoch measured.
        for name, value in evaluated["val"][0].items() if "val" in evaluated else ():
            if value == value:
                report.result.setdefault(f"val_{name}", value)
        packed = pack_weights(training.result_state(), interface(data))
        report.weights = np.frombuffer(packed, np.uint8)
        if masked:
            report.panel = _panel(training, evaluated["val"][1])

    def cleanup(self) -> None:
        """Free what the last training held, cycles and the card's cache included."""
        self._training = None
        for others in (self._replicas, self._siblings):
            if others is not None:
                others.close()
        self._replicas = self._siblings = None
        free_memory()


def _panel(training: Training, said: Mapping[str, Any]) -> np.ndarray | None:
    """Return the picture of a finished training, which must not fail with its picture."""
    try:
        return np.frombuffer(training.panel(said), np.uint8)
    except Exception as error:
        warnings.warn(f"no picture of the validation images: {error}", stacklevel=2)
        return None


def interface(data: DataSet) -> Interface:
    """Return what a network trained on a data set takes and tells."""
    return Interface(
        class_names=tuple(data.class_names),
        image_size=data.eval_size,
        channels=data.channels,
        mean=tuple(float(value) for value in data.mean),
        std=tuple(float(value) for value in data.std),
        crop=data.eval_crop,
    )
