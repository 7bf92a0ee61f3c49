"""A contract that import-linter does not bring: other rooms import a room's face."""

import sys
from pathlib import Path
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, output

# The links that type checkers follow: read alike however the package is installed.
sys.path.insert(0, str(Path(__file__).parents[1] / ".importroot"))


class Faces(Contract):
    """Modules of one room import another room, `attnsearch.runs.ledger`, and none of its files."""

    type_name = "faces"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        behind = sorted(
            (importer, imported)
            for importer in graph.modules
            for imported in graph.find_modules_directly_imported_by(importer)
            if _room(imported) and _room(importer) != _room(imported)
            if importer != _room(imported)
        )
        return ContractCheck(kept=not behind, metadata={"behind": behind})

    def render_broken_contract(self, check: Any) -> None:
        for importer, imported in check.metadata["behind"]:
            output.print_error(f"{importer} imports {imported}: import {_room(imported)}")


def _room(module: str) -> str | None:
    """The room of a file, `attnsearch.X.room` of `attnsearch.X.room.file`."""
    parts = module.split(".")
    return ".".join(parts[:3]) if len(parts) == 4 else None
