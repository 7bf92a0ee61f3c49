from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attnsearch.runs.training import step as step_file
from attnsearch.runs.training.optim import TrainError, make_optimizer, set_learning_rate
from attnsearch.runs.training.seeding import generator
from attnsearch.runs.training.speed import _steps
from attnsearch.runs.training.step import captured
from attnsearch.runs.training.train import Training
from tests.runs.training.test_micro_batches import without_statistics
from tests.runs.training.test_train import digest, make_config, make_data, run, trained

WAITING = (
    *("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select"),
    *("unique", "unique2", "_unique2", "item"),
)


class Waits(TorchDispatchMode):
    """Notes the operations that make the host wait for what a device computes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__
        if name in WAITING:
            self.names.append(name)
        return function(*args, **(kwargs or {}))


def batches(training: Training) -> Iterator[tuple[Tensor, Tensor]]:
    draws = generator(0, "augment", 0)
    while True:
        yield training.batch(torch.arange(16), draws)


def tensors_of(training: Training) -> list[Tensor]:
    return [tensor.detach().clone() for _, tensor in training._step.changed_tensors()]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("block", ["none", "ecrm", "axial", "gc", "scconv", "cbam"])
def test_no_step_waits_for_the_device(block: str, optimizer: str) -> None:
    augment = {"crop": 2, "flip": True, "contrast": 0.2, "brightness": 0.2, "erase": 0.2}
    inserted = [] if block == "none" else [("layer2", block)]
    config = make_config(*inserted, optimizer=optimizer, grad_clip=0.1, label_smoothing=0.1)
    training = trained({**config, "data": {"augment": augment}}, make_data(), 0)
    draws = generator(0, "augment", 0)
    with Waits() as waits:
        for _ in range(2):
            images, targets = training.batch(torch.arange(16), draws)
            training._step(images, targets, 0.1)
    assert waits.names == []


def test_what_waits_would_be_noticed() -> None:
    with Waits() as waits:
        float(torch.ones(1).sum())
    assert waits.names == ["_local_scalar_dense"]


def as_if_captured(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that is replayed by computing anew, from the memory that it was captured with."""
    monkeypatch.setattr(step_file, "_cuda_graph", lambda run: run)
    training._step._captures = True


@pytest.mark.parametrize("block", ["ecrm", "gc"])
def test_a_captured_training_is_the_eager_one_bit_for_bit(
    block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(("layer2", block), grad_clip=1.0)
    training = trained(
        config, make_data(56), 0, threads=1
    )  # the last batch of an epoch is smaller
    as_if_captured(training, monkeypatch)
    eager = trained(config, make_data(56), 0, threads=1)
    while not training.done:
        training.run_epoch()
        eager.run_epoch()
    assert training._step._captured is not None
    assert digest(training) == digest(eager)
    assert training.history[-1]["cuda_graph"] == 1
    assert "cuda_graph" not in eager.history[-1]


def test_a_captured_training_goes_on_from_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config()
    training = trained(config, make_data(), 0, threads=1)
    as_if_captured(training, monkeypatch)
    training.run_epoch()
    training.run_epoch()
    state = training.state()
    training.run_epoch()
    training.load_state(state)
    assert training._step._captured is None
    training.run_epoch()
    assert digest(training) == digest(run(config))


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(lambda run: lambda: None, id="a graph that does nothing"),
        pytest.param(lambda run: lambda: (run(), run()), id="one that steps twice"),
    ],
)
def test_a_graph_that_differs_from_the_eager_step_is_left(
    record: Callable[[Callable[[], None]], Callable[[], None]],
) -> None:
    training = trained(make_config(("layer2", "ecrm")), make_data(), 0)
    examples = batches(training)
    training._step(*next(examples), 0.1)
    before, stream = tensors_of(training), torch.get_rng_state()

    def with_values(run: Callable[[], None]) -> Callable[[], None]:
        run()  # a CUDA graph knows its results' places after the capture
        return record(run)

    assert captured(training._step, *next(examples), record=with_values) is None
    assert all(map(torch.equal, before, tensors_of(training)))
    assert torch.equal(stream, torch.get_rng_state())


def test_a_step_that_cannot_be_captured_is_taken_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: Callable[[], None]) -> Callable[[], None]:
        run()
        raise RuntimeError("operation not permitted when stream is capturing")

    training = trained(make_config(), make_data(), 0, threads=1)
    as_if_captured(training, monkeypatch)
    monkeypatch.setattr(step_file, "_cuda_graph", refuse)
    while not training.done:
        training.run_epoch()
    assert not training._step._captures
    assert digest(training) == digest(run(make_config()))


