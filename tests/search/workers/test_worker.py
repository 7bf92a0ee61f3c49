"""A worker outlives what its trainings do."""

import dataclasses
import gc
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch

from attnsearch.blocks.errors import BlockError
from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.training.checkpoints import Checkpoint
from attnsearch.runs.training.train import architecture
from attnsearch.search.workers import keeper, turns
from attnsearch.search.workers.cluster import Need
from attnsearch.search.workers.job import Evaluation, Job, Report
from attnsearch.search.workers.losses import failure_text, fault_file, hang_place
from attnsearch.search.workers.turns import known_times
from attnsearch.search.workers.worker import (
    Worker,
    make_training,
)
from attnsearch.spaces import load_space


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def job(number: int = 0, epochs: int = 3, **options: Any) -> Job:
    fields = {field.name for field in dataclasses.fields(Job)}
    given = {key: value for key, value in options.items() if key in fields}
    config = {key: value for key, value in options.items() if key not in fields}
    return Job(number, config | {"train": {"epochs": epochs}}, **given)


def worker(first: Job, data: DataSet, make: Any, **options: Any) -> Worker:
    """A worker outside of Ray."""
    made = Worker.__new__(Worker)
    made.setup({"job": first}, datasets={"data": data}, make=make, **options)
    return made


def test_each_step_is_an_epoch_and_the_last_brings_the_result(
    dots: DataSet, fake_training: Any
) -> None:
    made = worker(job(score=0.8, predictions=("val",)), dots, fake_training)
    results = [made.step() for _ in range(3)]
    assert [result["report"].epoch for result in results] == [1, 2, 3]
    assert [result["done"] for result in results] == [False, False, True]
    assert results[0]["report"].metrics["val_accuracy"] == pytest.approx(0.4)
    for result in results:
        assert result["report"].metrics["system/worker_memory_mb"] > 10
        assert result["report"].metrics["system/worker_cpus"] >= 0
    last: Report = results[-1]["report"]
    assert last.state == "finished"
    assert last.result["val_accuracy"] == pytest.approx(0.7)
    assert last.costs["latency_ms"] == 5
    assert set(last.predictions) == {"val"}
    assert last.weights is not None
    state = safetensors.torch.load(last.weights.tobytes())
    assert set(state) == {"0.weight", "0.bias", "3.weight", "3.bias"}


@pytest.mark.parametrize(
    "train", ["lr: 0.05, precision: bf16", "optimizer: adamw, lr: 0.01, grad_clip: 1.0"]
)
def test_a_worker_keeps_nothing_of_its_former_jobs(
    write_space: Callable[..., Path], train: str, tmp_path: Path
) -> None:
    path = write_space()
    path.write_text(path.read_text().replace("epochs: 2", "epochs: 1").replace("lr: 0.05", train))
    space = load_space(path)
    data = load_data(space.document["data"], space.task)
    (decision,) = space.decisions

    def job_of(number: int) -> Job:
        block = ("none", "se", "gc")[number % 3]
        config = space.resolve({**space.defaults(), decision.name: block})
        return Job(number, config, checkpoints=str(tmp_path / f"checkpoints-{number}"))

    made = worker(job_of(0), data, make_training)
    tensors = []
    for number in range(6):
        assert made.reset_config({"job": job_of(number)})
        while not made.step()["done"]:
            pass
        gc.collect()
        tensors.append(sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()))
    assert tensors[:3] == tensors[3:], tensors


def test_params_and_macs_are_known_from_the_first_epoch(dots: DataSet, fake_training: Any) -> None:
    """So that a trial that is stopped early has them too."""
    costs = worker(job(), dots, fake_training).step()["report"].costs
    assert costs["params"] == 2 * 9 + 2 + 2 * 2 + 2
    assert costs["macs"] == 2 * 9 * 16 + 2 * 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise", "ValueError: no such thing (conftest.py:"),
        ("nan", "the loss became nan"),
        ("memory", "out of memory"),
    ],
)
def test_what_a_training_raises_is_one_failed_result(
    dots: DataSet, fake_training: Any, fault: str, words: str
) -> None:
    made = worker(job(fault=fault, fault_at=2), dots, fake_training)
    assert made.step()["report"].state is None
    result = made.step()
    assert result["done"]
    assert result["report"].state == "failed"
    assert words in result["report"].error
    assert "Traceback" in result["report"].traceback
    assert made.reset_config({"job": job(1, epochs=1)})
    assert made.step()["report"].state == "finished"


