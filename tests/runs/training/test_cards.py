"""What a card needs of a training: shown here without one, as far as that goes."""

import gc
import random
import sys
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from attnsearch.blocks.measure.cost import _copy
from attnsearch.blocks.mechanisms.table import BLOCKS
from attnsearch.runs.training import memory, step as step_file
from attnsearch.runs.training.memory import out_of_memory, own_stream
from attnsearch.runs.training.optim import set_learning_rate
from attnsearch.runs.training.seeding import generator
from attnsearch.runs.training.segment import TASKS
from attnsearch.runs.training.step import Step, captured
from attnsearch.runs.training.train import Training
from tests.runs.training.test_segment import discs, train
from tests.runs.training.test_train import digest, make_config, make_data, trained

__all__ = ["discs"]

META = torch.device("meta")


class Card(TorchDispatchMode):
    """Lets the meta device stand for a card: it has no numbers, so no host can read one.

    Notes what puts a number of the host on it, which makes the host wait too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.updates = 0
        self.waits: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs, name = kwargs or {}, function.overloadpacket.__name__
        given = [*args, *kwargs.values()]
        tensors = [one for one in given if isinstance(one, Tensor)]
        for several in given:
            if isinstance(several, list | tuple):
                tensors += [one for one in several if isinstance(one, Tensor)]
        if name == "lift_fresh" or any(not tensor.is_meta for tensor in tensors):
            self.waits.append(name)
        if name.startswith("_fused_"):  # they have no shapes to compute
            self.updates += 1
            return None
        return function(*args, **kwargs)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """The card, on which optimizers do as on CUDA."""
    monkeypatch.setattr(step_file, "own_stream", lambda *_: None)
    for module, name in (
        ("adam", "_get_capturable_supported_devices"),
        ("optimizer", "_get_fused_kernels_supported_devices"),
    ):
        monkeypatch.setattr(sys.modules[f"torch.optim.{module}"], name, lambda *_: ["meta"])
    return Card()


def step_on(card: Card, training: Training, batch: int) -> None:
    """Take two steps of a training on the card, augmentation included."""
    config, images = training.config, training._images["train"]
    task = TASKS[config["task"]](config, training.data, META)
    network = _copy(training.network, "meta").train()
    step = Step(network, task, config["train"], torch.device("cuda"), batch)
    for _ in range(2):
        stored, index = torch.empty(batch, *images.shape[1:], device=META), torch.arange(batch)
        targets = task.targets(index.to(META))
        scaled = task.normalisation.scale(stored)
        inputs, targets = task.augment(scaled, targets, generator(0, "augment", 0))
        with card:
            set_learning_rate(step.optimizer, 0.1)
            step.eager(task.normalisation.normalise(inputs), targets)
    assert card.updates > 0
    assert card.waits == []


@pytest.mark.parametrize("block", BLOCKS)
def test_no_block_makes_the_host_wait_for_a_card(block: str, card: Card) -> None:
    config = make_config(("layer2", block), optimizer="adamw", grad_clip=1.0)
    config["network"] |= {"width": 2.0}
    config["data"] = {"augment": {"crop": 2, "flip": True, "erase": 0.2}}
    step_on(card, trained(config, make_data()), 16)


@pytest.mark.parametrize(
    "given",
    [
        {"class_weights": [1, 5, 2], "label_smoothing": 0.1},
        {"loss": "focal", "class_weights": "balanced"},
        {"accumulate": 2, "batch_size": 8, "momentum": 0.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("augment", [{}, {"mixup": 0.2, "cutmix": 1.0}, {"policy": "randaugment"}])
def test_no_loss_makes_the_host_wait_for_a_card(
    given: dict[str, Any], augment: dict[str, Any], card: Card
) -> None:
    config = make_config(**given) | {"data": {"augment": augment}}
    step_on(card, trained(config, make_data()), 16)


def test_no_mask_makes_the_host_wait_for_a_card(card: Card, discs: Path, tmp_path: Path) -> None:
    training = train(
        discs,
        tmp_path,
        insert="[{at: layer3, block: ecrm}, {at: decoder1, block: axial}]",
        data={"augment": "{flip: true, rotate: 20, elastic: 0.02, resized_crop: 0.5, hue: 0.1}"},
        train={"boundary_weight": 2, "class_weights": "[1, 3]", "label_smoothing": 0.1},
    )
    step_on(card, training, 4)


class Stream:
    """Of a card that is not there."""

    def wait_stream(self, other: "Stream") -> None:
        """Be in turn with another."""


class Cuda:
    """What a step asks of `torch.cuda`, as far as it has an order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.default = self.current = Stream()
        self.mode: Any = 0
        self.ends = True  # whether a capture ends well
        self.captures: list[tuple[Stream | None, str]] = []
        patch.setattr(torch.cuda, "current_stream", lambda: self.current)
        patch.setattr(torch.cuda, "stream", self.on)
        patch.setattr(torch.cuda, "graph", self.capture)
        patch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        patch.setattr(torch.cuda, "get_sync_debug_mode", lambda: self.mode)
        patch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: setattr(self, "mode", mode))
        graph = step_file._cuda_graph

        def computed_anew(run: Callable[[], None]) -> Callable[[], None]:
            graph(run)
            return run

        patch.setattr(step_file, "_cuda_graph", computed_anew)

    def replay(self) -> None:
        """Do what was captured: here it is computed anew."""

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        """Compute on a stream."""
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def capture(
        self, graph: Any, stream: Stream | None = None, capture_error_mode: str = "global"
    ) -> Iterator[None]:
        """Capture, as `torch.cuda.graph`; where that fails, its stream stays the current one."""
        self.captures.append((stream, capture_error_mode))
        before, self.current = self.current, stream or Stream()
        yield
        if not self.ends:
            raise RuntimeError("operation failed due to a previous error during capture")
        self.current = before


