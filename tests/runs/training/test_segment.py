"""Training and evaluation with masks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from attnsearch.blocks.errors import BlockError
from attnsearch.runs.batches.augment import Augmenter
from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.training.evaluate import Normalisation
from attnsearch.runs.training.segment import classes_of, enlarged_logits, reach
from attnsearch.runs.training.train import Training
from attnsearch.spaces import load_space

SIDE = 24


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    """Images of a bright disc on noise, of mixed sizes, and its mask."""
    draws = np.random.RandomState(0)
    for side in ("images", "masks"):
        (tmp_path / side).mkdir()
    for number in range(14):
        height, width = draws.randint(20, 40, 2)
        y, x = np.mgrid[:height, :width]
        disc = (y - draws.randint(6, height - 6)) ** 2 + (
            x - draws.randint(6, width - 6)
        ) ** 2 < 30
        picture = draws.randint(0, 90, (height, width, 3)) + 150 * disc[..., None]
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / f"images/{number:02d}.png")
        Image.fromarray((255 * disc).astype(np.uint8)).save(tmp_path / f"masks/{number:02d}.png")
    return tmp_path


def train(source: Path, tmp_path: Path, epochs: int = 1, **keys: Any) -> Training:
    file = tmp_path / "space.yaml"
    insert = keys.pop("insert", "[]")
    extra = "".join(f"\n  {key}: {value}" for key, value in keys.pop("data", {}).items())
    more = "".join(f", {key}: {value}" for key, value in keys.pop("train", {}).items())
    file.write_text(
        f"name: discs\ntask: segmentation\ndata:\n  source: {source}\n  image_size: {SIDE}\n"
        f"  splits: [0.6, 0.2, 0.2]{extra}\n"
        f"network: {{backbone: resnet20, width: 0.5, aux_heads: [layer2]}}\ninsert: {insert}\n"
        f"train: {{epochs: {epochs}, batch_size: 4, lr: 0.05, warmup_epochs: 0{more}}}\n"
    )
    config = load_space(file).resolve({})
    data = load_data(config["data"], "segmentation")
    return Training(config, data, keys.pop("device", "cpu"), threads=1)


def test_a_training_learns_and_keeps_figures_of_every_image(discs: Path, tmp_path: Path) -> None:
    training = train(
        discs,
        tmp_path,
        epochs=8,
        insert="[{at: layer3, block: ecrm}]",
        data={"augment": "{flip: true, rotate: 20, elastic: 0.02}"},
    )
    history = [training.run_epoch() for _ in range(8)]
    assert history[-1]["val_dice"] > 0.8 > history[0]["val_dice"]
    assert {"train_dice_pooled", "train_aux_loss", "val_iou", "val_iou_pooled"} <= set(history[0])
    metrics, said = training.evaluate("test")
    assert len(said["names"]) == len(said["dice"]) == len(said["hd95"])
    assert metrics["dice"] == pytest.approx(said["dice"].mean())
    assert training.best_epoch == 1 + int(np.argmax([m["val_dice"] for m in history]))
    again = train(discs, tmp_path, insert="[]")
    repeat = train(discs, tmp_path, insert="[]")
    assert again.run_epoch()["val_loss"] == repeat.run_epoch()["val_loss"]


def test_the_bank_fills_in_training_only(discs: Path, tmp_path: Path) -> None:
    training = train(discs, tmp_path, insert="[{at: layer3, block: ecrm}]")
    training.run_epoch()
    count = training.network.get_submodule("inserted.layer3.0").get_buffer("count")
    before = count.clone()
    training.evaluate("val")
    assert int(before) == 8 and torch.equal(count, before)


def test_a_side_output_needs_as_many_maps_as_the_mask_can_train(
    discs: Path, tmp_path: Path
) -> None:
    training = train(
        discs, tmp_path, insert="[{at: layer3, block: ecrm, params: {ecrm: {prototypes: 5}}}]"
    )
    with pytest.raises(BlockError, match=r"layer3 makes 5 maps for 2 classes.*1, 1 or 2"):
        training.run_epoch()


class Reader(nn.Module):
    """Says what it sees: the first channel as the logit of class 1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x[:, :1]), x[:, :1]], 1)


@pytest.mark.parametrize("tiled", [False, True])
def test_predictions_come_back_at_the_images_size(discs: Path, tiled: bool) -> None:
    data: DataSet = load_data(
        {
            "source": str(discs),
            "image_size": SIDE,
            "splits": [0.6, 0.2, 0.2],
            "tile_overlap": 0.3 if tiled else None,
        },
        "segmentation",
    )
    masks = data.val.masks
    assert masks is not None
    images = torch.from_numpy(np.array(data.val.images))
    normalisation = Normalisation((0.55,) * 3, (1.0,) * 3)
    logits = enlarged_logits(Reader(), masks, images, normalisation)
    found = {image: classes_of(scores) for image, scores in logits}
    assert sorted(found) == list(range(len(data.val)))
    for image, mask in found.items():
        truth = masks.original(image)
        assert mask.shape == truth.shape
        agreement = (mask == truth).mean()
        assert agreement == 1 if tiled else agreement > 0.93


