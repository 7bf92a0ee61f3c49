"""A project in a folder, and the command line in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.wild.making import Made, in_classes

SPACE = """
name: scans
task: classification
data: {source: scans, image_size: 16}
network: {backbone: resnet20, width: 0.25}
insert:
  - {at: layer3, block: {choice: [none, se]}}
train: {epochs: 1, batch_size: 8, lr: 0.05}
search: {sampler: grid, scheduler: none, trials: 2}
confirm: {top: 1, seeds: 2, controls: [baseline]}
resources: {workers: 1}
"""


def project(folder: Path, space: str = SPACE) -> Path:
    """Make a folder with `space.yaml` and its data, and return it."""
    folder.mkdir(parents=True)
    in_classes(Made(folder / "scans", ["healthy", "ill"]), "{name}/{name}_{i}.png")
    (folder / "space.yaml").write_text(space, encoding="utf-8")
    return folder


def attnsearch(
    folder: Path, *words: str, seconds: int = 200, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, as a user's shell does.

    Args:
        folder: The working folder.
        words: After `attnsearch`.
        seconds: After which it counts as hung.
        variables: Of the environment; an empty one is taken away.
    """
    code = "from attnsearch.search.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *words],  # as the console script, without this folder
        cwd=folder,
        env=environment(variables),
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=seconds,
    )


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without what names a ledger or store, and with these."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ATTNSEARCH_", "MLFLOW_", "RAY_"))
    }
    both = {**own, "ATTNSEARCH_CACHE": "", **variables}
    return {name: value for name, value in both.items() if value or name == "ATTNSEARCH_CACHE"}