@pytest.mark.parametrize("ends", [True, False])
def test_all_but_replays_is_on_one_stream(ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As autograd needs where a block keeps what hangs on its last step, as ECRM does."""
    config, data = make_config(("layer2", "ecrm")), make_data(56)
    eager, training = (trained(config, data, threads=1) for _ in range(2))
    cuda, own, seen = Cuda(monkeypatch), Stream(), list[tuple[str, Any, int]]()
    cuda.ends = ends
    training._step._captures, training._step.stream = True, own

    def note(network: nn.Module, inputs: tuple[Tensor]) -> None:
        if network.training:
            where = {own: "own", cuda.default: "default"}[cuda.current]
            seen.append((where, cuda.mode, len(inputs[0])))

    training.network.register_forward_pre_hook(note)
    for one in (training, eager):
        one.run_epoch()
        one.run_epoch()
    assert digest(training) == digest(eager)
    assert cuda.current is cuda.default
    assert cuda.captures == [(own, "thread_local")]
    first, last = [("own", 0, 16)] * 3, [("own", 0, 8)]
    tried, checked = [("own", "error", 16), ("own", 0, 16)], [("own", 0, 16)]
    replays = [("default", 0, 16)] * 3
    assert seen == first + last + tried + (checked + replays if ends else first) + last


def test_a_stream_is_of_one_alone_and_then_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
    monkeypatch.setattr(memory, "_spare", defaultdict(list))
    owners = [nn.Identity(), nn.Identity()]
    first, second = (own_stream(owner, META) for owner in owners)
    assert first is not second
    del owners[0]
    assert own_stream(owners[0], META) is first
    assert own_stream(owners[0], META) not in (first, second)


class Counts(nn.Module):
    """A block that does otherwise each second time, by a number of the host."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (1 + self.calls % 2)


class Skips(nn.Module):
    """A block that acts by chance, as Python draws it."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x if random.random() < 0.5 else 2 * x


def begun(config: dict[str, Any], rate: float = 0.1) -> tuple[Training, Tensor, Tensor]:
    """Return a training after its first step, and a batch."""
    training = trained(config, make_data())
    images, targets = training.batch(torch.arange(16), generator(0, "augment", 0))
    training._step(images, targets, rate)
    return training, images, targets


@pytest.mark.parametrize("block", [Counts, Skips])
def test_what_the_host_decides_is_not_captured(block: type[nn.Module]) -> None:
    config = make_config()
    config["insert"] = [{"at": "layer1", "block": f"{__name__}:{block.__name__}", "params": {}}]
    training, images, targets = begun(config)
    before = random.getstate()
    assert captured(training._step, images, targets, record=lambda run: run) is None
    assert random.getstate() == before


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_graph_that_counts_steps_and_moves_no_weight_is_left(optimizer: str) -> None:
    training, images, targets = begun(make_config(optimizer=optimizer), 1e-5)
    weights = list(training.network.parameters())

    def record(run: Callable[[], None]) -> Callable[[], None]:
        def replay() -> None:
            before = [weight.detach().clone() for weight in weights]
            run()
            with torch.no_grad():
                torch._foreach_copy_(weights, before)

        run()
        return replay

    assert captured(training._step, images, targets, record=lambda run: run) is not None
    assert captured(training._step, images, targets, record=record) is None


def test_a_training_that_is_dropped_gives_its_memory_back_at_once() -> None:
    """Not when Python's search for garbage comes by: races train one network after the other."""
    training, *_ = begun(make_config(("layer2", "ecrm"), ema=0.9))
    network = weakref.ref(training.network)
    gc.disable()
    try:
        del training
        assert network() is None
    finally:
        gc.enable()


def test_a_card_that_is_full_is_known_by_what_its_libraries_say() -> None:
    texts = (
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "GET was unable to find an engine to execute this computation",
    )
    assert all(out_of_memory(RuntimeError(text)) for text in texts)
    assert not out_of_memory(RuntimeError("operation not permitted when stream is capturing"))
