"""Which runs happen: proposing, scheduling, resuming, and the command line.

Names are imported when first used, so that `attnsearch --help` need not wait for Ray.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnsearch.search.engine import run_study as run_study

_EXPORTS = {"run_study": "attnsearch.search.engine"}

__all__ = ["run_study"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
