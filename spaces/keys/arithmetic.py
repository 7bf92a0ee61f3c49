"""How a training computes, as far as a file leaves it open: precision, layout, compiled or not."""

from collections.abc import Mapping
from typing import Any

PLAIN = {"precision": "fp32", "channels_last": False, "compile": False}
"""The arithmetic that any device has, eager."""

OPTIONAL = {
    "data": ("mask_colors", "keep", "eval_crop", "eval_size"),
    "train": (
        *("warmup_steps", "accumulate", "ema", "sampler", "decay", "sync_batch_norm", "metrics"),
        "loop",
    ),
    "search": ("settings", "first", "from"),
    "resources": ("address", "timeout"),
}
"""Keys by section that are left out where they are null, as documents before them did."""

_OPEN = {"precision": "auto", "channels_last": None, "compile": None}


def open_arithmetic(train: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of a `train` section that are to be chosen for the device.

    `compile` is open only beside another: who gives both others gives the arithmetic, as every
    config of a run does.
    """
    keys = tuple(key for key, value in _OPEN.items() if key in train and train[key] == value)
    return () if keys == ("compile",) else keys


def settled(train: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `train` section that leaves nothing open.

    What says nothing is left out, so that documents, configs and plans of plain arithmetic are
    those of before these keys.
    """
    closed = {**train, **closed_arithmetic(train, chosen)}
    if closed.get("speed") == "auto":
        del closed["speed"]
    return {
        key: value
        for key, value in closed.items()
        if value or key not in ("compile", *OPTIONAL["train"])
    }


def closed_arithmetic(train: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a `train` section says of its arithmetic, what it leaves open as chosen."""
    return {
        key: chosen.get(key, PLAIN[key]) if train[key] == value else train[key]
        for key, value in _OPEN.items()
        if key in train
    }
