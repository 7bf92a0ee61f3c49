"""What the times of a network are kept under, beside the machine."""

import json
from collections.abc import Mapping
from typing import Any

from attnsearch.runs.data import DataSet
from attnsearch.spaces import canonical


def architecture(config: Mapping[str, Any], data: DataSet, threads: int) -> str:
    """Name what the times of a network follow from, beside the machine."""
    built = canonical(config)["network"] | {"weights": None}
    layout = config["train"]["channels_last"]
    return json.dumps([built, layout, data.channels, data.image_size, data.classes, threads])
