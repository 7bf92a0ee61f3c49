"""A training step by default, against the loop that a user writes.

    python benchmarks/step.py                             the table, wall time
    python benchmarks/step.py --clock cpu --threads 1     on a machine that others use too
    python benchmarks/step.py --case resnet20 --device cuda

The loop is torch's tutorial: a `DataLoader` over a `Dataset` that takes one image at a time to a
float tensor, crops, flips and normalises it; a network in NCHW, fp32 and eager; `zero_grad`,
`backward`, `step`, and `loss.item()` in every step. Both train the same network (nothing inserted)
with the same optimizer and loss, on random images of CIFAR's size or the built-in scenes.

`plain` is attnsearch with `train.speed: plain`, `default` what `train.speed: auto` chooses here,
which the last column names. All three take turns, an epoch each; a ratio is the median time of
the naive loop over the version's. The race that chooses is not in it: a study has one.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from attnsearch.blocks import build_network
from attnsearch.runs.data import DataSet, Split, load_data
from attnsearch.runs.machine import cpu_name
from attnsearch.runs.training import Training, choose_speed, named
from attnsearch.spaces import load_space

CROP = 4
CASES = {
    "resnet20": "{backbone: resnet20}",
    "resnet18-w0.25": "{backbone: resnet18, stem: small, width: 0.25}",
    "unet-96": "{backbone: resnet18, stem: small, width: 0.25, decoder: unet}",
}
SPACE = """
name: step
task: {task}
data: {{source: {source}, image_size: {side}, augment: {{crop: 4, flip: true}}}}
network: {network}
train: {{epochs: 1000, batch_size: {batch}, lr: 0.01}}
"""


class OneByOne(Dataset[tuple[Tensor, Tensor]]):
    """Images as a user's `Dataset` gives them, one at a time."""

    def __init__(self, data: DataSet) -> None:
        masks = data.train.masks
        self.images = data.train.images
        self.targets = data.train.labels if masks is None else masks.resized
        self.mean = torch.tensor(data.mean)[:, None, None]
        self.std = torch.tensor(data.std)[:, None, None]

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        """Return an image, cropped, flipped and normalised, and what it shows."""
        image = torch.from_numpy(self.images[place].copy()).permute(2, 0, 1).float() / 255
        target = torch.as_tensor(self.targets[place].astype(np.int64))
        height, width = image.shape[1:]
        top, left = torch.randint(0, 2 * CROP + 1, (2,)).tolist()
        flip = bool(torch.rand(()) < 0.5)

        def changed(values: Tensor) -> Tensor:
            padded = torch.nn.functional.pad(values, [CROP] * 4)
            values = padded[..., top : top + height, left : left + width]
            return values.flip(-1) if flip else values

        image = (changed(image) - self.mean) / self.std
        return image, changed(target) if target.dim() else target


def naive(config: dict[str, Any], data: DataSet, device: str) -> Callable[[], None]:
    """Return an epoch of the loop that a user writes."""
    network = build_network(config, data.channels, data.classes, data.image_size, seed=0)
    network.to(device).train()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    loader = DataLoader(
        OneByOne(data),
        config["train"]["batch_size"],
        shuffle=True,
        num_workers=0 if device == "cpu" else 8,
        pin_memory=device != "cpu",
    )
    loss_of = Training(config, data, device)._task.loss

    def epoch() -> None:
        total = 0.0
        for images, targets in loader:
            images, targets = images.to(device), targets.to(device)
            optimizer.zero_grad()
            loss = loss_of(network(images), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item()

    return epoch


def ours(config: dict[str, Any], data: DataSet, device: str) -> Callable[[], None]:
    """Return the steps of an epoch of attnsearch's training, without its validation."""
    training = Training(config, data, device)
    draws = torch.Generator().manual_seed(0)

    def epoch() -> None:
        order = torch.randperm(len(data.train.images), generator=draws).to(device)
        for index in order.split(config["train"]["batch_size"]):
            training.train_batches([index], draws)

    return epoch


def random_images(count: int) -> DataSet:
    """Return random images of CIFAR's size in 10 classes, and a few to validate on."""

    def split(images: int) -> Split:
        pixels = np.random.default_rng(images).integers(0, 256, (images, 32, 32, 3), np.uint8)
        return Split(pixels, np.arange(images) % 10, [str(place) for place in range(images)])

    return DataSet(
        name="random",
        train=split(count),
        val=split(10),
        test=split(0),
        class_names=list("0123456789"),
        channels=3,
        image_size=(32, 32),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        fingerprint="",
        test_fingerprint="",
        notes=[],
    )


def measure(case: str, arguments: argparse.Namespace) -> list[str]:
    """Return a row of the table."""
    masks = "unet" in case
    batch = arguments.batch or (16 if masks else 128)
    text = SPACE.format(
        task="segmentation" if masks else "classification",
        source="scenes" if masks else "digits",
        side=96 if masks else 32,
        network=CASES[case],
        batch=batch,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "step.yaml")
        path.write_text(text, encoding="utf-8")
        space = load_space(path)
    data = load_data(space.document["data"], space.task) if masks else random_images(3 * batch)
    plain = space.resolve()
    device, threads = arguments.device, arguments.threads
    lengths = {"steps": 1e4, "run_steps": 1e3}
    speed = choose_speed([plain], space.document["train"], data, device, threads, **lengths)
    space.settle(speed.arithmetic)
    versions = {
        "naive": naive(plain, data, device),
        "plain": ours({**plain, "train": {**plain["train"], "speed": "plain"}}, data, device),
        "default": ours(space.resolve(), data, device),
    }
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in versions}
    for round_ in range(arguments.rounds + 1):
        for name, epoch in versions.items():
            start = clock()
            epoch()
            if device != "cpu":
                torch.cuda.synchronize()
            if round_:  # the first one warms up
                times[name].append(clock() - start)
    median = {name: statistics.median(values) for name, values in times.items()}
    steps = -(-len(data.train.images) // batch)
    return [
        case,
        str(batch),
        f"{1000 * median['naive'] / steps:.0f}",
        *(f"{median['naive'] / median[name]:.2f}" for name in ("plain", "default")),
        named(speed.arithmetic),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="a training step against a naive loop")
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    machine = cpu_name() if arguments.device == "cpu" else torch.cuda.get_device_name()
    print(
        f"{machine}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {arguments.threads} threads, "
        f"{arguments.clock} time\n"
    )
    print("| network | batch | naive ms | plain | default | default is |")
    print("|---|---:|---:|---:|---:|---|")
    for case in arguments.case or CASES:
        print(f"| {' | '.join(measure(case, arguments))} |", flush=True)


if __name__ == "__main__":
    main()
