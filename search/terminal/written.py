"""`attnsearch export`, `report` and `optuna`: the files of a study, and what is said of them."""

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from attnsearch.runs.ledger import Ledger, StudyRow
from attnsearch.runs.results import ActResult
from attnsearch.search.outlook import next_steps
from attnsearch.search.terminal.arms import letters_of
from attnsearch.search.text import paragraph, plural


def export_text(
    address: str,
    folder: str,
    *,
    formats: Collection[str],
    trial: int | None,
    register: str | None = None,
) -> str:
    """Export a study's best network, or the given trial's, and say what was written.

    Raises:
        AttnsearchError: There is no such study or trial, its weights were not kept, or MLflow
            does not take it under the name `register`.
    """
    from attnsearch.runs.exports import export_study

    with Ledger(create=False) as ledger:
        study = ledger.find_study(address)
        options = {} if trial is None else {"trial": trial}
        export_study(ledger, study.label, folder, formats=formats, **options)
        registered = []
        if register is not None:
            from attnsearch.runs.mirror import register_model

            uri = register_model(ledger, study.id, register, trial)
            registered.append(f"In MLflow:      {uri}")
    written = sorted(path.name for path in Path(folder).iterdir() if path.is_file())
    return "\n".join(
        [
            f"Wrote {', '.join(written)} to {folder}.",
            f"Train it anew:  attnsearch run {Path(folder) / 'config.yaml'} --fresh",
            f'In Python:      attnsearch.runs.load_export("{folder}")',
            *registered,
        ]
    )


def report_text(address: str, formats: str, folder: str | None) -> str:
    """Write a study's report and tell what it found.

    Args:
        address: `NAME` or `NAME/NUMBER`.
        formats: Separated by commas.
        folder: Where to; None takes a folder beside the ledger.

    Raises:
        AttnsearchError: There is no such study or format, or the files cannot be written.
    """
    from attnsearch.runs.reports import write_report

    with Ledger(create=False) as ledger:
        study = ledger.find_study(address)
        names = [name.strip() for name in formats.split(",") if name.strip()]
        written = write_report(ledger, study.id, folder, names)
        letters, legend = letters_of(ledger.plans(study.id, superseded=False))
        steps = steps_text(study, written.acts, command_of(study))
    files = ", ".join(path.name for path in written.files)
    verdicts = [paragraph(letters(text), indent="- ", hanging="  ") for text in written.verdicts]
    wrote = f"Wrote {files} to {written.folder}."
    return "\n".join([*legend.splitlines(), *verdicts, "", wrote, *(f"\n{s}" for s in steps)])


def command_of(study: StudyRow) -> list[str] | None:
    """Return the words of the command that ran a study last; None where its file is not here."""
    for start in reversed(study.provenance):
        match start.get("command"):
            case ["attnsearch", "run", path, *options] if Path(path).is_file():
                words = iter(options)
                kept = [[word, next(words, "")] for word in words if word == "--set"]
                return ["attnsearch", "run", path, *(part for pair in kept for part in pair)]
    return None


def steps_text(
    study: StudyRow, acts: Sequence[ActResult], again: Sequence[str] | None
) -> list[str]:
    """Return what to do next after a study, a text a step: why, and the commands below it."""
    return [
        "\n".join([paragraph(f"Next: {step.why}"), *(f"  {command}" for command in step.commands)])
        for step in next_steps(study, acts, again)
    ]


def optuna_text(address: str, file: str) -> str:
    """Write a study's trials as an Optuna storage and say how to open it.

    Args:
        address: `NAME` or `NAME/NUMBER`.
        file: The SQLite file to write.

    Raises:
        AttnsearchError: There is no such study, or the file cannot be written.
    """
    from attnsearch.runs.addresses import sqlite_url
    from attnsearch.search.propose import write_storage

    with Ledger(create=False) as ledger:
        stored = write_storage(ledger, ledger.find_study(address), Path(file))
    counts = [f"{name!r}: {plural(count, 'trial')}" for name, count in stored.trials.items()]
    lines = [f"Wrote {file}, Optuna studies {', '.join(counts)}."]
    if stored.narrowed:
        lines.append(f"Ranges are only as wide as the values tried: {stored.narrowed}.")
    url = shlex.quote(sqlite_url(Path(file)))
    return "\n".join(
        [
            *lines,
            f"Look:       optuna-dashboard {url}   (pip install optuna-dashboard)",
            f'In Python:  optuna.load_study(study_name="{next(iter(stored.trials))}", '
            f'storage="{sqlite_url(Path(file))}")',
        ]
    )
