"""When two configs train alike."""

import copy
import json

import pytest

from attnsearch.spaces import canonical, canonical_text
from attnsearch.spaces.keys import OPTIONAL

TEXT = """\
name: test
task: classification
data: {source: digits, image_size: 16}
network: {backbone: resnet18, stem: small, width: 0.5}
insert:
  - {at: 'layer[3-4]', block: {choice: [none, ecrm, gc]}, decide: stage}
train:
  optimizer: {choice: [sgd, adamw]}
  schedule: {choice: [cosine, step, onecycle]}
  momentum: {choice: [0.9, 0.0]}
"""
VALUES = {
    "layer3.block": "none",
    "layer4.block": "gc",
    "train.optimizer": "sgd",
    "train.schedule": "cosine",
    "train.momentum": 0.9,
}


@pytest.fixture
def config(load):
    return load(TEXT).resolve(VALUES)


def changed(config, path, value):
    config = copy.deepcopy(config)
    node = config
    *parents, last = path.split(".")
    for part in parents:
        node = node[part]
    assert node.get(last, "absent") != value
    node[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "other"),
        ("search", {"sampler": "random"}),
        ("resources", {"cpus": 4, "gpus": 1}),
        ("limits", {"params": 3.0}),
        ("confirm", {"top": 3}),
        ("ablation", {"plans": ["loco"]}),
        ("forbid", [{"a": 1}]),
        ("data.source", "/elsewhere/a.npz"),
        ("data.augment", {"flip": False, "crop": 0}),
        ("data.augment", {"policy": None, "mixup": 0, "crop_ratio": 1.5, "policy_steps": 3}),
        ("train.seed", 7),
        ("train.epochs", 99),
        ("train.step_factor", 0.5),
        ("train.step_epochs", 2),
        ("train.aux_weight", {"ecrm": 0.9}),
    ],
)
def test_what_does_not_change_the_result_is_left_out(path, value, config):
    assert canonical(changed(config, path, value)) == canonical(config)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("task", "segmentation"),
        ("checkpoint", "best_val"),
        ("data.image_size", 32),
        ("data.seed", 1),
        ("data.augment", {"flip": True}),
        ("data.augment", {"mixup": 0.2}),
        ("data.classes", 12),
        ("network.width", 1.0),
        ("network.stem", "imagenet"),
        ("network.backbone", "resnet34"),
        ("train.lr", 0.2),
        ("train.momentum", 0.8),
        ("train.nesterov", False),
        ("train.schedule", "constant"),
        ("train.warmup_epochs", 1),
        ("train.warmup_steps", 5),
        ("train.ema", 0.99),
        ("train.accumulate", 2),
        ("train.sampler", "balanced"),
        ("train.decay", "all"),
        ("train.optimizer", "adamw"),
        ("train.precision", "bf16"),
    ],
)
def test_what_changes_the_result_is_kept(path, value, config):
    assert canonical(changed(config, path, value)) != canonical(config)


def test_a_key_that_is_null_is_as_if_it_were_not_there(load):
    keys = [key for key in OPTIONAL["train"] if key not in ("metrics", "loop")]  # not searched
    absent = load(TEXT).resolve(VALUES)
    nulls = load(TEXT + "".join(f"  {key}: {{choice: [null]}}\n" for key in keys))
    given = nulls.resolve({**VALUES, **{f"train.{key}": None for key in keys}})
    assert not set(keys) & set(absent["train"])
    assert given == absent


@pytest.mark.parametrize("key", OPTIONAL["data"])
def test_a_key_of_the_data_that_says_nothing_is_not_written(load, key):
    assert key not in load(TEXT).document["data"]


def test_how_images_are_evaluated_is_told_by_the_fingerprint_alone(config):
    for value in (256, 0.875):
        assert canonical(changed(config, "data.eval_crop", value)) == canonical(config)
    assert canonical(changed(config, "data.eval_size", 64)) == canonical(config)


def test_names_and_empty_entries_of_insert_do_not_matter(config):
    other = copy.deepcopy(config)
    other["insert"] = [{**other["insert"][1], "name": "top"}]
    assert canonical(other) == canonical(config)


