"""The front matter of an export's README, by which the Hugging Face Hub files a model.

It says no licence, which is the owner's to give, and no data set of the Hub; of the data the name
alone, no path of this machine.
"""

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from attnsearch.blocks.naming import insertions
from attnsearch.spaces import dump
from attnsearch.spaces.keys import METRICS, MULTILABEL, metric_name, split_part


def front_matter(config: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Return YAML between two lines of dashes.

    Args:
        config: The resolved config.
        record: As for `save_export`; of its `metrics` those of the validation and the test part
            are told.
    """
    several = config["task"] == MULTILABEL
    task = "image-classification" if several else f"image-{config['task']}"
    blocks = [entry["block"] for entry in insertions(config)]
    scores = [
        {"type": split_part(name)[1], "name": metric_name(name), "value": float(value)}
        for name, value in record.get("metrics", {}).items()
        if split_part(name)[0] in ("val", "test")
        and split_part(name)[1] in METRICS
        and isinstance(value, int | float)
        and math.isfinite(value)
    ]
    tags = ["attnsearch", "multi-label"] if several else ["attnsearch"]
    card: dict[str, Any] = {
        "library_name": "attnsearch",
        "pipeline_tag": task,
        "tags": list(dict.fromkeys([*tags, config["network"]["backbone"], *blocks])),
    }
    if scores:
        data = PurePath(str(config["data"]["source"])).name
        result = {
            "task": {"type": task},
            "dataset": {"name": data, "type": data},
            "metrics": scores,
        }
        card["metrics"] = list(dict.fromkeys(score["type"] for score in scores))
        card["model-index"] = [{"name": config["name"], "results": [result]}]
    return f"---\n{dump(card)}---\n\n"
