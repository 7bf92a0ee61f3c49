"""`attnsearch sync` and `clean`: MLflow made whole from the ledger, and files that may go."""

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.ledger import (
    Ledger,
    State,
    StudyRow,
    TrialRow,
    panel_file,
    weights_folder,
)
from attnsearch.search.text import plural, table

CHECKPOINTS, SURPASSED, PICTURES, UNNAMED = "checkpoints", "surpassed", "pictures", "unnamed"
KINDS = {
    CHECKPOINTS: "of interrupted runs; without them those start over",
    SURPASSED: "weights of trials that confirm has left behind; `export --trial` needs them",
    PICTURES: "of validation images; `show` and the report link to them",
    UNNAMED: "files that the ledger does not know; nothing needs them",
}


class NotShown(AttnsearchError):
    """MLflow does not show all that the ledger holds."""

    exit_status = 1


def sync_text(address: str | None) -> str:
    """Make MLflow's view of one study, or of all, whole from the ledger.

    Every run is looked up in the store: what is missing there is made anew, and all tags, files
    and states are written again.

    Raises:
        LedgerError: There is no ledger or no such study.
        NotShown: The store cannot be reached, or takes not all of it.
    """
    from attnsearch.runs.mirror import Mirror

    with Ledger(create=False) as ledger:
        studies = [ledger.find_study(address)] if address else ledger.studies()
        mirror = Mirror(ledger)
        reports = {study.label: mirror.sync(study.id, whole=True) for study in studies}
    lines = [f"{label}: {report}" for label, report in reports.items()]
    if any(report.problem is not None or report.missing for report in reports.values()):
        raise NotShown("\n".join(lines))
    return "\n".join(lines) or "No studies yet."


def clean_text(address: str | None, delete: Collection[str] = ()) -> str:
    """Return what may be deleted and how much it holds; delete what is asked for.

    Args:
        address: Only files of this study; all studies where it is None.
        delete: The kinds to delete.

    Raises:
        LedgerError: There is no ledger or no such study.
    """
    with Ledger(create=False) as ledger:
        study = ledger.find_study(address) if address else None
        rows = []
        for kind, paths in holdings_of(ledger, study).items():
            size = sum(_size_bytes(path) for path in paths)
            if kind in delete:
                for path in paths:
                    _delete(ledger, path)
            done = "deleted" if kind in delete and paths else KINDS[kind]
            rows.append((kind, len(paths), f"{size / 1e6:,.1f} MB", done))
        lines = [f"Files in {weights_folder(ledger)} that may be deleted:", ""]
    lines.append(table(("kind", "count", "size", ""), rows, right={"count", "size"}))
    if not delete:
        lines += ["", "Delete some:  attnsearch clean --delete KIND"]
    return "\n".join(lines)


def checkpoints_text(ledger: Ledger, runs: Iterable[TrialRow]) -> str | None:
    """Return what the checkpoints of a study's runs hold; None where there are none."""
    going = [run for run in runs if not run.state.ended]
    folders = {ledger.checkpoint_folder(run.key, run.id) for run in going}
    present = [folder for folder in folders if folder.is_dir()]
    if not present:
        return None
    size = sum(_size_bytes(folder) for folder in present)
    return f"Checkpoints:  of {plural(len(present), 'run')}, {size / 1e6:,.1f} MB"


def holdings_of(ledger: Ledger, study: StudyRow | None = None) -> dict[str, list[Path]]:
    """Return what may be deleted, by kind; nothing that a living driver works on.

    Args:
        ledger: The ledger.
        study: Only files of this one; None for all, those included that no study knows.
    """
    folder, studies = weights_folder(ledger), ledger.studies()
    rows = [row for each in studies for row in ledger.trials(each.id)]
    confirmed = {
        each.id
        for each in studies
        if any(plan.winner for plan in ledger.plans(each.id, superseded=False))
    }
    ours = [row for row in rows if study is None or row.study_id == study.id]
    needed = {row.weights_path for row in rows if row.arm or row.study_id not in confirmed}
    holdings = {
        CHECKPOINTS: [
            ledger.checkpoint_folder(row.key, row.id)
            for row in ours
            if row.state == State.INTERRUPTED
        ],
        SURPASSED: [
            Path(row.weights_path)
            for row in ours
            if row.weights_path and row.weights_path not in needed
        ],
        PICTURES: [panel_file(folder, row.key) for row in ours],
    }
    own = folder.is_relative_to(ledger.folder.absolute())  # else other ledgers may use it too
    if (
        study is None
        and own
        and folder.is_dir()
        and State.RUNNING not in {s.state for s in studies}
    ):
        known = {Path(row.weights_path) for row in rows if row.weights_path}
        known |= {panel_file(folder, row.key) for row in rows}
        known |= {ledger.checkpoint_folder(row.key, row.id) for row in rows if not row.state.ended}
        checkpoints = ledger.checkpoint_folder("", 0).parent
        places = [*folder.iterdir(), *checkpoints.glob("*")]
        known.add(checkpoints)
        holdings[UNNAMED] = [place for place in places if place not in known]
    return {
        kind: sorted({path for path in paths if path.exists() and path.is_relative_to(folder)})
        for kind, paths in holdings.items()
    }


def _delete(ledger: Ledger, path: Path) -> None:
    """Delete a file or a folder, and have the ledger forget the weights that it held."""
    if path.is_dir():
        shutil.rmtree(path)
        return
    for study in ledger.studies():
        for row in ledger.trials(study.id):
            if row.weights_path == str(path):
                ledger.set_weights_path(row.id, None)
    if not ledger.drop_file(path):
        path.unlink(missing_ok=True)


def _size_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
