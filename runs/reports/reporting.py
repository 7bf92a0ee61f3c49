"""What a study found, written down: `attnsearch report`, and the frames behind it.

Reads the ledger and writes files; the ledger itself and the test data are left as they are. A
study that is still going on has a report too, which compares nothing that is not complete.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.ledger import Ledger, StudyRow, file_name
from attnsearch.runs.reports.html import html_report
from attnsearch.runs.reports.latex import latex_report
from attnsearch.runs.reports.markdown import markdown_report
from attnsearch.runs.reports.pages import ReportText, make_report
from attnsearch.runs.reports.sentences import verdict_sentences
from attnsearch.runs.results import ActResult, MeasuredStudy, collect_study, study_frames
from attnsearch.runs.whole import whole
from attnsearch.runs.words import no_formula

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FORMATS",
    "ReportError",
    "Written",
    "report",
    "verdict_lines",
    "write_report",
    "write_result",
]

FORMATS = ("md", "latex", "csv", "html")
FOLDER = "attnsearch-reports"


class ReportError(AttnsearchError):
    """A report cannot be written as asked."""


@dataclass(frozen=True)
class Written:
    """A report that was written.

    Attributes:
        folder: Where it lies.
        files: What was written.
        verdicts: What the study found, a finding a text.
        acts: What was compared.
    """

    folder: Path
    files: tuple[Path, ...]
    verdicts: tuple[str, ...]
    acts: tuple[ActResult, ...]

    @property
    def verdict(self) -> str:
        """The most important finding."""
        return self.verdicts[0]


def report(study: str, ledger: Ledger | str | Path | None = None) -> "dict[str, pd.DataFrame]":
    """Return the tables of a study's report, in metric units.

    Args:
        study: ``name`` or ``name/number``.
        ledger: The ledger, its file or its URL; by default ``ATTNSEARCH_LEDGER``, else
            ``attnsearch.db`` in the current folder.

    Returns:
        ``arms`` (mean, spread, difference to the reference, verdict and costs), ``contrasts``
        (every test with what it rests on), ``runs`` (every run a row), ``secondary``,
        ``families``, ``analyses`` (at which arms stop) and ``leaderboard``.

    Raises:
        LedgerError: There is no such ledger or study.
    """
    if isinstance(ledger, Ledger):
        return study_frames(collect_study(ledger, ledger.find_study(study).id))
    with closing(Ledger(ledger, create=False)) as opened:
        return study_frames(collect_study(opened, opened.find_study(study).id))


def verdict_lines(ledger: Ledger, study_id: int) -> list[str]:
    """Return what a study found, in sentences of plain text."""
    return verdict_sentences(collect_study(ledger, study_id))


def write_report(
    ledger: Ledger,
    study_id: int,
    folder: str | Path | None = None,
    formats: Sequence[str] = FORMATS,
) -> Written:
    """Write a study's report as files.

    Args:
        ledger: The ledger.
        study_id: The study.
        folder: Where to; created if it is not there, earlier reports in it are written over. By
            default a folder of the study beside the ledger.
        formats: Of `FORMATS`: ``report.md``, ``report.tex``, ``report.csv`` (every run a row;
            with ``report-arms.csv`` and ``report-contrasts.csv``, and ``report-analyses.csv``
            where arms stop early) and ``report.html``.

    Raises:
        ReportError: A format is none of these, or the files cannot be written.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        what = f"format {unknown[0]!r}" if unknown else "no format"
        raise ReportError(f"--format: {what}; give one or more of {','.join(FORMATS)}")
    result = collect_study(ledger, study_id)
    where = report_folder(ledger, result.study) if folder is None else Path(folder)
    return write_result(result, where, formats)


def write_result(result: MeasuredStudy, where: Path, formats: Sequence[str] = FORMATS) -> Written:
    """Write the report of a measured study, see `write_report`."""
    pages = make_report(result)
    try:
        where.mkdir(parents=True, exist_ok=True)
        files = [path for name in formats for path in _write(name, result, pages, where)]
    except OSError as error:
        raise ReportError(f"the report cannot be written to {where}: {error}") from error
    return Written(where, tuple(files), pages.verdicts, result.acts)


def report_folder(ledger: Ledger, study: StudyRow) -> Path:
    """Return where the reports of a study lie if no folder is named."""
    return ledger.folder.absolute() / FOLDER / file_name(study.name, study.number)


def _write(name: str, result: MeasuredStudy, pages: ReportText, folder: Path) -> list[Path]:
    if name == "csv":
        tables = study_frames(result, "runs", "arms", "contrasts", "analyses")
        names = {"runs": "report.csv", "arms": "report-arms.csv"}
        names |= {"contrasts": "report-contrasts.csv"}
        names |= {} if tables["analyses"].empty else {"analyses": "report-analyses.csv"}
        for key, file in names.items():
            with whole(folder / file) as new:
                tables[key].map(no_formula).to_csv(new, index=False)
        return [folder / file for file in names.values()]
    writer, file = {
        "md": (markdown_report, "report.md"),
        "latex": (latex_report, "report.tex"),
        "html": (html_report, "report.html"),
    }[name]
    path = folder / file
    with whole(path) as new:
        new.write_text(writer(pages), encoding="utf-8")
    return [path]
