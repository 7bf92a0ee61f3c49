"""Seeds of an arm in one process: each as if it were alone, whatever becomes of the others."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attnsearch.runs.data import DataSet
from attnsearch.runs.exports import unpack_weights
from attnsearch.runs.training import Training
from attnsearch.search.workers import keeper
from attnsearch.search.workers.job import Job, Report
from attnsearch.search.workers.replicas import Replica, Replicas, stop_file
from attnsearch.search.workers.worker import PAUSE, Worker
from tests.runs.training.test_train import make_config, make_data
from tests.search.workers.test_keeper import without_times

SEEDS = (0, 1, 2)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data() -> DataSet:
    return make_data()


def job(seed: int, folder: Path, **train: Any) -> Job:
    config = make_config(("layer2", "gc"), seed=seed, **train)
    kept = str(folder / f"kept-{seed}")
    return Job(10 + seed, config, predictions=("val",), checkpoints=kept, group="confirm/gc")


def together(folder: Path, **train: Any) -> Job:
    jobs = tuple(job(seed, folder, **train) for seed in SEEDS)
    return replace(jobs[0], replicas=jobs)


def make(job: Job, data: DataSet, device: str, threads: int) -> Training:
    """A training that draws from the process's own streams too, as dropout does."""
    training = Training(job.config, data, device, 1)
    training.times = lambda: {"latency_ms": 1.0}  # type: ignore[method-assign]
    training.costs = lambda: {"params": 1.0}  # type: ignore[method-assign]

    def dropped(module: torch.nn.Module, given: Any, said: Tensor) -> Tensor:
        if not module.training:
            return said
        return F.dropout(said, 0.1 * (random.random() + float(np.random.rand())))

    training.network.get_submodule("conv1").register_forward_hook(dropped)
    return training


def worker(given: Job, data: DataSet, folder: Path | None, make: Any = make) -> Worker:
    made = Worker.__new__(Worker)
    made.setup({"job": given}, datasets={"data": data}, make=make, faults=folder)
    return made


def reports(made: Worker, most: int = 10**6) -> dict[int | None, list[Report]]:
    """What a worker says until it is done, or so many times, by job."""
    told: dict[int | None, list[Report]] = {}
    for _ in range(most):
        result = made.step()
        told.setdefault(result["report"].job, []).append(result["report"])
        if result["done"]:
            break
    return told


@pytest.fixture(scope="module")
def alone(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Report]]:
    """What the worker of a seed says that trains alone."""
    folder, before = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    solo = {}
    for seed in SEEDS:
        (solo[seed],) = reports(worker(job(seed, folder), data, folder)).values()
    torch.set_num_threads(before)
    return solo


def same(one: list[Report], other: list[Report]) -> bool:
    """Whether two workers said the same, bit for bit, but for times."""
    last = other[-1]
    state, expected = (unpack_weights(said[-1].weights.tobytes()) for said in (one, other))
    assert one[-1].state == last.state == "finished"
    return (
        [without_times(said.metrics) for said in one]
        == [without_times(said.metrics) for said in other]
        and without_times(one[-1].result) == without_times(last.result)
        and np.array_equal(
            one[-1].predictions["val"]["probabilities"], last.predictions["val"]["probabilities"]
        )
        and all(torch.equal(state[name], expected[name]) for name in expected)
    )


def test_each_replica_is_its_solo_run_bit_for_bit_and_says_the_same(
    data: DataSet, tmp_path: Path, alone: dict[int, list[Report]]
) -> None:
    random.seed(5)
    before, draws = torch.get_rng_state(), random.getstate()
    exact = torch.are_deterministic_algorithms_enabled()
    told = reports(worker(together(tmp_path), data, tmp_path))
    assert sorted(told) == [10, 11, 12]
    for seed in SEEDS:
        assert same(told[10 + seed], alone[seed])
    assert len({said[-1].result["val_loss"] for said in told.values()}) == 3
    # The process is as it was.
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == draws
    assert torch.are_deterministic_algorithms_enabled() == exact


def test_their_steps_alternate(data: DataSet, tmp_path: Path) -> None:
    order: list[int] = []

    def noted(job: Job, *given: Any) -> Training:
        training = make(job, *given)
        taken = training._step

        def step(*arguments: Any) -> Any:
            order.append(job.id)
            return taken(*arguments)

        step.micro_batches, step.ranks, step.share = 1, taken.ranks, taken.share  # type: ignore[attr-defined]
        training._step = step  # type: ignore[assignment]
        training.state = dict  # type: ignore[method-assign,assignment]
        return training

    reports(worker(together(tmp_path, epochs=1), data, None, noted), 1)
    assert order[:9] == [10, 11, 12] * 3