def test_images_and_masks_move_together() -> None:
    draws = torch.Generator().manual_seed(0)
    masks = torch.zeros(6, 32, 32, dtype=torch.long)
    masks[:, 8:20, 6:24] = torch.arange(1, 7)[:, None, None]
    images = masks[:, None].float() / 10
    augment = Augmenter(
        {"flip": True, "vflip": True, "rotate": 30, "scale": 0.2, "crop": 4, "elastic": 0.05},
        (32, 32),
    )
    moved, found = augment.both(images, masks, draws, outside=255)
    assert set(found.unique().tolist()) <= {0, 1, 2, 3, 4, 5, 6, 255}
    inside = found != 255
    # Blended pixels at edges aside, a mask says what its image shows.
    same = ((moved[:, 0] * 10).round().long() == found)[inside].float().mean()
    assert float(same) > 0.93 and not torch.equal(found, masks)
    alone = augment(images, torch.Generator().manual_seed(0))
    assert torch.equal(alone, moved)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_masks_are_learnt_on_a_gpu_in_every_precision(
    precision: str, discs: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "insert": "[{at: layer3, block: ecrm}, {at: decoder1, block: gc}]",
        "data": {"augment": "{flip: true, rotate: 20, elastic: 0.02, brightness: 0.1}"},
        "train": {"precision": precision, "boundary_weight": 2},
    }
    training = train(discs, tmp_path, epochs=8, device="cuda", **settings)
    while not training.done:
        training.run_epoch()
    assert training.history[-1]["val_dice"] > 0.8
    on_cpu = train(discs, tmp_path, epochs=8, **{**settings, "train": {}})
    on_cpu.load_state({**training.state(), "scaler": {}})
    found, expected = on_cpu.evaluate("val")[1], training.evaluate("val")[1]
    np.testing.assert_allclose(found["dice"], expected["dice"], atol=0.01)


def known_by_heart(source: str, network: str, size: int, train: str, folder: Path) -> float:
    """The best Dice on eight training images that validation sees as well, in evaluation mode."""
    file = folder / "space.yaml"
    file.write_text(
        f"name: heart\ntask: segmentation\ndata: {{source: {source}, image_size: {size}}}\n"
        f"network: {network}\n"
        f"train: {{{train}, batch_size: 4, optimizer: adamw, weight_decay: 0}}\n"
    )
    config = load_space(file).resolve({})
    data = load_data(config["data"], "segmentation")
    part = data.train
    assert part.masks is not None
    chosen = part.masks.take(np.arange(8), keep_original=False)
    eight = replace(
        part, images=part.images[:8], labels=part.labels[:8], names=part.names[:8], masks=chosen
    )
    # Validation counts at the network's size.
    starts = np.arange(8) * size * size
    flat, sizes = chosen.resized.reshape(-1), np.full((8, 2), size)
    known = replace(eight, masks=replace(chosen, sizes=sizes, flat=flat, starts=starts))
    training = Training(config, replace(data, train=eight, val=known), threads=1)
    best = 0.0
    while not training.done and best <= 0.95:
        best = max(best, training.run_epoch()["val_dice"])
    return best


@pytest.mark.slow  # up to a minute for each decoder
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("decoder", ["unet", "fpn", "fcn", "aspp"])
def test_every_decoder_can_learn_eight_images_by_heart(decoder: str, tmp_path: Path) -> None:
    network = f"{{backbone: resnet18, width: 0.25, stem: small, decoder: {decoder}}}"
    assert known_by_heart("scenes", network, 48, "epochs: 120, lr: 0.005", tmp_path) > 0.95


@pytest.mark.slow  # five to ten minutes for each network
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("network", "size", "epochs"),
    [
        ("medt, joint_patches: true", 128, 120),
        ("logo, joint_patches: true", 128, 120),
        ("axial_unet", 64, 400),
        ("gated_axial_unet", 64, 400),
    ],
)
def test_every_host_can_learn_eight_images_by_heart(
    network: str, size: int, epochs: int, tmp_path: Path, shared: Path
) -> None:
    """Colonoscopies: a digit's strokes are finer than the half resolution of these networks."""
    source = shared / "data/kvasir_seg"
    if not source.exists():
        pytest.skip("needs ../shared/data/kvasir_seg")
    train = f"epochs: {epochs}, lr: 0.003"
    assert known_by_heart(str(source), f"{{backbone: {network}}}", size, train, tmp_path) > 0.95


def test_reach_is_the_score_of_a_network_that_is_right_in_every_pixel(
    discs: Path, tmp_path: Path
) -> None:
    training = train(discs, tmp_path)
    part = training.data.val
    assert part.masks is not None
    rows = iter(np.array(part.masks.resized))

    class Right(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            truth = torch.from_numpy(np.stack([next(rows) for _ in x]))
            return nn.functional.one_hot(truth.long(), 2).movedim(3, 1).float()

    training.network = Right()
    metrics, _ = training.evaluate("val")
    assert 0.8 < metrics["dice"] < 1
    names = training.data.class_names
    assert reach(part, names) == {"foreground": pytest.approx(metrics["dice"])}
    # At their own size nothing is lost, and what vanishes altogether counts 0.
    whole = replace(part.masks, resized=part.masks.resized * 0)
    assert reach(replace(part, masks=whole), names) == {"foreground": 0.0}
