"""Where a ledger's trained weights and pictures lie. This module needs no torch."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnsearch.runs.ledger.ledger import Ledger


def weights_folder(ledger: "Ledger") -> Path:
    """Return where trained weights are kept: ATTNSEARCH_WEIGHTS, or a folder beside the ledger."""
    given = os.environ.get("ATTNSEARCH_WEIGHTS")
    return Path(given).absolute() if given else ledger.folder.absolute() / "attnsearch-weights"


def panel_file(folder: Path, key: str) -> Path:
    """Return the picture of a finished run, by its run key."""
    return folder / f"{key}-panel.png"