@pytest.mark.parametrize("fault", ["nan", "raise", "memory"])
def test_one_that_fails_ends_alone(
    data: DataSet, tmp_path: Path, alone: dict[int, list[Report]], fault: str
) -> None:
    def faulty(job: Job, *given: Any) -> Training:
        training, calls = make(job, *given), iter(range(10**6))

        def fail(module: torch.nn.Module, arguments: Any, said: Tensor) -> Tensor:
            if not module.training or next(calls) < 4:
                return said
            if fault == "raise":
                raise ValueError("no such thing")
            if fault == "memory":
                raise MemoryError
            return said * float("nan")

        if job.id == 11:
            training.network.get_submodule("conv1").register_forward_hook(fail)
        return training

    told = reports(worker(together(tmp_path), data, tmp_path, faulty))
    last = told[11][-1]
    words = {"nan": "not finite", "raise": "no such thing", "memory": "out of memory"}
    assert last.state == "failed"
    assert words[fault] in str(last.error)
    assert last.out_of_memory == (fault == "memory")
    assert same(told[10], alone[0])
    assert same(told[12], alone[2])


def test_one_that_is_stopped_early_ends_alone(
    data: DataSet, tmp_path: Path, alone: dict[int, list[Report]]
) -> None:
    exact = torch.are_deterministic_algorithms_enabled()
    stop_file(tmp_path, job(2, tmp_path)).touch()  # of an attempt before, which says nothing
    made = worker(together(tmp_path), data, tmp_path)
    first = reports(made, 3)
    stop_file(tmp_path, job(0, tmp_path)).touch()
    rest = reports(made)
    assert len(first[10]) == 1
    assert 10 not in rest
    for seed in (1, 2):
        assert same(first[10 + seed] + rest[10 + seed], alone[seed])
    assert torch.are_deterministic_algorithms_enabled() == exact


def test_after_a_killed_worker_each_goes_on_from_its_own_checkpoint(
    data: DataSet,
    tmp_path: Path,
    alone: dict[int, list[Report]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "SHARE", 1e9)
    killed = worker(together(tmp_path), data, tmp_path)
    first = reports(killed, 4)  # one has ended its second epoch, the others their first
    assert sorted(map(len, first.values())) == [1, 1, 2]
    told = reports(worker(together(tmp_path), data, tmp_path))
    for seed in SEEDS:
        done = len(first[10 + seed])
        assert told[10 + seed][0].epoch == done, "its last epoch over again"
        assert same(first[10 + seed][:-1] + told[10 + seed], alone[seed])
    killed.cleanup()


def test_all_are_saved_within_an_epoch_where_the_study_is_stopped(
    data: DataSet, tmp_path: Path, alone: dict[int, list[Report]]
) -> None:
    (tmp_path / PAUSE).touch()
    told = reports(worker(together(tmp_path), data, tmp_path))
    assert {said[-1].state for said in told.values()} == {"interrupted"}
    (tmp_path / PAUSE).unlink()
    told = reports(worker(together(tmp_path), data, tmp_path))
    for seed in SEEDS:
        assert same(told[10 + seed], alone[seed])


def test_the_next_job_finds_a_worker_without_them(data: DataSet, tmp_path: Path) -> None:
    made = worker(together(tmp_path), data, tmp_path)
    reports(made, 1)
    assert made.reset_config({"job": job(1, tmp_path)})
    (told,) = reports(made).items()
    assert told[0] is None
    assert told[1][-1].state == "finished"


def test_a_call_gives_way_and_goes_on_where_it_stood() -> None:
    log: list[str] = []

    def counting(name: str, most: int) -> Replica:
        def call() -> str:
            for number in range(most):
                log.append(f"{name}{number}")
                torch.rand(1)
                replica.give_way()
            return name

        replica = Replica(call, CPU)
        return replica

    replicas = Replicas({0: counting("a", 3), 1: counting("b", 1)})
    assert replicas.next() == (1, "b")
    assert log == ["a0", "b0", "a1"]
    replicas.leave(1)
    assert replicas.next() == (0, "a")
    replicas.close()
    assert len(replicas) == 0

    def wrong() -> None:
        raise LookupError("gone")

    failing = Replicas({0: Replica(wrong, CPU)})
    with pytest.raises(LookupError, match="gone"):
        failing.next()
    failing.close()


@pytest.mark.gpu
@pytest.mark.parametrize("block", ["gc", "nonlocal"])  # the second in large products of matrices
@pytest.mark.parametrize("speed", ["exact", "auto"])  # eager, and as CUDA graphs
def test_on_a_card_each_replica_is_its_solo_run(speed: str, block: str, tmp_path: Path) -> None:
    data = make_data(480)
    states: dict[int, list[dict[str, Tensor]]] = {seed: [] for seed in SEEDS}
    for count in (1, len(SEEDS)):
        members: dict[int, Replica] = {}
        trainings = [
            Training(make_config(("layer2", block), seed=seed, speed=speed), data, "cuda")
            for seed in SEEDS
        ]
        for seed, training in zip(SEEDS, trainings, strict=True):
            members[seed] = Replica(training.run_epoch, torch.device("cuda"))
            training.between = members[seed].give_way
        torch.cuda.synchronize()  # they were built on another stream
        for first in range(0, len(SEEDS), count):
            some = {seed: members[seed] for seed in SEEDS[first : first + count]}
            replicas = Replicas(some)
            while len(replicas):
                name, _ = replicas.next()
                if trainings[name].done:
                    replicas.leave(name)
        for seed in SEEDS:
            states[seed].append(trainings[seed].result_state())
    for one, other in states.values():
        for name, value in one.items():
            tolerance = 0.0 if speed == "exact" else 1e-4
            assert torch.allclose(value.double(), other[name].double(), 0.0, tolerance), name
