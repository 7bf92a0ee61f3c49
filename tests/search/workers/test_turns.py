"""Trainings side by side, measurements alone: no step during a measurement, whatever dies."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from attnsearch.search.workers import turns
from attnsearch.search.workers.turns import Turns, write_times


def test_no_step_runs_while_one_measures(tmp_path: Path) -> None:
    inside, worst, stop = [0], [0], threading.Event()

    def train() -> None:
        own = Turns(tmp_path)
        while not stop.is_set():
            with own.working():
                inside[0] += 1
                time.sleep(0.002)
                inside[0] -= 1

    def measure() -> Mapping[str, float]:
        for _ in range(20):
            worst[0] = max(worst[0], inside[0])
            time.sleep(0.002)
        return {"latency_ms": 1.0}

    trainings = [threading.Thread(target=train) for _ in range(3)]
    for thread in trainings:
        thread.start()
    time.sleep(0.05)
    assert Turns(tmp_path).measured("a", measure) == {"latency_ms": 1.0}
    stop.set()
    for thread in trainings:
        thread.join(5)
    assert worst == [0]


def test_steps_run_side_by_side(tmp_path: Path) -> None:
    inside = threading.Barrier(2)

    def step() -> None:
        with Turns(tmp_path).working():
            inside.wait(5)

    other = threading.Thread(target=step)
    other.start()
    step()
    other.join(5)
    assert not inside.broken


def test_a_measurement_that_hangs_holds_others_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the others would seem to hang too, and be ended with it."""
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.3)
    begun, over = threading.Event(), threading.Event()

    def hang() -> Mapping[str, float]:
        begun.set()
        over.wait(20)
        return {"latency_ms": 1.0}

    thread = threading.Thread(target=lambda: Turns(tmp_path).measured("a", hang))
    thread.start()
    assert begun.wait(5)
    training, steps = Turns(tmp_path), []
    for _ in range(20):
        start = time.monotonic()
        with training.working():
            steps.append(time.monotonic() - start)
    assert steps[0] >= 0.3 and sum(steps[1:]) < 0.3
    over.set()
    thread.join(5)
    assert Turns(tmp_path).measured("a", lambda: pytest.fail("known")) == {"latency_ms": 1.0}


def test_equal_networks_have_equal_times(tmp_path: Path) -> None:
    """Each reading differs; what two workers report of one architecture does not."""
    readings = iter([{"latency_ms": 4.0}, {"latency_ms": 2.0}, {"latency_ms": 9.0}])
    one, other = Turns(tmp_path), Turns(tmp_path)
    assert one.measured("a", lambda: next(readings)) == {"latency_ms": 4.0}
    assert other.measured("b", lambda: next(readings)) == {"latency_ms": 2.0}
    assert other.measured("a", lambda: next(readings)) == {"latency_ms": 4.0}


def test_times_from_before_are_not_measured_again(tmp_path: Path) -> None:
    write_times(tmp_path, {"a": {"latency_ms": 7.0}})
    assert Turns(tmp_path).measured("a", lambda: pytest.fail("known")) == {"latency_ms": 7.0}


def test_a_step_that_hangs_costs_others_their_times_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.05)
    with Turns(tmp_path).working():
        assert Turns(tmp_path).measured("a", lambda: pytest.fail("not alone")) == {}
        with Turns(tmp_path).working():
            pass
    assert Turns(tmp_path).measured("a", lambda: {"latency_ms": 1.0}) == {"latency_ms": 1.0}


def test_a_measurement_that_fails_leaves_the_room(tmp_path: Path) -> None:
    def fails() -> Mapping[str, float]:
        raise RuntimeError("the network cannot run")

    with pytest.raises(RuntimeError):
        Turns(tmp_path).measured("a", fails)
    with Turns(tmp_path).working():
        pass
    assert Turns(tmp_path).measured("a", lambda: {"latency_ms": 1.0}) == {"latency_ms": 1.0}


def hang(folder: Path, begun: str) -> None:
    with Turns(folder).working():
        Path(begun).touch()
        time.sleep(60)


def test_a_killed_worker_leaves_the_room(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    process = multiprocessing.get_context("fork").Process(target=hang, args=(tmp_path, begun))
    process.start()
    while not begun.exists():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert Turns(tmp_path).measured("a", lambda: {"latency_ms": 1.0}) == {"latency_ms": 1.0}


def test_a_worker_without_a_folder_takes_no_turns() -> None:
    alone = Turns(None)
    with alone.working():
        assert alone.measured("a", lambda: {"latency_ms": 1.0}) == {"latency_ms": 1.0}
