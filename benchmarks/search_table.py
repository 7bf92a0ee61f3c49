"""Train every config of a small space several times, and record the scores of every epoch.

    nice python benchmarks/search_table.py [--seeds 3] [--table benchmarks/search_table.csv]

trains with the product's own `Training`, one thread, without Ray. Every finished training is one
line of the table, written at once, so that the same command goes on where it was cut off; a later
seed begins when all configs have the earlier one. `search.py` replays searches on the table.
"""

import argparse
import csv
import time
import warnings
from pathlib import Path

import torch

from attnsearch.runs.data import load_data
from attnsearch.runs.training.optim import Diverged
from attnsearch.runs.training.train import Training
from attnsearch.spaces.space import Space, load_space

HERE = Path(__file__).parent
SPACE = HERE / "search_space.yaml"
TABLE = HERE / "search_table.csv"


def record(space: Space, seeds: int, table: Path) -> None:
    """Train what the table lacks.

    Args:
        space: Whose decisions are all choices.
        seeds: Of each config, from 0.
        table: A CSV file: a column for each decision, seed, cpu_s, and the score of each epoch;
            an empty score where the training diverged.
    """
    names = [decision.name for decision in space.decisions]
    configs = list(space.grid())
    data = load_data(space.resolve(configs[0])["data"])
    epochs = space.document["train"]["epochs"]
    columns = [*names, "seed", "cpu_s", *map(str, range(1, epochs + 1))]
    if not table.exists():
        table.write_text(",".join(columns) + "\n", encoding="utf-8")
    with table.open(encoding="utf-8", newline="") as file:
        done = {tuple(row[name] for name in [*names, "seed"]) for row in csv.DictReader(file)}
    for seed in range(seeds):
        for values in configs:
            place = (*(str(values.get(name, "")) for name in names), str(seed))
            if place in done:
                continue
            config = space.resolve(values)
            start = time.process_time()
            training = Training(
                {**config, "train": {**config["train"], "seed": seed}}, data, "cpu", threads=1
            )
            scores = [""] * epochs
            try:
                for epoch in range(epochs):
                    scores[epoch] = f"{training.run_epoch()['val_accuracy']:.4f}"
            except Diverged:
                pass
            with table.open("a", encoding="utf-8", newline="") as file:
                cpu = f"{time.process_time() - start:.2f}"
                csv.writer(file, lineterminator="\n").writerow([*place, cpu, *scores])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--space", type=Path, default=SPACE)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    record(load_space(given.space), given.seeds, given.table)
