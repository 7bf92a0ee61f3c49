"""Functions of the user's own that a document names as `module:function`."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from attnsearch.spaces.keys.values import kind_of

OWN = re.compile(r"\w+(\.\w+)*:\w+")
"""How such a name is written."""


def own_functions(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the functions that a space file or config names, those it may choose included."""
    train = document.get("train") or {}
    for value in (train.get("loss"), *(train.get("metrics") or ())):
        for name in value["choice"] if kind_of(value) == "choice" else [value]:
            if isinstance(name, str) and ":" in name:
                yield name
