"""Five seeds of an arm, as a study trains them, against one seed alone.

    python -m benchmarks.seeds [--seeds 5] [--epochs 8] [--case tiny]

A study confirms a network with a block beside the baseline on so many seeds, as `attnsearch run`
does. `side by side` is the time from the first run's start to the last one's end, over the arms;
`one seed` is a run's median time where one trains at a time, with one thread or with all cores,
whichever is faster. Both are read from the ledger, so that neither has the start of Ray in it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from attnsearch.runs.ledger import Ledger, Role
from attnsearch.runs.machine import available_cpus, cpu_name

Times = tuple[float, float]
CASES = {
    "tiny": ("image_size: 8", "width: 0.25", 16),
    "small": ("image_size: 16", "width: 0.5", 64),
}
SPACE = """
name: seeds
task: classification
data: {{source: digits, {image}}}
network: {{backbone: resnet20, {width}}}
insert: [{{at: layer3, block: {{choice: [none, se]}}}}]
train: {{epochs: {epochs}, batch_size: {batch}, lr: 0.05}}
search: {{trials: 2, scheduler: none}}
confirm: {{seeds: {seeds}}}
resources: {{cpus: {cpus}, workers: {workers}}}
"""


def confirmed(case: str, asked: argparse.Namespace, cpus: int, workers: int) -> list[Times]:
    """Return when the runs of a study's confirm act began and ended, in seconds."""
    image, width, batch = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        given = {"epochs": asked.epochs, "seeds": asked.seeds, "cpus": cpus, "workers": workers}
        text = SPACE.format(image=image, width=width, batch=batch, **given)
        Path(folder, "space.yaml").write_text(text, encoding="utf-8")
        places = {"ATTNSEARCH_CACHE": str(Path(folder, "cache")), "RAY_TMPDIR": folder}
        subprocess.run(
            [sys.executable, "-m", "attnsearch.search.cli", "run", "space.yaml"],
            cwd=folder,
            env=os.environ | places | {"MLFLOW_TRACKING_URI": ""},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        with Ledger(Path(folder, "attnsearch.db")) as ledger:
            (study,) = ledger.studies()
            runs = [run for run in ledger.trials(study.id) if run.role == Role.CONFIRM]
    ended = {run.id: (run.started.timestamp(), run.ended.timestamp()) for run in runs if run.ended}
    return list(ended.values())


def main() -> None:
    """Measure the cases, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--case", choices=CASES)
    asked = parser.parse_args()
    cores = int(available_cpus())
    print(f"{cpu_name()}, {cores} cores")
    for case in [asked.case] if asked.case else CASES:
        runs = confirmed(case, asked, 1, cores)
        wall = max(end for _, end in runs) - min(start for start, _ in runs)
        together = wall * asked.seeds / len(runs)
        alone = {
            cpus: statistics.median(end - start for start, end in confirmed(case, asked, cpus, 1))
            for cpus in sorted({1, cores})
        }
        one = min(alone.values())
        shown = ", ".join(f"{seconds:.2f} s with {cpus}" for cpus, seconds in alone.items())
        print(
            f"{case}: {asked.seeds} seeds side by side {together:.2f} s, one seed {one:.2f} s "
            f"(threads: {shown}): {together / one:.2f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
