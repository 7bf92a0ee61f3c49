from attnsearch.spaces.keys.measures import (
    COSTS,
    default_objective,
    excess,
    is_share,
    metric_name,
    objectives,
)
from attnsearch.spaces.keys.search import Limits


def test_each_cost_has_its_limit() -> None:
    assert {name: field.description for name, field in Limits.model_fields.items()} == {
        name: cost.limit for name, cost in COSTS.items()
    }


def test_the_first_metric_of_a_task_is_its_default_objective() -> None:
    assert default_objective("classification") == {"val_accuracy": "max"}
    assert default_objective("segmentation") == {"val_dice": "max"}
    assert objectives("segmentation")["val_loss"] == "min"
    assert "val_auroc" not in objectives("segmentation")


def test_a_metric_is_named_with_its_part_and_its_class() -> None:
    assert metric_name("test_f1") == "test macro F1"
    assert metric_name("val_dice_left_kidney") == "validation dice left kidney"
    assert metric_name("train_aux_loss") == "training aux loss"
    assert is_share("val_dice_left_kidney") and is_share("calibration_error")
    assert not is_share("val_loss") and not is_share("lr")


def test_excess_is_relative_to_the_limit() -> None:
    found = excess({"params": 150, "macs": 50}, {"params": 100, "macs": 100, "latency_ms": 1})
    assert found == {"limits.params": 0.5, "limits.macs": -0.5}
