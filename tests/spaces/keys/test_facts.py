"""What the keys say about themselves."""

from attnsearch.spaces.keys.data import Data
from attnsearch.spaces.keys.facts import idle, keys_of, keys_under
from attnsearch.spaces.keys.search import Search
from attnsearch.spaces.keys.space_file import SpaceFile
from attnsearch.spaces.keys.train import Train


def test_every_top_key_is_of_one_scope() -> None:
    assert keys_of("run") == ("task", "data", "network", "insert", "blocks", "train", "checkpoint")
    scopes = ("name", "run", "search", "plans", "limits", "statistics", "host")
    assert sorted(keys_of(*scopes)) == sorted(SpaceFile.model_fields)
    # Stored configs have these keys in this order.
    assert keys_of("search", "plans", "limits", "host") == (
        *("search", "confirm", "ablation", "forbid", "limits", "resources", "published"),
    )


def test_keys_inside_sections_have_scopes_of_their_own() -> None:
    assert keys_of("own", section=Train) == ("epochs", "seed")
    assert keys_of("host", section=Data) == ("source", "keep")
    assert keys_of("trials", section=Search) == ("trials",)


def test_settings_without_effect_follow_from_those_that_they_depend_on() -> None:
    sgd = {"optimizer": "sgd", "schedule": "step", "loss": "dice", "task": "segmentation"}
    assert idle(sgd, "optimizer", "schedule", "task") == {"sampler"}  # for classes
    assert idle(sgd, "loss") == {"label_smoothing", "class_weights", "boundary_weight"}
    other = {"optimizer": "adamw", "schedule": "onecycle", "task": "classification"}
    assert idle(other, "optimizer") == {"momentum", "nesterov"}
    assert idle(other, "schedule") == {
        *("step_epochs", "step_factor", "warmup_epochs", "warmup_steps")
    }
    assert idle(other, "task") == {"boundary_weight"}
    assert idle({"task": "multilabel"}, "task") == {"boundary_weight", "sampler"}
    assert set(keys_under("task", Data)) == {
        *("eval_crop", "ignore_index", "mask_values", "mask_colors", "mask_name"),
        "tile_overlap",
    }
