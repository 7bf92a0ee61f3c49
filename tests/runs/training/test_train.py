import hashlib
import io
import json
import math
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from attnsearch.runs.data.data import DataSet, Split
from attnsearch.runs.training.losses import class_weights, classification_loss
from attnsearch.runs.training.optim import Diverged, TrainError, batch_sizes
from attnsearch.runs.training.train import Training
from attnsearch.spaces.keys.measures import COSTS

SIZE, CLASSES = 8, 3
TIMES = ("images_per_s", "epoch_s", "cuda_graph", "compiled")  # differ where all else is equal


def make_data(images: int = 48) -> DataSet:
    """Noise with a bright bar, whose height tells the class."""

    def split(count: int, seed: int) -> Split:
        random = np.random.default_rng(seed)
        labels = np.arange(count, dtype=np.int64) % CLASSES
        pixels = random.integers(0, 120, (count, SIZE, SIZE, 1), dtype=np.uint8)
        for image, label in zip(pixels, labels, strict=True):
            image[2 * label : 2 * label + 2] += 100
        pixels.flags.writeable = False  # as in the object store that workers share
        return Split(pixels, labels, [f"{seed}-{i}" for i in range(count)])

    return DataSet(
        name="bars",
        train=split(images, 0),
        val=split(30, 1),
        test=split(15, 2),
        class_names=["low", "middle", "high"],
        channels=1,
        image_size=(SIZE, SIZE),
        mean=(0.33,),
        std=(0.2,),
        fingerprint="",
        test_fingerprint="",
        notes=[],
    )


def make_config(*insert: tuple[str, str], **train: Any) -> dict[str, Any]:
    """A config of a tiny ResNet; `insert` is (site, block), the rest goes to `train`."""
    return {
        "name": "tiny",
        "task": "classification",
        "data": {"augment": {"noise": 0.1, "flip": True}},
        "network": {
            "backbone": "resnet20",
            "stem": "small",
            "width": 0.5,
            "weights": None,
            "decoder": None,
        },
        "insert": [
            {"at": at, "name": at, "block": block, "params": {block: {}}} for at, block in insert
        ],
        "checkpoint": "last",
        "train": {
            "epochs": 3,
            "batch_size": 16,
            "optimizer": "sgd",
            "lr": 0.1,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "nesterov": True,
            "schedule": "cosine",
            "step_epochs": 1,
            "step_factor": 0.1,
            "warmup_epochs": 0,
            "label_smoothing": 0.0,
            "precision": "fp32",
            "grad_clip": None,
            "class_weights": None,
            "aux_weight": {},
            "seed": 0,
            "channels_last": False,
        }
        | train,
    }


def trained(config: dict[str, Any], data: DataSet, seed: int = 0, **given: Any) -> Training:
    return Training({**config, "train": {**config["train"], "seed": seed}}, data, **given)


def run(config: dict[str, Any], seed: int = 0, epochs: int | None = None) -> Training:
    training = trained(config, make_data(), seed, threads=1)
    while not training.done and training.epoch != epochs:
        training.run_epoch()
    return training


def scores(training: Training) -> list[dict[str, float]]:
    return [{k: v for k, v in e.items() if k not in TIMES} for e in training.history]


def digest(training: Training) -> str:
    """Of every bit of the metrics and weights."""
    found = hashlib.sha256(json.dumps(scores(training)).encode())
    for name, tensor in training.network.state_dict().items():
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def relabelled(labels: NDArray[np.int64]) -> DataSet:
    data = make_data()
    return replace(data, train=replace(data.train, labels=labels))


