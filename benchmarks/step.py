"""A training step by default, against the loop that a user writes.

    python -m benchmarks.step                             the table, wall time
    python -m benchmarks.step --clock cpu --threads 1     on a machine that others use too
    python -m benchmarks.step --case medt --case logo --rounds 3
    python -m benchmarks.step --case resnet18 --device cuda --batch 1024 --precision fp32

The loop is torch's tutorial: a `DataLoader` over a `Dataset` that takes one image at a time to a
float tensor, crops, flips and normalises it; a network in NCHW, fp32 and eager; `zero_grad`,
`backward`, `step`, and `loss.item()` in every step. Both train the same network
with the same optimizer and loss, on random images or the built-in scenes. The loop has blocks and
hosts of papers in their authors' order of operations, as `tests/naive.py` and
`tests/naive_hosts.py` transcribe them (MedT's patches one after another).

`plain` is attnsearch with `train.speed: plain`, `default` what `train.speed: auto` chooses here,
which the last column names. All three take turns, an epoch each; a ratio is the median time of
the naive loop over the version's. The race that chooses is not in it: a study has one. On a card
`of roofline` is the share of the images a second that an H200 could train at most, by its
operations and its memory, where that was worked out.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from attnsearch.blocks import BLOCKS, build_network
from attnsearch.runs.data import DataSet, Split, load_data
from attnsearch.runs.machine import cpu_name
from attnsearch.runs.training import AUTOCAST, Training, choose_speed, named
from attnsearch.spaces import Space, load_space
from benchmarks.blocks import transcription

CROP = 4
STEPS = 3  # of an epoch
HOSTS = "naive_hosts.segmenter"
SPACE = """
name: step
task: {task}
data: {{source: {source}, image_size: {side}, channels: 3, augment: {{crop: 4, flip: true}}}}
network: {network}
insert: {insert}
train: {{epochs: 1000, batch_size: {batch}, lr: 0.01, precision: {precision}}}
"""


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        network: The `network` section.
        side: Of the images.
        batch: Images a step.
        masks: Whether it segments.
        insert: The `insert` section.
        formula: Of what the loop has in place of ours: of the block that is inserted, else of the
            whole network.
        roofline: Images a second that an H200 could train at most, in bfloat16.
    """

    network: str
    side: int
    batch: int
    masks: bool = False
    insert: str = "[]"
    formula: str = ""
    roofline: float | None = None


PSA = "[{at: layer*.*.conv2, block: psa}]"
SMALL = "{backbone: resnet18, stem: small, width: 0.25}"
UNET = "{backbone: resnet18, stem: small, width: 0.25, decoder: unet}"
CASES = {
    "resnet20": Case("{backbone: resnet20}", 32, 128),
    "resnet18-w0.25": Case(SMALL, 32, 128),
    "unet-96": Case(UNET, 96, 16, masks=True),
    "epsanet50": Case("{backbone: resnet50}", 224, 4, insert=PSA, formula="naive.psa"),
    "gated_axial_unet": Case("{backbone: gated_axial_unet}", 128, 4, True, formula=HOSTS),
    "medt": Case("{backbone: medt}", 128, 4, True, formula=HOSTS),
    "logo": Case("{backbone: logo}", 128, 4, True, formula=HOSTS),
    "resnet18": Case("{backbone: resnet18, stem: small}", 32, 512, roofline=147_000),
    "resnet50": Case("{backbone: resnet50}", 224, 256, roofline=12_000),
}
USUAL = ("resnet20", "resnet18-w0.25", "unet-96")  # without --case


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


class Transcribed(nn.Module):
    """A network or block that computes by its plain transcription, with its own parameters.

    Args:
        module: Whose parameters and buffers.
        formula: Of `tests/naive.py` or `tests/naive_hosts.py`.
        settings: Of the formula.
    """

    def __init__(self, module: nn.Module, formula: Callable[..., Tensor], **settings: Any) -> None:
        super().__init__()
        self.module, self._formula, self._settings = module, formula, settings

    def forward(self, x: Tensor) -> Tensor:
        """Compute, and keep the running statistics that the formula arrives at."""
        buffers = dict(self.module.named_buffers())
        state = {**dict(self.module.named_parameters()), **buffers}
        y = self._formula(x, state, training=self.training, **self._settings)
        with torch.no_grad():
            for name, buffer in buffers.items():
                if state[name] is not buffer:
                    buffer.copy_(state[name])
        return y