def test_pattern_and_sites_are_one(load):
    text = TEXT.split("insert:")[0]
    both = load(text + "insert: [{at: 'layer[3-4]', block: gc}]").resolve({})
    each = load(text + "insert: [{at: layer4, block: gc}, {at: layer3, block: gc}]").resolve({})
    assert canonical(both) == canonical(each)


def test_a_block_and_its_settings_matter(config):
    other = copy.deepcopy(config)
    other["insert"][1]["params"]["gc"]["ratio"] = 0.5
    assert canonical(other) != canonical(config)


def test_settings_without_effect_are_dropped(load):
    space = load(TEXT)
    adamw = space.resolve({**VALUES, "train.optimizer": "adamw"})
    assert canonical(changed(adamw, "train.momentum", 0.1)) == canonical(adamw)
    assert canonical(changed(adamw, "train.nesterov", False)) == canonical(adamw)
    still = space.resolve({**VALUES, "train.momentum": 0.0})
    assert canonical(changed(still, "train.nesterov", False)) == canonical(still)
    one = space.resolve({**VALUES, "train.schedule": "onecycle"})
    assert canonical(changed(one, "train.warmup_epochs", 3)) == canonical(one)
    steps = space.resolve({**VALUES, "train.schedule": "step"})
    assert canonical(changed(steps, "train.step_factor", 0.5)) != canonical(steps)


def test_the_names_of_classes_matter_where_the_background_is_known_by_its_name(load):
    text = TEXT.replace("classification", "segmentation").replace("digits", "scenes")
    config = load(text).resolve(VALUES)
    three = changed(config, "data.classes", ["normal", "a", "b"])
    assert canonical(changed(three, "data.classes", ["background", "a", "b"])) != canonical(three)
    two = changed(config, "data.classes", ["normal", "a"])
    assert canonical(changed(two, "data.classes", ["background", "a"])) == canonical(two)


def test_a_palette_counts_by_its_classes_and_a_file_without_one_as_ever(load):
    text = TEXT.replace("classification", "segmentation").replace("digits", "scenes")
    plain = load(text).resolve(VALUES)
    assert "mask_colors" not in plain["data"]
    assert "mask_colors" not in canonical(plain)["data"]
    colors = (
        '16, mask_colors: {background: "#000000", a: "#FF8000", b: [0, 0, 9], ignore: "#ffffff"}'
    )
    colored = load(text.replace("16", colors)).resolve(VALUES)
    assert colored["data"]["mask_colors"]["a"] == [255, 128, 0]
    named = changed(plain, "data.classes", ["background", "a", "b"])
    assert canonical(colored) == canonical(named)


def test_dice_alone_has_no_weights_of_pixels(load):
    text = TEXT.replace("classification", "segmentation").replace("digits", "scenes")
    config = changed(load(text).resolve(VALUES), "train.loss", "dice")
    assert canonical(changed(config, "train.boundary_weight", 5.0)) == canonical(config)
    assert canonical(changed(config, "train.weight_decay", 0.5)) != canonical(config)


def test_the_weight_of_a_side_output_matters_where_there_is_one(load):
    config = load(TEXT).resolve({**VALUES, "layer4.block": "ecrm"})
    assert canonical(changed(config, "train.aux_weight", {"ecrm": 0.9})) != canonical(config)


def test_weights_are_known_by_their_content(config, tmp_path):
    first, second, third = (tmp_path / name for name in ("a.pth", "b.pth", "c.pth"))
    first.write_bytes(b"same")
    second.write_bytes(b"same")
    third.write_bytes(b"other")
    a, b, c = (
        canonical(changed(config, "network.weights", str(path))) for path in (first, second, third)
    )
    assert a == b != c
    assert a != canonical(config)
    first.write_bytes(b"new text")
    assert canonical(changed(config, "network.weights", str(first))) != a


def test_it_is_plain_json(config):
    text = canonical_text(config)
    assert json.loads(text) == canonical(config)
    assert "/" not in text
