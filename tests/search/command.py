"""`attnsearch run` as a person starts it, and a block that takes its time there."""

import os
import subprocess
import sys
import time
from pathlib import Path

SLEEPY = '''
import time

import torch
from torch import nn


class Sleeps(nn.Module):
    """Takes its time.

    Args:
        channels: Of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and not x.is_meta and len(x) > 2:
            time.sleep(1)
        return x * self.scale
'''


class Command:
    """`attnsearch run` in a process group of its own.

    Args:
        path: The space file, in whose folder it runs.
        **environment: Variables that differ from this process's.
    """

    def __init__(self, path: Path, **environment: str) -> None:
        self._log = path.with_name(f"{time.monotonic_ns()}.log")
        inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "attnsearch.search.cli", "run", path.name],
                cwd=path.parent,
                env=inherited | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    def wait_for(self, words: str, seconds: float = 200) -> None:
        """Wait until it has said some words."""
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert self.process.poll() is None and time.monotonic() < deadline, self.text
            time.sleep(0.1)