@pytest.fixture
def dropping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a user's block that draws from the global generators in training."""
    code = """
from torch import nn

class Drop(nn.Dropout2d):
    def __init__(self, channels, p=0.3):
        super().__init__(p)
"""
    (tmp_path / "dropping_block.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    return "dropping_block:Drop"


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_tiny_problem_is_learned(optimizer: str) -> None:
    lr = {"sgd": 0.1, "adamw": 0.01}[optimizer]
    training = run(make_config(epochs=6, optimizer=optimizer, lr=lr, weight_decay=0.01))
    first, last = training.history[0], training.history[-1]
    assert last["val_accuracy"] > 0.9
    assert last["val_auroc"] > 0.98
    assert last["train_loss"] < first["train_loss"]
    assert last["train_accuracy"] > first["train_accuracy"]
    assert training.epoch == training.epochs == 6
    assert all(metrics["images_per_s"] > 0 for metrics in training.history)


def test_several_classes_an_image_are_learned() -> None:
    data = make_data()
    shown = [np.stack([p.labels == 0, p.labels != 1], 1).astype(np.int64) for p in parts_of(data)]
    train, val = (replace(p, labels=s) for p, s in zip(parts_of(data), shown, strict=True))
    data = replace(data, task="multilabel", class_names=["first", "not second"])
    data = replace(data, train=train, val=val)
    config = make_config(epochs=2) | {"task": "multilabel"}
    config["data"] = {"augment": {"mixup": 0.2}}
    training = trained(config, data, threads=1)
    while not training.done:
        training.run_epoch()
    last = training.history[-1]
    assert last["val_map"] > 0.98
    assert last["val_ap_not_second"] > 0.95
    assert training.history[0]["train_label_accuracy"] < last["train_label_accuracy"] <= 1
    metrics, kept = training.evaluate("val")
    assert kept["labels"].shape == kept["probabilities"].shape == (len(val), 2)
    assert metrics["auroc_first"] > 0.9
    assert not np.allclose(kept["probabilities"].sum(1), 1)


def parts_of(data: DataSet) -> tuple[Any, Any]:
    return data.train, data.val


def test_a_seed_gives_the_same_bits_whatever_ran_before(dropping: str) -> None:
    config = make_config(("layer2", "ecrm"), ("layer1", dropping))
    first = run(config)
    torch.manual_seed(1234)
    torch.rand(100)
    run(make_config(("layer3", "se"), optimizer="adamw", batch_size=7), seed=5)
    assert digest(run(config)) == digest(first)
    assert digest(run(config, seed=1)) != digest(first)


def test_another_process_gives_the_same_bits() -> None:
    code = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("test_train", {str(Path(__file__))!r})
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
print(tests.digest(tests.run(tests.make_config(("layer3", "gc")), epochs=2)))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip() == digest(run(make_config(("layer3", "gc")), epochs=2))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resumed_training_ends_like_an_uninterrupted_one(optimizer: str, dropping: str) -> None:
    config = make_config(("layer2", "ecrm"), ("layer1", dropping), optimizer=optimizer, lr=0.02)
    whole = run(config)
    half = run(config, epochs=1)
    file = io.BytesIO()
    torch.save(half.state(), file)
    half.run_epoch()  # going on must not change what was saved
    file.seek(0)
    resumed = trained(config, make_data(), 0, threads=1)
    resumed.load_state(torch.load(file, weights_only=True))
    assert resumed.epoch == 1
    while not resumed.done:
        resumed.run_epoch()
    assert digest(resumed) == digest(whole)
    assert resumed.best_epoch == whole.best_epoch
    for name, tensor in whole.best_state.items():
        assert torch.equal(resumed.best_state[name], tensor)


def test_a_state_of_another_training_is_refused() -> None:
    state = run(make_config(), epochs=0).state()
    with pytest.raises(TrainError, match="state is of seed 0, this training has 1"):
        trained(make_config(), make_data(), 1).load_state(state)
    with pytest.raises(TrainError, match="another network"):
        trained(make_config(("layer2", "se")), make_data(), 0).load_state(state)


def test_identity_inserted_anywhere_is_the_plain_network_bit_for_bit() -> None:
    plain = run(make_config(), epochs=2)
    same = run(make_config(("layer1.*.residual", "identity"), ("stem", "identity")), epochs=2)
    assert digest(same) == digest(plain)


def test_two_architectures_of_one_seed_see_the_same_images_and_drops(dropping: str) -> None:
    def seen(*insert: tuple[str, str]) -> list[Tensor]:
        training = trained(make_config(("stem", dropping), *insert), make_data(), 3)
        kept: list[Tensor] = []
        training.network.inserted["stem"].register_forward_hook(
            lambda module, inputs, output: kept.append(output.detach() != 0)
        )
        training.network.conv1.register_forward_pre_hook(
            lambda module, inputs: kept.append(inputs[0].clone())
        )
        training.run_epoch()
        return kept[:2]  # the weights are still equal in the first step

    for ours, theirs in zip(seen(), seen(("layer3", "se")), strict=True):
        assert torch.equal(ours, theirs)


def test_epochs_shuffle_and_augment_anew() -> None:
    training = trained(make_config(batch_size=48), make_data(), 0)
    batches: list[Tensor] = []
    training.network.conv1.register_forward_pre_hook(
        lambda module, inputs: batches.append(inputs[0].clone()) if module.training else None
    )
    training.run_epoch()
    training.run_epoch()
    assert not torch.equal(batches[0], batches[1])


def test_the_auxiliary_loss_trains_what_nothing_else_does() -> None:
    name = "inserted.layer2.0.L.weight"
    start = trained(make_config(("layer2", "ecrm")), make_data(), 0).network.state_dict()[name]
    with_loss = run(make_config(("layer2", "ecrm"), aux_weight={"ecrm": 0.4}), epochs=1)
    without = run(make_config(("layer2", "ecrm"), aux_weight={"ecrm": 0.0}), epochs=1)
    assert with_loss.history[0]["train_aux_loss"] > 0
    assert "train_aux_loss" not in without.history[0]
    assert not torch.equal(with_loss.network.state_dict()[name], start)
    assert torch.equal(without.network.state_dict()[name], start)


def test_the_auxiliary_weight_scales_its_term() -> None:
    def term(weight: float) -> float:
        config = make_config(("layer2", "ecrm"), aux_weight={"ecrm": weight}, lr=1e-12)
        return run(config, epochs=1).history[0]["train_aux_loss"]

    assert term(0.8) == pytest.approx(2 * term(0.4), rel=1e-4)


def test_a_loss_that_explodes_stops_the_training() -> None:
    training = trained(make_config(lr=1e15), make_data(), 0)
    with pytest.raises(Diverged, match=r"training loss is not finite in epoch 1 of 3.*train\.lr"):
        for _ in range(3):
            training.run_epoch()


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_nan_from_a_block_stops_the_training(mode: str) -> None:
    training = trained(make_config(), make_data(), 0)

    def poison(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output * math.nan if module.training == (mode == "training") else output

    training.network.fc.register_forward_hook(poison)
    what = {"training": "training loss", "evaluation": "validation loss"}[mode]
    with pytest.raises(Diverged, match=what):
        training.run_epoch()
    assert training.epoch == 0


def test_bf16_trains_and_is_scored_in_fp32() -> None:
    training = run(make_config(("layer2", "ecrm"), precision="bf16", epochs=6))
    assert training.history[-1]["val_accuracy"] > 0.9
    assert (
        training.history[0]["train_loss"]
        != run(make_config(("layer2", "ecrm"), epochs=1)).history[0]["train_loss"]
    )
    dtypes = set()
    training.network.fc.register_forward_hook(lambda m, i, output: dtypes.add(output.dtype))
    training.evaluate("val")[1]
    assert dtypes == {torch.float32}
    assert all(p.dtype == torch.float32 for p in training.network.parameters())


def test_fp16_needs_a_gpu_and_says_so() -> None:
    with pytest.raises(TrainError, match=r"fp16 needs CUDA.*on cpu; use bf16"):
        trained(make_config(precision="fp16"), make_data(), 0)


def test_channels_last_changes_the_layout_and_not_the_result() -> None:
    plain, other = run(make_config(), epochs=1), run(make_config(channels_last=True), epochs=1)
    assert other.network.layer3[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert other.history[0]["train_loss"] == pytest.approx(
        plain.history[0]["train_loss"], rel=1e-3
    )


@pytest.mark.parametrize(
    ("images", "sizes"),
    [(32, [16, 16]), (37, [16, 16, 5]), (33, [16, 17]), (1, [1]), (17, [17]), (16, [16])],
)
def test_no_batch_of_one_image_follows_others(images: int, sizes: list[int]) -> None:
    assert batch_sizes(images, 16) == sizes


def test_every_image_is_used_once_an_epoch() -> None:
    config = make_config(batch_size=16) | {"data": {"augment": {}}}
    training = trained(config, make_data(33), 0)
    batches: list[Tensor] = []
    training.network.conv1.register_forward_pre_hook(
        lambda module, inputs: batches.append(inputs[0].clone()) if module.training else None
    )
    training.run_epoch()
    assert [len(batch) for batch in batches] == [16, 17]
    expected = training.normalisation(torch.from_numpy(np.array(training.data.train.images)))
    seen = torch.cat(batches)
    assert sorted(seen.flatten(1).sum(1).tolist()) == sorted(expected.flatten(1).sum(1).tolist())


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = np.array([0] * 5 + [1] * 20 + [2] * 11)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    found = class_weights("balanced", relabelled(labels), labels)
    assert found is not None
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_balanced_weights_ignore_a_class_without_images() -> None:
    labels = np.array([0] * 6 + [2] * 6)
    found = class_weights("balanced", relabelled(labels), labels)
    assert found is not None
    assert found.tolist() == pytest.approx([2 / 3, 0, 2 / 3])


def test_class_weights_decide_what_is_learned() -> None:
    training = run(make_config(class_weights=[0.0, 1.0, 0.0]))
    assert (training.evaluate("val")[1]["probabilities"].argmax(1) == 1).all()


def test_class_weights_must_be_one_per_class() -> None:
    with pytest.raises(TrainError, match=r"2 weights for 3 classes \(low, middle, high\)"):
        trained(make_config(class_weights=[1.0, 2.0]), make_data(), 0)


def test_label_smoothing_mixes_in_the_uniform_distribution() -> None:
    loss = classification_loss(
        {"label_smoothing": 0.1, "class_weights": None}, make_data(), torch.device("cpu")
    )
    logits, labels = (
        torch.randn(5, 3, generator=torch.Generator().manual_seed(0)),
        torch.arange(5) % 3,
    )
    target = 0.9 * nn.functional.one_hot(labels, 3) + 0.1 / 3
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    assert float(loss(logits, labels)) == pytest.approx(float(expected), rel=1e-6)


def test_clipped_gradients_bound_the_way_of_the_weights() -> None:
    clip, lr = 0.01, 0.5
    training = trained(
        make_config(grad_clip=clip, lr=lr, momentum=0.0, weight_decay=0.0, schedule="constant"),
        make_data(),
        0,
    )
    start = torch.nn.utils.parameters_to_vector(training.network.parameters()).detach()
    training.run_epoch()
    way = torch.nn.utils.parameters_to_vector(training.network.parameters()).detach() - start
    steps = 3
    assert 0 < float(way.norm()) <= clip * lr * steps * 1.001


def test_the_rate_that_is_told_is_that_of_the_last_step() -> None:
    training = run(make_config(schedule="step", step_epochs=1, step_factor=0.5, lr=0.2))
    assert [metrics["lr"] for metrics in training.history] == pytest.approx([0.2, 0.1, 0.05])


def test_the_last_or_the_best_epoch_counts_as_asked() -> None:
    # Two good epochs, then a rate that spoils everything.
    train = {"epochs": 3, "schedule": "step", "step_epochs": 1, "step_factor": 9.0, "lr": 0.03}
    last = run(make_config(**train))
    best = run(make_config(**train) | {"checkpoint": "best_val"})
    accuracies = [metrics["val_accuracy"] for metrics in best.history]
    assert best.best_epoch == 1 + accuracies.index(max(accuracies))
    assert best.best_epoch < 3, "the last epoch was to be spoilt"
    assert (last.result_epoch, best.result_epoch) == (3, best.best_epoch)
    assert last.result == last.history[-1]
    assert best.result == best.history[best.best_epoch - 1]
    before = {name: t.clone() for name, t in best.network.state_dict().items()}
    for training in (last, best):
        told = training.evaluate("val")[1]
        accuracy = (told["probabilities"].argmax(1) == told["labels"]).mean()
        assert accuracy == training.result["val_accuracy"]
        twin = trained(make_config(), make_data(), 9)
        twin.network.load_state_dict(training.result_state())
        assert np.array_equal(twin.evaluate("val")[1]["probabilities"], told["probabilities"])
    for name, tensor in best.network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_predictions_are_told_for_each_image_of_each_split() -> None:
    training = run(make_config(), epochs=1)
    data = training.data
    for name, split in (("train", data.train), ("val", data.val), ("test", data.test)):
        told = training.evaluate(name)[1]
        assert told["names"] == split.names
        assert np.array_equal(told["labels"], split.labels)
        assert told["probabilities"].dtype == np.float32
        assert told["probabilities"].shape == (len(split.labels), CLASSES)
        np.testing.assert_allclose(told["probabilities"].sum(1), 1, rtol=1e-5)


def test_costs_are_those_of_the_built_network() -> None:
    plain, wider = run(make_config(), epochs=2), run(make_config(("layer3", "conv1x1")), epochs=1)
    costs = plain.costs()
    assert {*costs, *plain.times()} >= set(COSTS)
    assert costs["params"] == sum(p.numel() for p in plain.network.parameters())
    assert wider.costs()["macs"] > costs["macs"] > 0
    assert plain.times()["latency_ms"] > 0
    assert costs["memory_mb"] > 0


def test_measuring_costs_does_not_change_the_training() -> None:
    config = make_config(("layer2", "ecrm"))
    measured = trained(config, make_data(), 0)
    measured.run_epoch()
    measured.costs()
    measured.evaluate("test")[1]
    measured.run_epoch()
    assert digest(measured) == digest(run(config, epochs=2))


def test_a_training_leaves_the_process_as_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training = run(make_config(), epochs=1)
    assert torch.equal(torch.rand(4), expected)
    assert not torch.are_deterministic_algorithms_enabled()
    assert training.network.training


def test_a_finished_training_goes_no_further() -> None:
    training = run(make_config(epochs=1))
    with pytest.raises(TrainError, match="all 1 epochs of this training are done"):
        training.run_epoch()


def test_threads_are_set_where_asked() -> None:
    before = torch.get_num_threads()
    try:
        trained(make_config(), make_data(), 0, threads=2)
        assert torch.get_num_threads() == 2
        trained(make_config(), make_data(), 0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_on_a_gpu_learns_in_every_precision(precision: str) -> None:
    config = make_config(("layer2", "ecrm"), precision=precision, epochs=6, channels_last=True)
    training = trained(config, make_data(), 0, device="cuda")
    while not training.done:
        training.run_epoch()
    assert training.history[-1]["val_accuracy"] > 0.9
    resumed = trained(config, make_data(), 0, device="cuda")
    resumed.load_state(training.state())
    told = training.evaluate("val")[1]["probabilities"]
    np.testing.assert_allclose(resumed.evaluate("val")[1]["probabilities"], told, atol=1e-6)


class OneSize(nn.Module):
    """A block with a weight for each place."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, *size))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def test_a_network_that_cannot_be_evaluated_at_another_size_says_so_before_it_is_trained() -> None:
    data = make_data()
    large = replace(data, val=replace(data.val, images=np.zeros((30, 12, 12, 1), np.uint8)))
    assert Training(make_config(), large).run_epoch()["val_loss"] > 0
    config = make_config()
    config["insert"] = [{"at": "layer1", "block": f"{__name__}:OneSize", "params": {}}]
    Training(config, data)
    with pytest.raises(TrainError, match=r"size \(8\) does not take .*eval_size \(12\)"):
        Training(config, large)
