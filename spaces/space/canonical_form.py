"""What of a config determines the result of training it."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from attnsearch.blocks.build import canonical_architecture
from attnsearch.blocks.hosts import HEADS, weights_file
from attnsearch.spaces.keys import DECIDING, OF_ANOTHER, Data, Train, idle, keys_of
from attnsearch.spaces.space.parameters import side_loss

_REWRITTEN = ("classes", "groups", "augment")
"""Keys of `data` of which a part determines the result."""


def canonical(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what determines a result, in one form: equal for configs that train alike.

    Left out are names, search, resources, limits, confirm, ablation and forbid, all paths (the
    data is known by its fingerprint, weights by their content), the seed and the number of epochs
    (which a run has of its own), and settings without effect: momentum without sgd, steps without
    `schedule: step`, warm-up under onecycle, weights of side outputs that no block has, and
    augmentations that are off.

    Args:
        config: As `Space.resolve` returns it.

    Raises:
        SiteError: As `attnsearch.blocks.build.architecture.architecture`.
        BlockError: Likewise.
    """
    built = canonical_architecture(config)
    network: dict[str, Any] = {**built, "weights": _weights(config["network"].get("weights"))}
    if config["task"] == "segmentation":
        network["decoder"] = config["network"].get("decoder")
        network["aux_heads"] = sorted(config["network"].get("aux_heads") or ())
    sides = {side_loss(insertion["block"]) for insertion in built["insert"]}
    if network.get("aux_heads"):
        sides.add(HEADS)
    return {
        "task": config["task"],
        "network": network,
        "data": _data(config["data"], config["task"]),
        "train": _train(config["train"], sides, config["task"]),
        "checkpoint": config.get("checkpoint", "last"),
    }


def _weights(setting: Any) -> str | dict[str, Any] | None:
    """Say what stands for the weights: the file's content, with the key map if there is one."""
    path, rename = weights_file(setting)
    if path is None:
        return None
    marker = weights_marker(path)
    # A list, since the order of its patterns counts.
    return {"content": marker, "rename": [*rename.items()]} if rename else marker


def _data(data: Mapping[str, Any], task: str) -> dict[str, Any]:
    counted = [key for key in keys_of("run", section=Data) if key not in _REWRITTEN]
    kept = {key: data.get(key) for key in counted}
    colors = data.get("mask_colors") or {}
    classes = [name for name in colors if name != "ignore"] or data.get("classes")
    # The name `background` and the metrics' names count where masks have more than two classes.
    named = task == "segmentation" and isinstance(classes, list) and len(classes) > 2
    kept["classes"] = len(classes) if isinstance(classes, list) and not named else classes
    groups = data.get("groups") or {}
    kept["groups"] = {key: value for key, value in groups.items() if key == "pattern"}
    on = {key: value for key, value in data.get("augment", {}).items() if value}
    kept["augment"] = {key: on[key] for key in on if OF_ANOTHER.get(key, key) in on}
    return kept


def _train(train: Mapping[str, Any], sides: set[str | None], task: str) -> dict[str, Any]:
    dropped = {*keys_of("own", section=Train), *idle({**train, "task": task}, "task", *DECIDING)}
    # What `speed` chose stands in other keys; only `exact` is more than they say.
    if train.get("speed") != "exact":
        dropped.add("speed")
    if not train.get("compile"):
        dropped.add("compile")
    if train.get("momentum") == 0:
        dropped.add("nesterov")
    kept = {key: value for key, value in train.items() if key not in dropped}
    if task == "segmentation":
        kept["loss"] = kept.get("loss") or "ce_dice"
    elif kept.get("loss") in (None, "ce", "bce"):
        kept.pop("loss", None)
    if "loss" in kept:
        kept |= dict.fromkeys(idle(kept, "loss"))
    kept["aux_weight"] = {
        key: value for key, value in train.get("aux_weight", {}).items() if key in sides
    }
    return kept


def weights_marker(path: str) -> str:
    """Return what stands for a weights file: the SHA-256 of its content, in hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    status = Path(path).stat()
    return _content_hash(path, status.st_mtime_ns, status.st_ctime_ns, status.st_size)


@lru_cache(maxsize=16)
def _content_hash(path: str, modified_ns: int, changed_ns: int, size: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_text(config: Mapping[str, Any]) -> str:
    """Return `canonical` as JSON with sorted keys: equal texts for configs that train alike."""
    return json.dumps(canonical(config), sort_keys=True, separators=(",", ":"))
