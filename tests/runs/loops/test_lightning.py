"""A LightningModule as `train.loop`: by a stand-in of its methods, and the real one where it is.

Lightning is no dependency, so that most tests drive a module that has what LightningModule has
without a Trainer; the last one takes the real class.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attnsearch.runs.loops import check_own_loop, training_of
from attnsearch.runs.training import TrainError, Training
from tests.runs.training.test_train import digest, make_config, make_data, run

BASE = """
import torch
from torch import nn


class LightningModule(nn.Module):
    def optimizer_step(self, epoch, index, optimizer, closure):
        optimizer.step(closure)

    def optimizer_zero_grad(self, epoch, index, optimizer):
        optimizer.zero_grad()

    def backward(self, loss):
        loss.backward()

    def lr_scheduler_step(self, scheduler, metric):
        scheduler.step() if metric is None else scheduler.step(metric)


"""
MODULES = """
import torch
from torch.nn.functional import cross_entropy

SEEN = []


class Plain(LightningModule):
    def __init__(self, network, lr=0.1):
        super().__init__()
        self.network, self.lr = network, lr

    def training_step(self, batch, batch_idx):
        images, targets = batch
        loss = cross_entropy(self.network(images), targets)
        self.log("loss_seen", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        decayed = [p for p in self.network.parameters() if p.ndim >= 2]
        others = [p for p in self.network.parameters() if p.ndim < 2]
        groups = [
            {"params": decayed, "weight_decay": 5e-4},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.SGD(groups, lr=self.lr, momentum=0.9, nesterov=True, fused=True)


class Full(Plain):
    def __init__(self, network, lr):
        super().__init__(network, lr)
        self.scale = torch.nn.Parameter(torch.rand(1))

    def training_step(self, batch, batch_idx):
        images, targets = batch
        noisy = images + 0.1 * torch.rand_like(images)
        loss = cross_entropy(self.scale * self.network(noisy), targets)
        self.log_dict({"train_seen": loss, "scale": self.scale})
        return {"loss": loss}

    def validation_step(self, batch, batch_idx):
        assert not torch.is_grad_enabled() and not self.training
        images, targets = batch
        self.log("val_loss", cross_entropy(self.network(images), targets))

    def on_train_epoch_end(self):
        SEEN.append((self.trainer.current_epoch, self.trainer.global_step))

    def configure_optimizers(self):
        made = torch.optim.Adam(self.parameters(), lr=self.lr)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(made, patience=0, factor=0.5)
        return {"optimizer": made, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}


class Steps(Plain):
    def configure_optimizers(self):
        made = torch.optim.SGD(self.parameters(), lr=self.lr)
        total = self.trainer.estimated_stepping_batches
        cycle = torch.optim.lr_scheduler.LinearLR(made, 1.0, 0.0, total_iters=total)
        return [made], [{"scheduler": cycle, "interval": "step"}]


class Manual(Plain):
    automatic_optimization = False


class Elsewhere(Plain):
    def __init__(self, network):
        super().__init__(torch.nn.Linear(1, 1))


class Two(Plain):
    def configure_optimizers(self):
        return [super().configure_optimizers(), super().configure_optimizers()]


class Asks(Plain):
    def configure_optimizers(self):
        return self.trainer.model


class Watches(Full):
    def validation_step(self, batch, batch_idx):
        pass


class Numbers(Plain):
    def training_step(self, batch, batch_idx):
        return 3


class Nothing(torch.nn.Module):
    pass
"""
PAGE = Path(__file__).parents[3] / "docs" / "own-loop.md"
IMPORT = "from pytorch_lightning import LightningModule\n"


@pytest.fixture
def own(own_module: Callable[[str, str], Path]) -> Path:
    """A folder with the user's modules, current and importable."""
    return own_module("lit", BASE + MODULES)


def lit(name: str, *insert: tuple[str, str], **train: Any) -> Training:
    settings = {"loop": f"lit:{name}", "epochs": 2, "batch_size": 24, **train}
    return training_of(make_config(*insert, **settings), make_data(), "cpu", 1)


def ended(training: Training) -> Training:
    while not training.done:
        training.run_epoch()
    return training


def test_a_module_that_does_what_ours_does_gives_the_same_numbers(own: Path) -> None:
    settings: dict[str, Any] = {"aux_weight": {"ecrm": 0.4}}
    theirs = ended(lit("Plain", ("layer3", "ecrm"), **settings))
    config = make_config(("layer3", "ecrm"), schedule="constant", **settings)
    config["train"] |= {"epochs": 2, "batch_size": 24}
    ours = run(config).network.state_dict()
    assert all(tensor.equal(ours[key]) for key, tensor in theirs.network.state_dict().items())
    first = theirs.history[0]
    assert first["train_loss"] == pytest.approx(first["train_loss_seen"]) and first["lr"] == 0.1


def test_steps_logs_hooks_and_a_scheduler_that_monitors(own: Path) -> None:
    import lit as modules  # type: ignore[import-not-found]

    training = ended(lit("Full", epochs=4, lr=0.05))
    assert modules.SEEN == [(0, 2), (1, 4), (2, 6), (3, 8)]
    for metrics in training.history:
        assert {"train_seen", "train_scale", "own_val_loss", "val_loss"} <= metrics.keys()
    losses = [metrics["own_val_loss"] for metrics in training.history]
    rates = [metrics["lr"] for metrics in training.history]
    best, expected = float("inf"), 0.05
    for loss, rate in zip(losses, rates, strict=True):
        expected = expected if loss < best * (1 - 1e-4) else expected / 2
        best = min(best, loss)
        assert rate == pytest.approx(expected)
    assert ended(lit("Steps")).history[-1]["lr"] == 0


def test_an_interrupted_module_goes_on_bit_for_bit(own: Path) -> None:
    whole, half = ended(lit("Full", epochs=3)), lit("Full", epochs=3)
    half.run_epoch()
    resumed = lit("Full", epochs=3)
    resumed.load_state(half.state())
    assert digest(ended(resumed)) == digest(whole)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Manual", "optimises by hand"),
        ("Elsewhere", "does not hold the network that it is given"),
        ("Two", "gives one optimizer, alone or with its schedulers"),
        ("Asks", "asks for self.trainer.model; attnsearch drives it without"),
        ("Watches", "monitors val_loss, which was not logged; there are train_seen, scale"),
        ("Numbers", "training_step gives int; it gives a loss"),
    ],
)
def test_what_needs_a_trainer_says_so(own: Path, name: str, words: str) -> None:
    with pytest.raises(TrainError, match=words):
        ended(lit(name))


