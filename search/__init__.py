"""Which runs happen: proposing, scheduling, resuming, and the command line.

Names are imported when first used, so that `attnsearch --help` need not wait for Ray.
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.lazy import lazy_names

if TYPE_CHECKING:
    from attnsearch.search.ablation import ablate
    from attnsearch.search.engine import run_study

_HOMES = {"ablate": "ablation", "run_study": "engine"}

__all__ = ["ablate", "run_study"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