def test_memory_that_ran_out_is_told_apart_and_what_is_split_is_trained_so(
    dots: DataSet, fake_training: Any
) -> None:
    assert worker(job(fault="memory"), dots, fake_training).step()["report"].out_of_memory
    assert not worker(job(fault="raise"), dots, fake_training).step()["report"].out_of_memory

    def too_large(*_: Any) -> Any:
        raise MemoryError  # the network itself: smaller batches do not help

    assert not worker(job(), dots, too_large).step()["report"].out_of_memory
    split: list[int] = []

    def make(*given: Any) -> Any:
        training = fake_training(*given)
        training.split = split.append
        return training

    worker(job(micro_batches=4), dots, make).step()
    assert split == [4]


def test_a_config_that_cannot_be_built_is_infeasible(dots: DataSet, fake_training: Any) -> None:
    def refuse(*_: Any) -> Any:
        raise BlockError("psa: groups 16 do not divide 8 channels")

    report = worker(job(), dots, refuse).step()["report"]
    assert (report.state, report.violations) == ("infeasible", {"fit": 1.0})
    assert "do not divide" in report.error


@pytest.mark.parametrize(
    ("limits", "violations"),
    [
        ({"params": 13}, {"limits.params": 1.0}),
        ({"params": 1000, "latency_ms": 4}, {"limits.params": -0.99, "limits.latency_ms": 0.25}),
    ],
)
def test_a_network_above_a_limit_is_not_trained(
    dots: DataSet, fake_training: Any, limits: dict[str, float], violations: dict[str, float]
) -> None:
    result = worker(job(limits=limits), dots, fake_training).step()
    assert result["done"]
    report = result["report"]
    assert report.state == "infeasible"
    assert report.violations == pytest.approx(violations)
    assert f"limits.{list(limits)[-1]}" in report.error


def test_a_network_within_its_limits_is_trained(dots: DataSet, fake_training: Any) -> None:
    made = worker(job(epochs=1, limits={"latency_ms": 10}), dots, fake_training)
    assert made.step()["report"].state == "finished"


def test_threads_follow_the_cpus_of_a_trial(dots: DataSet, fake_training: Any) -> None:
    for cpus, threads in ((1, 1), (2.5, 2), (0.5, 1)):
        made = worker(job(), dots, fake_training, need=Need(cpus))
        assert made.step()["report"].metrics["threads"] == threads


def test_a_process_in_which_a_users_code_ran_takes_no_other_job(
    dots: DataSet, fake_training: Any
) -> None:
    ours = [{"at": "layer3", "block": "se"}, {"at": "layer2", "block": "none"}]
    made = worker(job(insert=ours), dots, fake_training)
    assert made.reset_config({"job": job(1, insert=[{"at": "layer3", "block": "mine:Block"}])})
    assert not made.reset_config({"job": job(2)})
    networks = (Evaluation(1, {"insert": [{"at": "x", "block": "installed"}]}, "data", "w"),)
    made = worker(job(evaluations=networks), dots, fake_training)
    assert not made.reset_config({"job": job(3)})


def test_modules_are_looked_for_as_in_the_driver(
    dots: DataSet, fake_training: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["/only/here", "/lib"])
    worker(job(), dots, fake_training, folders=["/bin", "/lib", "/home/me/study"])
    assert sys.path == ["/bin", "/lib", "/home/me/study", "/only/here"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RecursionError])
def test_whatever_a_block_raises_is_told(
    dots: DataSet, fake_training: Any, error: type[BaseException]
) -> None:
    def refuse(*_: Any) -> Any:
        raise error

    report = worker(job(), dots, refuse).step()["report"]
    assert report.state == "failed" and report.error.startswith(f"{error.__name__} (test_worker")


def test_a_long_step_writes_where_it_stands(
    dots: DataSet, fake_training: Any, tmp_path: Path
) -> None:
    made = worker(job(sleep=0.5), dots, fake_training, faults=tmp_path, hang_seconds=0.05)
    made.step()
    text = fault_file(tmp_path, job()).read_text()
    assert "run_epoch" in text and "(conftest.py:" in hang_place(text)
    made._hang_seconds = 60.0
    made.step()
    assert fault_file(tmp_path, job()).read_text() == ""


def test_errors_are_described_in_a_sentence() -> None:
    text = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"
    assert failure_text(RuntimeError(text)).startswith(f"out of memory: {text} (the process has")
    assert failure_text(BlockError("a rule")) == "a rule"
    assert failure_text(KeyError("x")) == "KeyError: 'x'"
    told = failure_text(OSError("no answer from https://anna:s3cr3t@host/w"))
    assert told == "OSError: no answer from https://***@host/w"


