"""The run key: a hash of what determines a run's result, and of nothing else.

Two runs with the same key give the same numbers, so the second is never trained. What a run is
called, where its files lie, how it was proposed and on which of several equal cards it runs do
not enter; neither do parameters that its config does not use.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from attnsearch.blocks import BLOCKS
from attnsearch.blocks.build import find_block, source_hash
from attnsearch.spaces import canonical

NUMERICS_REVISION = 5
"""Raised by one when a change of attnsearch changes the numbers that a config trains to.

It makes every earlier run unequal to every later one. Only the blocks of users are hashed by
their source; ours would change the key with every comment.
"""


def run_key(
    config: Mapping[str, Any],
    data_fingerprint: str,
    seed: int,
    epochs: int,
    device_kind: str,
    threads: int,
    fold: int | None = None,
) -> str:
    """Name the result of a run.

    Args:
        config: A resolved config.
        data_fingerprint: Of the pixels, the labels and the split.
        seed: Of initialisation, order, augmentation and dropout.
        epochs: Of the full schedule.
        device_kind: What computes: ``cpu``, or the kind of GPU.
        threads: Of the CPU; sums in another order round differently.
        fold: The fold left out, if the data is folded.

    Returns:
        64 hexadecimal digits.

    Raises:
        BlockError: A block does not exist, or a user's block has no source file.
        SiteError: A site does not exist.
        OSError: The weights that the config starts from cannot be read.
    """
    blocks = {entry["block"] for entry in config.get("insert", ())} - {"none"}
    named = {
        "config": canonical(config),
        "data": data_fingerprint,
        "seed": seed,
        "epochs": epochs,
        "device": device_kind,
        "threads": threads,
        "fold": fold,
        "numerics": NUMERICS_REVISION,
        "sources": {
            name: source_hash(find_block(name)) for name in sorted(blocks - BLOCKS.keys())
        },
    }
    text = json.dumps(_numbers(named), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _numbers(value: Any) -> Any:
    """Write equal numbers alike: ``1`` and ``1.0`` in a file mean the same."""
    if isinstance(value, Mapping):
        return {str(k): _numbers(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
