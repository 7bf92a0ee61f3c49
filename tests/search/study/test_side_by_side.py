"""Workers go on from act to act."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from attnsearch.runs.machine import available_cpus
from tests.search.command import Command
from tests.search.conftest import TINY


@pytest.mark.skipif(available_cpus() < 2, reason="two workers need two cores")
def test_two_workers_do_all_of_a_study(write_space: Callable[..., Path]) -> None:
    """Between acts all but one were ended, and short runs went to that one."""
    command = Command(write_space(TINY + "confirm: {seeds: 2}\nresources: {workers: 2}\n"))
    driver, workers = psutil.Process(command.process.pid), set[int]()
    while command.process.poll() is None:
        with contextlib.suppress(psutil.Error):
            for process in driver.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "ray::Worker" in " ".join(process.cmdline()):
                        workers.add(process.pid)
        time.sleep(0.05)
    assert command.process.returncode == 0, command.text
    assert len(workers) == 2
