"""`train.loop`: a training loop of the user's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attnsearch.blocks.errors import BlockError
from attnsearch.runs.ledger import inputs, run_key
from attnsearch.runs.loops import check_own_loop, training_of
from attnsearch.runs.loops.loop import LoopTraining
from attnsearch.runs.training import Checkpoint, TrainError, Training
from attnsearch.runs.training.optim import Diverged
from attnsearch.search.workers import has_user_code
from attnsearch.spaces import SpaceError, load_space
from tests.runs.training.test_train import digest, make_config, make_data, run
from tests.spaces.space.test_opening import DOCUMENT

LOOPS = """
import torch

LEFT = []


def plain(run, keep=True, draws=0):
    read = ("optimizer", "weight_decay", "nesterov", "schedule", "momentum", "lr")
    settings = {key: run.settings[key] for key in read}
    groups = [
        {"params": [p for p in run.network.parameters() if p.ndim >= 2], "weight_decay": 5e-4},
        {"params": [p for p in run.network.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    made = torch.optim.SGD(groups, lr=settings["lr"], momentum=0.9, nesterov=True, fused=True)
    torch.rand(3)
    if keep:
        run.keep(optimizer=made)
    for epoch in range(run.epoch, run.epochs):
        total = 0.0
        for images, targets in run.batches():
            made.zero_grad()
            logits = run.network(images + draws * torch.rand_like(images))
            loss = run.loss(logits, targets)
            (loss + run.auxiliary(targets)).backward()
            made.step()
            total += float(loss.detach()) * len(images)
        run.report(train_loss=total / len(run.data.train.labels), lr=settings["lr"])


def noisy(run):
    plain(run, draws=0.1)


def forgets(run):
    plain(run, keep=False)


def nothing(run):
    for epoch in range(run.epochs):
        run.report()


def ends(run):
    run.report()


def names(run):
    run.report(val_accuracy=1.0)


def words(run):
    run.report(train_loss="low")


def infinite(run):
    run.report(train_loss=float("nan"))


def breaks(run):
    run.report()
    raise KeyError("of the user's")


def keeps(run):
    run.keep(epoch=3)


def cleans(run):
    try:
        run.report()
    finally:
        LEFT.append(run.epoch)


def no_argument():
    pass


NUMBER = 3
"""


@pytest.fixture
def own(own_module: Callable[[str, str], Path]) -> Path:
    """A folder with the user's loops, current and importable."""
    return own_module("loops", LOOPS)


def looped(name: str, *insert: tuple[str, str], **train: Any) -> Training:
    config = make_config(*insert, loop=f"loops:{name}", **{"epochs": 2, "batch_size": 24, **train})
    return training_of(config, make_data(), "cpu", 1)


def ended(training: Training) -> Training:
    while not training.done:
        training.run_epoch()
    return training


def test_a_loop_that_does_what_ours_does_gives_the_same_numbers(own: Path) -> None:
    theirs = ended(
        looped("plain", ("layer3", "ecrm"), aux_weight={"ecrm": 0.4}, schedule="constant")
    )
    config = make_config(("layer3", "ecrm"), aux_weight={"ecrm": 0.4}, schedule="constant")
    config["train"] |= {"epochs": 2, "batch_size": 24}
    ours = run(config)
    assert isinstance(theirs, LoopTraining) and not isinstance(ours, LoopTraining)
    for one, other in zip(theirs.history, ours.history, strict=True):
        shared = [key for key in one if key.startswith("val_") or key == "lr"]
        assert {key: one[key] for key in shared} == {key: other[key] for key in shared}
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-6)
        assert "train_accuracy" in other and "train_accuracy" not in one
    state = ours.network.state_dict()
    assert all(tensor.equal(state[name]) for name, tensor in theirs.network.state_dict().items())


def test_an_interrupted_loop_goes_on_bit_for_bit(own: Path) -> None:
    whole, half = ended(looped("noisy")), looped("noisy")
    half.run_epoch()
    assert half.can_save
    saved = Checkpoint.of(half.state()).state()
    resumed = looped("noisy")
    resumed.load_state(saved)
    assert digest(ended(resumed)) == digest(whole) == digest(ended(looped("noisy")))
    assert digest(ended(looped("noisy", seed=1))) != digest(whole)


def test_a_loop_gives_way_after_each_batch_and_is_saved_between_epochs(own: Path) -> None:
    training = looped("plain")
    could: list[bool] = []
    training.between = lambda: could.append(training.can_save)
    training.run_epoch()
    assert could == [False, False] and training.can_save
    forgetful = looped("forgets")
    forgetful.run_epoch()
    assert not forgetful.can_save


def test_the_threads_of_the_process_and_its_streams_stay(own: Path) -> None:
    before = torch.get_rng_state()
    ended(looped("noisy"))
    assert torch.get_rng_state().equal(before)


def test_a_loop_that_is_left_ends_as_python_does(own: Path) -> None:
    import loops  # type: ignore[import-not-found]

    training = looped("cleans", batch_size=64)
    training.run_epoch()
    assert loops.LEFT == []
    training.close()  # type: ignore[attr-defined]
    assert loops.LEFT == [1]
    looped("plain").close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "train", "error", "words"),
    [
        (
            "nothing",
            {"lr": 0.3, "batch_size": 64},
            TrainError,
            "train.lr is 0.3, and loops:",
        ),
        ("nothing", {}, TrainError, r"train.batch_size is 24, .*: use run.batches\(...\) there"),
        ("nothing", {"batch_size": 64, "aux_weight": {"ecrm": 0.4}}, TrainError, "run.auxiliary"),
        ("ends", {"batch_size": 64}, TrainError, "ended after 1 of 2 epochs; it calls run.report"),
        (
            "names",
            {},
            TrainError,
            "reports 'val_accuracy'; what it measures",
        ),
        ("words", {}, TrainError, "reports train_loss: 'low', no number"),
        ("infinite", {"batch_size": 64}, Diverged, "train_loss of loops:infinite is not finite"),
        ("breaks", {"batch_size": 64}, KeyError, "of the user's"),
        ("keeps", {}, TrainError, "keeps epoch, a int, which has no state_dict"),
    ],
)
def test_a_loop_that_breaks_a_rule_says_which(
    own: Path, name: str, train: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ended(looped(name, **train))


def test_what_a_loop_cannot_do_is_refused(own: Path) -> None:
    training = looped("plain")
    with pytest.raises(TrainError, match="so they are not split; lower"):
        training.split(2)
    training.split(1)
    with pytest.raises(TrainError, match="trains on one card"):
        training.join(None)  # type: ignore[arg-type]
    with pytest.raises(TrainError, match="called with one argument, the run, and does not take"):
        check_own_loop("loops:no_argument")
    with pytest.raises(BlockError, match="is 3, which cannot be called"):
        check_own_loop("loops:NUMBER")


@pytest.mark.parametrize(
    ("train", "more", "words"),
    [
        ({"loop": "loops:missing"}, {}, "train.loop: function 'loops:missing': "),
        ({"loop": "plain"}, {}, "must be a module:function of your own"),
        ({"grad_clip": 1.0}, {}, "train.grad_clip: is of attnsearch's own loop, and loops:plain"),
        ({"precision": "bf16"}, {}, "train.precision: is of attnsearch's own loop"),
        ({"ema": {"choice": [None, 0.9]}}, {}, "train.ema: is of attnsearch's own loop"),
        ({}, {"resources": {"gpus": 2}}, "loops:plain (train.loop) trains on one card"),
    ],
)
def test_mistakes_stand_at_their_key(own: Path, train: Any, more: Any, words: str) -> None:
    with pytest.raises(SpaceError) as caught:
        load_space({**DOCUMENT, "train": {"loop": "loops:plain", **train}, **more})
    assert words in str(caught.value)


def test_the_source_of_a_loop_is_part_of_the_key(own: Path) -> None:
    space = load_space({**DOCUMENT, "train": {"loop": "loops:plain", "epochs": 2}})
    config, ours = space.resolve(space.defaults()), load_space(DOCUMENT)
    before = run_key(config, "data", 0, 2, "cpu", 1)
    assert before != run_key(ours.resolve(ours.defaults()), "data", 0, 2, "cpu", 1)
    assert [*inputs(config)] == [*inputs(space.document)] == ["loops:plain"]
    assert has_user_code(config)
    (own / "loops.py").write_text(LOOPS + "\n")
    assert run_key(config, "data", 0, 2, "cpu", 1) != before