def test_equal_networks_report_one_latency(
    dots: DataSet, tmp_path: Path, fake_training: Any
) -> None:
    """One plain network read 4.13, 2.71 and 2.66 ms in the runs of one report."""
    readings = iter([4.13, 2.71, 2.66])

    class Timed(fake_training):  # type: ignore[misc]
        def times(self) -> dict[str, float]:
            return {"latency_ms": next(readings)}

    found = []
    for seed in range(3):
        made = worker(job(epochs=1, seed=seed), dots, Timed, faults=tmp_path)
        found.append(made.step()["report"].costs["latency_ms"])
        made.cleanup()
    assert found == [4.13, 4.13, 4.13]


def test_a_latency_that_cannot_be_measured_alone_is_not_told(
    dots: DataSet, tmp_path: Path, fake_training: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.05)
    with turns.Turns(tmp_path).working():
        report = worker(job(epochs=1), dots, fake_training, faults=tmp_path).step()["report"]
    assert report.state == "finished" and "latency_ms" not in report.costs


def test_times_of_earlier_sessions_are_those_of_this_machine_and_of_our_blocks(
    dots: DataSet,
) -> None:
    """Another machine is another clock, and a user's block may have been edited since."""
    measured = {"latency_ms": 4.0, "latency_low_ms": 3.0, "latency_high_ms": 5.0}

    def run(host: str, block: str, width: float, costs: dict[str, float]) -> Any:
        network = {"backbone": "resnet20", "stem": "small", "width": width}
        config = {
            "task": "classification",
            "network": network,
            "insert": [{"at": "layer3", "block": block}],
            "train": {"channels_last": False},
            "data": {"source": "digits"},
        }
        return SimpleNamespace(host=host, config=config, costs=costs)

    here = socket.gethostname()
    runs = [
        run(here, "gc", 1.0, measured),
        run("elsewhere", "gc", 0.5, measured),
        run(here, "own:Gate", 0.25, measured),
        run(here, "gc", 0.125, {"latency_ms": 9.0}),
    ]
    times = known_times(runs, dots, 1)
    assert list(times.values()) == [measured]
    assert times == {architecture(runs[0].config, dots, 1): measured}


def test_a_training_that_goes_on_tells_all_epochs_that_it_has(
    write_space: Callable[..., Path], tmp_path: Path
) -> None:
    """A worker that its driver had given up may have saved it later than the driver knows."""
    path = write_space()
    path.write_text(path.read_text().replace("epochs: 2", "epochs: 3"))
    space = load_space(path)
    data = load_data(space.document["data"], space.task)
    begun = Job(0, space.resolve(space.defaults()), checkpoints=str(tmp_path / "checkpoints"))
    saved = make_training(begun, data, "cpu", 1)
    for _ in range(2):
        saved.run_epoch()
    Checkpoint.of(saved.state()).write(Path(begun.checkpoints))
    made = worker(begun, data, make_training, faults=tmp_path)
    report: Report = made.step()["report"]
    assert list(report.epochs) == [1, 2]
    assert report.epochs[1] == saved.history[0]
    assert list(made.step()["report"].epochs) == [3]


def test_a_worker_of_another_machine_saves_to_the_store(
    write_space: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNSEARCH_STORE", "")  # that of the driver is set in its place
    monkeypatch.setattr(keeper, "SHARE", 1e9)
    space = load_space(write_space())
    data = load_data(space.document["data"], space.task)
    begun = Job(0, space.resolve(space.defaults()), checkpoints="/only/there/k-0")
    url = f"memory://{tmp_path}"
    made = worker(begun, data, make_training, faults=tmp_path / "not here", store=url)
    report: Report = made.step()["report"]
    assert (report.checkpoint, report.trouble) == (None, None)
    again = worker(begun, data, make_training, faults=tmp_path / "not here", store=url)
    assert list(again.step()["report"].epochs) == [1], "what the store has is gone on from"
    assert list(again.step()["report"].epochs) == [2]


def test_the_imports_of_a_new_worker_look_for_no_garbage() -> None:
    """It finds the class where the class says, and what it imports there is no garbage."""
    program = (
        "import gc, importlib, sys\n"
        "import attnsearch.blocks.face\n"
        "looked = []\n"
        "gc.callbacks.append(lambda phase, info: looked.append(info['generation']))\n"
        f"importlib.import_module({Worker.__module__!r}).Worker\n"
        "assert 'torch' in sys.modules and gc.isenabled()\n"
        "gc.callbacks.clear()\n"
        "print(looked.count(2))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr
