"""The run key: a hash of what determines a run's result, and of nothing else.

Two runs with the same key give the same numbers, so the second is never trained. What a run is
called, where its files lie, how it was proposed and on which of several equal cards it runs do
not enter; neither do parameters that its config does not use.

Reading a ledger loads this module too. So what loads torch is imported where it is used.
"""

import functools
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.blocks.hosts import weights_file
from attnsearch.spaces.keys import own_names

NUMERICS_REVISION = 5
"""Raised by one when a change of attnsearch changes the numbers that a config trains to.

It makes every earlier run unequal to every later one. Only the blocks of users are hashed by
their source; ours would change the key with every comment.
"""


NUMERIC_PACKAGES = ("torch", "numpy")
WEIGHTS_INPUT = "network.weights"


class InputsChanged(AttnsearchError):
    """What determines a result is not what it was when the run was claimed."""

    exit_status = 1


def inputs(document: Mapping[str, Any]) -> dict[str, str]:
    """Say what lies in files, and with the data determines what a config trains to.

    Args:
        document: A resolved config, or a checked space file: then of all that it may choose.

    Returns:
        Class or function of the user -> hash of its source; ``network.weights`` -> hash of its
        content.

    Raises:
        BlockError: A block does not exist, or a user's block has no source file.
        OSError: The weights that the config starts from cannot be read.
    """
    asked = {name for entry in document.get("insert", ()) for name in _names(entry["block"])}
    path, _ = weights_file(document["network"].get("weights"))
    weights = {}
    if path is not None:
        from attnsearch.spaces import weights_marker

        weights = {WEIGHTS_INPUT: weights_marker(path)}
    return _own_blocks(asked) | _functions(document) | weights


def _own_blocks(names: set[str]) -> dict[str, str]:
    from attnsearch.blocks import BLOCKS
    from attnsearch.blocks.build import find_block, source_hash

    own = sorted(names - BLOCKS.keys() - {"none"})
    return {name: source_hash(find_block(name)) for name in own}


def _functions(document: Mapping[str, Any]) -> dict[str, str]:
    from attnsearch.blocks.build import find_function, source_hash

    return {name: source_hash(find_function(name)) for _, name in own_names(document)}


def _names(block: Any) -> Iterator[str]:
    """Yield the blocks that an entry may hold."""
    if isinstance(block, str):
        yield block
    elif isinstance(block, Mapping):
        for name in block["choice"]:
            yield from _names(name)


def package_inputs() -> dict[str, str]:
    """Return the versions of the packages that compute, as they are installed now."""
    return dict(_installed(tuple(_changed_ns(folder) for folder in sys.path)))


@functools.lru_cache(maxsize=1)
def _installed(stamps: tuple[int, ...]) -> dict[str, str]:
    """Read the versions, which takes milliseconds; `stamps` tell that nothing was installed."""
    return {name: version(name) for name in NUMERIC_PACKAGES}


def _changed_ns(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return -1


def changed_inputs(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Say which inputs differ, one phrase each; those that only one side knows are left out."""
    differ = [name for name in before if name in now and before[name] != now[name]]
    words = {WEIGHTS_INPUT: "the content of the file of network.weights"} | {
        name: f"{name} {before[name]} (now {now[name]})"
        for name in NUMERIC_PACKAGES
        if name in differ
    }
    return [words.get(name, f"the source of {name}") for name in differ]


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
    from attnsearch.spaces import canonical

    named = {
        "config": canonical(config),
        "data": data_fingerprint,
        "seed": seed,
        "epochs": epochs,
        "device": device_kind,
        "threads": threads,
        "fold": fold,
        "numerics": NUMERICS_REVISION,
        "sources": _own_blocks({entry["block"] for entry in config.get("insert", ())})
        | _functions(config),
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
