"""Where examples lie, and how many processes decode them, changes no bit of a training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnsearch.runs.batches import feed
from attnsearch.runs.batches.feed import Feed, place, stream
from attnsearch.runs.data.data import DataSet, load_data
from attnsearch.runs.training.train import Training
from tests.runs.data.test_kept import masks, npz, save
from tests.runs.training.test_train import digest, dropping, make_config

__all__ = ["dropping"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path / "cache"))


def folder(place: Path) -> tuple[dict[str, Any], str]:
    random = np.random.default_rng(0)
    for number in range(40):
        pixels = random.integers(0, 256, (10, 12, 3), dtype=np.uint8)
        save(place / "set" / "ab"[number % 2] / f"{number}.png", pixels)
    return {"source": str(place / "set"), "image_size": 8}, "classification"


def config_of(data: dict[str, Any], task: str, *insert: tuple[str, str]) -> dict[str, Any]:
    config = make_config(*insert, batch_size=7, epochs=2)
    config["data"] |= data
    config["task"] = task
    if task == "segmentation":
        config["network"]["decoder"] = "fcn"
        config["train"] |= {"loss": "ce_dice", "boundary_weight": 0.0}
    return config


def trained(config: dict[str, Any], data: DataSet, threads: int = 1) -> tuple[str, str]:
    """The bits after two epochs and the evaluation of the test part."""
    training = Training(config, data)
    torch.set_num_threads(threads)
    while not training.done:
        training.run_epoch()
    scores, kept = training.evaluate("test")
    return digest(training), repr((scores, kept))


@pytest.mark.parametrize("make", [folder, masks, npz])
def test_all_ways_train_to_the_same_bits(tmp_path: Path, make: Any, dropping: str) -> None:
    data, task = make(tmp_path)
    config = config_of(data, task, ("layer2", dropping))
    results = {
        keep: trained(config, load_data({**data, "keep": keep}, task))
        for keep in ("memory", "device", "mapped", "files")
    }
    assert len(set(results.values())) == 1


@pytest.mark.parametrize("decoders", [1, 3])
def test_the_number_of_decoders_changes_nothing(
    tmp_path: Path, decoders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, task = folder(tmp_path)
    images = load_data({**data, "keep": "files"}, task).train.images
    monkeypatch.setattr(feed.torch, "get_num_threads", lambda: decoders)
    batches = torch.split(torch.randperm(len(images)), 5)
    torch.manual_seed(3)
    fed = place(images, torch.device("cpu"))
    assert isinstance(fed, Feed)
    streamed = list(stream(fed, batches))
    assert [tensor.tolist() for tensor in streamed] == [
        images[rows.numpy()].tolist() for rows in batches
    ]
    now = torch.random.get_rng_state()
    torch.manual_seed(3)
    assert torch.equal(now, torch.random.get_rng_state())  # dropout lost no number


def test_a_training_goes_on_in_the_midst_of_an_epoch(tmp_path: Path) -> None:
    data, task = folder(tmp_path)
    config, files = config_of(data, task), load_data({**data, "keep": "files"}, task)
    whole = trained(config, files)
    begun = Training(config, files)
    states: list[dict[str, Any]] = []
    begun.between = lambda: states.append(begun.state())
    begun.run_epoch()
    again = Training(config, load_data({**data, "keep": "mapped"}, task))
    again.load_state(states[1])
    while not again.done:
        again.run_epoch()
    assert digest(again) == whole[0]


def test_an_error_of_a_decoder_is_the_trainings(tmp_path: Path) -> None:
    data, task = folder(tmp_path)
    files = load_data({**data, "keep": "files"}, task)
    training = Training(config_of(data, task), files)
    for path in (tmp_path / "set").rglob("*.png"):
        path.unlink()
    with pytest.raises(Exception, match="could be read when the study began"):
        training.run_epoch()
