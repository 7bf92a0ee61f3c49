"""A network that several processes train is the one that a single process trains.

Two processes with gloo. Statistics of batch normalisation are of both, as with
`train.sync_batch_norm`, unless a test says that they are not. Trainings are short: what rounds
otherwise drives two trainings apart after some steps, whoever computes them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attnsearch.blocks.hosts import PatchBatchNorm
from attnsearch.blocks.hosts.patches import Folding
from attnsearch.blocks.ranks import Ranks, synchronise
from attnsearch.runs.training.checkpoints import Checkpoint
from attnsearch.runs.training.train import Training
from tests.runs.training.test_micro_batches import without_statistics
from tests.runs.training.test_segment import discs, train as segmentation
from tests.runs.training.test_train import make_config, make_data, scores, trained
from tests.runs.training.together import Together

__all__ = ["discs"]

pytestmark = pytest.mark.slow  # processes that import torch, and seconds of training

IMAGES = 47
ALL = {"flip": True, "noise": 0.1, "crop": 2, "rotate": 10, "erase": 0.3, "elastic": 0.05}

Ended = tuple[list[dict[str, float]], dict[str, Tensor]]


@pytest.fixture(scope="module")
def together() -> Iterator[Together]:
    processes = Together()
    yield processes
    processes.close()


def classify(
    ranks: Ranks | None,
    train: dict[str, Any],
    augment: dict[str, Any] | None = None,
    block: str | None = None,
    micro_batches: int = 1,
) -> Ended:
    config = make_config(
        *([("layer2", block)] if block else []), **{"epochs": 1, "lr": 0.02, **train}
    )
    config["data"] = {"augment": augment or {}}
    training = trained(config, make_data(IMAGES), threads=1)
    if micro_batches > 1:
        without_statistics(training).split(micro_batches)
    return ended(training, ranks)


def segment(ranks: Ranks | None, source: Path, folder: Path, keys: dict[str, Any]) -> Ended:
    place = folder / str(0 if ranks is None else 1 + ranks.rank)
    place.mkdir(parents=True, exist_ok=True)
    return ended(segmentation(source, place, **keys), ranks)


def ended(training: Training, ranks: Ranks | None) -> Ended:
    if ranks is not None:
        training.join(ranks)
    while not training.done:
        training.run_epoch()
    average = training._average() or training.network.state_dict()
    return scores(training), {name: value.clone() for name, value in average.items()}


def alike(one: Ended, several: list[Ended]) -> None:
    """Asserts that the first of several has the metrics and weights of one, and all the same."""
    (history, weights), *others = several
    for metrics, expected in zip(history, one[0], strict=True):
        assert metrics == pytest.approx(expected, rel=1e-3, abs=1e-5)
    for name, value in one[1].items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=3e-5, msg=name)
        for _, same in others:
            assert torch.equal(same[name], weights[name]), name


CASES: dict[str, tuple[Any, ...]] = {
    "augmented and mixed": ({"batch_size": 16}, ALL | {"mixup": 0.4, "cutmix": 1.0}),
    # Of 47 images in batches of 11 the last has 3: too few for two parts.
    "weighted": (
        {"class_weights": [1, 5, 2], "label_smoothing": 0.1, "grad_clip": 0.3, "batch_size": 11},
        ALL,
    ),
    "weighted and mixed": ({"class_weights": [1, 5, 2], "batch_size": 12}, {"mixup": 0.4}),
    "averaged": ({"ema": 0.9, "optimizer": "adamw", "lr": 1e-3}, ALL),
    "sampled": ({"sampler": "balanced"}, ALL),
    # Steps of three batches; the last one of 17 images in 5, 5, 5 and 2.
    "accumulated": ({"accumulate": 3, "batch_size": 5, "grad_clip": 0.3}, ALL | {"mixup": 0.4}),
    "focal": ({"loss": "focal", "batch_size": 9}, ALL),
    "focal and weighted": ({"loss": "focal", "class_weights": [1, 5, 2]}, {"mixup": 0.4}),
    "a loss of one's own": (
        {"loss": "tests.runs.training.together:squares", "batch_size": 9},
        {},
    ),
    "ecrm": ({"batch_size": 9, "lr": 1e-3}, ALL, "ecrm"),
    "ecrm, its side output left out": ({"aux_weight": {"ecrm": 0}, "lr": 1e-3}, {}, "ecrm"),
    "axial": ({"lr": 1e-3}, ALL, "axial"),
    "micro-batches": ({"class_weights": [1, 5, 2], "batch_size": 9}, ALL, None, 2),
}


@pytest.mark.parametrize("case", CASES)
def test_a_classification_is_that_of_one_process(together: Together, case: str) -> None:
    given = CASES[case]
    alike(classify(None, *given), together(classify, *given, synced=True))


@pytest.mark.parametrize(
    "keys",
    [
        {"data": {"augment": "{flip: true, rotate: 20}"}, "insert": "[{at: layer3, block: ecrm}]"},
        {"train": {"loss": "dice", "accumulate": 2}},
        {"train": {"loss": "focal", "class_weights": "[1, 3]", "boundary_weight": 5.0}},
    ],
)
def test_a_segmentation_is_that_of_one_process(
    together: Together, keys: dict[str, Any], discs: Path, tmp_path: Path
) -> None:
    given = (discs, tmp_path / "spaces", keys)
    alike(segment(None, *given), together(segment, *given, synced=True))


def test_each_has_statistics_of_its_own_unless_asked(together: Together) -> None:
    given: tuple[Any, ...] = ({"batch_size": 16}, ALL)
    (_, weights), (_, others) = together(classify, *given)
    trained = [name for name in weights if "running" not in name]
    assert all(torch.equal(weights[name], others[name]) for name in trained)
    assert any(not torch.equal(weights[name], others[name]) for name in weights)
    _, alone = classify(None, *given)
    assert max(float((weights[name] - alone[name]).abs().max()) for name in trained) > 1e-3


def patches(ranks: Ranks, images: Tensor) -> list[Tensor]:
    """A normalisation of patches, with its gradients and statistics."""
    torch.manual_seed(0)
    folding = Folding(4)
    norm = PatchBatchNorm(3, folding).double()
    synchronise(norm)
    parts = ranks.parts(len(images)) or (len(images),)
    own = torch.split(images, list(parts))[ranks.rank].flatten(0, 1).requires_grad_()
    with ranks.working(len(images)):
        folding.start()
        (norm(own).square() * own.detach().cumsum(2)).sum().backward()
        folding.finish()
    assert own.grad is not None and norm.running_mean is not None and norm.running_var is not None
    return [own.grad, norm.running_mean, norm.running_var]


def test_patches_are_normalised_over_all_processes(together: Together) -> None:
    images = torch.from_numpy(np.random.default_rng(0).random((7, 4, 3, 2, 2)))
    grad, mean, variance = patches(Ranks(), images)
    first, second = together(patches, images, synced=True)
    torch.testing.assert_close(torch.cat([first[0], second[0]]), grad)
    for found in (first, second):
        torch.testing.assert_close(found[1:], [mean, variance])


DROPPING = """
from torch import nn

