"""Functions and classes of the user's own that a document names as `module:name`."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from attnsearch.spaces.keys.values import kind_of

OWN = re.compile(r"\w+(\.\w+)*:\w+")
"""How such a name is written."""


def own_losses(document: Mapping[str, Any]) -> list[str]:
    """Return the losses of the user's own, of a space file or config; those it may choose too."""
    loss: Any = (document.get("train") or {}).get("loss")
    names = loss["choice"] if kind_of(loss) == "choice" else [loss]
    return [name for name in names if isinstance(name, str) and ":" in name]


def own_metrics(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the metrics of the user's own by their names, which are those of the functions."""
    metrics = (document.get("train") or {}).get("metrics") or ()
    return {name.rpartition(":")[2]: name for name in metrics}


def own_names(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the names of the user's own of a document, except blocks, each with its key."""
    if ":" in (backbone := str((document.get("network") or {}).get("backbone"))):
        yield ("network", "backbone"), backbone
    for name in own_losses(document):
        yield ("train", "loss"), name
    for name in own_metrics(document).values():
        yield ("train", "metrics"), name
    if loop := (document.get("train") or {}).get("loop"):
        yield ("train", "loop"), loop
