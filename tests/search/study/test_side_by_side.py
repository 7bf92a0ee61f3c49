"""Workers go on from act to act."""

import contextlib
import subprocess
import sys
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


KILLED_BETWEEN_ACTS = """
import sys
import psutil
import attnsearch

class Kills(attnsearch.Progress):
    def act_started(self, act):
        for process in psutil.Process().children(recursive=True):
            if "ray::Worker" in " ".join(process.cmdline()):
                process.kill()

if __name__ == "__main__":
    result = attnsearch.run_study(sys.argv[1], progress=Kills())
    print(result.state, *{trial.state for trial in result.trials})
"""


@pytest.mark.slow  # two starts of two workers
def test_workers_that_die_between_acts_cost_no_run(write_space: Callable[..., Path]) -> None:
    """All of them are kept there, and each would count as a crash of the run that it is given."""
    path = write_space(TINY + "confirm: {seeds: 3}\nresources: {workers: 2}\n")
    script = path.with_name("kills.py")
    script.write_text(KILLED_BETWEEN_ACTS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), str(path)], cwd=path.parent, capture_output=True, text=True
    )
    assert done.stdout.split() == ["finished"] * 2, done.stdout + done.stderr