def test_a_class_that_does_not_train_is_told_before_anything_does(own: Path) -> None:
    check_own_loop("lit:Plain")
    with pytest.raises(TrainError, match="a class without training_step and configure_optim"):
        check_own_loop("lit:Nothing")


def test_a_setting_that_the_module_does_not_take_is_told(own: Path) -> None:
    with pytest.raises(TrainError, match="lit:Plain trained an epoch without it"):
        ended(lit("Plain", label_smoothing=0.1))


def test_the_module_of_the_page_trains(own: Path) -> None:
    text = PAGE.read_text("utf-8").split("```python\n# lit.py\n")[1].partition("```")[0]
    assert IMPORT in text
    (own / "lit.py").write_text(BASE + text.replace(IMPORT, ""))
    training = ended(lit("Lit", lr=0.01))
    assert {"train_confidence", "own_val_loss", "lr"} <= training.history[-1].keys()
    assert training.history[-1]["train_loss"] < training.history[0]["train_loss"]


STUDY = """
import attnsearch

space = {
    "name": "lit",
    "task": "classification",
    "data": {"source": "digits", "image_size": 8},
    "network": {"backbone": "resnet20", "width": 0.25},
    "insert": [{"at": "layer3", "block": {"choice": ["none", "ecrm"]}}],
    "train": {"epochs": 2, "loop": "lit:Full", "lr": {"float": [0.01, 0.1]}},
    "search": {"trials": 2},
    "resources": {"workers": 1},
}
result = attnsearch.run_study(space)
print(*result.frame().state, result.best_trial.config["train"]["loop"])
"""


@pytest.mark.slow  # trains a study in Ray
@pytest.mark.timeout(600)
def test_a_study_trains_by_a_module(own: Path) -> None:
    (own / "study.py").write_text(STUDY)
    store = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{own}/mlflow.db"}
    called = [sys.executable, "study.py"]
    done = subprocess.run(called, env=store, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    *states, loop = done.stdout.split()[-3:]
    assert loop == "lit:Full" and states[0] == "finished" and states[1] in ("finished", "stopped")


def test_the_real_class_trains_alike(own: Path, own_module: Callable[[str, str], Path]) -> None:
    pytest.importorskip("pytorch_lightning", reason="an optional package")
    made = [digest(ended(lit(name))) for name in ("Plain", "Full", "Steps")]
    own_module("lit", IMPORT + MODULES)
    assert [digest(ended(lit(name))) for name in ("Plain", "Full", "Steps")] == made
    assert torch.is_grad_enabled()
