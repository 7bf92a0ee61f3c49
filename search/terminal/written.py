"""`attnsearch export` and `report`: the files that a study leaves, and what is said of them."""

from pathlib import Path

from attnsearch.runs.ledger import Ledger
from attnsearch.search.text import paragraph


def export_text(address: str, folder: str, *, onnx: bool, trial: int | None) -> str:
    """Export a study's best network, or the given trial's, and say what was written.

    Raises:
        AttnsearchError: There is no such study or trial, or its weights were not kept.
    """
    from attnsearch.runs.exports import export_study

    with Ledger(create=False) as ledger:
        study = ledger.find_study(address)
        options = {} if trial is None else {"trial": trial}
        export_study(ledger, study.label, folder, onnx=onnx, **options)
    written = sorted(path.name for path in Path(folder).iterdir() if path.is_file())
    return "\n".join(
        [
            f"Wrote {', '.join(written)} to {folder}.",
            f"Train it anew:  attnsearch run {Path(folder) / 'config.yaml'} --fresh",
            f'In Python:      attnsearch.runs.load_export("{folder}")',
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
    files = ", ".join(path.name for path in written.files)
    verdicts = [paragraph(text, indent="- ", hanging="  ") for text in written.verdicts]
    return "\n".join([*verdicts, "", f"Wrote {files} to {written.folder}."])
