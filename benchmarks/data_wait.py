"""How much of a training step passes before the network has its batch.

    python benchmarks/data_wait.py [SPACE ...] [--set KEY=VALUE ...] [--threads 2] [--device cpu]

trains the plain network of each space file (by default the shipped `segmentation` and `resnet`)
for one epoch to warm up and three that count, and prints medians of the epochs: the time of a
step, and the share of it in which examples are taken from the decoded arrays and normalised, with
and without the file's augmentation. For folders it also decodes the files of some batches afresh,
one after the other in the training process, as a loader without a cache or workers would; and it
says how long the whole set takes to load when it must be decoded and when it is in the cache.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Generator, Tensor

from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.readers.images import decode
from attnsearch.runs.training.train import Training, batch_sizes
from attnsearch.spaces import load_space

EPOCHS = 3


class Clocked(Training):
    """A training that notes how long each batch took to be ready.

    Attributes:
        waited_s: The sum since it was last set to 0.
    """

    waited_s = 0.0

    def batch(self, index: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        """The batch, when the device has finished it."""
        self._finish()
        start = time.perf_counter()
        found = super().batch(index, draws)
        self._finish()
        self.waited_s += time.perf_counter() - start
        return found

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def step_and_share(config: dict[str, Any], data: DataSet, device: str) -> tuple[float, float]:
    """Milliseconds of a step, and the share of them that passed before its batch was there."""
    training = Clocked(config, data, device)
    training.run_epoch()
    steps, shares = [], []
    for _ in range(EPOCHS):
        training.waited_s = 0.0
        examples_per_s = training.run_epoch()["images_per_s"]
        epoch_s = len(data.train.images) / examples_per_s
        steps.append(1000 * epoch_s / len(batch_sizes(len(data.train.images), batch_of(config))))
        shares.append(training.waited_s / epoch_s)
    return median(steps), median(shares)


def batch_of(config: dict[str, Any]) -> int:
    """The batch size of a config."""
    size: int = config["train"]["batch_size"]
    return size


def decoding_ms(data: DataSet, folder: Path, batch: int) -> float | None:
    """Milliseconds to read one batch from its files; None where there are no image files."""
    files = [folder / name for name in data.train.names[: 4 * batch]]
    if not all(file.is_file() for file in files):
        return None
    start = time.perf_counter()
    for file in files:
        decode(file, data.image_size)
    return 1000 * (time.perf_counter() - start) * batch / len(files)


def measure(path: Path, settings: list[str], device: str) -> None:
    """Prints the figures of one space file."""
    space = load_space(path, overrides=settings)
    config = space.resolve(space.baseline() or space.defaults())
    config["train"]["epochs"] = EPOCHS + 1
    with tempfile.TemporaryDirectory() as cache:
        os.environ["ATTNSEARCH_CACHE"] = cache
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            data = load_data(config["data"], config["task"])
            seconds.append(time.perf_counter() - start)
    plain = {**config, "data": {**config["data"], "augment": None}}
    step_ms, share = step_and_share(config, data, device)
    _, plain_share = step_and_share(plain, data, device)
    backbone, batch = config["network"]["backbone"], batch_of(config)
    print(f"{space.name}: {data.describe()}, {backbone}, batch {batch}")
    print(
        f"  a step {step_ms:.0f} ms; until its batch is there {share:.1%}, "
        f"{plain_share:.1%} without augmentation"
    )
    files_ms = decoding_ms(data, Path(config["data"]["source"]), batch)
    if files_ms is not None:
        print(
            f"  decoding the images of a batch from files instead: {files_ms:.0f} ms, "
            f"{files_ms / step_ms:.0%} of a step"
        )
    print(f"  loading the set: {seconds[0]:.1f} s, again {seconds[1]:.2f} s", flush=True)


def main() -> None:
    """Measures each space file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("spaces", nargs="*", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    shipped = Path(__file__).resolve().parent.parent / "spaces"
    for path in given.spaces or [shipped / "segmentation.yaml", shipped / "resnet.yaml"]:
        measure(path, given.set, given.device)


if __name__ == "__main__":
    main()