def transcribed(network: nn.Module, formula: str) -> nn.Module:
    """Return a network with PSA, or all of it, in its authors' order of operations."""
    function = transcription(formula)
    if formula == HOSTS:
        return Transcribed(network, function)
    for name, module in list(network.named_modules()):
        if isinstance(module, BLOCKS["psa"]):
            convolution = module.get_submodule("conv_1")
            assert isinstance(convolution, nn.Conv2d)
            parent, _, own = name.rpartition(".")
            plain = Transcribed(module, function, stride=convolution.stride[0])
            setattr(network.get_submodule(parent), own, plain)
    return network


def naive(
    config: dict[str, Any], data: DataSet, device: str, formula: str = ""
) -> Callable[[], None]:
    """Return an epoch of the loop that a user writes."""
    network = build_network(config, data.channels, data.classes, data.image_size, seed=0)
    if formula:
        network = transcribed(network, formula)
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


def random_images(count: int, side: int = 32) -> DataSet:
    """Return random images in 10 classes, and a few to validate on."""

    def split(images: int) -> Split:
        pixels = np.random.default_rng(images).integers(0, 256, (images, side, side, 3), np.uint8)
        return Split(pixels, np.arange(images) % 10, [str(place) for place in range(images)])

    return DataSet(
        name="random",
        train=split(count),
        val=split(10),
        test=split(0),
        class_names=list("0123456789"),
        channels=3,
        image_size=(side, side),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        fingerprint="",
        test_fingerprint="",
        notes=[],
    )


def scenes(space: Space, count: int) -> DataSet:
    """Return the built-in scenes, so many of them to train on."""
    data = load_data(space.document["data"], space.task)
    part = data.train
    assert part.masks is not None
    masks = replace(part.masks, resized=part.masks.resized[:count], image=np.arange(count))
    images = np.ascontiguousarray(part.images[:count])
    train = replace(
        part, images=images, labels=part.labels[:count], names=part.names[:count], masks=masks
    )
    return replace(data, train=train)


def measure(name: str, arguments: argparse.Namespace) -> list[str]:
    """Return a row of the table."""
    case = CASES[name]
    batch = arguments.batch or case.batch
    text = SPACE.format(
        task="segmentation" if case.masks else "classification",
        source="scenes" if case.masks else "digits",
        side=case.side,
        network=case.network,
        insert=case.insert,
        batch=batch,
        precision=arguments.precision,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "step.yaml")
        path.write_text(text, encoding="utf-8")
        space = load_space(path)
    count = STEPS * batch
    data = scenes(space, count) if case.masks else random_images(count, case.side)
    plain = {**space.resolve(), "train": {**space.resolve()["train"], "precision": "fp32"}}
    device, threads = arguments.device, arguments.threads
    lengths: dict[str, Any] = {"steps": arguments.steps, "run_steps": arguments.steps / 10}
    speed = choose_speed([plain], space.document["train"], data, device, threads, **lengths)
    space.settle(speed.arithmetic)
    versions = {
        "naive": naive(plain, data, device, case.formula),
        "plain": ours({**plain, "train": {**plain["train"], "speed": "plain"}}, data, device),
        "default": ours(space.resolve(), data, device),
    }
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    times: dict[str, list[float]] = {version: [] for version in versions}
    for round_ in range(arguments.rounds + 1):
        for version, epoch in versions.items():
            start = clock()
            epoch()
            if device != "cpu":
                torch.cuda.synchronize()
            if round_:  # the first one warms up
                times[version].append(clock() - start)
    median = {version: statistics.median(values) for version, values in times.items()}
    steps = -(-len(data.train.images) // batch)
    rate = len(data.train.images) / median["default"]
    cells = [
        name,
        str(case.side),
        str(batch),
        f"{1000 * median['naive'] / steps:.0f}",
        *(f"{median['naive'] / median[version]:.2f}" for version in ("plain", "default")),
        f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}",
        named(space.resolve()["train"]),
    ]
    if device != "cpu":
        cells.append(f"{rate / case.roofline:.0%}" if case.roofline else "-")
    return cells


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="a training step against a naive loop")
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--precision", choices=("auto", *AUTOCAST), default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=float, default=1e4, help="of the study that chooses")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    machine = cpu_name() if arguments.device == "cpu" else torch.cuda.get_device_name()
    print(
        f"{machine}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {arguments.threads} threads, "
        f"{arguments.clock} time\n"
    )
    columns = ["network", "px", "batch", "naive ms", "plain", "default", "images/s", "default is"]
    columns += [] if arguments.device == "cpu" else ["of roofline"]
    print(f"| {' | '.join(columns)} |")
    print(f"|---|{'---:|' * 6}---|{'---:|' * (len(columns) - 8)}")
    for case in arguments.case or USUAL:
        print(f"| {' | '.join(measure(case, arguments))} |", flush=True)


if __name__ == "__main__":
    main()
