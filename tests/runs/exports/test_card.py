import math

import yaml

from attnsearch.runs.exports.card import front_matter

CONFIG = {
    "name": "tiny: 'best'\n--- #x",
    "task": "segmentation",
    "data": {"source": "/home/me/secret/polyps: [1]"},
    "network": {"backbone": "resnet20"},
    "insert": [{"at": "layer2", "block": "gc"}, {"at": "layer3", "block": "none"}],
}


def test_front_matter_is_what_a_hub_reads_whatever_names_hold() -> None:
    metrics = {"val_dice": 0.8, "test_dice": 0.75, "train_loss": 0.1, "test_hd95": math.nan}
    text = front_matter(CONFIG, {"metrics": metrics})
    assert "/home/me" not in text
    start, middle, rest = text.split("---\n", 2) if text.count("\n---\n") == 1 else ("", text, "")
    assert (start, rest) == ("", "\n")
    card = yaml.safe_load(middle)
    assert card["library_name"] == "attnsearch" and card["pipeline_tag"] == "image-segmentation"
    assert card["tags"] == ["attnsearch", "resnet20", "gc"] and card["metrics"] == ["dice"]
    (index,) = card["model-index"]
    assert index["name"] == CONFIG["name"]
    (result,) = index["results"]
    assert result["dataset"]["name"] == "polyps: [1]"
    assert [(score["name"], score["value"]) for score in result["metrics"]] == [
        ("validation Dice", 0.8),
        ("test Dice", 0.75),
    ]


def test_without_scores_nothing_is_claimed() -> None:
    card = yaml.safe_load(front_matter(CONFIG, {}).split("---\n")[1])
    assert "model-index" not in card and "metrics" not in card
