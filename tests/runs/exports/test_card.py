import math

import yaml

from attnsearch.runs.exports.card import confirm_table, front_matter

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


def test_the_table_of_confirm_holds_whatever_names_and_numbers_there_are() -> None:
    arms = [
        {"arm": "gc@a|b *c* <i>", "n": 5, "mean": 0.9124, "sd": 0.01, "reference": "baseline"}
        | {"difference": 0.018, "low": 0.009, "high": 0.027, "p_adjusted": 0.0001}
        | {"verdict": "better"},
        {"arm": "baseline", "n": 5, "mean": 0.8944, "sd": None, "reference": None}
        | {"difference": None, "low": None, "high": None, "p_adjusted": None, "verdict": None},
    ]
    confirm = {"metric": "test_accuracy", "alpha": 0.05, "winner": arms[0]["arm"], "arms": arms}
    head, rule, first, second = confirm_table(confirm).splitlines()
    assert head.split(" | ")[1:3] == ["test accuracy (%)", "sd"] and "(points)" in head
    assert rule.count("|") == head.count("|") == second.count("|")
    cells = "91.24 | 1.00 | 5 | +1.80 | [+0.90, +2.70] | <0.001 | better"
    assert first == rf"| **gc@a\|b \*c\* &lt;i\>** | {cells} |"
    assert second.split("|")[2:5] == [" 89.44 ", "  ", " 5 "]
    assert confirm_table({}) == confirm_table({"winner": "gc", "seeds": [1]}) == ""


def test_a_metric_that_is_no_share_has_no_points() -> None:
    arm = {"arm": "baseline", "n": 3, "mean": 3.14159, "sd": 0.1, "reference": None}
    arm |= dict.fromkeys(("difference", "low", "high", "p_adjusted", "verdict"))
    text = confirm_table({"metric": "test_hd95", "alpha": 0.1, "winner": "gc", "arms": [arm]})
    assert "points" not in text and "90 % interval" in text and "| 3.1416 | 0.1000 | 3 |" in text