class Drop(nn.Dropout2d):
    def __init__(self, channels, p=0.3):
        super().__init__(p)
"""


def interrupted(ranks: Ranks, folder: str, kept: Checkpoint | None) -> Any:
    """Train two epochs, the first step of the second being where a state is taken."""
    import sys

    sys.path[:] = [*dict.fromkeys([*sys.path, folder])]
    config = make_config(("layer2", "dropping_together:Drop"), epochs=2, ema=0.9)
    config["data"] = {"augment": ALL}
    training = trained(config, make_data(IMAGES), threads=1)
    if kept is not None:
        training.load_state(kept.state())
    training.join(ranks)
    taken: list[Checkpoint] = []

    def between() -> None:
        passed = training.state()["pass"]
        if training.epoch == 1 and passed["batches"] == 1:
            taken.append(Checkpoint.of(training.state()))

    training.between = between
    while not training.done:
        training.run_epoch()
    return taken, scores(training), training.state()["network"], training.state()["ema"]["means"]


def test_what_is_interrupted_goes_on_bit_for_bit(together: Together, tmp_path: Path) -> None:
    (tmp_path / "dropping_together.py").write_text(DROPPING)
    first, second = together(interrupted, str(tmp_path), None)
    streams = [ended[0][0].state()["pass"]["streams"]["torch"] for ended in (first, second)]
    assert not torch.equal(*streams), "each draws what it drops for itself"
    again, _ = together(interrupted, str(tmp_path), first[0][0])
    assert again[1] == first[1]
    for before, after in zip(first[2:], again[2:], strict=True):
        assert before.keys() == after.keys()
        for name, value in before.items():
            assert torch.equal(after[name], value), name
