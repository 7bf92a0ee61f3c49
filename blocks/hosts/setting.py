"""What a ``network.weights`` setting says. Reading a ledger asks for it, so it needs no torch."""

from collections.abc import Mapping
from typing import Any


def weights_file(setting: Any) -> tuple[str | None, dict[str, str | None]]:
    """Return the path and the key map of a ``network.weights`` setting.

    Args:
        setting: A path, ``{path: ..., rename: {...}}``, or None.
    """
    if isinstance(setting, Mapping):
        return setting.get("path"), dict(setting.get("rename") or {})
    return setting, {}
