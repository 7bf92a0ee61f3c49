"""What a card needs of a training, shown without one: in which order, and what is captured.

That no step waits for it is in `test_waits`.
"""

import gc
import random
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnsearch.runs.training import memory, step as step_file
from attnsearch.runs.training.memory import out_of_memory, own_stream
from attnsearch.runs.training.seeding import generator
from attnsearch.runs.training.step import captured
from attnsearch.runs.training.train import Training
from tests.runs.training.test_train import digest, make_config, make_data, trained

CARD = torch.device("cuda", 0)


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
    tried, checked = [("own", "error", 16)] * 2 + [("own", 0, 16)], [("own", 0, 16)]
    replays = [("default", 0, 16)] * 3
    assert seen == first + last + tried + (checked + replays if ends else first) + last


def test_a_stream_is_of_one_alone_and_then_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
    monkeypatch.setattr(memory, "_spare", defaultdict(list))
    owners = [nn.Identity(), nn.Identity()]
    first, second = (own_stream(owner, CARD) for owner in owners)
    assert first is not second
    del owners[0]
    assert own_stream(owners[0], CARD) is first
    assert own_stream(owners[0], CARD) not in (first, second)


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


def test_a_graph_may_differ_by_what_two_eager_steps_differ_by() -> None:
    before, one, other = ([torch.tensor([value, 0.0])] for value in (0.0, 1.0, 1.1))
    near, far = [torch.tensor([1.25, 0.0])], [torch.tensor([1.4, 0.0])]
    assert step_file._alike(["weight"], before, one, other, near)
    assert not step_file._alike(["weight"], before, one, other, far)
    assert not step_file._alike(["weight"], before, one, one, near)


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
