"""All that the net takes from the product: when a name moves, it moves here and nowhere else."""

from attnsearch.blocks import build_network
from attnsearch.runs import (
    Ledger,
    Mirror,
    StudyRow,
    leaderboard,
    load_export,
    report,
    run_key,
)
from attnsearch.runs.ledger import Ending, Place, Request
from attnsearch.runs.statistics import AGAINST_BASELINE, AGAINST_CONTROLS, Arm, Contrast, Plan
from attnsearch.search.cli import call
from attnsearch.spaces import Space, canonical, dump, load_space, shipped

__all__ = [
    "AGAINST_BASELINE",
    "AGAINST_CONTROLS",
    "Arm",
    "Contrast",
    "Ending",
    "Ledger",
    "Mirror",
    "Place",
    "Plan",
    "Request",
    "Space",
    "StudyRow",
    "build_network",
    "call",
    "canonical",
    "dump",
    "leaderboard",
    "load_export",
    "load_space",
    "report",
    "run_key",
    "shipped",
]
