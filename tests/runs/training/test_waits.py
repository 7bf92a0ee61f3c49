"""No steady training step waits for its device, whatever the file asks for.

On torch's meta device, as on none that computes: tensors there have no values, so reading one,
taking those that a mask chooses, or copying one to the host fails. Copies from the host are told
by a dispatch mode, unless they are made not to wait.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attnsearch.blocks import BLOCKS
from attnsearch.runs.data import DataSet, load_data
from attnsearch.runs.training import Training, step as step_file
from attnsearch.runs.training.optim import parameter_groups
from attnsearch.runs.training.progress import Pass
from attnsearch.runs.training.seeding import generator
from attnsearch.runs.training.segment import TASKS
from attnsearch.runs.training.step import Step
from attnsearch.spaces import load_space

CARD = torch.device("meta")
CLASSES = """
name: waits
task: classification
data: {source: digits, image_size: 16, channels: 3}
network: {backbone: resnet20}
train: {batch_size: 16, grad_clip: 1.0}
"""
MASKS = """
name: waits
task: segmentation
data: {source: scenes, image_size: 64}
network: {backbone: resnet18, width: 0.25, stem: small}
train: {batch_size: 4, grad_clip: 1.0}
"""
# All but `noise`, which is drawn on the device: there are no generators on this one.
AUGMENTED = (
    "data.augment={crop: 2, resized_crop: 0.5, flip: true, vflip: true, rotate: 10, scale: 0.1, "
    "translate: 0.1, elastic: 0.05, brightness: 0.1, contrast: 0.1, saturation: 0.1, hue: 0.1, "
    "erase: 0.1, erase_chance: 0.5}"
)
ASKED = [
    *((CLASSES, f"insert=[{{at: layer3, block: {block}}}]") for block in sorted(BLOCKS)),
    (CLASSES, AUGMENTED),
    (CLASSES, "data.augment={policy: randaugment}"),
    (CLASSES, "data.augment={policy: trivial_augment, mixup: 0.2, cutmix: 1}"),
    (CLASSES, "train={label_smoothing: 0.1, class_weights: balanced, batch_size: 16}"),
    (CLASSES, "train={loss: focal, sampler: balanced, batch_size: 16}"),
    (CLASSES, "train={accumulate: 4, batch_size: 4, ema: 0.99}"),
    (CLASSES, "train={precision: bf16, channels_last: true, batch_size: 16}"),
    (CLASSES, "network.backbone=resnet50"),
    (MASKS, AUGMENTED),
    (MASKS, "train={loss: dice, batch_size: 4}"),
    (MASKS, "train={loss: focal, batch_size: 4}"),
    (MASKS, "train={loss: ce, boundary_weight: 5, class_weights: balanced, batch_size: 4}"),
    (MASKS, "network.aux_heads=[layer3]"),
    (MASKS, "data.ignore_index=255"),
    (MASKS, "network.decoder=fpn"),
    (MASKS, "network.decoder=fcn"),
    (MASKS, "network.decoder=aspp"),
    (MASKS, "network={backbone: gated_axial_unet}"),
    (MASKS.replace("64", "128"), "network={backbone: logo}"),
    (MASKS.replace("64", "128"), "network={backbone: medt}"),
]


class Copies(TorchDispatchMode):
    """Notes copies between devices that make the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        made = function(*args, **kwargs)
        name = function.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            source = args[1] if name == "copy_" else args[0]
            lets_go = kwargs.get("non_blocking") or (name == "copy_" and args[2:3] == (True,))
            if source.device != made.device and not lets_go:
                self.waiting.append(f"{source.device} to {made.device}, {tuple(source.shape)}")
        return made


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], list[str]]:
    """Take two steps that a space file asks for; return the copies of the second that wait."""

    def plainly(network: torch.nn.Module, train: Any, on_device: bool) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameter_groups(network, 1e-4), lr=0.1, momentum=0.9)

    # Fused ones know no meta device; `test_step` watches those.
    monkeypatch.setattr(step_file, "make_optimizer", plainly)

    def take(text: str, asked: str) -> list[str]:
        path = tmp_path / "waits.yaml"
        path.write_text(text)
        space = load_space(path, [asked])
        config = space.resolve(space.defaults())
        training = on_card(config, load_data(space.document["data"], space.task))
        size, draws = training._batches[0], generator(0, "augment", 0)
        done, index = Pass(draws, CARD), torch.arange(size, device=CARD)

        def once() -> None:
            images, targets = training.batch(index, draws)
            taken = training._step(images, targets, 0.1)
            if training._averages is not None:
                training._averages.update()
            done.add(size, taken.loss, taken.auxiliary, taken.counts)

        once()
        with Copies() as copies:
            once()
        return copies.waiting

    return take


def on_card(config: dict[str, Any], data: DataSet) -> Training:
    """A training whose network, images and all that a step takes lie on the device."""
    training = Training(config, data, threads=1)
    training.network.to(CARD)
    training.device = CARD
    training._task = TASKS[config["task"]](config, data, CARD)
    training.normalisation = training._task.normalisation
    for name, images in training._images.items():
        assert isinstance(images, Tensor)
        training._images[name] = images.to(CARD)
    host = torch.device("cpu")  # autocast knows no meta device
    batch = training._batches[0]
    training._step = Step(training.network, training._task, config["train"], host, batch)
    return training


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("text", "asked"), ASKED, ids=[asked for _, asked in ASKED])
def test_no_step_waits_whatever_is_asked_for(
    text: str, asked: str, steps: Callable[[str, str], list[str]]
) -> None:
    assert steps(text, asked) == []


OWN = """
import torch
from torch import nn

class Waiting(nn.Module):
    def __init__(self, channels: int, way: str = "item") -> None:
        super().__init__()
        self.way = way

    def forward(self, x):
        if x.device.type == "meta" and x.shape[0] == 16:
            if self.way == "item":
                return x * x.mean().item()
            if self.way == "mask":
                return x * x[x > 0].mean()
            if self.way == "host":
                return x * x.mean().cpu().to(x.device)
            return x * torch.ones(1).to(x.device)
        return x
"""


@pytest.mark.parametrize("way", ["item", "mask", "host", "upload"])
def test_what_waits_would_be_noticed(
    way: str,
    steps: Callable[[str, str], list[str]],
    own_module: Callable[[str, str], Path],
) -> None:
    own_module("waiting_block", OWN)
    block = "waiting_block:Waiting"
    asked = f"insert=[{{at: layer2, block: '{block}', params: {{'{block}': {{way: {way}}}}}}}]"
    if way == "upload":
        assert steps(CLASSES, asked) == ["cpu to meta, (1,)"]
        return
    with pytest.raises((RuntimeError, NotImplementedError)):
        steps(CLASSES, asked)
