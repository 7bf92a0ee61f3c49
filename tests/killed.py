"""A process that is killed in the midst of a file: open for writing, with nothing in it yet.

    python -m tests.killed PART NUMBER COMMAND ...

runs a command of attnsearch that dies so, with its process group.
"""

import builtins
import io
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def kill_in(part: str, number: int, kill: Callable[[], None]) -> None:
    """From now on, kill this process in the `number`-th file whose path has `part` in it."""
    left, real = itertools.count(number - 1, -1), builtins.open

    def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        stream = real(file, mode, *arguments, **options)
        if mode[0] in "wx" and part in str(file) and next(left) == 0:
            kill()
        return stream

    builtins.open = io.open = opened


def killed_in(part: str, number: int, work: Callable[[], object]) -> None:
    """Do work in a fork of this process that is killed in the midst of a file, and that alone."""

    def fork() -> None:
        kill_in(part, number, lambda: os.kill(os.getpid(), signal.SIGKILL))
        work()

    process = multiprocessing.get_context("fork").Process(target=fork)
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL, (part, number)


def command_killed_in(part: str, number: int, *command: str, cwd: Path, **variables: str) -> None:
    """Run a command, killed with its process group in the midst of a file."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.killed", part, str(number), *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **variables},
        capture_output=True,
        text=True,
        timeout=300,
        start_new_session=True,
    )
    assert ended.returncode == -signal.SIGKILL, (part, ended.stdout, ended.stderr)


if __name__ == "__main__":
    part, number, *sys.argv[1:] = sys.argv[1:]
    kill_in(part, int(number), lambda: os.killpg(0, signal.SIGKILL))
    from attnsearch.search.cli import main

    main()