def test_a_rate_on_the_device_gives_the_same_steps() -> None:
    """As graphs read it; fused SGD on the CPU takes it too."""
    config = make_config()["train"]
    weights = []
    for on_device in (False, True):
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 4)
        optimizer = make_optimizer(layer, config, on_device=on_device)
        for rate in (0.1, 0.05, 0.02):
            set_learning_rate(optimizer, rate)
            optimizer.zero_grad()
            layer(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()
        weights.append(layer.weight.detach().clone())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-6, atol=0)


def test_what_the_compiler_refuses_is_taken_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(network: Any, **options: Any) -> Callable[[Tensor], Tensor]:
        def refuse(images: Tensor) -> Tensor:
            raise torch._dynamo.exc.Unsupported("no such thing")

        return refuse

    monkeypatch.setattr(torch, "compile", compiled)
    training = run(make_config(compile=True), epochs=1)
    assert digest(training) == digest(run(make_config(), epochs=1))
    assert training._step.refused
    assert training.history[-1]["compiled"] == 0
    steps = _steps(make_config(), {"compile": True}, make_data(), "cpu")
    with pytest.raises(TrainError, match="beyond the compiler"):  # so that no study is compiled
        next(steps)


@pytest.mark.slow  # compiles a network, which takes half a minute of a core
def test_compiled_steps_are_the_eager_ones_but_for_rounding_and_repeat() -> None:
    config = make_config(("layer2", "ecrm"), compile=True)
    training = run(config)
    assert training._step._compiled is not None
    assert digest(training) == digest(run(config))
    eager = run(make_config(("layer2", "ecrm")))
    assert training.history[0]["train_loss"] == pytest.approx(
        eager.history[0]["train_loss"], rel=1e-3
    )


@pytest.mark.gpu
def test_steps_on_a_gpu_are_captured_and_never_wait() -> None:
    config = make_config(("layer2", "ecrm"), speed="auto", grad_clip=1.0)
    training = trained(config, make_data(64), 0, device="cuda")
    training.run_epoch()
    assert training._step._captured is not None
    draws = generator(0, "augment", 0)
    index = torch.arange(16, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        images, targets = training.batch(index, draws)
        training._step(images, targets, 0.1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_state_leaves_the_learning_rate_where_the_step_has_it() -> None:
    """One saved where graphs are captured goes on where they are not, and the other way round."""
    plain, graphed = (trained(make_config(), make_data(), 0, threads=1) for _ in range(2))
    rate = torch.tensor(0.1)
    for group in graphed._step.optimizer.param_groups:
        group["lr"] = rate
    plain.run_epoch()
    graphed.run_epoch()
    states = plain.state(), graphed.state()
    graphed.load_state(states[0])
    plain.load_state(states[1])
    assert all(group["lr"] is rate for group in graphed._step.optimizer.param_groups)
    assert all(isinstance(g["lr"], float) for g in plain._step.optimizer.param_groups)
    plain.run_epoch()
    graphed.run_epoch()
    assert graphed.history[1]["train_loss"] == pytest.approx(plain.history[1]["train_loss"])


@pytest.mark.parametrize("split", [1, 2])
def test_accumulated_batches_make_the_step_of_one_large_batch(split: int) -> None:
    given = {"label_smoothing": 0.1, "momentum": 0.0, "epochs": 1}
    large = without_statistics(
        trained(make_config(**given, batch_size=16), make_data(40), threads=1)
    )
    config = make_config(**given, batch_size=4, accumulate=4)
    small = without_statistics(trained(config, make_data(40), threads=1))
    small.split(split)
    seen = []
    small.network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    one, other = large.run_epoch(), small.run_epoch()
    trainings = seen[: split * 10 * (1 if split == 1 else 2)]
    assert set(trainings) == {4 // split}  # 16 + 16 + 8 images; micro-batches pass twice
    for name in ("train_loss", "train_accuracy", "val_loss", "lr"):
        assert other[name] == pytest.approx(one[name], rel=1e-4), name
    for name, weight in large.network.state_dict().items():
        torch.testing.assert_close(
            small.network.state_dict()[name], weight, rtol=1e-4, atol=2e-6, msg=name
        )
