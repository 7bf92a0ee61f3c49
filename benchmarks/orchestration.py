"""What a trial costs beyond its own training: workers' waits, records, proposals.

    python benchmarks/orchestration.py [--trials 30] [--sampler tpe --epochs 3 --width 0.25]

runs a search of tiny trials twice over the whole way, ledger and MLflow included, in a temporary
folder: about two minutes on two cores; once where a sampler is named. `--width` makes networks,
and so trials, larger. Every worker waits from one trial's end to the next one's start; the wait is
the workers' time in the search, less the time that they spent on trials.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from attnsearch.search.study.events import Progress, StudyInfo, TrialEnd, TrialInfo
from attnsearch.search.study.session import run_study
from attnsearch.spaces import load_space

SPACE = """
name: orchestration
task: classification
data: {{source: digits, image_size: 8}}
network: {{backbone: resnet20, width: {width}}}
insert:
  - at: layer3
    block: {{choice: [none, se, eca]}}
train: {{epochs: {epochs}, batch_size: 160, lr: {{float: [0.01, 0.1], log: true}}}}
search: {{sampler: {sampler}, scheduler: none, trials: {trials}}}
resources: {{cpus: 1}}
"""


class Clock(Progress):
    """Notes when trials began and ended."""

    def __init__(self) -> None:
        self.workers = 0
        self.began: list[float] = []
        self.ended: list[float] = []
        self.training: list[float] = []

    def study_started(self, study: StudyInfo) -> None:
        """Notes how many trials run side by side."""
        self.workers = study.workers

    def trial_started(self, trial: TrialInfo) -> None:
        """Notes the time."""
        self.began.append(time.monotonic())

    def trial_ended(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Notes the time, and what the worker needed for the trial."""
        self.ended.append(time.monotonic())
        self.training.append(end.seconds)

    def overhead(self, skip: int) -> float:
        """Seconds per trial and worker that were not spent on it, without the first trials.

        Args:
            skip: How many trials are left out, in which MLflow is loaded and workers warm up.
        """
        wall = self.ended[-1] - self.ended[skip - 1]
        return (wall * self.workers - sum(self.training[skip:])) / (len(self.ended) - skip)


def measure(sampler: str, trials: int, epochs: int, width: float) -> None:
    """Runs one search and prints its figures."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        path = Path("orchestration.yaml")
        text = SPACE.format(sampler=sampler, trials=trials, epochs=epochs, width=width)
        path.write_text(text, encoding="utf-8")
        clock = Clock()
        run_study(load_space(path), progress=clock)
        os.chdir("/")
    skip = 2 * clock.workers
    training = sum(clock.training[skip:]) / (trials - skip)
    print(
        f"{sampler:8} {epochs} epochs  {clock.workers} workers  {trials} trials: "
        f"{training:.2f} s in a trial, {clock.overhead(skip):.2f} s beside it",
        flush=True,
    )


def main() -> None:
    """Measures two samplers, or the one that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--sampler")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--width", type=float, default=0.25)
    asked = parser.parse_args()
    cases = [("random", 1), ("tpe", 3)]
    for sampler, epochs in [(asked.sampler, asked.epochs)] if asked.sampler else cases:
        measure(sampler, asked.trials, epochs, asked.width)


if __name__ == "__main__":
    main()
