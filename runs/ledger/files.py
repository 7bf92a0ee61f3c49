"""Where a ledger's trained weights and pictures lie. This module needs no torch."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnsearch.runs.ledger.access import Access


def weights_folder(ledger: "Access") -> Path:
    """Return where trained weights are kept: ATTNSEARCH_WEIGHTS, or a folder beside the ledger."""
    folder = os.environ.get("ATTNSEARCH_WEIGHTS")
    return Path(folder).absolute() if folder else ledger.folder.absolute() / "attnsearch-weights"


def panel_file(folder: Path, key: str) -> Path:
    """Return the picture of a finished run, by its run key."""
    return folder / f"{key}-panel.png"
