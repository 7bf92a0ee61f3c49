"""A report as one HTML file that asks for nothing else: styles, script and figures stand in it."""

from attnsearch.runs.figures import COLOURS
from attnsearch.runs.reports.pages import ReportText
from attnsearch.runs.reports.tables import Cell
from attnsearch.runs.words import render

_LONG = 24  # characters from which on a cell may wrap
_TONES = {"better": "good", "worse": "bad"}


def html_report(report: ReportText) -> str:
    """Write a report as a page: sortable tables, figures with text alternatives.

    Everything is escaped: names come from users' files.
    """
    return render(
        "attnsearch.runs.reports",
        "report.html.jinja",
        report=report,
        figures={section.key: section.draw() for section in report.sections},
        colours=COLOURS,
        cell_class=_cell_class,
    )


def _cell_class(cell: Cell, numeric: bool) -> str:
    kinds = ["num"] if numeric else []
    if cell.verdict:
        kinds += ["verdict", _TONES.get(cell.verdict, "")]
    elif not numeric and len(cell.text) > _LONG:
        kinds.append("long")
    return " ".join(kind for kind in kinds if kind)
