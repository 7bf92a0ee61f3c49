"""What a study's results depend on beside its space file and data, and what it goes on from.

A block's source and the file of `network.weights` are read again by every worker. They are fixed
at a session's start, every claim is made under them, and each worker compares what it has read.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attnsearch.blocks.hosts import weights_file
from attnsearch.runs.data import content_changes
from attnsearch.runs.ledger import (
    WEIGHTS_INPUT,
    InputsChanged,
    Ledger,
    StudyRow,
    changed_inputs,
    inputs,
    package_inputs,
    studies_elsewhere,
    study_differences,
)


class Inputs:
    """Gives what configs depend on beside the data, as a session first saw it."""

    def __init__(self) -> None:
        self._fixed: dict[tuple[str, str], str] = {}

    def __call__(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Return the inputs of a config, or of a space file.

        Raises:
            InputsChanged: They are not what they were.
        """
        path, _ = weights_file(config["network"].get("weights"))
        now = inputs(config) | package_inputs()
        for name, value in now.items():
            place = name, str(path) if name == WEIGHTS_INPUT else ""
            before = {name: self._fixed.setdefault(place, value)}
            for what in changed_inputs(before, now):
                raise changed_error(what)
        return now


def changed_error(what: str) -> InputsChanged:
    """Return the error that ends a session whose inputs are others than at its start."""
    return InputsChanged(
        f"{what}: changed since this session began, so nothing more is trained under the keys of "
        f"before. What has finished is recorded; run the same command again"
    )


def origin_notes(
    ledger: Ledger, study: StudyRow, before: Sequence[StudyRow], space: Path
) -> Iterator[str]:
    """Say why a study begins anew where there is an earlier one of its name, and where.

    Args:
        ledger: The ledger.
        study: The study, just opened.
        before: Those of its name that there were.
        space: The space file.
    """
    if study.id in {row.id for row in before}:
        old, new = (start.get("packages", {}) for start in study.provenance[-2:])
        versions = [
            f"{name} {old[name]} (now {new[name]})"
            for name in package_inputs()
            if name in old and old[name] != new.get(name)
        ]
        if versions:
            yield (
                f"the study {study.label} went on before with {' and '.join(versions)}: numbers "
                f"may differ between its runs; --fresh trains all of them anew"
            )
    elif before:
        reasons = [(study_differences(row, study), row) for row in reversed(before)]
        nearest, row = min(reasons, key=lambda reason: len(reason[0]))
        old, new = (ledger.contents_of(each.fingerprint) for each in (row, study))
        nearest = study_differences(
            row, study, content_changes(old or {}, new or {}) if old else ""
        )
        if nearest:
            yield (
                f"the study {study.label} begins anew beside {row.label} of "
                f"{row.created:%Y-%m-%d}, which differs in {'; '.join(nearest)}. With that as it "
                f"was, {row.label} goes on"
            )
    else:
        space = space.absolute()
        folders = [Path.cwd(), *Path.cwd().parents, *space.parents]
        for place in studies_elsewhere(ledger, study.name, folders):
            yield (
                f"the study {study.label} begins anew in the ledger {ledger}; an earlier one lies "
                f"in {place}. To go on with that, run in its folder, or set ATTNSEARCH_LEDGER"
            )
